"""Data that a page brings itself, as arrays."""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import tyro

from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require_split

NOT_IN_JSON = {"json": False}
Hidden = tyro.conf.Suppress
MOST_CLASSES = 65_536


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels of a page's own, in the place of `Data`.

    `train` and `test` are (images, labels): uint8 [n, height, width] or [n, height, width,
    channels], or floats of 0 to 1, which become round(255 x); labels are integers of 0 to
    classes - 1. Two are equal where their names, sums and splits are.
    Raises UserError, with the value found, for anything else.

        Arrays("signs", classes=12, train=(images, labels), test=(more_images, more_labels))
    """

    name: Annotated[str, Hidden]
    classes: Annotated[int, Hidden]
    train: Annotated[Any, Hidden] = field(default=None, metadata=NOT_IN_JSON, repr=False)
    test: Annotated[Any, Hidden] = field(default=None, metadata=NOT_IN_JSON, repr=False)
    limit: int | None = None
    """train on the first so many examples"""
    validation: int = 0
    """hold out the last so many training examples, and report on them too"""
    shape: Annotated[tuple[int, ...], Hidden] = ()
    sha256: Annotated[str, Hidden] = ""

    def __post_init__(self) -> None:
        require_split(self.limit, self.validation)
        if not isinstance(self.classes, int) or not 2 <= self.classes <= MOST_CLASSES:
            raise UserError(
                f"data {self.name}: classes is {self.classes}, allowed are 2 to {MOST_CLASSES:,}"
            )
        if self.train is None:  # what a run has written down of them
            return
        sum256 = hashlib.sha256()
        for split in ("train", "test"):
            images, labels = self._checked(split)
            sum256.update(np.ascontiguousarray(images).data)  # no copy: they may lie in a file
            sum256.update(np.ascontiguousarray(labels).data)
            object.__setattr__(self, split, (images, labels))
            object.__setattr__(self, "shape", images.shape[1:])
        if self.train[0].shape[1:] != self.test[0].shape[1:]:
            raise UserError(
                f"data {self.name}: training images are {_sized(self.train[0])}, test images "
                f"{_sized(self.test[0])}. Make them of one size"
            )
        object.__setattr__(self, "sha256", sum256.hexdigest())

    def _checked(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        about = f"data {self.name}, {split}"
        try:
            images, labels = map(np.asarray, getattr(self, split))
        except (TypeError, ValueError) as error:
            raise UserError(f"{about}: expected a pair (images, labels) of arrays") from error
        if images.ndim not in (3, 4) or 0 in images.shape:
            raise UserError(
                f"{about}: images are {images.dtype} {list(images.shape)}, expected are [n, "
                "height, width] or [n, height, width, channels]"
            )
        if images.dtype.kind == "f":
            low, high = float(images.min()), float(images.max())
            if not 0 <= low <= high <= 1:  # nor where one is not a number
                raise UserError(
                    f"{about}: floats are from {low:g} to {high:g}, allowed are 0 to 1. Divide "
                    "them, or give uint8 of 0 to 255"
                )
            images = np.round(255 * images).astype(np.uint8)
        if images.dtype != np.uint8:
            raise UserError(
                f"{about}: images are {images.dtype}, allowed are uint8 of 0 to 255 and floats of "
                "0 to 1"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise UserError(
                f"{about}: labels are {labels.dtype} {list(labels.shape)}, expected are integers "
                f"[{len(images)}], one for each image"
            )
        if not 0 <= labels.min() <= labels.max() < self.classes:
            raise UserError(
                f"{about}: labels are from {labels.min()} to {labels.max()}, allowed are 0 to "
                f"{self.classes - 1} (classes is {self.classes})"
            )
        return images, labels.astype(np.int32)

    def _key(self) -> tuple[Any, ...]:
        return self.name, self.classes, self.limit, self.validation, self.shape, self.sha256

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arrays) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _sized(images: np.ndarray) -> str:
    return "x".join(map(str, images.shape[1:]))
