"""What a network sees of an image: MNIST's bytes in its frame."""

import jax
import jax.numpy as jnp
import numpy as np

BACKGROUND, FOREGROUND = -0.1, 1.175
REDUCTION = 16 / 20  # of the 20x20 box that digits fill, for LeNet-1

FRAMES = ("32x32", "28x28", "16x16", "unit")


def normalize(images: jax.Array, frame: str = "32x32") -> jax.Array:
    """[images, 28, 28] of 0 to 255 -> float32, in one of the FRAMES that a network may name.

    "32x32", [images, 32, 32]: background -0.1 and ink 1.175. Two background pixels on each side
    bring the strokes' ends into the middle of the highest feature detectors (section II-B). The
    paper expects a variance of about 1; on MNIST this mapping gives 0.12. "28x28": the same
    without them. "16x16": there the digit is made smaller, from a box of 20x20 pixels to one of
    16x16 (section III-C.7). "unit": 28x28, 0 to 1. Raises KeyError for another frame.
    """
    pixels = images.astype(jnp.float32)
    if frame == "unit":
        return pixels / 255
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
