"""What a network answers to labelled images: errors, confusions, precision, recall, rejection."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from lenet_jax.data import views
from lenet_jax.data.dataset import Dataset
from lenet_jax.data.frames import SHAPE
from lenet_jax.data.pictures import Pictures
from lenet_jax.errors import UserError
from lenet_jax.layers import contract
from lenet_jax.measurement import rejection
from lenet_jax.recognition import answers, decoding, reader
from lenet_jax.recognition.networks import TrainedNetwork
from lenet_jax.recognition.predictor import predictor

Scores = Callable[[np.ndarray], np.ndarray]
PIECE = 2000  # images at a time; all of a test set need not fit into memory


@dataclass(frozen=True)
class Evaluation:
    """Scores float32 [n, classes] of uint8 images [n, *shape] with labels int32 [n].

    `unread` says of pictures why no single digit was found there; each is an error. `classes` are
    the names of the labels, where they have names.
    """

    name: str
    images: np.ndarray | Pictures
    labels: np.ndarray
    scores: np.ndarray
    unread: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def predictions(self) -> np.ndarray:
        return self.scores.argmax(axis=1)

    @property
    def wrong(self) -> np.ndarray:
        return self.predictions != self.labels

    @property
    def size(self) -> int:
        return len(self.labels) + len(self.unread)

    @property
    def errors(self) -> int:
        return int(self.wrong.sum()) + len(self.unread)


def require_fitting(data: Dataset, network: str, card: dict[str, Any]) -> None:
    """Raises UserError for data that are not of the kind that a network was trained on."""
    shape, classes = tuple(card.get("dataset_shape", SHAPE)), card.get("dataset_classes", 10)
    if (data.shape, data.classes) != (shape, classes):
        raise UserError(
            f"{network} was trained on images of {_sized(shape)} in {classes} classes, those of "
            f"{data.name} are {_sized(data.shape)} in {data.classes}. Give it such images"
        )


def _sized(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def of_test_set(scores: Scores, data: Dataset) -> Evaluation:
    """A network's predictions on all test images of a data set."""
    images, labels = data.test.images, data.test.labels
    pieces = [scores(images[at : at + PIECE]) for at in range(0, len(labels), PIECE)]
    found = np.concatenate(pieces)
    return Evaluation(f"{data.name}, test", images, labels, found, classes=data.names)


def of_ten_views(network: TrainedNetwork) -> Scores:
    """Scores of pictures as AlexNet and ZFNet were tested: from the corners, the middle and their
    mirror images, float32 [n, classes], the logarithms of their mean probabilities.

    Raises UserError for a network that sees whole images.
    """
    window = contract.window(network.module)
    if window is None:
        raise UserError(
            f"--ten-views is for networks that see a window of a picture, and this is a "
            f"{type(network.module).__name__}. Leave it out"
        )
    scores = predictor(network.module, network.params, (window, window, 3))

    def of_pictures(pictures: np.ndarray) -> np.ndarray:
        ten = views.ten(pictures, window)
        return np.log(np.mean([softmax(scores(view), axis=1) for view in ten], axis=0))

    return of_pictures


def of_pictures(scores: Scores, card: dict[str, Any], folder: Path) -> Evaluation:
    """A network's predictions on pictures of a digit each, in folders named 0 to 9.

    Raises UserError where there are none.
    """
    given = [
        (file, int(digit.name))
        for digit in sorted(folder.glob("[0-9]"))
        for file in decoding.files(digit)
    ]
    if not given:
        raise UserError(
            f"--pictures {folder}: no pictures of digits there. Put them into folders named 0 to "
            f"9, such as {folder / '7' / 'one.png'}"
        )
    images, labels, unread = [], [], {}
    for file, label in given:
        try:
            digits = reader.read(decoding.read(file), scores, card).digits
        except UserError as error:
            unread[str(file)] = str(error)
            continue
        if len(digits) == 1:
            images.append(digits[0].image)
            labels.append(label)
        else:
            unread[str(file)] = f"{len(digits) or 'no'} digits found in {file}, and not one"
    if not images:
        raise UserError(f"--pictures {folder}: in none of {len(given)} is there one digit alone")
    stack = np.stack(images)
    return Evaluation(str(folder), stack, np.array(labels, np.int32), scores(stack), unread)


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """How often each true label (row) was predicted as each (column), int64 [classes, classes]."""
    pairs = np.asarray(labels) * classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_and_recall(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each prediction the share that is right, and of each class the share that is found.

    In percent, float64 [classes]; NaN for a prediction never given and a class without images.
    """
    right = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return 100 * right / confusion.sum(axis=0), 100 * right / confusion.sum(axis=1)


def rejected(found: Evaluation, card: dict[str, Any]) -> np.ndarray:
    """Which predictions are rejected by the network's own limits, bool [n]."""
    limits = answers.limits(card)
    return ~(answers.margins(found.scores, limits.j) >= limits.reject_below)  # and the unread


def as_json(found: Evaluation, card: dict[str, Any]) -> dict[str, Any]:
    """The numbers in JSON's types; `wrong` has number, true and predicted label of each error.

    `rejected` counts what the network with this card rejects, and the pictures that are unread.
    The share that is rejected for an error of 0.5 % is that of the differences alone, as in
    Fig. 10, after the unread.
    """
    table = confusion(found.labels, found.predictions, found.scores.shape[-1])
    precision, recall = precision_and_recall(table)
    needed = rejection.needed(answers.margins(found.scores), found.wrong) / 100
    silent = rejected(found, card)
    return {
        "data": found.name,
        **({"classes": list(found.classes)} if found.classes else {}),
        "size": found.size,
        "errors": found.errors,
        "unread": found.unread,
        "precision_percent": [None if np.isnan(p) else round(p, 3) for p in precision],
        "recall_percent": [None if np.isnan(r) else round(r, 3) for r in recall],
        "confusion": table.tolist(),
        "rejected": int(silent.sum()) + len(found.unread),
        "errors_not_rejected": int((found.wrong & ~silent).sum()),
        "rejected_percent_for_half_percent_error": 100
        * (needed * len(found.labels) + len(found.unread))
        / found.size,
        "wrong": [
            [int(at), int(found.labels[at]), int(found.predictions[at])]
            for at in np.flatnonzero(found.wrong)
        ],
    }
