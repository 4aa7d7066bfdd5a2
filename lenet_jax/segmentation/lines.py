"""The lines of a page: which digits stand beside one another, in reading order."""

from collections.abc import Sequence

import numpy as np

from lenet_jax.segmentation.parts import Bounds
from lenet_jax.segmentation.preparation import stroke

STEEPEST = 0.3  # rise of a line, of its length: 17 degrees
SLASH = 15, 12, 60, 1.4  # a stroke so thin, leaning between these degrees, of so many heights
APART = 1.2, 2.0  # a gap is a space where it is wider than so many heights, and usual gaps


def arranged(boxes: Sequence[Bounds]) -> list[list[int]]:
    """The numbers of the boxes line by line from the top, each from the left.

    Lines may rise or fall, all about alike.
    """
    if not boxes:
        return []
    left, top, right, bottom = np.array(boxes, float).T
    fall = _fall((left + right) / 2, top, bottom)
    top, bottom = top - fall * (left + right) / 2, bottom - fall * (left + right) / 2
    lines: list[list[int]] = []
    for box in np.argsort(top + bottom, kind="stable"):
        last = lines[-1] if lines else []
        if last and (top[box] + bottom[box]) / 2 < np.mean(bottom[last]):
            last.append(int(box))
        else:
            lines.append([int(box)])
    return [sorted(line, key=lambda box: boxes[box]) for line in lines]


def _fall(middle: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> float:
    """By how much lines fall to the right, of their length: so that boxes share most rows.

    The least where several are as good: of single digits above one another any would be.
    """
    if len(middle) < 3:
        return 0.0
    step = max(1.0, float(np.median(bottom - top)) / 8)
    best, found = 0.0, 0.0
    for fall in np.linspace(-STEEPEST, STEEPEST, 61):
        rows = np.zeros(int((bottom.max() - top.min() + 2 * np.ptp(fall * middle)) / step) + 3)
        first = np.round((top - fall * middle - (top - fall * middle).min()) / step).astype(int)
        last = first + np.maximum(1, np.round((bottom - top) / step).astype(int))
        np.add.at(rows, first, 1)
        np.add.at(rows, np.minimum(last, len(rows) - 1), -1)
        shared = float((np.cumsum(rows) ** 2).sum()) * (1 - 0.3 * abs(fall))
        if shared > best * 1.001:
            best, found = shared, float(fall)
    return found


def spaces(boxes: Sequence[Bounds]) -> list[bool]:
    """Before which of a line's boxes [n] there is a space; never before the first."""
    if len(boxes) < 2:
        return [False] * len(boxes)
    left, top, right, bottom = np.array(boxes, float).T
    gaps = left[1:] - right[:-1]
    least = max(APART[0] * float(np.median(bottom - top)), APART[1] * float(np.median(gaps)))
    return [False, *(gaps > least).tolist()]


def marks(boxes: Sequence[Bounds], small: Sequence[Bounds]) -> list[tuple[str, Bounds]]:
    """The marks among small parts that stand beside the digits of a line, from the left.

    A point or a comma stands on the line, a colon is of two points one above the other, a minus
    is wide and in the middle. Others are none.
    """
    left, top, right, bottom = np.array(boxes, float).T
    tall = float(np.median(bottom - top))
    points: list[Bounds] = []
    found: list[tuple[str, Bounds]] = []
    for box in sorted(small):
        beside = np.argmin(np.maximum(left - box[2], box[0] - right))  # the digit that is nearest
        base, width, height = bottom[beside], box[2] - box[0], box[3] - box[1]
        if not left.min() - tall < box[0] < right.max() + tall or max(width, height) < 0.06 * tall:
            continue
        middle = (box[1] + box[3]) / 2
        if width >= 1.8 * height and width >= 0.2 * tall:
            if 0.25 < (base - middle) / tall < 0.75:
                found.append(("-", box))
        elif max(width, height) < 0.5 * tall and -0.4 < (base - middle) / tall < 1:
            points.append(box)
    while points:
        box = points.pop(0)
        over = [p for p in points if p[0] < box[2] and box[0] < p[2]]
        base = bottom[np.argmin(np.maximum(left - box[2], box[0] - right))]
        if over:
            points.remove(over[0])
            both = np.array([box, over[0]])
            found.append((":", (*both[:, :2].min(0).tolist(), *both[:, 2:].max(0).tolist())))
        elif base - box[3] < 0.2 * tall:
            long = box[3] - box[1] > 1.5 * (box[2] - box[0]) or box[3] - base > 0.12 * tall
            found.append(("," if long else ".", box))
    return sorted(found, key=lambda mark: mark[1])


def slashes(boxes: Sequence[Bounds], images: Sequence[np.ndarray]) -> list[bool]:
    """Which parts of a line are slashes, by their boxes and images uint8 [28, 28]: one stroke
    between others, that leans to the right and is taller than they are.
    """
    strokes = []
    for image in images:
        longer, leaning = stroke(image)
        strokes.append(longer > SLASH[0] and SLASH[1] < leaning < SLASH[2])
    tall = [box[3] - box[1] for box in boxes]
    others = [height for height, is_one in zip(tall, strokes, strict=True) if not is_one]
    last = len(boxes) - 1
    return [
        is_one and 0 < at < last and bool(others) and tall[at] > SLASH[3] * np.median(others)
        for at, is_one in enumerate(strokes)
    ]


def text(boxes: Sequence[Bounds], signs: Sequence[str], marks: Sequence[tuple[str, Bounds]]) -> str:
    """A line of digits, their signs one for each box, with its marks, and spaces where there are
    none of these."""
    placed = [(box[0], mark) for mark, box in marks]
    before = 0
    for box, sign, gap in zip(boxes, signs, spaces(boxes), strict=True):
        empty = not any(before < at < box[0] for at, _ in placed[: len(marks)])
        placed.append((box[0], " " * (gap and empty) + sign))
        before = box[0]
    return "".join(sign for _, sign in sorted(placed, key=lambda each: each[0]))
