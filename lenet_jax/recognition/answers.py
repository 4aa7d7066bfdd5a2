"""What is read in a picture: its lines, their digits and marks."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from lenet_jax.recognition import decoding

Box = tuple[int, int, int, int]
WHOLE = 20.0  # penalty up to which a wide part is taken for one digit
# A network whose scores are no penalties takes it for one where its two best scores differ by this
# or more. In a softmax that is odds of 20 to 1; squared errors aim at a difference of 2.
APART = {"CrossEntropy": 3.0, "SquaredError": 1.0}


@dataclass(frozen=True)
class Digit:
    """One digit of a picture: the network's prediction, and where it stands.

    `penalties` are the squared distances of eq. 7, one for each class, the least the prediction's.
    `confidence` is the prediction's share of a softmax over minus the penalties and minus j, the
    rubbish class's (eq. 9), calibrated by what the network's card says. `rejected` are predictions
    whose runner-up is too close (section III-D), the rubbish class among them. `rubbish` says that
    this class beats a rejected one: it is no digit.
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


@dataclass(frozen=True)
class Mark:
    """What stands between digits and is none: `text` is one of . , : - / by its place and size."""

    text: str
    box: Box


@dataclass(frozen=True)
class Line:
    """A line of a page, from the left. `text` has its digits, ? for one that is rejected, its marks
    and a space for each wide gap.
    """

    text: str
    digits: list[Digit]
    marks: list[Mark]


@dataclass(frozen=True)
class Reading:
    """The lines of a picture from the top.

    `turned`: by how many degrees counterclockwise it had to be turned to be read (boxes are in
    the picture as it was given). `left_out` says in sentences what was seen and not read.
    """

    lines: list[Line]
    turned: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def digits(self) -> list[Digit]:
        return [digit for line in self.lines for digit in line.digits]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


def fitting(card: dict[str, Any]) -> Callable[[Digit], float]:
    """How well a prediction fits, by the scores that its network's loss makes; below 0 badly."""
    apart = APART.get(card["config"]["loss"].get("is", ""))
    if apart is None:
        return lambda digit: digit.score + WHOLE
    return lambda digit: digit.score + digit.penalties[digit.runner_up] - apart


class Limits(NamedTuple):
    """What a network's card says of rejection: the rubbish class's penalty j, infinite where its
    loss has no such class; the margin below which a prediction is rejected; and what is made of a
    prediction's log odds so that of those with a confidence of 0.9 nine in ten are right.
    """

    j: float = math.inf
    reject_below: float = 0.0
    slope: float = 1.0
    offset: float = 0.0


def limits(card: dict[str, Any]) -> Limits:
    """A card's limits. A run's card has no margin, nor has that of a network for which none was
    found that leaves few enough errors (null): then the rubbish class alone rejects.
    """
    j = card["config"]["loss"].get("j", math.inf)
    return Limits(j, card.get("reject_below") or 0.0, *card.get("calibration", ()))


def margins(scores: np.ndarray, j: float = math.inf) -> np.ndarray:
    """How far the best score is above the next, [...] from [..., classes]; the rubbish class's,
    minus j, is among the others. Below 0 that class beats the prediction.
    """
    best = np.sort(np.partition(scores, -2, axis=-1)[..., -2:], axis=-1)
    return best[..., 1] - np.maximum(best[..., 0], -j)


def is_rubbish(scores: np.ndarray, j: float) -> np.ndarray:
    """Which predictions the rubbish class of penalty j beats, bool [...] from [..., classes]."""
    return margins(scores, j) < 0


def log_odds(scores: np.ndarray, j: float) -> np.ndarray:
    """Of the best class against all others and rubbish, in a softmax over scores and minus j:
    float64 [...] from [..., classes]."""
    ordered = np.sort(scores.astype(float), axis=-1)
    return ordered[..., -1] - np.logaddexp(np.logaddexp.reduce(ordered[..., :-1], axis=-1), -j)


def confidences(scores: np.ndarray, limits: Limits) -> np.ndarray:
    """The best class's share of that softmax, [...], its odds calibrated (Platt 1999)."""
    return special.expit(limits.slope * log_odds(scores, limits.j) + limits.offset)


def digit(image: np.ndarray, scores: np.ndarray, box: Box, limits: Limits) -> Digit:
    """The prediction from the scores [classes] of one image."""
    second, first = np.argsort(scores)[-2:]
    rejected = bool(margins(scores, limits.j) < limits.reject_below)
    return Digit(
        label=int(first),
        score=float(scores[first]),
        runner_up=int(second),
        confidence=float(confidences(scores, limits)),
        rejected=rejected,
        rubbish=rejected and bool(-limits.j > scores[first]),
        box=box,
        penalties=[-float(score) for score in scores],
        image=image,
    )


def plain(reading: Reading) -> dict[str, Any]:
    """The reading in JSON's types, without the digits' images: `digits` in order, and `lines`, in
    which they are by their numbers from 0.
    """
    digits = [
        {k: v for k, v in dataclasses.asdict(digit).items() if k != "image"}
        for digit in reading.digits
    ]
    lines, at = [], 0
    for line in reading.lines:
        marks = [dataclasses.asdict(mark) for mark in line.marks]
        numbers = list(range(at, at + len(line.digits)))
        lines.append({"text": line.text, "digits": numbers, "marks": marks})
        at += len(line.digits)
    said = {"turned": reading.turned, "left_out": reading.left_out}
    return {"digits": digits, "lines": lines, **said}


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
