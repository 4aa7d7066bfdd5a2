"""MNIST's frame: a digit in the middle of 28x28 pixels (section III-A)."""

import numpy as np


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
    row = 14 - (ink.sum(axis=1) @ (np.arange(height) + 0.5)) / ink.sum()
    column = 14 - (ink.sum(axis=0) @ (np.arange(width) + 0.5)) / ink.sum()
    top, left = (int(np.clip(round(x), 0, 28 - n)) for x, n in ((row, height), (column, width)))
    framed = np.zeros((28, 28), np.uint8)
    framed[top : top + height, left : left + width] = ink.round()
    return framed
