"""An experiment: a network, its loss, its training and its data."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from lenet_jax.errors import UserError
from lenet_jax.experiment.arrays import NOT_IN_JSON, Arrays
from lenet_jax.experiment.checks import require, require_local, require_types
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.distortion import Distortion
from lenet_jax.experiment.distributed import Distributed
from lenet_jax.experiment.loss import MAP, SCORES, Discriminative, Loss
from lenet_jax.experiment.optimizer import SDLM, Optimizer
from lenet_jax.experiment.reproduced import Paper, Reproduced
from lenet_jax.experiment.strings import Strings

MOST_SEEDS = 1_000_000  # of one run; more is a slip, and would fill the memory with its seeds alone
MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Page:
    """Where an experiment was read from: the file, the variant, and the texts of that file and of
    the files beside it that it imports, by their names."""

    path: Path
    variant: str
    texts: dict[str, str]

    @property
    def sha256(self) -> str:
        parts = (f"{name}\n{text}\n" for name, text in sorted(self.texts.items()))
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def _lenet5() -> Any:
    from lenet_jax.models.lenet import LeNet5  # and with it jax

    return LeNet5()


@dataclass(frozen=True)
class Experiment:
    """One run: a network, its loss, its training and its data.

    The network is any `flax.linen` module that returns scores, [images, classes], or (scores,
    maps). The optimizer is one of this room or an `optax.GradientTransformation`.
    """

    name: Annotated[str, tyro.conf.Suppress]
    model: Any = field(default_factory=_lenet5)
    """a flax.linen module; a page gives its own"""
    loss: Loss = field(default_factory=MAP)
    optimizer: Any = field(default_factory=SDLM)
    data: Data | Arrays = field(default_factory=Data)
    distortion: Distortion = field(default_factory=Distortion)
    strings: Strings | None = None
    """examples are strings of the data's digits; None: single ones"""
    paper: Annotated[Paper | None, tyro.conf.Suppress] = None
    reproduced: Annotated[Reproduced | None, tyro.conf.Suppress] = field(
        default=None, compare=False, metadata=NOT_IN_JSON
    )
    page: Annotated[Page | None, tyro.conf.Suppress] = field(
        default=None, compare=False, metadata=NOT_IN_JSON
    )
    epochs: int = 20
    """through the training set"""
    batch_size: int = 1
    """examples per update; the paper's is 1"""
    order: Literal["fixed", "reshuffled"] = "fixed"
    """one random order for all epochs, as in the paper, or a new one each epoch"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of the factors in the training's products; parameters and sums are float32"""
    reported: Literal["last", "best-validation"] = "last"
    """the epoch whose test error `reproduce` reports"""
    seed: int = 0
    """of the weights, the order and the samples for the curvature"""
    seeds: tuple[int, ...] = ()
    """several networks in one run: how many, counted from `seed`, or the list of their seeds, two
    or more; the network of seed 7 alone is `--seed 7`"""
    devices: int | None = None
    """how many devices share a batch or the seeds; None: as many as can be used"""
    distributed: Distributed = field(
        default_factory=Distributed, compare=False, metadata=NOT_IN_JSON
    )
    workdir: Path | None = None
    """the run's folder; None: runs/<experiment>"""
    keep: int = 2
    """how many of the newest checkpoints stay, beside about ten spread over the run"""

    def __post_init__(self) -> None:
        require_types(self)
        allowed = f"1 to {MOST_EPOCHS:,}"
        require(0 < self.epochs <= MOST_EPOCHS, "epochs", self.epochs, allowed, "the paper's is 20")
        require(self.batch_size > 0, "batch-size", self.batch_size, "1 or more", "1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295", "0")
        self._require_seeds()
        require_local("workdir", self.workdir)
        require(self.keep > 0, "keep", self.keep, "1 or more", "2")
        if self.devices is not None:
            require(self.devices > 0, "devices", self.devices, "1 or more", "leave it out")
            if len(self.all_seeds) == 1 and self.batch_size % self.devices:
                raise UserError(
                    f"--devices {self.devices} does not divide --batch-size {self.batch_size}: "
                    "each device takes an equal share of every batch. Give a batch size that is "
                    f"a multiple of {self.devices}, or leave --devices out"
                )
        self._require_fitting_parts()
        self._require_fitting_strings()
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

    def fitted(
        self, shape: tuple[int, ...], classes: int, examples: int | None = None
    ) -> "Experiment":
        """This experiment with a network for so many classes, where the network says how many.

        `shape` and `examples`, their number, are of the training images. Raises UserError where
        they cannot be trained on as asked.
        """
        if examples is not None and self.batch_size > examples:
            raise UserError(
                f"--batch-size {self.batch_size} is more than the {examples} training examples. "
                "Give at most as many"
            )
        if len(shape) == 3 and (self.distortion.any or self.distortion.shifted):
            raise UserError(
                f"these images have {shape[2]} channels, and the distortions are for grey ones. "
                "Give crops, flips and colour only"
            )
        if self.distortion.of_pictures and shape[2:] != (3,):
            raise UserError(
                "--distortion.crops, flips and colour are for pictures in colours, these images "
                f"are {'x'.join(map(str, shape))}. Leave them out"
            )
        if getattr(self.model, "classes", classes) == classes:
            return self
        return dataclasses.replace(self, model=self.model.clone(classes=classes))

    def _require_fitting_parts(self) -> None:
        network = type(self.model).__name__
        if not (hasattr(self.model, "init") and hasattr(self.model, "apply")):
            raise UserError(
                f"model is {self.model!r}, allowed is a flax.linen module (for example: "
                "lenet_jax.models.lenet.LeNet5())"
            )
        # A user's own module need not say what its scores are.
        outputs = getattr(self.model, "outputs", None)
        if outputs is not None and outputs != SCORES[type(self.loss)]:
            fitting = ", ".join(k.__name__ for k, v in SCORES.items() if v == outputs)
            raise UserError(
                f"loss {type(self.loss).__name__} does not go with this {network}, whose scores "
                f"are {outputs}: give one of {fitting}"
            )
        if self.precision != "float32" and not hasattr(self.model, "activate"):
            raise UserError(
                f"--precision {self.precision} does not go with {network}: the products that it "
                "rounds are those of the package's layers. Leave it out"
            )
        if not isinstance(self.optimizer, SDLM):
            ours = isinstance(self.optimizer, Optimizer)
            if not (ours or any(hasattr(self.optimizer, n) for n in ("update", "transformation"))):
                raise UserError(
                    f"optimizer is {self.optimizer!r}, allowed are "
                    f"{', '.join(each.__name__ for each in get_args(Optimizer))} and an "
                    "optax.GradientTransformation (for example: optax.lion(1e-3))"
                )
            return
        head = getattr(self.model, "head", "")
        if "gaussian" in head:
            raise UserError(
                f"optimizer SDLM does not go with --model.head {head}: appendix C has no curvature "
                "for it. Give --optimizer muon, or --model.head rbf"
            )
        if getattr(self.model, "normalizes", False):
            raise UserError(
                f"optimizer SDLM does not go with {network}: appendix C has no curvature for its "
                "response normalization. Give --optimizer sgd"
            )
        if not hasattr(self.model, "activate"):
            raise UserError(
                f"optimizer SDLM does not go with {network}: its curvature (appendix C) is that "
                "of the package's own layers, in a lenet_jax.layers.network.Network. Build it so, "
                "or give --optimizer adam"
            )

    def _require_fitting_strings(self) -> None:
        whole = self.strings is not None and self.strings.examples == "whole"
        if whole != isinstance(self.loss, Discriminative):
            raise UserError(
                "loss Discriminative is for whole strings, and they are for no other: give both, "
                "strings=Strings() and loss=Discriminative(), or none of them"
            )
        if self.strings is None:
            return
        if not getattr(self.model, "blank", False):
            raise UserError(
                "strings need a network that knows the space between digits (for example: "
                "LeNet5(blank=True))"
            )
        if not isinstance(self.data, Data) or self.data.name not in ("mnist", "uci-digits"):
            raise UserError(
                "strings are made of digits alone: give --data.name mnist, or uci-digits"
            )
        if self.distortion.versions or self.distortion.shifted:
            raise UserError(
                "strings are new in every epoch: leave --distortion.versions and shifted out"
            )
        if isinstance(self.optimizer, SDLM):
            raise UserError(
                "optimizer SDLM does not go with strings: its curvature (appendix C) is that of "
                "single examples. Give --optimizer muon"
            )

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
