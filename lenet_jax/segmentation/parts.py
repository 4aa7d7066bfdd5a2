"""The parts of a picture that may be digits, in reading order."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from lenet_jax.errors import UserError
from lenet_jax.segmentation.ink import PALE, find_ink, ink_of_one, labelled, resized
from lenet_jax.segmentation.rules import find_rules

SIDE, LARGEST = 1024, 4096  # pixels of the longest side in which digits are looked for
FINE = 40  # pixels: where digits are smaller, the picture is looked at in more

SMALL = 40  # pixels of the longest side up to which a picture is of one digit, whole or in pieces
MOST = 4000  # parts of a picture that are looked at, the largest

Bounds = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Piece:
    """A box in one of a page's layers of ink."""

    layer: int
    box: Bounds


Way = list[Piece]


@dataclass(frozen=True)
class Part:
    """What may be one digit, or several: a list of ways to cut it for each piece that is left
    where lines that may be the paper's were taken away, and all of it as one digit, if it can be.
    """

    pieces: list[list[Way]]
    whole: Piece | None = None


@dataclass(frozen=True)
class Page:
    """The ink of a picture and its parts that may be digits.

    `layers` are float32 [h, w] of 0 to 1: all ink, and without the paper's rules. Boxes are (left,
    top, right, bottom) in their pixels, each of which is `scale` pixels of the picture wide.
    `small` are parts too small for digits, which may be marks; `left_out` says what is no part.
    """

    layers: list[np.ndarray]
    parts: list[Part]
    scale: float
    small: list[Bounds] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find(grey: np.ndarray, light: bool) -> Page:
    """The ink and the parts of a picture, float32 [h, w] of 0 to 255 (`decoding.read`).

    `light` says that the ink is lighter than the paper. Raises UserError for a picture of fewer
    than 8 pixels in height or width.
    """
    if min(grey.shape) < 8:
        height, width = grey.shape
        raise UserError(f"the picture has {width} x {height} pixels: no digit fits in fewer than 8")
    if max(grey.shape) <= SMALL:
        return _one(grey, light)
    side = SIDE
    while True:
        page = _find(grey, light, max(1.0, max(grey.shape) / side))
        heights = [
            b[3] - b[1] for part in page.parts for ways in part.pieces for b in [ways[0][0].box]
        ]
        height = float(np.median(heights)) if heights else FINE / 2
        if page.scale == 1 or side >= LARGEST or height >= 0.9 * FINE:
            return page
        side = min(LARGEST, round(side * max(1.3, 1.1 * FINE / height)))


def _one(grey: np.ndarray, light: bool) -> Page:
    layers = [ink_of_one(grey), find_ink(grey, light)]
    whole = 0, 0, *grey.shape[::-1]
    ways = [[Piece(at, _tight(ink, whole))] for at, ink in enumerate(layers) if (ink >= 0.5).any()]
    return Page(layers, [Part([ways])] if ways else [], 1.0)


def _find(grey: np.ndarray, light: bool, scale: float) -> Page:
    if scale > 1:
        grey = resized(grey, tuple(max(8, round(n / scale)) for n in grey.shape))
    ink = find_ink(grey, light)
    mask = ink >= 0.5
    ruled = find_rules(ink >= PALE) & mask
    rest = mask & ~ruled
    boxes, small, left_out = _boxes(rest)
    if not ruled.any():
        found = [Part([ways_to_cut(ink, 0, box)]) for box in boxes]
        return Page([ink], found, scale, small, left_out)
    layers = [ink, ink * ndimage.binary_dilation(rest, iterations=2)]
    labels, number = labelled(mask)
    of_rules = np.unique(labels[ruled])
    places = ndimage.find_objects(labels, number)
    parts = []
    edges, left = np.array(boxes, int).reshape(-1, 4), np.ones(len(boxes), bool)
    of_label: dict[int, list[int]] = {}
    for at, (start, top, stop, bottom) in enumerate(boxes):
        for label in np.unique(labels[top:bottom, start:stop]).tolist():
            of_label.setdefault(label, []).append(at)
    for label in of_rules.tolist():  # with what is ruled out, if that may be a digit's
        rows, columns = places[label - 1]
        box = columns.start, rows.start, columns.stop, rows.stop
        own = [at for at in of_label.get(label, []) if left[at]]
        inside = left & (edges[:, :2] >= box[:2]).all(1) & (edges[:, 2:] <= box[2:]).all(1)
        inside[own] = False
        across = box[0] == 0 and box[2] == mask.shape[1] or box[1] == 0 and box[3] == mask.shape[0]
        wide = box[2] - box[0] > 1.6 * (box[3] - box[1])
        others = across and left.sum() > len(own)
        whole = None if inside.any() or wide or others else Piece(0, box)
        left[own] = False
        if own or whole:
            parts.append(Part([ways_to_cut(layers[1], 1, boxes[at]) for at in own], whole))
    parts += [
        Part([ways_to_cut(layers[1], 1, box)])
        for box, alone in zip(boxes, left, strict=True)
        if alone
    ]
    return Page(layers, parts, scale, small, left_out)


