"""Which data an experiment trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require, require_local, require_split, require_types

DIGITS = "mnist", "uci-digits", "practice"
SIZED = "shapes", "folder", "imagenette", "imagenet"  # pictures that have no size of their own
SIZES = 32, 256  # pixels
CLASSES = {  # of sets whose images are known without a look at them
    **{"mnist": 10, "uci-digits": 10, "practice": 10, "shapes": 10, "cifar10": 10, "cifar100": 100},
    **{"imagenette": 10, "imagenet": 1000},
}


@dataclass(frozen=True)
class Data:
    """Which images, and where they may come from (`data.dataset.load`)."""

    name: str = "mnist"
    """the data set: mnist, uci-digits, practice, shapes, cifar10, cifar100, imagenette, imagenet,
    idx or folder (docs/data.md)"""
    data_dir: Path | None = None
    """where prepared data sets live; None: TFDS's own folder, ~/tensorflow_datasets"""
    manual_dir: Path | None = None
    """folder of the set's own files: the four of MNIST (None: that of $LENET_JAX_MNIST) or of idx,
    an archive of cifar or imagenette, pictures"""
    fallback: Literal["uci-digits", "none"] = "uci-digits"
    """without MNIST: take the embedded digits, or stop"""
    limit: int | None = None
    """train on the first so many examples"""
    validation: int = 0
    """hold out the last so many training examples, and report on them too"""
    size: int | None = None
    """of pictures: the side of their middle square, which is scaled to it; None: 32 of shapes, 256
    of photographs"""

    def __post_init__(self) -> None:
        require_types(self)
        require_local("data.data-dir", self.data_dir)
        require_local("data.manual-dir", self.manual_dir)
        require_split(self.limit, self.validation)
        if self.size is not None:
            if self.name not in SIZED:
                raise UserError(
                    f"--data.size {self.size}: the images of {self.name} have a size of their own. "
                    f"Leave it out (--data.size None); it is for {', '.join(SIZED)}"
                )
            low, high = SIZES
            allowed = f"{low} to {high}"
            require(low <= self.size <= high, "data.size", self.size, allowed, "64")

    @property
    def side(self) -> int:
        """The side of pictures that have no size of their own, in pixels."""
        return self.size or (32 if self.name == "shapes" else 256)

    @property
    def known(self) -> tuple[tuple[int, ...], int] | None:
        """The shape of an image and the number of classes, where no file has to say them."""
        if self.name not in CLASSES:
            return None
        side = self.side if self.name in SIZED else 32
        return (28, 28) if self.name in DIGITS else (side, side, 3), CLASSES[self.name]
