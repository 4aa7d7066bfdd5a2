"""The rules of the paper: lines that are no digits."""

from typing import Any

import numpy as np
from scipy import ndimage

from lenet_jax.segmentation.ink import labelled

SHORTEST = 20  # pixels of a line that may be a rule


def find_rules(mask: np.ndarray) -> np.ndarray:
    """The rules of the paper, horizontal and vertical, not where digits cross them.

    A stroke of a digit may be as straight and as long. But a rule goes from edge to edge of the
    picture, or from rule to rule as in a form, or it repeats, or is too long for a digit's bar; and
    an upright one is not alone.
    """
    height, width = mask.shape
    (across, level), (down, upright) = _lines(mask), _lines(mask.T)
    repeating = _repeating(level)
    long = level[:, 1] - level[:, 0] > 1.5 * height
    # Upright lines beside each other are a row of ones unless they cross all the rules, and one
    # from edge to edge is a 1 in a tight crop where there are none.
    squared = _repeating(upright) & _crossing(upright, level[repeating]) & repeating.any()
    rules, posts = np.ones(len(level), bool), np.ones(len(upright), bool)
    # What ends on a line that is no rule is no rule either.
    for _ in range(len(level) + len(upright)):
        rules = repeating | long | _held(level, upright[posts], width)
        posts = squared | _held(upright, level[rules], height) & rules.any()
    found = np.zeros_like(mask)
    for turned, labels, kept, out in (
        (mask, across, rules, found),
        (mask.T, down, posts, found.T),
    ):
        if kept.any():
            out |= np.r_[False, kept][labels] & turned & ~_runs(turned, _thick(turned) + 1, 0)
    return found


