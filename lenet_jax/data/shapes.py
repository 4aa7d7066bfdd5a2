"""Shapes: pictures that this package makes from a seed, for where there are no photographs.

A picture shows one of ten KINDS in a colour of its own, at any place, size and angle, plain or
striped, on a coloured ground with noise, strokes and dots, some of them over the shape. Colours say
nothing of the kind. A linear classifier of the pixels fails, a small convolutional network does not
(tests/test_shapes.py holds both).
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.data.pictures import Pictures
from lenet_jax.experiment import Data

RECIPE = 1  # to be raised with whatever changes a picture
SEED = 0
SIZES = {"train": 10_000, "test": 2_000}
HASHED = 100  # pictures of each split that are in the sum
DRAWN = 128  # pixels: drawn at least so large, and twice as large as shown, for smooth edges


def _arc(radius: float, first: float, last: float, corners: int = 40) -> np.ndarray:
    """Points [corners, 2] of a circle around 0, from one angle to another, in degrees."""
    angles = np.radians(np.linspace(first, last, corners))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _ring(inner: float) -> np.ndarray:
    return np.concatenate([_arc(1, 0, 360), _arc(inner, 360, 0)])


def _crescent(aside: float) -> np.ndarray:
    """A disc without another one of the same size, that lies so far aside."""
    tip = np.degrees(np.arccos(aside / 2))
    return np.concatenate([_arc(1, tip, 360 - tip), _arc(1, 180 + tip, 180 - tip) + [aside, 0]])


def _star(inner: float) -> np.ndarray:
    return _arc(1, 0, 360, 11) * np.resize([1, inner], 11)[:, None]


def _cross(width: float) -> np.ndarray:
    arm = np.array([[1, -width], [1, width], [width, width]])
    return np.concatenate([arm, arm[:, ::-1] * [-1, 1], -arm, arm[:, ::-1] * [1, -1]])


def _corner(width: float) -> np.ndarray:
    near = width - 0.7
    return np.array(
        [[-0.7, -0.7], [0.7, -0.7], [0.7, near], [near, near], [near, 0.7], [-0.7, 0.7]]
    )


KINDS = {  # outlines [corners, 2] that lie within the circle around 0 with radius 1
    "disc": _arc(1, 0, 360),
    "ring": _ring(0.5),
    "half disc": 0.92 * (_arc(1, 0, 180) - [0, 0.4]),
    "crescent": _crescent(0.7),
    "triangle": _arc(1, 0, 360, 4),
    "square": _arc(1, 0, 360, 5),
    "bar": np.array([[-0.95, -0.25], [0.95, -0.25], [0.95, 0.25], [-0.95, 0.25]]),
    "cross": 0.95 * _cross(0.3),
    "corner": _corner(0.5),
    "star": _star(0.4),
}
OUTLINES = list(KINDS.values())


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """10,000 and 2,000 pictures, uint8 [n, size, size, 3], label i % 10 for number i of a split.

    They are made when they are asked for. The sum is of the recipe, the seed, the size, the
    numbers, and the pixels of the first hundred pictures of each split.
    """
    side = asked.side
    train, test = (_split(split, number, side) for split, number in enumerate(SIZES.values()))
    sum256 = hashlib.sha256(repr((RECIPE, SEED, side, SIZES)).encode())
    for split in (train, test):
        sum256.update(split.images[:HASHED].tobytes())
    return Dataset(
        name="shapes",
        source=f"made by lenet_jax, recipe {RECIPE}, seed {SEED}, {side}x{side} pixels",
        sha256=sum256.hexdigest(),
        train=train,
        validation=train.part(slice(0)),
        test=test,
        classes=len(KINDS),
        names=tuple(KINDS),
    )


def _split(split: int, number: int, side: int) -> Images:
    numbers = np.arange(number)
    pictures = Pictures(partial(picture, split, side=side), numbers, (side, side, 3))
    return Images(pictures, (numbers % len(KINDS)).astype(np.int32))


def picture(split: int, number: int, side: int) -> np.ndarray:
    """The picture of a number, uint8 [side, side, 3]; its kind is number % 10.

    Lengths are shares of the side, so that all sizes show the same but for the grain of the noise.
    """
    from PIL import Image

    rng = np.random.default_rng([SEED, split, number])
    ground = rng.uniform(0, 255, 3)
    # In each channel far from the ground, whichever it is.
    colour = (ground + rng.uniform(80, 176, 3)) % 256
    radius = rng.uniform(0.25, 0.45)
    outline = OUTLINES[number % len(KINDS)] @ _turn(rng.uniform(0, 360))
    outline = radius * outline + rng.uniform(radius, 1 - radius, 2)

    shade = Image.fromarray(rng.uniform(-40, 40, (4, 4)).astype(np.float32))
    image = np.asarray(shade.resize((side, side), Image.Resampling.BICUBIC))[..., None] + (
        ground.astype(np.float32)
    )
    image = _over(image, *_strokes(rng, side, int(rng.integers(1, 5))))
    covered, plain = _drawn(
        side, lambda draw, scale: draw.polygon(_at(outline, scale), _ink(colour))
    )
    stripes = covered * _stripes(rng, side)[..., None]
    image = _over(image, covered, plain + stripes)
    image = _over(image, *_strokes(rng, side, int(rng.integers(0, 2))))
    strength = rng.integers(3, 21)
    image += rng.integers(-strength, strength, image.shape, np.int8, endpoint=True)
    return image.clip(0, 255).round().astype(np.uint8)


def _over(image: np.ndarray, covered: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return image - covered * image + drawn


def _strokes(rng: np.random.Generator, side: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """So many straight strokes, the short ones dots; as `_drawn` gives them."""
    lines = [
        (
            np.cumsum([rng.uniform(0, 1, 2), rng.uniform(0.02, 0.5) * _turn(angle)[0]], axis=0),
            rng.uniform(0.015, 0.04),
            _ink(rng.uniform(0, 255, 3)),
        )
        for angle in rng.uniform(0, 360, number)
    ]

    def draw(canvas: Any, scale: int) -> None:
        for ends, width, ink in lines:
            canvas.line(_at(ends, scale), ink, round(width * scale))

    return _drawn(side, draw)


def _stripes(rng: np.random.Generator, side: int) -> np.ndarray:
    """Lighter and darker stripes [side, side], for half of the shapes none."""
    strength = rng.choice([0, 1]) * rng.uniform(15, 35)
    down, right = _turn(rng.uniform(0, 360))[0] * rng.uniform(4, 9)
    places = np.arange(side, dtype=np.float32) / side
    waves = down * places[:, None] + right * places
    return (strength * np.sin(2 * np.pi * waves)).astype(np.float32)


def _drawn(side: int, draw: Callable[..., None]) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel is covered, float32 [side, side, 1] of 0 to 1, and with which colour,
    [side, side, 3], in that share; `draw` gets what draws, and how large 1 is there."""
    from PIL import Image, ImageDraw

    finer = max(2, DRAWN // side)
    scale = finer * side
    # Any mode of four bands that Pillow does not mix: the fourth is 255 where something is drawn.
    canvas = Image.new("CMYK", (scale, scale))
    draw(ImageDraw.Draw(canvas), scale)
    drawn = np.asarray(canvas.reduce(finer)).astype(np.float32)
    return drawn[..., 3:] / 255, drawn[..., :3]


def _at(points: np.ndarray, scale: int) -> list[tuple[float, ...]]:
    return [tuple(point) for point in (scale * points).tolist()]


def _ink(colour: np.ndarray) -> tuple[int, ...]:
    return *(int(level) for level in colour), 255


def _turn(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
