"""Reads the digits of a picture: finds them, prepares them as MNIST's, asks the network."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lenet_jax import pretrained
from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding, lines, networks, parts, preparation
from lenet_jax.recognition.ink import light_on_dark
from lenet_jax.recognition.objects import shows_digits
from lenet_jax.recognition.predictor import predictor

Box = tuple[int, int, int, int]
WHOLE = 20.0  # penalty up to which a wide part is taken for one digit
# A network whose scores are no penalties takes it for one where its two best scores differ by this
# or more. In a softmax that is odds of 20 to 1; squared errors aim at a difference of 2.
APART = {"CrossEntropy": 3.0, "SquaredError": 1.0}
SIZES = 1, 4, 16, 64  # numbers of images for which the network is compiled


@dataclass(frozen=True)
class Digit:
    """One digit of a picture: the network's prediction, and where it stands.

    `penalties` are the squared distances of eq. 7, one for each class, the least the prediction's.
    `confidence` is the prediction's share of a softmax over minus the penalties and minus j, the
    rubbish class's (eq. 9). `rubbish` says that this class beats the prediction: it is no digit.
    `rejected` are these predictions and those whose runner-up is too close (section III-D).
    """

    label: int
    score: float
    runner_up: int
    confidence: float
    rejected: bool
    rubbish: bool
    box: Box  # left, top, width, height in pixels of the upright picture
    penalties: list[float]
    image: np.ndarray  # uint8 [28, 28], what the network saw


def recognize(picture: Any, network: str = "", reject_below: float | None = None) -> list[Digit]:
    """The digits of a picture, line by line, each from the left; none on a blank page.

    `picture`: a path, the bytes of a file, a Pillow image, or an array [h, w] or [h, w, 3 or 4] of
    0 to 255 (or of 0 to 1, in floats). `network` is one of `pretrained.names()`, or the folder of a
    run. `reject_below`: the difference of the two best scores below which a prediction is rejected
    (default: that of the network's card; a run has none). What the rubbish class beats always is.
    Raises UserError for what is no picture and for an unknown network.
    """
    return read(decoding.read(picture), *reader(network or pretrained.DEFAULT), reject_below)


@cache
def reader(
    source: str, trust_page: bool = False
) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """The scores of a network, a function of uint8 images [n, *shape] for any n, and its card.

    Compiled for `SIZES` alone. `source` as in `recognition.network.load`.
    """
    network = networks.load(source, trust_page=trust_page)
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
    scores: Callable[[np.ndarray], np.ndarray],
    card: dict[str, Any],
    reject_below: float | None = None,
) -> list[Digit]:
    """The digits of grey levels, float32 [h, w] of 0 to 255, by the scores of a network."""
    if not shows_digits(card):
        shape = "x".join(map(str, card["dataset_shape"]))
        raise UserError(
            f"this network takes images of {shape}, and the digits of a picture are made grey and "
            "28x28. It names the object that a picture shows: lenet_jax.load(run).classify(picture)"
        )
    j, below = limits(card)
    below = below if reject_below is None else reject_below
    fit = fitting(card)

    def looked_at(grey: np.ndarray, light: bool) -> list[Digit]:
        page = parts.find(grey, light)
        pieces = list({piece for part in page.parts for piece in _pieces(part)})
        if not pieces:
            return []
        images = np.stack([preparation.prepare(page.layers[p.layer], p.box) for p in pieces])
        predictions = {
            piece: digit(image, scored, _scaled(piece.box, page.scale), j, below)
            for piece, image, scored in zip(pieces, images, scores(images), strict=True)
        }

        def worst(way: parts.Way) -> float:
            return min(fit(predictions[piece]) for piece in way)

        chosen = [piece for part in page.parts for piece in _best(part, worst)]
        order = lines.arranged([piece.box for piece in chosen])
        return [predictions[chosen[at]] for line in order for at in line]

    def belief(digits: list[Digit]) -> float:
        return sum(1.0 if each.confidence >= 0.5 else -0.5 for each in digits)

    light = light_on_dark(grey)
    digits = looked_at(grey, light)
    if belief(digits) <= 0.25 * len(digits) and max(grey.shape) > parts.SMALL:
        turned = looked_at(grey, not light)
        if belief(turned) > max(0.0, belief(digits)):
            return turned
    return digits


def _pieces(part: parts.Part) -> list[parts.Piece]:
    found = [piece for ways in part.pieces for way in ways for piece in way]
    return found + ([part.whole] if part.whole else [])


def _best(part: parts.Part, worst: Callable[[parts.Way], float]) -> parts.Way:
    """The pieces of a part that fit: all of it in one unless that is bad, else the way whose worst
    piece fits best."""
    cut = []
    for ways in part.pieces:
        singles = all(len(way) == 1 for way in ways)
        whole = not singles and worst(ways[0]) >= 0
        cut += ways[0] if whole else max(ways, key=worst)
    if part.whole and (worst([part.whole]) >= 0 or (cut and worst([part.whole]) > worst(cut))):
        return [part.whole]
    return cut


def fitting(card: dict[str, Any]) -> Callable[[Digit], float]:
    """How well a prediction fits, by the scores that its network's loss makes; below 0 badly."""
    apart = APART.get(card["config"]["loss"].get("is", ""))
    if apart is None:
        return lambda digit: digit.score + WHOLE
    return lambda digit: digit.score + digit.penalties[digit.runner_up] - apart


def limits(card: dict[str, Any]) -> tuple[float, float]:
    """The penalty above which a prediction is rejected, and the difference of scores below which.

    They are the rubbish class's j, infinite where the network's loss has no such class, and the
    card's difference, 0 where it has none: a run's card, and that of a network for which none was
    found that leaves few enough errors (null). Then nothing is rejected by the difference.
    """
    return card["config"]["loss"].get("j", math.inf), card.get("reject_below") or 0.0


def is_rubbish(scores: np.ndarray, j: float) -> np.ndarray:
    """Which predictions the rubbish class of penalty j beats, bool [...] from [..., classes]."""
    return -scores.max(axis=-1) > j


def digit(image: np.ndarray, scores: np.ndarray, box: Box, j: float, reject_below: float) -> Digit:
    """The prediction from the scores [classes] of one image; j is the rubbish class's penalty."""
    second, first = np.argsort(scores)[-2:]
    everything = np.logaddexp.reduce([*scores.astype(float), -j])
    rubbish = bool(is_rubbish(scores, j))
    return Digit(
        label=int(first),
        score=float(scores[first]),
        runner_up=int(second),
        confidence=float(np.exp(scores[first] - everything)),
        rejected=rubbish or bool(scores[first] - scores[second] < reject_below),
        rubbish=rubbish,
        box=box,
        penalties=[-float(score) for score in scores],
        image=image,
    )


def _scaled(box: Sequence[int], scale: float) -> Box:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, right - left, bottom - top


def plain(digit: Digit) -> dict[str, Any]:
    """The digit in JSON's types, without its image."""
    return {k: v for k, v in dataclasses.asdict(digit).items() if k != "image"}


def annotate(pixels: np.ndarray, digits: Sequence[Digit]) -> Any:
    """The picture (`decoding.pixels`) with a box around each digit and its prediction above it.

    A Pillow image; taller than the picture where a prediction had no room.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    shown = pixels if pixels.shape[2:] == (3,) else decoding.grey(pixels)
    picture = Image.fromarray(shown.astype(np.uint8)).convert("RGB")
    sizes = [max(12, digit.box[3] // 3) for digit in digits]
    edges = [max(1, size // 12) for size in sizes]
    needed = (s + 3 * e - d.box[1] for s, e, d in zip(sizes, edges, digits, strict=True))
    room = max(0, *needed) if digits else 0
    picture = ImageOps.expand(picture, (0, room, 0, 0), "white")
    draw = ImageDraw.Draw(picture)
    for size, edge, digit in zip(sizes, edges, digits, strict=True):
        left, top, width, height = digit.box
        top += room
        colour = "red" if digit.rejected else "green"
        around = 2 * edge
        draw.rectangle(
            (left - around, top - around, left + width + around, top + height + around),
            outline=colour,
            width=edge,
        )
        draw.text(
            (left, top - 3 * edge),
            "?" if digit.rubbish else f"{digit.label}{'?' * digit.rejected}",
            fill=colour,
            font=ImageFont.load_default(size),
            anchor="lb",
        )
    return picture
