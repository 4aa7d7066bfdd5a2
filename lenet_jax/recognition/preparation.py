"""A part of a picture prepared as MNIST's digits were (section III-A)."""

from typing import Any

import numpy as np
from scipy import ndimage

from lenet_jax.data.frames import frame
from lenet_jax.recognition.parts import Bounds

STROKE = 2.0  # pixels: thinner strokes in the 20x20 box are thickened to this


def prepare(ink: np.ndarray, box: Bounds) -> np.ndarray:
    """The ink in a box as MNIST has it: uint8 [28, 28], in 20x20, its centre of mass in the middle.

    Strokes thinner than MNIST's are thickened first.
    """
    left, top, right, bottom = box
    size = max(right - left, bottom - top)
    margin = 1 + size // 8
    crop = np.pad(ink[top:bottom, left:right], margin)
    width = 4 * _away(crop > 0.5)[crop > 0.5].mean()  # of a bar, from the mean way to its edge
    wanted = STROKE * size / 20
    if width < wanted:
        crop = np.maximum(crop, np.clip((wanted - width) / 2 + 1 - _away(crop <= 0.5), 0, 1))
    return frame(np.where(crop < 0.1, 0, 255 * crop))


def _away(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of a mask is from its edge."""
    found: Any = ndimage.distance_transform_edt(mask)
    return found