def _thick(mask: np.ndarray) -> int:
    """Pixels that a line may be thick: one of three, blurred; of more in larger pictures, of fewer
    in small ones.
    """
    height = mask.shape[0]
    return min(7, 2 + height // 30) + height // 150


def _lines(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The long thin lines along the rows, numbered from 1, and the place of each, int [n, 4].

    They may be oblique or bent a little, faint in places, and crossed by strokes. A place is the
    first column, one past the last, the first row and one past the last.
    """
    height, width = mask.shape
    length = max(SHORTEST, width // 3)
    if width < 2 * SHORTEST:
        return np.zeros(mask.shape, int), np.zeros((0, 4), int)
    thick = _thick(mask)
    thin = mask & ~_runs(mask, thick + 1, 0)
    # Where a stroke crosses the line there is a gap of its width.
    bridged = eroded(dilated(thin, 2 * thick + 5, 1), 2 * thick + 5, 1, beyond=True)
    labels, number = labelled(bridged)
    places = [(c.start, c.stop, r.start, r.stop) for r, c in ndimage.find_objects(labels, number)]
    start, stop, first, last = np.array(places, int).reshape(-1, 4).T
    level = (stop - start >= length) & (last - first <= thick + 0.15 * (stop - start))
    renumbered = np.r_[0, np.where(level, np.cumsum(level), 0)]
    found = np.stack([start, stop, first, last], axis=1)[level]
    if not level.any():
        return np.zeros_like(labels), found
    # What is left of a line behind a stroke that is wider than the gaps.
    rest = (stop - start >= 3 * thick) & (last - first <= thick + 0.15 * (stop - start))
    falls = [
        _fall(labels, line, place)
        for line, place in zip(np.flatnonzero(level) + 1, found, strict=True)
    ]
    alone = np.ones(len(found), bool)
    for line in np.flatnonzero(rest):
        middle = (start[line] + stop[line]) / 2, (first[line] + last[line]) / 2
        own = renumbered[line + 1] - 1  # -1 of a line that is not long itself
        for number, ((slope, row), place) in enumerate(zip(falls, found, strict=True)):
            beside = max(place[0] - stop[line], start[line] - place[1])
            near = abs(row + slope * middle[0] - middle[1]) <= thick + 0.02 * beside
            if number == own or not near or beside < 0 or not alone[number]:
                continue
            gap = np.s_[min(place[1], stop[line]) : max(place[0], start[line])]
            if (own < 0 and beside < length) or _parted(mask[:, gap], round(middle[1]), thick):
                renumbered[line + 1] = number + 1
                place[0], place[1] = min(place[0], start[line]), max(place[1], stop[line])
                place[2], place[3] = min(place[2], first[line]), max(place[3], last[line])
                if own >= 0:
                    alone[own] = False
                break
    return np.r_[0, np.where(alone, np.cumsum(alone), 0)][renumbered][labels], found[alone]


def _parted(gap: np.ndarray, row: int, thick: int) -> bool:
    """Whether a stroke lies in the gap of a line in this row, mask [h, columns]: on it, all the
    way, or across it.
    """
    above, on, below = np.split(gap, [max(0, row - 2 * thick), row + 2 * thick])
    return bool(on.any(axis=0).all() or (above.any() and below.any()))


def _fall(labels: np.ndarray, line: Any, place: np.ndarray) -> tuple[float, float]:
    """Slope and row at column 0 of a line."""
    rows, columns = np.nonzero(labels[place[2] : place[3], place[0] : place[1]] == line)
    slope, row = np.polyfit(columns + place[0], rows + place[2], 1)
    return float(slope), float(row)


def _repeating(lines: np.ndarray) -> np.ndarray:
    """Which of the lines [n, 4] are of three or more beside each other.

    Nearer than half their length: the bars of two 7s, one under the other, are further apart.
    """
    start, stop, first, last = lines.T
    apart = abs((first + last)[:, None] - (first + last)) / 2
    common = np.minimum(stop[:, None], stop) - np.maximum(start[:, None], start)
    near = (common > 0) & (apart < (stop - start) / 2)
    return (near & (near.sum(axis=0) > 2)).any(axis=1)  # each is one of those near it


def _crossing(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the lines [n, 4] are long enough to reach all of the others."""
    start, stop = lines[:, :2].T[..., None]
    before, after = others[:, 2:].T
    return ((start <= after + 2) & (before - 2 <= stop)).all(axis=1)


def _held(lines: np.ndarray, others: np.ndarray, size: int) -> np.ndarray:
    """Which of the lines [n, 4] end on both sides at the edge of the picture or on the others."""
    start, stop, first, last = lines.T[..., None]
    from_, to, before, after = others.T
    beside = (from_ - 2 <= last) & (first <= to + 2)
    begins = ((before - 1 <= start) & (start <= after + 1) & beside).any(axis=1)
    ends = ((before - 1 <= stop) & (stop <= after + 1) & beside).any(axis=1)
    return (begins | (start[:, 0] == 0)) & (ends | (stop[:, 0] == size))


def _runs(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """What lies in a run of `length` pixels, or of one more if that is even, along an axis."""
    length |= 1
    return dilated(eroded(mask, length, axis), length, axis)


def eroded(mask: np.ndarray, length: int, axis: int, beyond: bool = False) -> np.ndarray:
    """The middles of windows of an odd length along an axis in which all is true, as in
    `dilated`.
    """
    return ~dilated(~mask, length, axis, not beyond)


def dilated(mask: np.ndarray, length: int, axis: int, beyond: bool = False) -> np.ndarray:
    """The middles of windows of an odd length along an axis in which something is true, where
    what lies beyond the edges is `beyond`.

    By doubling: a filter of scipy looks at each pixel several times as long.
    """
    half = [(0, 0)] * mask.ndim
    half[axis] = (length // 2, length // 2)
    found = np.moveaxis(np.pad(mask, half, constant_values=beyond), axis, 0)
    reach = 1
    while reach < length:
        step = min(reach, length - reach)
        found, reach = found[:-step] | found[step:], reach + step
    return np.moveaxis(found, 0, axis)
