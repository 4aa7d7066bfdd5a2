"""The parts of a picture that may be digits, in reading order."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lenet_jax.errors import UserError
from lenet_jax.recognition.ink import find_ink, labelled, resized
from lenet_jax.recognition.rules import find_rules

SIDE = 1024

MOST = 400  # parts of a picture that are looked at, the largest

Bounds = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Page:
    """The ink of a picture, float32 [h, w] of 0 to 1, and its parts that may be digits.

    Boxes are (left, top, right, bottom) in pixels of `ink`, in reading order; one of these pixels
    is `scale` pixels of the picture wide.
    """

    ink: np.ndarray
    boxes: list[Bounds]
    scale: float


def find(grey: np.ndarray) -> Page:
    """The ink and the parts of a picture, float32 [h, w] of 0 to 255 (`read`), that may be digits.

    Raises UserError for a picture of fewer than 8 pixels in height or width.
    """
    if min(grey.shape) < 8:
        height, width = grey.shape
        raise UserError(f"the picture has {width} x {height} pixels: no digit fits in fewer than 8")
    scale = max(1.0, max(grey.shape) / SIDE)
    if scale > 1:
        grey = resized(grey, tuple(max(8, round(n / scale)) for n in grey.shape))
    ink = find_ink(grey)
    mask = ink > 0.5
    mask &= ~find_rules(mask)
    return Page(ink * ndimage.binary_dilation(mask, iterations=2), _boxes(mask), scale)


def _boxes(mask: np.ndarray) -> list[Bounds]:
    labels, number = labelled(mask)
    if not number:
        return []
    height, width = mask.shape
    areas = ndimage.sum_labels(mask, labels, range(1, number + 1))
    parts = [
        ((columns.start, rows.start, columns.stop, rows.stop), area)
        for (rows, columns), area in zip(ndimage.find_objects(labels), areas, strict=True)
        if area >= 6
    ]
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
    largest = max((area for _, area in parts), default=0)
    parts = [(area, box) for box, area in parts if area >= 0.06 * largest]
    if len(parts) > MOST:  # texture, or a page of text
        parts = sorted(parts)[-MOST:]
    return _in_order(_digits(_joined([box for _, box in parts])))


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


def _in_order(boxes: list[Bounds]) -> list[Bounds]:
    """Line by line from the top, each from the left."""
    lines: list[list[Bounds]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        middle = (box[1] + box[3]) / 2
        last = lines[-1] if lines else []
        if last and middle < np.mean([b for _, _, _, b in last]):
            last.append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in sorted(line)]


def ways_to_cut(ink: np.ndarray, box: Bounds) -> list[list[Bounds]]:
    """A part as one digit, and if it is wide as two, three or more that touch.

    Cut upright, where there is least ink near the places that would make equal pieces.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    ways = [[box]]
    if width <= 1.1 * height:
        return ways
    columns = ink[top:bottom, left:right].sum(axis=0)
    for pieces in range(2, min(round(2.5 * width / height), 6) + 1):
        near = max(1, width // (4 * pieces))
        cuts = [left]
        for at in (width * piece // pieces for piece in range(1, pieces)):
            cuts.append(left + at - near + int(np.argmin(columns[at - near : at + near])))
        cuts.append(right)
        ways.append([_tight(ink, (a, top, b, bottom)) for a, b in itertools.pairwise(cuts)])
    return ways


def _tight(ink: np.ndarray, box: Bounds) -> Bounds:
    """The box of the ink in a box."""
    left, top, right, bottom = box
    inked = ink[top:bottom, left:right] > 0.5
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if not len(rows):
        return box
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
