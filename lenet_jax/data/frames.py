"""MNIST's frame: a digit in the middle of 28x28 pixels (section III-A)."""

import numpy as np

SHAPE = (28, 28)  # also that of a card or a run which says no other


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
    row = SHAPE[0] / 2 - (ink.sum(axis=1) @ (np.arange(height) + 0.5)) / ink.sum()
    column = SHAPE[1] / 2 - (ink.sum(axis=0) @ (np.arange(width) + 0.5)) / ink.sum()
    top = int(np.clip(round(row), 0, SHAPE[0] - height))
    left = int(np.clip(round(column), 0, SHAPE[1] - width))
    framed = np.zeros(SHAPE, np.uint8)
    framed[top : top + height, left : left + width] = ink.round()
    return framed
