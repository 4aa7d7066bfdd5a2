"""An experiment: a network, its loss, its training and its data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lenet_jax.errors import UserError
from lenet_jax.experiment.architecture import Architecture, LeNet5
from lenet_jax.experiment.checks import require
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.distortion import Distortion
from lenet_jax.experiment.loss import MAP, SCORES, Loss
from lenet_jax.experiment.optimizer import SDLM, Optimizer

MOST_SEEDS = 1_000_000  # of one run; more is a slip, and would fill the memory with its seeds alone


@dataclass(frozen=True)
class Paper:
    """What the paper reports for an experiment, in percent."""

    test_error: float
    train_error: float | None
    source: str


@dataclass(frozen=True)
class Experiment:
    """One run: a network, its loss, its training and its data."""

    name: Annotated[str, tyro.conf.Suppress]
    model: Architecture = field(default_factory=LeNet5)
    loss: Loss = field(default_factory=MAP)
    optimizer: Optimizer = field(default_factory=SDLM)
    data: Data = field(default_factory=Data)
    distortion: Distortion = field(default_factory=Distortion)
    paper: Annotated[Paper | None, tyro.conf.Suppress] = None
    epochs: int = 20
    """through the training set"""
    batch_size: int = 1
    """examples per update; the paper's is 1"""
    order: Literal["fixed", "reshuffled"] = "fixed"
    """one random order for all epochs, as in the paper, or a new one each epoch"""
    reported: Literal["last", "best-validation"] = "last"
    """the epoch whose test error `reproduce` reports"""
    seed: int = 0
    """of the weights, the order and the samples for the curvature"""
    seeds: tuple[int, ...] = ()
    """several networks in one run: how many, counted from `seed`, or the list of their seeds, two
    or more; the network of seed 7 alone is `--seed 7`"""
    devices: int | None = None
    """how many devices share a batch or the seeds (default: as many as can be used)"""
    workdir: Path | None = None
    """the run's folder (default: runs/<experiment>)"""
    keep: int = 2
    """how many checkpoints stay"""

    def __post_init__(self) -> None:
        require(self.epochs > 0, "epochs", self.epochs, "1 or more", "the paper's is 20")
        require(self.batch_size > 0, "batch-size", self.batch_size, "1 or more", "1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295", "0")
        self._require_seeds()
        require(self.keep > 0, "keep", self.keep, "1 or more", "2")
        if self.devices is not None:
            require(self.devices > 0, "devices", self.devices, "1 or more", "leave it out")
            if len(self.all_seeds) == 1 and self.batch_size % self.devices:
                raise UserError(
                    f"--devices {self.devices} does not divide --batch-size {self.batch_size}: "
                    "each device takes an equal share of every batch. Give a batch size that is "
                    f"a multiple of {self.devices}, or leave --devices out"
                )
        if self.model.outputs != SCORES[type(self.loss)]:
            fitting = ", ".join(k.__name__ for k, v in SCORES.items() if v == self.model.outputs)
            raise UserError(
                f"loss {type(self.loss).__name__} does not go with this {type(self.model).__name__}"
                f", whose scores are {self.model.outputs}: give one of {fitting}"
            )
        head = getattr(self.model, "head", "")
        if isinstance(self.optimizer, SDLM) and "gaussian" in head:
            raise UserError(
                f"optimizer SDLM does not go with --model.head {head}: appendix C has no curvature "
                "for it. Give another optimizer in the experiment's file, or --model.head rbf"
            )
        if self.reported == "best-validation" and not self.data.validation:
            raise UserError(
                "--reported best-validation needs examples held out: --data.validation 10000, or "
                "--reported last"
            )

    @property
    def all_seeds(self) -> Sequence[int]:
        """The seeds of the run's networks, one or more."""
        if len(self.seeds) > 1:
            return self.seeds
        return range(self.seed, self.seed + (self.seeds[0] if self.seeds else 1))

    def _require_seeds(self) -> None:
        doubles = sorted(seed for seed, times in Counter(self.seeds).items() if times > 1)
        if len(self.seeds) == 1:
            (number,) = self.seeds
            fine = 1 <= number <= MOST_SEEDS and self.seed + number <= 2**32
        else:
            fine = not doubles and all(0 <= seed < 2**32 for seed in self.seeds)
        require(
            fine,
            "seeds",
            " ".join(map(str, self.seeds)),
            f"how many networks, 1 or more and at most {MOST_SEEDS:,}, or the list of their seeds, "
            "all different, each from 0 to 4294967295",
            f"{doubles[0]} once" if doubles else "10",
        )
