"""Reads the digits of a picture: finds them, prepares them as MNIST's, asks the network."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.recognition import answers, decoding, networks
from lenet_jax.recognition.answers import Digit, Line, Reading
from lenet_jax.recognition.objects import shows_digits
from lenet_jax.recognition.predictor import predictor
from lenet_jax.segmentation import lines, parts, preparation
from lenet_jax.segmentation.ink import are_holes, light_on_dark, resized

SIZES = 1, 4, 16, 64  # numbers of images for which the network is compiled
SURE = 0.5  # confidence from which a digit speaks for a reading, below it against
DOUBTFUL = 0.7  # belief for each digit, below which a page is looked at otherwise too
Scores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Attempt:
    """A page looked at in one way: turned by so many quarters, light on dark or not; what its
    pieces were taken for, and which of them were chosen.
    """

    page: parts.Page
    turned: int
    light: bool
    predictions: dict[parts.Piece, Digit]
    chosen: list[parts.Piece]

    @property
    def belief(self) -> float:
        sure = [self.predictions[piece].confidence >= SURE for piece in self.chosen]
        return sum(1.0 if each else -0.5 for each in sure)


def recognize(picture: Any, network: str = "", reject_below: float | None = None) -> Reading:
    """What stands in a picture: its lines, their digits and marks; none on a blank page.

    `picture`: a path, the bytes of a file, a Pillow image, or an array [h, w] or [h, w, 3 or 4] of
    0 to 255 (or of 0 to 1, in floats). `network` is one of `pretrained.names()`, or the folder of a
    run. `reject_below`: the difference of the two best scores, the rubbish class's among them,
    below which a prediction is rejected (default: that of the network's card; a run's is 0).
    Raises UserError for what is no picture and for an unknown network.
    """
    shown, found = decoding.decode(picture), reader(network or pretrained.READER)
    return read(decoding.grey(shown.pixels), *found, reject_below, shown.scale)


@cache
def reader(source: str, trust_page: bool = False) -> tuple[Scores, dict[str, Any]]:
    """The scores of a network, a function of uint8 images [n, *shape] for any n, and its card.

    Compiled for `SIZES` alone. `source` as in `recognition.network.load`.
    """
    network = networks.load(source, trust_page=trust_page)
    networks.require_single(source, network.card["config"])
    predict = predictor(network.module, network.params, network.shape)

    def scores(images: np.ndarray) -> np.ndarray:
        found = []
        for at in range(0, len(images), SIZES[-1]):
            part = images[at : at + SIZES[-1]]
            size = next(size for size in SIZES if size >= len(part))
            filled = np.pad(part, ((0, size - len(part)), *((0, 0),) * (part.ndim - 1)))
            found.append(predict(filled)[: len(part)])
        return np.concatenate(found)

    return scores, network.card


def read(
    grey: np.ndarray,
    scores: Scores,
    card: dict[str, Any],
    reject_below: float | None = None,
    scale: int = 1,
) -> Reading:
    """What stands in grey levels, float32 [h, w] of 0 to 255, by the scores of a network.

    Each of them is `scale` pixels of the picture wide (`decoding.decode`), in which boxes are.
    """
    return answer(attempts(grey, scores, card, reject_below), scale)


def attempts(
    grey: np.ndarray,
    scores: Scores,
    card: dict[str, Any],
    reject_below: float | None = None,
) -> list[Attempt]:
    """The ways in which a picture was looked at, the best first; arguments as of `read`.

    Where its digits are doubtful, also light on dark, or dark on light, and in all four attitudes.
    """
    if not shows_digits(card):
        shape = "x".join(map(str, card["dataset_shape"]))
        raise UserError(
            f"this network takes images of {shape}, and the digits of a picture are made grey and "
            "28x28. It names the object that a picture shows: lenet_jax.load(run).classify(picture)"
        )

    def attempt(turned: int, light: bool) -> Attempt:
        return _attempt(np.rot90(grey, turned), turned, light, scores, card, reject_below)

    light = light_on_dark(grey)
    tried = [attempt(0, light)]
    if max(grey.shape) > parts.SMALL and _is_doubtful(tried[0]):
        other = attempt(0, not light)
        tried += [other] if other.belief > 0 and _is_on_paper(other, grey) else []
        best = max(tried, key=_merit)
        pages = [each for each in tried if len(each.chosen) > 2]
        if pages and (_is_doubtful(best) or len(best.chosen) <= 2):
            turned = [attempt(quarters, pages[0].light) for quarters in (1, 3, 2)]
            tried += [each for each in turned if len(each.chosen) > 2]
    return sorted(tried, key=_merit, reverse=True)


def _is_doubtful(attempt: Attempt) -> bool:
    return attempt.belief < DOUBTFUL * len(attempt.chosen) or not attempt.chosen


def _is_on_paper(attempt: Attempt, grey: np.ndarray) -> bool:
    """Whether paper is around most of its pieces, and not what is as bright as they are: the holes
    of letters and figures are bright and have shapes, too.
    """
    ink = attempt.page.layers[0]
    holes = are_holes(resized(grey, ink.shape), ink, [p.box for p in attempt.chosen])
    return sum(holes) < len(holes) / 2


def _merit(attempt: Attempt) -> float:
    """Its belief; the least where nothing was found, and less where the picture was turned."""
    turned = (1 + 0.2 * len(attempt.chosen)) * (attempt.turned > 0)
    return attempt.belief - turned if attempt.chosen else -math.inf


def _attempt(
    grey: np.ndarray,
    turned: int,
    light: bool,
    scores: Scores,
    card: dict[str, Any],
    reject_below: float | None,
) -> Attempt:
    page = parts.find(grey, light)
    limits = answers.limits(card)
    if reject_below is not None:
        limits = limits._replace(reject_below=reject_below)
    pieces = list(dict.fromkeys(piece for part in page.parts for piece in _pieces(part)))
    predictions = {}
    if pieces:
        images = np.stack([preparation.prepare(page.layers[p.layer], p.box) for p in pieces])
        for piece, image, scored in zip(pieces, images, scores(images), strict=True):
            box = _in_grey(piece.box, page, turned)
            predictions[piece] = answers.digit(image, scored, box, limits)
    fit = answers.fitting(card)

    def worst(way: parts.Way) -> float:
        return min(fit(predictions[piece]) for piece in way)

    chosen = [piece for part in page.parts for piece in _best(part, worst)]
    return Attempt(page, turned, light, predictions, chosen)


def _pieces(part: parts.Part) -> list[parts.Piece]:
    found = [piece for ways in part.pieces for way in ways for piece in way]
    return found + ([part.whole] if part.whole else [])


def _best(part: parts.Part, worst: Callable[[parts.Way], float]) -> parts.Way:
    """The pieces of a part that fit: all of it in one unless that is bad, else the way whose worst
    piece fits best.
    """
    cut = []
    for ways in part.pieces:
        singles = all(len(way) == 1 for way in ways)
        whole = not singles and worst(ways[0]) >= 0
        cut += ways[0] if whole else max(ways, key=worst)
    if part.whole and (worst([part.whole]) >= 0 or (cut and worst([part.whole]) > worst(cut))):
        return [part.whole]
    return cut


def answer(tried: list[Attempt], scale: int = 1) -> Reading:
    """The reading of the best attempt, boxes times `scale`."""
    best = tried[0]
    page, boxes = best.page, [piece.box for piece in best.chosen]
    found = []
    for line in lines.arranged(boxes):
        predictions = [best.predictions[best.chosen[at]] for at in line]
        slashes = lines.slashes([boxes[at] for at in line], [d.image for d in predictions])
        marks = [("/", boxes[at]) for at, is_one in zip(line, slashes, strict=True) if is_one]
        digits, own = [], []
        for at, prediction, is_mark in zip(line, predictions, slashes, strict=True):
            if not is_mark:
                digits.append(_times(scale, prediction))
                own.append(boxes[at])
        marks += lines.marks(own, page.small)
        signs = ["?" if d.rejected else str(d.label) for d in digits]
        placed = [
            _times(scale, answers.Mark(m, _in_grey(box, page, best.turned))) for m, box in marks
        ]
        found.append(Line(lines.text(own, signs, marks), digits, placed))
    return Reading(found, 90 * best.turned, page.left_out)


def _times(scale: int, of: Any) -> Any:
    """A digit or a mark in a picture so many times as large."""
    return dataclasses.replace(of, box=tuple(scale * edge for edge in of.box))


def _in_grey(box: parts.Bounds, page: parts.Page, turned: int) -> answers.Box:
    """left, top, width and height in the grey levels of what is in a box of a page turned."""
    height, width = page.layers[0].shape
    left, top, right, bottom = box
    for _ in range(turned):  # back clockwise
        left, top, right, bottom = height - bottom, left, height - top, right
        height, width = width, height
    left, top, right, bottom = (round(edge * page.scale) for edge in (left, top, right, bottom))
    return left, top, right - left, bottom - top
