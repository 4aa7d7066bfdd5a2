"""Random views of pictures in colours, made on the device (Krizhevsky et al. 2012, section 4.1)."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Of the colours of ImageNet's training pictures, as other programs have them: the principal
# components, one in each row, and their eigenvalues, in levels of 0 to 255 (PAPER.md).
COMPONENTS = np.array(
    [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]], np.float32
)
EIGENVALUES = 255 * np.array([0.2175, 0.0188, 0.0045], np.float32)


def view(ranges: Any, keys: jax.Array, pictures: jax.Array, window: int | None) -> jax.Array:
    """A view of each picture: float32 [n, h, w, 3] of about 0 to 255 from uint8 [n, h, w, 3].

    `ranges` is an `experiment.Distortion`, `keys` [n] are one for each picture. With crops h and w
    become `window`.
    """
    return jax.vmap(lambda key, picture: _one(ranges, key, picture, window))(keys, pictures)


def _one(ranges: Any, key: jax.Array, picture: jax.Array, window: int | None) -> jax.Array:
    for_place, for_side, for_colour = jax.random.split(key, 3)
    if window is not None and ranges.crops:
        room = jnp.asarray(picture.shape[:2]) - window + 1
        top, left = jax.random.randint(for_place, (2,), 0, room)
        picture = jax.lax.dynamic_slice(picture, (top, left, 0), (window, window, 3))
    picture = picture.astype(jnp.float32)
    if ranges.flips:
        picture = jnp.where(jax.random.bernoulli(for_side), picture[:, ::-1], picture)
    if ranges.colour:
        shares = ranges.colour * jax.random.normal(for_colour, (3,))
        picture = picture + ((shares * EIGENVALUES) @ COMPONENTS)[None, None]
    return picture


def ten(pictures: np.ndarray, window: int) -> Iterator[np.ndarray]:
    """The corners and the middle of pictures [n, h, w, 3], each and its mirror image: [n, window,
    window, 3]."""
    down, right = (n - window for n in pictures.shape[1:3])
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        one = pictures[:, top : top + window, left : left + window]
        yield one
        yield one[:, :, ::-1]
