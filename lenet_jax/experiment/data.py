"""Which data an experiment trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require_split

NAMES = ("mnist", "uci-digits")


@dataclass(frozen=True)
class Data:
    """Which images, and where they may come from (`data.dataset.load`)."""

    name: str = "mnist"
    """the data set: mnist, or uci-digits, which is there without a download"""
    data_dir: Path | None = None
    """where prepared data sets live (default: that of TFDS, ~/tensorflow_datasets)"""
    manual_dir: Path | None = None
    """folder of the four original MNIST files (default: $LENET_JAX_MNIST)"""
    fallback: Literal["uci-digits", "none"] = "uci-digits"
    """without MNIST: take the embedded digits, or stop"""
    limit: int | None = None
    """train on the first so many examples"""
    validation: int = 0
    """hold out the last so many training examples, and report on them too"""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"--data.name {self.name}: there are {', '.join(NAMES)}")
        require_split(self.limit, self.validation)
