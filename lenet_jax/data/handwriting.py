"""Ink of digits as other pens and other hands write them, and of what is no digit."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lenet_jax.segmentation.ink import labelled

CELL = 96  # pixels that a digit has room in
# No o, l, s, z, b, g, q, no capital of them and no $: they are digits too.
LETTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy#@&%*=<>?~^★☆→←↑↓ΔΛΠΣΦΨΩηκμπχψω√"
FONTS = "DejaVuSans DejaVuSerif DejaVuSansMono DejaVuSans-Oblique STIXGeneral STIXGeneralItalic"

# Points (x, y) of strokes, y downwards, about 1 high.
Strokes = tuple[tuple[tuple[float, float], ...], ...]
# Digits that MNIST's writers do not write.
HANDS: dict[int, tuple[Strokes, ...]] = {
    1: (
        (((0.0, 0.35), (0.4, 0.0), (0.4, 1.0)),),
        (((0.0, 0.2), (0.3, 0.0), (0.3, 1.0)),),
        (((0.05, 0.45), (0.45, 0.0), (0.42, 1.0)),),
        (((0.0, 0.3), (0.3, 0.0), (0.3, 1.0)), ((0.0, 1.0), (0.6, 1.0))),
    ),
    4: (
        (((0.4, 0.0), (0.0, 0.6), (0.7, 0.6)), ((0.5, 0.3), (0.45, 1.0))),
        (((0.1, 0.0), (0.05, 0.5), (0.6, 0.5)), ((0.6, 0.0), (0.55, 1.0))),
        (((0.55, 1.0), (0.55, 0.0), (0.0, 0.65), (0.8, 0.65)),),
        (
            (
                (0.15, 0.05),
                (0.05, 0.5),
                (0.35, 0.7),
                (0.75, 0.4),
                (0.7, 0.1),
                (0.5, 0.1),
                (0.4, 1.0),
            ),
        ),
    ),
    7: (
        (((0.0, 0.05), (0.6, 0.0), (0.25, 1.0)), ((0.1, 0.5), (0.6, 0.48))),
        (((0.0, 0.2), (0.02, 0.0), (0.6, 0.0), (0.3, 1.0)),),
        (((0.0, 0.2), (0.0, 0.0), (0.6, 0.0), (0.3, 1.0)), ((0.15, 0.5), (0.6, 0.5))),
    ),
    8: (
        (
            ((0.6, 0.1), (0.3, 0.0), (0.1, 0.2), (0.35, 0.45), (0.55, 0.75), (0.3, 1.0)),
            ((0.3, 1.0), (0.05, 0.8), (0.3, 0.5), (0.6, 0.2), (0.65, 0.05)),
        ),
    ),
    9: (
        (
            (
                *((0.0, 0.4), (0.4, 0.38), (0.7, 0.2), (0.5, 0.0), (0.3, 0.15)),
                *((0.32, 0.5), (0.35, 1.0)),
            ),
        ),
        (((0.0, 0.35), (0.3, 0.4), (0.6, 0.2), (0.45, 0.0), (0.3, 0.2), (0.4, 0.6), (0.1, 1.0)),),
        (((0.55, 0.1), (0.25, 0.0), (0.0, 0.25), (0.25, 0.45), (0.5, 0.1), (0.5, 1.0)),),
    ),
}

# Letters of one stroke's width, as a hand writes them.
WRITTEN_LETTERS: tuple[Strokes, ...] = (
    (((0.0, 1.0), (0.35, 0.0), (0.7, 1.0)), ((0.12, 0.65), (0.58, 0.65))),  # A
    (((0.55, 0.0), (0.0, 0.0), (0.0, 1.0), (0.6, 1.0)), ((0.0, 0.5), (0.45, 0.5))),  # E
    (((0.6, 0.0), (0.0, 0.0), (0.0, 1.0)), ((0.0, 0.45), (0.45, 0.45))),  # F
    (((0.0, 0.0), (0.0, 1.0)), ((0.6, 0.0), (0.6, 1.0)), ((0.0, 0.5), (0.6, 0.5))),  # H
    (((0.0, 0.0), (0.0, 1.0)), ((0.6, 0.0), (0.0, 0.5)), ((0.1, 0.45), (0.6, 1.0))),  # K
    (((0.0, 1.0), (0.05, 0.0), (0.4, 0.6), (0.75, 0.0), (0.8, 1.0)),),  # M
    (((0.0, 1.0), (0.0, 0.0), (0.6, 1.0), (0.6, 0.0)),),  # N
    (((0.0, 1.0), (0.0, 0.0)), ((0.0, 0.0), (0.5, 0.2), (0.0, 0.5), (0.6, 1.0))),  # R
    (((0.0, 0.0), (0.35, 1.0), (0.7, 0.0)),),  # V
    (((0.0, 0.0), (0.2, 1.0), (0.4, 0.3), (0.6, 1.0), (0.8, 0.0)),),  # W
    (((0.0, 0.5), (0.45, 0.4), (0.3, 0.15), (0.05, 0.4), (0.15, 0.9), (0.5, 0.85)),),  # e
    (((0.0, 0.0), (0.0, 1.0)), ((0.0, 0.7), (0.25, 0.5), (0.45, 0.65), (0.45, 1.0))),  # h
    (((0.0, 0.4), (0.02, 1.0)), ((0.02, 0.6), (0.3, 0.4), (0.55, 0.6), (0.55, 1.0))),  # n
    (
        ((0.0, 0.4), (0.0, 1.0)),
        ((0.0, 0.6), (0.2, 0.4), (0.4, 0.6), (0.4, 1.0)),
        ((0.4, 0.6), (0.6, 0.4), (0.8, 0.6), (0.8, 1.0)),
    ),  # m
    (
        ((0.0, 0.0), (0.0, 0.8), (0.3, 1.0), (0.55, 0.8), (0.55, 0.0)),
        ((0.55, 0.0), (0.6, 1.0)),
    ),  # u
)


def written(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit uint8 [28, 28] as ink, bool, larger, oblique, with a thinner or a thicker pen."""
    rows, columns = np.nonzero(image.max(1))[0], np.nonzero(image.max(0))[0]
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height = int(rng.integers(30, 76))
    width = max(3, round(height * cut.shape[1] / cut.shape[0] * np.exp(rng.uniform(-0.25, 0.2))))
    margin = height // 2
    large = np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC))
    ink = ndimage.gaussian_filter(np.pad(large.astype(np.float32), margin), height / 50)
    return _fitted(_pen(_turned(ink, rng) > 110, rng))


