"""Trained networks that come with the package: safetensors, each with its model card in JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_jax.errors import UserError

if TYPE_CHECKING:  # jax comes with it, and a program asks for the names before that
    from lenet_jax.layers.network import Network

FOLDER = Path(__file__).parent
DEFAULT = "lenet5-best"
READER = "lenet5-reader"  # of pictures: trained on what is cut out of them, too


def names(folder: Path = FOLDER) -> list[str]:
    """The names that `load` knows."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def card(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Where a network comes from: experiment, seed, epochs, data sum, errors, commit, versions,
    configuration, and the difference of the two best scores below which a prediction is rejected.

    Raises UserError, with the names there are, for another name.
    """
    if name not in names(folder):
        known = ", ".join(names(folder)) or "none"
        raise UserError(f"no pretrained network {name!r}. There are: {known}")
    return json.loads((folder / f"{name}.json").read_text())


def load(name: str, folder: Path = FOLDER) -> "tuple[Network, Any]":
    """Module and parameters of a trained network, ready for `module.apply({"params": params}, x)`.

    Raises UserError, with the names there are, for another name.
    """
    from flax import traverse_util
    from safetensors.numpy import load_file

    network = module(card(name, folder))
    flat = load_file(folder / f"{name}.safetensors")
    return network, traverse_util.unflatten_dict(flat, sep=".")


def module(card: dict[str, Any]) -> "Network":
    """The module that a card's configuration names."""
    from lenet_jax.experiment.serialization import from_json

    return from_json(card["config"]["model"])


def save(name: str, params: Any, card: dict[str, Any], folder: Path = FOLDER) -> None:
    """Writes parameters, and their card, so that `load` finds them by name."""
    import jax.numpy as jnp
    import numpy as np
    from flax import traverse_util
    from safetensors.numpy import save_file

    from lenet_jax.layers.contract import shown
    from lenet_jax.layers.network import connected

    network = module(card)
    image = shown(network, jnp.zeros((1, 28, 28)))
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(connected(network, params, image), sep=".")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    save_file(arrays, folder / f"{name}.safetensors", {"experiment": card["experiment"]})
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
