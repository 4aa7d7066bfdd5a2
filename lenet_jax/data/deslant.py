"""Digits set upright and cropped, as the paper's baselines get them (section III-A)."""

import jax
import numpy as np

from lenet_jax.data.distort import sample

SIDE = 20

_sample_each = jax.jit(jax.vmap(sample))


def deslant(images: np.ndarray) -> np.ndarray:
    """float32 [n, 20, 20], 0 to 255, from uint8 [n, height, width].

    The lines of a digit are shifted so that its principal axis is vertical, by the second moments
    of its ink, and its centre of mass comes into the middle; what lies beyond 20x20 is cut off. An
    empty image stays empty.
    """
    ink = images.astype(np.float64)
    mass = ink.sum((1, 2)).clip(1e-9)
    down, right = (np.arange(size) for size in images.shape[1:])
    y, x = ink.sum(2) @ down / mass, ink.sum(1) @ right / mass
    rows, columns = down - y[:, None], right - x[:, None]
    covariance = np.einsum("nij,ni,nj->n", ink, rows, columns) / mass
    variance = np.einsum("nij,ni,ni->n", ink, rows, rows) / mass
    slant = covariance / variance.clip(1e-9)  # pixels to the right for each one down

    middle = np.arange(SIDE) - (SIDE - 1) / 2
    places = np.empty((len(images), 2, SIDE, SIDE), np.float32)
    places[:, 0] = (y[:, None] + middle)[:, :, None]
    places[:, 1] = x[:, None, None] + middle + (slant[:, None] * middle)[:, :, None]
    return np.asarray(_sample_each(ink.astype(np.float32), places))
