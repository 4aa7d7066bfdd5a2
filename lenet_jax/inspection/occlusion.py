"""Occlusion sensitivity (Zeiler and Fergus 2014, Fig. 7): which ink a prediction rests on."""

from typing import Any

import numpy as np

from lenet_jax.inspection import activations
from lenet_jax.layers.network import Network


def covered(module: Network, params: Any, image: np.ndarray, size: int = 5) -> np.ndarray:
    """The scores of an image with a square of paper laid over it, float32 [h, w, classes].

    image: uint8 [h, w]. The square has its middle on each pixel in turn, and `size` pixels, an
    odd number, to a side; what would stand out of the image is cut off.
    """
    rows, columns = (  # [middle, pixel]
        np.abs(np.arange(length)[:, None] - np.arange(length)) <= size // 2
        for length in image.shape
    )
    squares = rows[:, None, :, None] & columns[None, :, None, :]
    images = np.where(squares, 0, image).astype(np.uint8).reshape(-1, *image.shape)
    scores, _ = activations.states(module, params, images)
    return np.asarray(scores).reshape(*image.shape, -1)
