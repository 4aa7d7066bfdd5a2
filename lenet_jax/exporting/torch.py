"""A PyTorch state dict, in a safetensors file: `safetensors.torch.load_file` reads it.

    c1.weight [6, 1, 5, 5]      c3.weight [16, 6, 5, 5]     c5.weight [120, 16, 5, 5]
    s2.coefficient [6]          s4.coefficient [16]         f6.weight [84, 120]
    codes [10, 84]              or, of a linear head, output.weight [10, 84] and output.bias [10]

and a bias for each map of C1 to C5 and each unit of F6. Where Table I has no connection the
weights of C3 are zero. Other networks of the package alike: a weight has four axes where it reads
maps of more than a pixel, and two elsewhere. docs/export.md has the modules that go with it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from lenet_jax import pretrained
from lenet_jax.exporting import safetensors
from lenet_jax.exporting.forward import shape_of
from lenet_jax.layers.codes import CHARACTERS, codes
from lenet_jax.layers.contract import Shape, shown
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.network import Network, connected
from lenet_jax.models.lenet import LeNet5
from lenet_jax.recognition.predictor import predictor


def refusal(module: nn.Module) -> str | None:
    """Why a network cannot be written, or None."""
    if isinstance(module, Network):
        return None
    return (
        f"the torch format is for the package's networks, this is a {type(module).__name__}. "
        "Give other formats: --format onnx stablehlo safetensors"
    )


def write(path: Path, module: Network, params: Any, card: dict[str, Any]) -> None:
    """Writes the parameters, and the codes of RBF units, in PyTorch's layout."""
    safetensors.save(path, state_dict(module, params, shape_of(card)), card)


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The scores of the network in a file, for uint8 images [n, 28, 28].

    Codes and missing connections are the file's. Raises UserError for a file that is damaged.
    """
    state, card = safetensors.load(path)
    module = pretrained.module(card)
    if isinstance(module, LeNet5):
        module = module.clone(table="full", adaptive=True)
    return predictor(module, parameters(state), shape_of(card))


def state_dict(module: Network, params: Any, shape: Shape) -> dict[str, np.ndarray]:
    """The parameters by PyTorch's names, in its shapes; `shape` is that of an image."""
    image = shown(module, jnp.zeros((1, *shape)))
    tree = jax.tree.map(np.asarray, connected(module, params, image))
    flat: dict[str, Any] = traverse_util.flatten_dict(tree, sep=".")
    windows = _windows(module, params, image)
    state = {}
    for name, array in flat.items():
        if name in windows:
            array = array.reshape(len(array), -1, windows[name], windows[name])
        state[name.replace("kernel", "weight")] = array
    if isinstance(module, LeNet5) and module.head == "rbf":
        state["codes"] = state.pop("output.codes", codes(CHARACTERS[: module.classes]))
    return state


def _windows(module: Network, params: Any, image: jax.Array) -> dict[str, int]:
    """The sizes of the windows of the kernels that read maps of more than one pixel."""
    found = {}

    def note(method, args, kwargs, context):
        if context.method_name == "weigh" and isinstance(layer := context.module, Convolution):
            if args[1].shape[1:3] != (1, 1):
                found[".".join((*layer.path, "kernel"))] = layer.size
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(module.apply, {"params": params}, image)
    return found


def parameters(state: dict[str, np.ndarray]) -> Any:
    """The inverse of `state_dict`: the tree for flax, of a network with adaptive codes."""
    flat = {}
    for name, array in state.items():
        if name.endswith("weight"):
            flat[name.replace("weight", "kernel")] = array.reshape(len(array), -1)
        else:
            flat["output.codes" if name == "codes" else name] = array
    return traverse_util.unflatten_dict(flat, sep=".")
