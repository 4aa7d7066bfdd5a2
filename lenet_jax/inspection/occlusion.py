"""Occlusion sensitivity (Zeiler and Fergus 2014, Fig. 7): what a prediction rests on."""

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from lenet_jax.inspection import activations

GREY = 128  # over colours, as the authors have it; over ink a square is of paper


def covered(
    module: nn.Module, params: Any, image: np.ndarray, size: int = 5, step: int = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What remains of an image with a square laid over it: its scores, float32 [rows, columns,
    classes], and of each layer the sum of each map's states, [rows, columns, maps].

    image: uint8, [h, w] or with channels. The square has its middle on each `step`th pixel, down
    and across, and `size` pixels, an odd number, to a side; what would stand out of the image is
    cut off.
    """
    rows, columns = (  # [middle, pixel]
        np.abs(np.arange(step // 2, length, step)[:, None] - np.arange(length)) <= size // 2
        for length in image.shape[:2]
    )
    level = GREY if image.shape[2:] == (3,) else 0
    found = []
    for row in rows:
        squares = row[:, None] & columns[:, None, :]  # [middle, h, w]
        squares = squares.reshape(*squares.shape, *(1,) * (image.ndim - 2))
        images = np.where(squares, level, image).astype(np.uint8)
        found.append(jax.tree.map(np.asarray, _remains(module, params, images)))
    scores, totals = zip(*found, strict=True)
    return np.array(scores), {name: np.array([t[name] for t in totals]) for name in totals[0]}


@partial(jax.jit, static_argnums=0)
def _remains(module: nn.Module, params: Any, images: Any) -> tuple[jax.Array, activations.Maps]:
    scores, maps = activations.states(module, params, images)
    return scores, activations.Maps({name: state.sum((2, 3)) for name, state in maps.items()})
