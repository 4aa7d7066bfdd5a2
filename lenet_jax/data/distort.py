"""Distorted copies of the images, made on the device: section III-B's planar maps, and a few more.

A sample is an example in one of its versions, numbered version * examples + example. Its distortion
comes from a key and its number, so that a fixed set of 540,000 need not be stored.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

GRID = 4  # pixels between the random numbers of an elastic field


def sample(image: jax.Array, places: jax.Array) -> jax.Array:
    """image [h, w] at places [2, ...] in rows and columns: bilinear, and 0 beyond the edges."""
    return map_coordinates(image, list(places), order=1, mode="constant", cval=0.0)


def distort(
    ranges: Any, keys: jax.Array, images: jax.Array, sample: Callable[..., jax.Array] = sample
) -> jax.Array:
    """A random distortion of each image: float32 [n, h, w] in 0..255 from uint8 [n, h, w].

    `ranges` is a `Distortion`, `keys` [n] are one for each image. First the elastic
    field, then the affine map, sampled once; then the noise.
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        return _one(ranges, sample, key, image)

    return jax.vmap(one)(keys, images.astype(jnp.float32))


def _one(
    ranges: Any, sample: Callable[..., jax.Array], key: jax.Array, image: jax.Array
) -> jax.Array:
    for_map, for_field, for_noise = jax.random.split(key, 3)
    if ranges.moves:
        places = moved(image.shape, *affine_map(ranges, for_map))
        if ranges.elastic:
            places += elastic_field(for_field, image.shape, ranges.elastic, ranges.smoothness)
        image = sample(image, places)
    if ranges.inverted:
        inverted = jax.random.bernoulli(for_noise, ranges.inverted, image.shape)
        image = jnp.where(inverted, 255 - image, image)
    return image


def affine_map(ranges: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A matrix [2, 2] and a shift [2] in rows and columns, from the distorted to the original.

    Each range is drawn from evenly on both sides of no change: the size as exp(+-scaling), the
    squeezing as exp(+-squeezing) in width and its inverse in height.
    """
    down, right, size, squeeze, shear, angle = jax.random.uniform(key, (6,), minval=-1, maxval=1)
    size, squeeze = jnp.exp(ranges.scaling * size), jnp.exp(ranges.squeezing * squeeze)
    angle = math.radians(ranges.rotation) * angle
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = jnp.array([[cos, -sin], [sin, cos]])
    sheared = jnp.array([[1.0, 0.0], [ranges.shear * shear, 1.0]])
    sized = jnp.array([size * squeeze, size / squeeze])  # how much of the original a pixel spans
    return turned @ sheared * sized[None], ranges.translation * jnp.array([down, right])


def moved(shape: tuple[int, ...], matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """matrix @ (p - centre) + centre + shift for each pixel p of [h, w]; [2, h, w]."""
    middle = (np.array(shape, np.float32) - 1).reshape(2, 1, 1) / 2
    around = np.indices(shape, np.float32) - middle
    return jnp.einsum("ij,jhw->ihw", matrix, around, precision="highest") + (
        middle + shift[:, None, None]
    )


def elastic_field(
    key: jax.Array, shape: tuple[int, ...], size: float, smoothness: float
) -> jax.Array:
    """Smooth random displacements [2, h, w], each of mean 0 and standard deviation `size` pixels.

    Gaussian bumps of `smoothness` pixels with random heights (Simard et al. 2003), one every GRID
    pixels: as smooth as noise for each pixel, and a sixteenth of the random numbers.
    """
    rows, columns = (_bumps(length, smoothness) for length in shape)
    bumps = 2, rows.shape[1], columns.shape[1]
    heights = jax.random.normal(key, (math.prod(bumps),)).reshape(bumps)  # XLA vectorises long axes
    return size * jnp.einsum("hi,dij,wj->dhw", rows, heights, columns)


def _bumps(length: int, smoothness: float) -> np.ndarray:
    """float32 [length, bumps], rows of unit norm: sums of unit noise then have unit variance."""
    centres = np.arange(-GRID, length + GRID, GRID) + (GRID - 1) / 2
    apart = np.arange(length)[:, None] - centres
    bumps = np.exp(-0.5 * (apart / smoothness) ** 2)
    return (bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32)


SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))  # pixels down and right


def shifted(images: jax.Array, versions: jax.Array) -> jax.Array:
    """Each image [n, h, w] moved as its version, int32 [n], says: by SHIFTS, 0 comes in."""

    def one(image: jax.Array, version: jax.Array) -> jax.Array:
        start = 1 - jnp.asarray(SHIFTS)[version]
        return jax.lax.dynamic_slice(jnp.pad(image, 1), start, image.shape)

    return jax.vmap(one)(images, versions)
