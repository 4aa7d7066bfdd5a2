"""What a network sees of an image: its bytes in the network's frame."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lenet_jax.errors import UserError

BACKGROUND, FOREGROUND = -0.1, 1.175
REDUCTION = 16 / 20  # of the 20x20 box that digits fill, for LeNet-1

# The mean colour of ImageNet's training pictures, red, green and blue.
MEAN = np.array((123.68, 116.78, 103.94), np.float32).reshape(1, 1, 1, 3)
DEVIATION = 58.0  # of those pictures' pixels from it
WINDOWS = {"227x227": 227, "224x224": 224}  # of the networks for colour pictures

GREY, COLOURED = 33.32, 120.7  # means of all pixels of MNIST's and CIFAR-10's training images

FRAMES = ("32x32", "28x28", "16x16", "unit", "centred", *WINDOWS)


def normalize(images: jax.Array, frame: str = "32x32") -> jax.Array:
    """Images of 0 to 255 -> float32, in one of the FRAMES that a network may name.

    From [images, 28, 28] "32x32", [images, 32, 32]: background -0.1 and ink 1.175. Two background
    pixels on each side bring the strokes' ends into the middle of the highest feature detectors
    (section II-B). The paper expects a variance of about 1; on MNIST this mapping gives 0.12.
    "28x28": the same without them. "16x16": there the digit is made smaller, from a box of 20x20
    pixels to one of 16x16 (section III-C.7). From any shape "unit", 0 to 1, and "centred", of 0
    to 255 less MNIST's mean, and in colour CIFAR-10's. From colour pictures [images, height, width,
    3] "227x227" and "224x224": the window in the middle, less the mean colour.
    Raises KeyError for another frame, and UserError for pictures that are grey or smaller than
    the window.
    """
    if frame in WINDOWS:
        return middle(jnp.asarray(images), WINDOWS[frame]).astype(jnp.float32) - MEAN
    pixels = images.astype(jnp.float32)
    if frame == "unit":
        return pixels / 255
    if frame == "centred":
        return pixels - (COLOURED if pixels.ndim == 4 else GREY)
    if frame == "16x16":
        smaller = resampling(28, REDUCTION)
        pixels = jnp.einsum("ij,njk,lk->nil", smaller, pixels, smaller, precision="highest")
    scale = (FOREGROUND - BACKGROUND) / 255
    border = {"32x32": 2, "28x28": 0, "16x16": 0}[frame]
    return jnp.pad(
        pixels * scale + BACKGROUND,
        ((0, 0), (border, border), (border, border)),
        constant_values=BACKGROUND,
    )


def middle(images: jax.Array, window: int) -> jax.Array:
    """The square of so many pixels in the middle of colour pictures [images, height, width, 3]."""
    height, width = images.shape[1:3]
    if images.shape[3:] != (3,) or min(height, width) < window:
        given = "x".join(map(str, images.shape[1:]))
        raise UserError(
            f"this network takes colour pictures of {window}x{window}x3 or more, these are "
            f"{given}. Give others (for example: --data.name shapes --data.size 256)"
        )
    for axis, length in ((1, height), (2, width)):
        first = (length - window) // 2
        images = lax.slice_in_dim(images, first, first + window, axis=axis)
    return images


def resampling(length: int, factor: float) -> np.ndarray:
    """float32 [length, length]: a row of pixels, smaller by `factor` around its middle.

    Each new pixel is a mean of old ones, weighted by a triangle that spans two new pixels
    (what PIL calls bilinear); beyond the edge is background, 0.
    """
    places = np.arange(length) - (length - 1) / 2
    apart = np.abs(places[:, None] / factor - places) * factor
    weights = np.maximum(1 - apart, 0)
    inside = np.abs(places / factor) <= length / 2
    return (inside[:, None] * weights / weights.sum(1, keepdims=True).clip(1e-9)).astype(np.float32)


def images_last(images: jax.Array) -> jax.Array:
    """[images, height, width] -> [1, height, width, images], as states run through the layers.

    Of colours [images, height, width, channels] -> [channels, height, width, images].
    """
    return jnp.moveaxis(images, 0, -1)[None] if images.ndim == 3 else images.T.swapaxes(1, 2)
