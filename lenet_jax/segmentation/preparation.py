"""A part of a picture prepared as MNIST's digits were (section III-A)."""

from typing import Any

import numpy as np
from scipy import ndimage

from lenet_jax.segmentation.parts import Bounds

SIDE = 28  # pixels of an image
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


def stroke(image: np.ndarray) -> tuple[float, float]:
    """How ink lies on an image uint8 [28, 28], by its second moments: how much more it spreads
    along than across, as a ratio, and by how many degrees it leans to the right, -90 to 90.
    """
    places = np.indices(image.shape).reshape(2, -1)
    moments, axes = np.linalg.eigh(np.cov(places, aweights=image.ravel().astype(float)))
    down, right = axes[:, 1] if axes[0, 1] < 0 else -axes[:, 1]
    return moments[1] / max(moments[0], 1e-9), float(np.degrees(np.arctan2(right, -down)))


def _away(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of a mask is from its edge."""
    found: Any = ndimage.distance_transform_edt(mask)
    return found


def frame(image: np.ndarray) -> np.ndarray:
    """MNIST's normalisation (section III-A) of grey levels 0 to 255, ink bright, any size.

    The ink is fitted into 20x20 pixels with its aspect ratio kept, and its centre of mass put
    into the middle of 28x28. Returns uint8 [28, 28]. The image must have ink.
    """
    from PIL import Image

    rows, columns = np.nonzero(image.max(axis=1))[0], np.nonzero(image.max(axis=0))[0]
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    height, width = ink.shape
    scale = 20 / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ink = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC)).clip(0, 255)
    height, width = ink.shape
    row = SIDE / 2 - (ink.sum(axis=1) @ (np.arange(height) + 0.5)) / ink.sum()
    column = SIDE / 2 - (ink.sum(axis=0) @ (np.arange(width) + 0.5)) / ink.sum()
    top = int(np.clip(round(row), 0, SIDE - height))
    left = int(np.clip(round(column), 0, SIDE - width))
    framed = np.zeros((SIDE, SIDE), np.uint8)
    framed[top : top + height, left : left + width] = ink.round()
    return framed
