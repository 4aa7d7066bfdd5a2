"""Digits set upright and cropped, as the paper's baselines get them (section III-A)."""

import numpy as np

SIDE = 20


def deslant(images: np.ndarray) -> np.ndarray:
    """float32 [n, 20, 20], 0 to 255, from uint8 [n, 28, 28].

    The lines of a digit are shifted so that its principal axis is vertical, by the second moments
    of its ink, and its centre of mass comes into the middle; what lies beyond 20x20 is cut off. An
    empty image stays empty.
    """
    ink = images.astype(np.float64)
    mass = ink.sum((1, 2)).clip(1e-9)
    pixels = np.arange(28)
    y, x = ((ink.sum(axis) * pixels).sum(1) / mass for axis in (2, 1))
    rows, columns = pixels - y[:, None], pixels - x[:, None]
    covariance = np.einsum("nij,ni,nj->n", ink, rows, columns) / mass
    variance = np.einsum("nij,ni,ni->n", ink, rows, rows) / mass
    slant = covariance / variance.clip(1e-9)  # pixels to the right for each one down

    middle = np.arange(SIDE) - (SIDE - 1) / 2
    down = np.broadcast_to((y[:, None] + middle)[:, :, None], (len(images), SIDE, SIDE))
    right = x[:, None, None] + middle + (slant[:, None] * middle)[:, :, None]
    return sampled(ink, down, right)


def sampled(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Each image [n, h, w] at places [n, ...] between its pixels: bilinear, 0 beyond its edges."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = rows.clip(-1, height) + 1, columns.clip(-1, width) + 1
    top, left = (np.floor(at).astype(int) for at in (rows, columns))
    top, left = top.clip(0, height), left.clip(0, width)
    down, right = rows - top, columns - left
    which = np.arange(n).reshape(-1, *(1,) * (rows.ndim - 1))
    above = padded[which, top, left] * (1 - right) + padded[which, top, left + 1] * right
    below = padded[which, top + 1, left] * (1 - right) + padded[which, top + 1, left + 1] * right
    return (above * (1 - down) + below * down).astype(np.float32)
