"""Names the one object that a picture shows, by a network that was trained on such pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_jax.data import encoded
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding


@dataclass(frozen=True)
class Candidate:
    """A class that the object may be of.

    `name` is the class's, or its label where the data gave no names. `confidence` is its share of a
    softmax over the scores.
    """

    label: int
    name: str
    score: float
    confidence: float


def shows_digits(card: dict[str, Any]) -> bool:
    """Whether a network sees what `reader.read` cuts out of a page, and not a whole picture."""
    return tuple(card.get("dataset_shape", SHAPE)) == SHAPE


def classify(
    pixels: np.ndarray, scores: Callable[[np.ndarray], np.ndarray], card: dict[str, Any]
) -> list[Candidate]:
    """All classes, the likeliest first, of a picture as `decoding.pixels` gives it.

    The network sees its middle, scaled as the training pictures were (`encoded.decoded`). Raises
    UserError for a network whose images are neither grey nor in three colours.
    """
    found = scores(seen(pixels, tuple(card["dataset_shape"]))[None])[0].astype(float)
    shares = np.exp(found - np.logaddexp.reduce(found))
    names = card.get("dataset_names") or [str(label) for label in range(len(found))]
    return [
        Candidate(int(label), names[label], float(found[label]), float(shares[label]))
        for label in np.argsort(-found, kind="stable")
    ]


def seen(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What a network for images of `shape` is shown of a picture: uint8 [*shape]."""
    from PIL import Image

    if len(shape) > 2 and shape[2] != 3:
        raise UserError(
            f"this network takes images of {'x'.join(map(str, shape))}, and a picture is grey or "
            "in three colours. Call lenet_jax.load(run).predict(images) instead"
        )
    levels = decoding.grey(pixels) if len(shape) == 2 else pixels
    picture = Image.fromarray(levels.astype(np.uint8, copy=False))
    if picture.mode == "RGBA":
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        picture = white
    if len(shape) == 3:
        picture = picture.convert("RGB")
    return np.asarray(encoded.middle(picture, *shape[:2]))
