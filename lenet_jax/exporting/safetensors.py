"""safetensors: the parameters by flax's names ("c1.kernel"), the model card in the metadata.

The format notices a truncated file, but not a flipped bit, so a SHA-256 lies beside the card.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.exporting.forward import shape_of
from lenet_jax.recognition.predictor import predictor
from lenet_jax.training.checkpoint import digest


def write(path: Path, module: nn.Module, params: Any, card: dict[str, Any]) -> None:
    """Writes the parameters as they are."""
    del module
    flat: dict[str, Any] = traverse_util.flatten_dict(jax.tree.map(np.asarray, params), sep=".")
    save(path, flat, card)


def read(path: Path, module: nn.Module | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """The scores of the network in a file, for uint8 images [n, *shape].

    `module`: default, that which the card names; a page's own must be given. Raises UserError for
    a file that is damaged.
    """
    arrays, card = load(path)
    return predictor(
        module or pretrained.module(card),
        traverse_util.unflatten_dict(arrays, sep="."),
        shape_of(card),
    )


def save(path: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Writes arrays by their names, with their card and SHA-256 as metadata."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"card": json.dumps(card), "sha256": digest(arrays)}
    path.write_bytes(serialize(arrays, metadata))  # save_file makes files for their owner alone


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save` wrote. Raises UserError where it is not that any more."""
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest(arrays) != metadata["sha256"]:
            raise ValueError("its contents do not match their SHA-256")
        return arrays, json.loads(metadata["card"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is none of our safetensors, or damaged ({error})") from error
