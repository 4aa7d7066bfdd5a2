"""Which data an experiment trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lenet_jax.experiment.checks import require_local, require_split


@dataclass(frozen=True)
class Data:
    """Which images, and where they may come from (`data.dataset.load`)."""

    name: str = "mnist"
    """the data set: mnist, or one that is there without a download (`data.dataset.SOURCES`)"""
    data_dir: Path | None = None
    """where prepared data sets live; None: TFDS's own folder, ~/tensorflow_datasets"""
    manual_dir: Path | None = None
    """folder of the four original MNIST files; None: that of $LENET_JAX_MNIST"""
    fallback: Literal["uci-digits", "none"] = "uci-digits"
    """without MNIST: take the embedded digits, or stop"""
    limit: int | None = None
    """train on the first so many examples"""
    validation: int = 0
    """hold out the last so many training examples, and report on them too"""

    def __post_init__(self) -> None:
        require_local("data.data-dir", self.data_dir)
        require_local("data.manual-dir", self.manual_dir)
        require_split(self.limit, self.validation)
