"""Trained networks that come with the package: safetensors, each with its model card in JSON.

SHA256SUMS, which `sha256sum -c` reads, has their sums: nothing of a file that was damaged is used.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_jax.errors import UserError

if TYPE_CHECKING:  # jax comes with it, and a program asks for the names before that
    from lenet_jax.layers.network import Network

FOLDER = Path(__file__).parent
DEFAULT = "lenet5-best"
READER = "lenet5-reader"  # of pictures: trained on what is cut out of them, too
SUMS = "SHA256SUMS"


def names(folder: Path = FOLDER) -> list[str]:
    """The names that `load` knows."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def card(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Where a network comes from: experiment, seed, epochs, data sum, errors, commit, versions,
    configuration, and the difference of the two best scores below which a prediction is rejected.

    Raises UserError, with the names there are, for another name, and for a file that is damaged.
    """
    if name not in names(folder):
        known = ", ".join(names(folder)) or "none"
        raise UserError(f"no pretrained network {name!r}. There are: {known}")
    return json.loads(_content(folder / f"{name}.json"))


def load(name: str, folder: Path = FOLDER) -> "tuple[Network, Any]":
    """Module and parameters of a trained network, ready for `module.apply({"params": params}, x)`.

    Raises UserError as `card` does.
    """
    from flax import traverse_util
    from safetensors import numpy

    network = module(card(name, folder))
    flat = numpy.load(_content(folder / f"{name}.safetensors"))
    return network, traverse_util.unflatten_dict(flat, sep=".")


def module(card: dict[str, Any]) -> "Network":
    """The module that a card's configuration names."""
    from lenet_jax.experiment.serialization import from_json

    return from_json(card["config"]["model"])


def save(name: str, params: Any, card: dict[str, Any], folder: Path = FOLDER) -> None:
    """Writes parameters, their card and the sums of both, so that `load` finds them by name."""
    import jax.numpy as jnp
    import numpy as np
    from flax import traverse_util
    from safetensors import numpy

    from lenet_jax.layers.contract import shown
    from lenet_jax.layers.network import connected

    network = module(card)
    image = shown(network, jnp.zeros((1, 28, 28)))
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(connected(network, params, image), sep=".")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    written = {
        f"{name}.safetensors": numpy.save(arrays, {"experiment": card["experiment"]}),
        f"{name}.json": (json.dumps(card, indent=2) + "\n").encode(),
    }
    known = _sums(folder) | {file: _sum(content) for file, content in written.items()}
    lines = (f"{sum256}  {file}\n" for file, sum256 in sorted(known.items()))
    written[SUMS] = "".join(lines).encode()
    for file, content in written.items():
        (folder / f"{file}.tmp").write_bytes(content)
    for file in written:
        os.replace(folder / f"{file}.tmp", folder / file)


def _content(path: Path) -> bytes:
    """What is in a file of a network, as it was written."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Install the package again") from error
    if _sums(path.parent).get(path.name) != _sum(content):
        raise UserError(
            f"{path} is damaged: it does not match its SHA-256 in {SUMS}. Install the package "
            "again, in a clone by git checkout"
        )
    return content


def _sums(folder: Path) -> dict[str, str]:
    """The sums of files by their names; lines that are none are left out."""
    try:
        text = (folder / SUMS).read_text(errors="replace")
    except OSError:
        return {}
    rows = (line.split() for line in text.splitlines())
    return {row[1]: row[0] for row in rows if len(row) == 2}


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
