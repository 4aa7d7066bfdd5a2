"""Occlusion sensitivity (Zeiler and Fergus 2014, Fig. 7): which ink a prediction rests on."""

from typing import Any

import numpy as np

from lenet_jax.inspection import activations
from lenet_jax.layers.network import Network


def covered(module: Network, params: Any, image: np.ndarray, size: int = 5) -> np.ndarray:
    """The scores of an image with a square of paper laid over it, float32 [28, 28, classes].

    image: uint8 [28, 28]. The square has its middle on each pixel in turn, and `size` pixels, an
    odd number, to a side; what would stand out of the image is cut off.
    """
    pixels = np.arange(28)
    hidden = np.abs(pixels[:, None] - pixels) <= size // 2  # [middle, pixel], rows or columns
    squares = hidden[:, None, :, None] & hidden[None, :, None, :]
    images = np.where(squares, 0, image).astype(np.uint8).reshape(-1, 28, 28)
    scores, _ = activations.states(module, params, images)
    return np.asarray(scores).reshape(28, 28, -1)
