"""What a network answers to labelled images: misses, confusions, precision, recall, rejection."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lenet_jax.analysis import rejection


@dataclass(frozen=True)
class Evaluation:
    """Scores float32 [n, classes] of uint8 images [n, 28, 28] with labels int32 [n].

    `unread` names the pictures in which no single digit was found; each is a miss.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    unread: list[str] = field(default_factory=list)

    @property
    def answers(self) -> np.ndarray:
        return self.scores.argmax(axis=1)

    @property
    def wrong(self) -> np.ndarray:
        return self.answers != self.labels

    @property
    def size(self) -> int:
        return len(self.labels) + len(self.unread)

    @property
    def misses(self) -> int:
        return int(self.wrong.sum()) + len(self.unread)


def confusion(labels: np.ndarray, answers: np.ndarray, classes: int = 10) -> np.ndarray:
    """How often each true class (row) got each answer (column), int64 [classes, classes]."""
    pairs = np.asarray(labels) * classes + np.asarray(answers)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_and_recall(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each answer the share that is right, and of each class the share that is found.

    In percent, float64 [classes]; NaN for an answer never given and a class without images.
    """
    right = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return 100 * right / confusion.sum(axis=0), 100 * right / confusion.sum(axis=1)


def as_json(found: Evaluation) -> dict[str, Any]:
    """The numbers in JSON's types; `wrong` has number, truth and answer of each missed image."""
    table = confusion(found.labels, found.answers)
    precision, recall = precision_and_recall(table)
    margins = rejection.margins(found.scores)
    return {
        "data": found.name,
        "size": found.size,
        "misses": found.misses,
        "unread": found.unread,
        "precision_percent": [None if np.isnan(p) else round(p, 3) for p in precision],
        "recall_percent": [None if np.isnan(r) else round(r, 3) for r in recall],
        "confusion": table.tolist(),
        "rejected_percent_for_half_percent_error": rejection.needed(margins, found.wrong),
        "wrong": [
            [int(at), int(found.labels[at]), int(found.answers[at])]
            for at in np.flatnonzero(found.wrong)
        ],
    }
