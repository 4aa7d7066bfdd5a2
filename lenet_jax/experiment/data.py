"""Which data an experiment trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lenet_jax.experiment.checks import require


@dataclass(frozen=True)
class Data:
    """Which images, and where they may come from (`data.dataset.load`)."""

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
        require(
            self.limit is None or self.limit > 0,
            "data.limit",
            self.limit,
            "1 or more",
            "leave it out for all examples",
        )
        require(self.validation >= 0, "data.validation", self.validation, "0 or more", "5000")