def other_hand(label: int, rng: np.random.Generator) -> np.ndarray:
    """A digit of HANDS as ink, bool."""
    ways = HANDS[label]
    return drawn(ways[rng.integers(len(ways))], rng)


def drawn(strokes: Strokes, rng: np.random.Generator) -> np.ndarray:
    """Strokes as ink, bool: their points a little elsewhere, joined by lines or a smooth curve."""
    height, pen = rng.uniform(35, 70), rng.uniform(0.02, 0.14)
    image = Image.new("L", (2 * CELL, 2 * CELL))
    draw = ImageDraw.Draw(image)
    smooth = rng.random() < 0.6
    for stroke in strokes:
        points = np.array(stroke) + rng.normal(0, 0.04, (len(stroke), 2))
        if smooth or len(stroke) > 4:
            points = _curve(points)
        points = points * [height * np.exp(rng.uniform(-0.25, 0.25)), height] + CELL / 2
        draw.line([tuple(p) for p in points], 255, max(2, round(pen * height)), "curve")
    return _fitted(_turned(np.asarray(image, np.float32), rng) > 110)


def _curve(points: np.ndarray) -> np.ndarray:
    """A smooth curve through points [n, 2]: cubics with the tangents of their neighbours (Catmull
    and Rom 1974)."""
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, 8)[:, None]
    pieces = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        pieces.append(
            0.5
            * (
                2 * b
                + (c - a) * t
                + (2 * a - 5 * b + 4 * c - d) * t**2
                + (3 * b - 3 * c + d - a) * t**3
            )
        )
    return np.concatenate(pieces)


