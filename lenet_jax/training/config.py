"""An experiment as a tree of frozen dataclasses: what `get_config()` returns and flags override.

Nothing here imports jax or flax (two seconds), so that `--help` and every complaint about an
argument are instant.
"""

import contextlib
import dataclasses
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from lenet_jax.errors import UserError
from lenet_jax.training.architecture import Architecture, LeNet5


@dataclass(frozen=True)
class ML:
    """Maximum likelihood, eq. 8: the penalty of the right class."""


@dataclass(frozen=True)
class MAP:
    """Maximum a posteriori, eq. 9: competition between the classes and a rubbish class."""

    j: float = 10.0
    """the rubbish class's penalty: a large one makes wrong classes compete, a small one lets go of
    patterns that are learned"""

    def __post_init__(self) -> None:
        _require(self.j > 0, "loss.j", self.j, "a positive number", "10")


@dataclass(frozen=True)
class CrossEntropy:
    """The loss of a softmax over the scores."""


@dataclass(frozen=True)
class SquaredError:
    """The squared distance of the outputs from +1 for the right class and -1 for the others."""


@dataclass(frozen=True)
class SDLM:
    """Stochastic diagonal Levenberg-Marquardt, appendix C: a step of eta/(mu + h) per parameter."""

    mu: float = 0.02
    """bounds the step where the curvature h is small (eq. 21)"""
    samples: int = 500
    """patterns on which h is measured before each pass"""
    learning_rates: tuple[float, ...] = (
        (5e-4,) * 2 + (2e-4,) * 3 + (1e-4,) * 3 + (5e-5,) * 4 + (1e-5,)
    )
    """eta of each pass; the last one goes on"""
    never_below_previous: bool = True
    """h = max(h, h of the pass before): without it training falls apart in the second pass"""

    def __post_init__(self) -> None:
        rates = self.learning_rates
        _require(self.mu > 0, "optimizer.mu", self.mu, "a positive number", "the paper's is 0.02")
        _require(self.samples > 0, "optimizer.samples", self.samples, "1 or more", "500")
        _require(
            len(rates) > 0 and all(rate > 0 for rate in rates),
            "optimizer.learning-rates",
            rates,
            "one positive number or more",
            "the paper's first is 0.0005",
        )


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); its rate rises in a line, then falls in a line to zero."""

    learning_rate: float = 2e-3
    """the highest"""
    warmup: float = 0.2
    """share of the run in which the rate rises"""

    def __post_init__(self) -> None:
        rate, warmup = self.learning_rate, self.warmup
        _require(rate > 0, "optimizer.learning-rate", rate, "a positive number", "0.002")
        _require(0 <= warmup < 1, "optimizer.warmup", warmup, "0 or more, less than 1", "0.2")


@dataclass(frozen=True)
class SGD:
    """Plain gradient descent, at one rate."""

    learning_rate: float = 0.1
    momentum: float = 0.0
    decay: float = 0.0
    """of kernels: so much of each is added to its gradient (L2)"""

    def __post_init__(self) -> None:
        rate, momentum, decay = self.learning_rate, self.momentum, self.decay
        _require(rate > 0, "optimizer.learning-rate", rate, "a positive number", "0.1")
        _require(0 <= momentum < 1, "optimizer.momentum", momentum, "0 or more, less than 1", "0.9")
        _require(decay >= 0, "optimizer.decay", decay, "0 or more", "0.0001")


@dataclass(frozen=True)
class Muon:
    """Muon (Jordan et al. 2024): kernels take steps along their gradients' running mean made
    orthogonal, everything else Adam's. Both rates run as `Adam`'s does."""

    learning_rate: float = 0.01
    """the highest, for kernels"""
    adam_learning_rate: float = 0.02
    """the highest, for everything else"""
    warmup: float = 0.05
    """share of the run in which the rates rise"""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adam_learning_rate"):
            flag, rate = f"optimizer.{name.replace('_', '-')}", getattr(self, name)
            _require(rate > 0, flag, rate, "a positive number", "0.01")
        warmup = self.warmup
        _require(0 <= warmup < 1, "optimizer.warmup", warmup, "0 or more, less than 1", "0.05")


Loss = ML | MAP | CrossEntropy | SquaredError
Optimizer = SDLM | Adam | Muon | SGD
# Which scores a loss is over (`Architecture.outputs`).
SCORES = {ML: "penalties", MAP: "penalties", CrossEntropy: "logits", SquaredError: "states"}
MOST_SEEDS = 1_000_000  # of one run; more is a slip, and would fill the memory with its seeds alone


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
    """train on the first so many patterns"""
    validation: int = 0
    """hold out the last so many training patterns, and report on them too"""

    def __post_init__(self) -> None:
        _require(
            self.limit is None or self.limit > 0,
            "data.limit",
            self.limit,
            "1 or more",
            "leave it out for all patterns",
        )
        _require(self.validation >= 0, "data.validation", self.validation, "0 or more", "5000")


@dataclass(frozen=True)
class Distortion:
    """Random changes to the training patterns (`data.distort`); each at 0 leaves them alone."""

    translation: float = 0.0
    """up to so many pixels, down or up and right or left"""
    scaling: float = 0.0
    """larger or smaller by a factor of up to exp(this)"""
    squeezing: float = 0.0
    """narrower and taller, or the reverse, by factors of up to exp(this)"""
    shear: float = 0.0
    """horizontal shear: a row moves by up to so many of its distance from the middle"""
    rotation: float = 0.0
    """up to so many degrees, either way"""
    elastic: float = 0.0
    """standard deviation of a smooth random field of displacements, in pixels"""
    smoothness: float = 4.0
    """of that field: the standard deviation of its bumps, in pixels"""
    inverted: float = 0.0
    """probability that a pixel is inverted (section III-E: 0.1)"""
    shifted: bool = False
    """five versions of each pattern: as it is, and a pixel down, up, right and left"""
    versions: int | None = None
    """of each pattern, the original and so many less one, as a fixed set (the paper's has 10);
    default: new distortions in every pass"""

    def __post_init__(self) -> None:
        for name in ("translation", "scaling", "squeezing", "shear", "rotation", "elastic"):
            value = getattr(self, name)
            _require(0 <= value < 1000, f"distortion.{name}", value, "0 or more", "0.1")
        bumps, inverted, versions = self.smoothness, self.inverted, self.versions
        _require(bumps >= 2, "distortion.smoothness", bumps, "2 or more", "4")
        _require(0 <= inverted <= 1, "distortion.inverted", inverted, "0 to 1", "0.1")
        _require(
            versions is None or 1 <= versions <= 1000,
            "distortion.versions",
            versions,
            "1 to 1,000",
            "10",
        )
        if self.shifted and (versions != 5 or self.any):
            raise UserError(
                "--distortion.shifted makes five versions of each pattern and nothing else: give "
                "--distortion.versions 5 with it, and no other distortion"
            )

    @property
    def moves(self) -> bool:
        """Whether any ink may move."""
        kinds = (self.translation, self.scaling, self.squeezing, self.shear, self.rotation)
        return any(kinds) or self.elastic > 0

    @property
    def any(self) -> bool:
        return self.moves or self.inverted > 0


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
    passes: int = 20
    """through the training set"""
    batch_size: int = 1
    """patterns per update; the paper's is 1"""
    order: Literal["fixed", "reshuffled"] = "fixed"
    """one random order for all passes, as in the paper, or a new one each pass"""
    reported: Literal["last", "best-validation"] = "last"
    """the pass whose test error `reproduce` reports"""
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
        _require(self.passes > 0, "passes", self.passes, "1 or more", "the paper's is 20")
        _require(self.batch_size > 0, "batch-size", self.batch_size, "1 or more", "1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295", "0")
        self._require_seeds()
        _require(self.keep > 0, "keep", self.keep, "1 or more", "2")
        if self.devices is not None:
            _require(self.devices > 0, "devices", self.devices, "1 or more", "leave it out")
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
                "--reported best-validation needs patterns held out: --data.validation 10000, or "
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
        _require(
            fine,
            "seeds",
            " ".join(map(str, self.seeds)),
            f"how many networks, 1 or more and at most {MOST_SEEDS:,}, or the list of their seeds, "
            "all different, each from 0 to 4294967295",
            f"{doubles[0]} once" if doubles else "10",
        )


@dataclass(frozen=True)
class Rival:
    """A classical method of Fig. 9 and its settings (`rivals.classical`)."""

    name: str
    method: Literal[
        "linear", "pairwise", "neighbours", "quadratic", "rbf", "svm", "virtual-svm"
    ] = "linear"
    data: Data = field(default_factory=Data)
    deslanted: bool = False
    """digits set upright, in 20x20 pixels"""
    ridge: float = 1.0
    """of the least squares that linear layers are trained by"""
    neighbours: int = 3
    components: int = 40
    """principal ones, for the quadratic classifier"""
    units: int = 1000
    """radial basis functions"""
    width: float = 3.5
    """of them, their standard deviation, where ink is 1"""
    degree: int = 4
    """of a support vector machine's polynomial"""
    penalty: float = 10.0
    """C of a support vector machine whose kernel is 1 at most"""
    paper: Paper | None = None


Page = TypeVar("Page", Experiment, Rival)


def variant(base: Page, variants: dict[str, dict[str, Any]], name: str) -> Page:
    """`base`, or for a name the variant of it with these fields, called <base>-<name>.

    Raises UserError for a name that is none of the variants.
    """
    if not name:
        return base
    if name not in variants:
        raise UserError(
            f"{base.name} has no variant {name!r}. There are: {', '.join(variants) or 'none'}"
        )
    return dataclasses.replace(base, name=f"{base.name}-{name}", **variants[name])


def _require(ok: bool, what: str, given: Any, allowed: str, way_out: str) -> None:
    if not ok:
        raise UserError(f"--{what} is {given}, allowed is {allowed} (for example: {way_out})")


def load(config: str) -> Experiment:
    """The experiment of `path/to/file.py[:variant]`: what its get_config([variant]) returns.

    Raises UserError for a file that is missing, does not run or returns something else.
    """
    page = load_page(config)
    if isinstance(page, Rival):
        raise UserError(
            f"--config {config}: the method {page.method!r} is no network and has no passes. "
            "It is measured by python -m lenet_jax.reproduce --set family"
        )
    return page


def load_page(config: str) -> Experiment | Rival:
    """As `load`, a classical rival too."""
    file, _, variant = config.partition(":")
    path = Path(file)
    if not path.is_file():
        known = ", ".join(sorted(str(p) for p in Path("experiments").glob("*.py")))
        raise UserError(f"--config {file}: no such file. There are: {known or 'none here'}")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"--config {file}: not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        with _beside(path.resolve().parent):
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
            if not hasattr(module, "get_config"):
                raise UserError(
                    f"--config {file}: it has no get_config(); see experiments/classic.py"
                )
            experiment = module.get_config(variant) if variant else module.get_config()
    except UserError:
        raise
    except BaseException as error:  # whatever a user's file may raise, SystemExit too
        raise UserError(f"--config {config}: {type(error).__name__}: {error}") from error
    if not isinstance(experiment, Experiment | Rival):
        raise UserError(
            f"--config {file}: get_config() returned {type(experiment).__name__}, expected a "
            "lenet_jax.training.config.Experiment"
        )
    return experiment


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Imports find the folder's files first, and none of these stays.

    So a variant's `import classic` is the file beside it, whatever else is installed or was
    imported under that name, from another folder of pages too.
    """
    names = {file.stem for file in folder.glob("*.py")}

    def take_out() -> dict[str, Any]:
        found = [name for name in sys.modules if name.partition(".")[0] in names]
        return {name: sys.modules.pop(name) for name in found}

    others, path = take_out(), list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        take_out()
        sys.modules.update(others)


def as_json(experiment: Experiment | Rival) -> dict[str, Any]:
    """The resolved configuration in JSON's types, the class of each part under "is"."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            parts = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return {"is": type(value).__name__, **parts}
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(experiment)


def from_json(tree: Any) -> Any:
    """The experiment that `as_json` wrote down; paths stay strings.

    Raises KeyError or TypeError for parts and fields that this version does not have.
    """
    if isinstance(tree, list):
        return tuple(from_json(value) for value in tree)
    if not isinstance(tree, dict):
        return tree
    parts = {name: from_json(value) for name, value in tree.items() if name != "is"}
    return PARTS[tree["is"]](**parts)


PARTS: dict[str, Any] = {
    part.__name__: part
    for part in (
        *(Experiment, ML, MAP, CrossEntropy, SquaredError, SDLM, Adam, Muon, SGD),
        *(Rival, Data, Distortion, Paper, *Architecture.__subclasses__()),
    )
}
