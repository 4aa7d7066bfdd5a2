"""A PyTorch state dict, in a safetensors file: `safetensors.torch.load_file` reads it.

    c1.weight [6, 1, 5, 5]      c3.weight [16, 6, 5, 5]     c5.weight [120, 16, 5, 5]
    s2.coefficient [6]          s4.coefficient [16]         f6.weight [84, 120]
    codes [10, 84]              or, of a linear head, output.weight [10, 84] and output.bias [10]

and a bias for each map of C1 to C5 and each unit of F6. Where Table I has no connection the
weights of C3 are zero. docs/export.md has the module that goes with it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.exporting import safetensors
from lenet_jax.layers.codes import codes
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.network import Network
from lenet_jax.models.lenet import TABLES, LeNet5
from lenet_jax.recognition.predictor import predictor

INPUTS = {"c1": 1, "c3": 6, "c5": 16}  # maps that each convolution reads


def write(path: Path, module: Network, params: Any, card: dict[str, Any]) -> None:
    """Writes the parameters, and the codes of RBF units, in PyTorch's layout.

    Raises UserError for a network that is no LeNet-5.
    """
    if not isinstance(module, LeNet5):
        raise UserError(
            f"the torch format is for LeNet-5s, this is a {type(module).__name__}. Give other "
            "formats: --format onnx stablehlo safetensors"
        )
    safetensors.save(path, state_dict(module, params), card)


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The scores of the network in a file, for uint8 images [n, 28, 28].

    Codes and missing connections are the file's. Raises UserError for a file that is damaged.
    """
    state, card = safetensors.load(path)
    module = pretrained.module(card).clone(table="full", adaptive=True)
    return predictor(module, parameters(state))


def state_dict(module: LeNet5, params: Any) -> dict[str, np.ndarray]:
    """The parameters by PyTorch's names, in its shapes."""
    flat: dict[str, Any] = traverse_util.flatten_dict(jax.tree.map(np.asarray, params), sep=".")
    state = {name.replace("kernel", "weight"): array for name, array in flat.items()}
    table = Convolution(16, table=TABLES[module.table])
    state["c3.weight"] = state["c3.weight"] * table.mask(INPUTS["c3"])
    for layer, inputs in INPUTS.items():
        weight = state[f"{layer}.weight"]
        state[f"{layer}.weight"] = weight.reshape(len(weight), inputs, 5, 5)
    if module.head == "rbf":
        state["codes"] = state.pop("output.codes", codes())
    return state


def parameters(state: dict[str, np.ndarray]) -> Any:
    """The inverse of `state_dict`: the tree for flax, of a network with adaptive codes."""
    flat = {}
    for name, array in state.items():
        if name.endswith("weight"):
            flat[name.replace("weight", "kernel")] = array.reshape(len(array), -1)
        else:
            flat["output.codes" if name == "codes" else name] = array
    return traverse_util.unflatten_dict(flat, sep=".")