def _boxes(mask: np.ndarray) -> tuple[list[Bounds], list[Bounds], list[str]]:
    """What may be digits, what is too small for that, and in sentences what is left out."""
    labels, number = labelled(mask)
    if not number:
        return [], [], []
    height, width = mask.shape
    areas = np.bincount(labels.ravel())[1:].tolist()
    every = [
        ((columns.start, rows.start, columns.stop, rows.stop), area)
        for (rows, columns), area in zip(ndimage.find_objects(labels), areas, strict=True)
        if area >= 6
    ]
    parts, left_out = every, []
    # What touches the edge is a table, a finger or a digit cut off, unless all does, or it stands
    # beside a digit as tall: in a crop without a margin.
    inside = [(b, a) for b, a in parts if min(b[:2]) > 0 and b[2] < width and b[3] < height]
    tallest = max((b - t for (_, t, _, b), _ in inside), default=0)
    if tallest >= 8:
        rows = np.array([(t, b) for (_, t, _, b), _ in inside if b - t >= 0.8 * tallest])
        parts = inside + [
            ((left, top, right, bottom), area)
            for (left, top, right, bottom), area in set(parts) - set(inside)
            if 0.8 * tallest <= bottom - top <= 1.25 * tallest
            and ((2 * rows[:, 0] < top + bottom) & (top + bottom < 2 * rows[:, 1])).any()
        ]
        cut = [b for b, _ in set(every) - set(parts) if 0.4 * tallest < b[3] - b[1] < 2 * tallest]
        if cut:
            left_out.append(f"{len(cut)} at the edge of the picture")
    largest = max((area for _, area in parts), default=0)
    large = [(area, box) for box, area in parts if area >= 0.06 * largest]
    if len(large) > MOST:  # texture, or a page of text
        left_out.append(f"{len(large) - MOST} parts, the smallest of {len(large)}")
        large = sorted(large)[-MOST:]
    digits = _digits(_joined([box for _, box in large]))
    taken = np.zeros(mask.shape, bool)
    for left, top, right, bottom in digits:
        taken[top:bottom, left:right] = True
    small = [b for b, _ in parts if not taken[b[1] : b[3], b[0] : b[2]].any()]
    return digits, small, left_out


def _joined(parts: list[Bounds]) -> list[Bounds]:
    """Strokes of one digit, like the bar of a 5, put together: close by, one above the other, and
    one of them small or both together no taller than another digit is."""
    parts = sorted(parts, key=lambda box: box[1] - box[3])  # the tallest first
    tallest = max((b - t for _, t, _, b in parts), default=0)
    done: list[Bounds] = []
    for left, top, right, bottom in parts:
        for at, other in enumerate(done):
            over = min(right, other[2]) - max(left, other[0])
            apart = max(top, other[1]) - min(bottom, other[3])
            tall, small = other[3] - other[1], bottom - top
            inside = over >= 0.5 * min(right - left, other[2] - other[0])
            fits = max(bottom, other[3]) - min(top, other[1]) <= tallest
            if inside and apart < 0.2 * tall and (small < 0.5 * tall or apart < 0 or fits):
                whole = np.array([(left, top, right, bottom), other])
                done[at] = (*whole[:, :2].min(axis=0).tolist(), *whole[:, 2:].max(axis=0).tolist())
                break
        else:
            done.append((left, top, right, bottom))
    return done


def _digits(boxes: list[Bounds]) -> list[Bounds]:
    """The boxes whose size a digit may have among the others."""
    tallest = max((b - t for _, t, _, b in boxes), default=0)
    least = max(6, 0.3 * tallest)
    return [box for box in boxes if box[3] - box[1] >= least]


def ways_to_cut(ink: np.ndarray, layer: int, box: Bounds) -> list[Way]:
    """A part as one digit, and if it is wide as two, three or more that touch.

    Cut upright, where there is least ink near the places that would make equal pieces.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    ways = [[Piece(layer, box)]]
    if width <= 1.1 * height:
        return ways
    columns = ink[top:bottom, left:right].sum(axis=0)
    for pieces in range(2, min(round(2.5 * width / height), 6) + 1):
        near = max(1, width // (4 * pieces))
        cuts = [left]
        for at in (width * piece // pieces for piece in range(1, pieces)):
            cuts.append(left + at - near + int(np.argmin(columns[at - near : at + near])))
        cuts.append(right)
        ways.append(
            [Piece(layer, _tight(ink, (a, top, b, bottom))) for a, b in itertools.pairwise(cuts)]
        )
    return ways


def _tight(ink: np.ndarray, box: Bounds) -> Bounds:
    """The box of the ink in a box."""
    left, top, right, bottom = box
    inked = ink[top:bottom, left:right] >= 0.5
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if not len(rows):
        return box
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