def _turned(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ink [h, w] turned a little and leaning to one side, about its middle."""
    angle, slant = np.radians(rng.normal(0, 5)), rng.normal(0.0, 0.18)
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = back @ np.array([[1.0, 0.0], [slant, 1.0]])
    middle = (np.array(ink.shape) - 1) / 2
    offset: Any = middle - back @ middle
    moved: Any = ndimage.affine_transform(ink, back, offset, order=1)
    return moved


def _pen(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    inside: Any = ndimage.distance_transform_edt(ink)
    half = inside[ink].mean() * 2 if ink.any() else 1
    if rng.random() < 0.7:
        return inside > rng.uniform(0, 0.55) * half
    around: Any = ndimage.distance_transform_edt(~ink)
    return around <= rng.uniform(0, 0.5) * half


def _fitted(ink: np.ndarray) -> np.ndarray:
    """Without what is empty around it, and small enough for a cell."""
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    if not len(rows):
        return np.zeros((1, 1), bool)
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    most = CELL - 14
    if max(cut.shape) > most:
        scale = most / max(cut.shape)
        size = max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))
        cut = np.asarray(Image.fromarray(cut).resize(size))
    return cut


def several(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ink of two or three digits of uint8 [n, 28, 28] that touch."""
    while True:
        some = rng.integers(len(images), size=int(rng.choice([2, 2, 2, 3])))
        ink = _beside([written(images[i], rng) for i in some], rng)
        if labelled(ink)[1] == 1:
            return _fitted(ink)


def no_digit(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ink that is no digit nor made of digits: halves of them, letters, figures, blots."""
    kind = rng.integers(7)
    if kind == 0:  # half of a 2 or a 5: halves of others may be digits
        while labels[i := rng.integers(len(labels))] not in (2, 5):
            pass
        ink = written(images[i], rng)
        height, width = ink.shape
        halves = ink[: height // 2], ink[height // 2 :], ink[:, : width // 2], ink[:, width // 2 :]
        return _fitted(halves[rng.integers(4)])
    if kind in (1, 2):
        return _letter(rng)
    if kind == 3:
        return drawn(WRITTEN_LETTERS[rng.integers(len(WRITTEN_LETTERS))], rng)
    if kind in (4, 5):
        return _scribble(rng)
    while True:  # noise, stains; no upright one, which may be a 1
        blot = ndimage.gaussian_filter(rng.normal(size=(60, 60)), rng.uniform(1, 8))
        ink = _fitted(blot > np.quantile(blot, rng.uniform(0.5, 0.9)))
        if ink.shape[0] < 1.5 * ink.shape[1]:
            return ink


def _beside(some: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    height = max(each.shape[0] for each in some)
    page = np.zeros((height + 10, sum(each.shape[1] for each in some) + 10), bool)
    left = 0
    for each in some:
        top = int(rng.integers(0, height + 10 - each.shape[0] + 1))
        page[top : top + each.shape[0], left : left + each.shape[1]] |= each
        left = max(0, left + each.shape[1] - int(rng.integers(0, 6)))
    return page


def _letter(rng: np.random.Generator) -> np.ndarray:
    """A printed letter or figure, or its outline."""
    import matplotlib

    name = rng.choice(FONTS.split())
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    image = Image.new("L", (2 * CELL, 2 * CELL))
    font = ImageFont.truetype(str(file), int(rng.integers(35, 80)))
    text = str(rng.choice(list(LETTERS)))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.4:
        pen = float(rng.integers(2, 5))
        draw.text((CELL, CELL), text, 0, font, "mm", stroke_width=pen, stroke_fill=255)
        return _fitted(_turned(np.asarray(image, np.float32), rng) > 110)
    draw.text((CELL, CELL), text, 255, font, anchor="mm")
    ink = ndimage.gaussian_filter(np.asarray(image, np.float32), 1)
    return _fitted(_pen(_turned(ink, rng) > 110, rng))


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Crossing strokes, stars, arrows, lines hither and thither."""

    def around(corners: int, inner: float) -> Strokes:
        angles = np.linspace(0, 2 * np.pi, corners + 1) + rng.uniform(0, 6)
        radius = 0.5 * np.where(np.arange(corners + 1) % 2, inner, 1)
        return (
            tuple(zip(0.5 + radius * np.cos(angles), 0.5 + radius * np.sin(angles), strict=True)),
        )

    kind = rng.integers(6)
    if kind == 0:  # a cross, a plus
        return drawn((((0.5, 0.0), (0.5, 1.0)), ((0.0, 0.5), (1.0, 0.5))), rng)
    if kind == 1:
        return drawn((((0.0, 0.0), (0.8, 1.0)), ((0.8, 0.0), (0.0, 1.0))), rng)
    if kind == 2:  # a star of rays, drawn in one go or not
        return drawn(around(10, rng.uniform(0.2, 0.6)), rng)
    if kind == 3:
        angles = rng.uniform(0, np.pi) + np.arange(rng.integers(3, 6)) * np.pi / 4
        rays = [
            ((0.5 - x, 0.5 - y), (0.5 + x, 0.5 + y))
            for x, y in zip(np.cos(angles) / 2, np.sin(angles) / 2, strict=True)
        ]
        return drawn(tuple(rays), rng)
    if kind == 4:  # an arrow, a tick
        return drawn((((0.0, 0.5), (1.0, 0.5)), ((0.6, 0.1), (1.0, 0.5), (0.6, 0.9))), rng)
    points = rng.uniform(0, 1, (int(rng.integers(5, 12)), 2))
    return drawn((tuple(map(tuple, points.tolist())),), rng)
