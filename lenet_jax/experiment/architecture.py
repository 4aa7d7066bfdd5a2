"""The networks as data: the fields of the modules in `models`, written down once more.

Nothing here imports flax, so that `--help` and every complaint about a flag are instant; a test
compares the fields with the modules' own.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lenet_jax import models
from lenet_jax.errors import UserError

Initialization = Literal["lush", "printed", "uniform", "nielsen", "zeros"]
Activation = Literal["scaled-tanh", "tanh", "sigmoid", "relu", "none"]
Outputs = Literal["penalties", "logits", "states"]
WIDEST = 100_000  # maps or units of a layer; more is a slip


@dataclass(frozen=True)
class Architecture:
    """The fields of the network of the same name in `models`."""

    def module(self):
        """The linen module with these fields."""
        return models.make(type(self).__name__, dataclasses.asdict(self))

    @property
    def outputs(self) -> Outputs:
        """What its scores are: minus penalties, activated states, or a softmax's logits."""
        return "logits"


@dataclass(frozen=True)
class LeNet5(Architecture):
    """The fields of `models.lenet.LeNet5`."""

    table: Literal["paper", "full"] = "paper"
    """connections of C3: Table I, or every map of S2"""
    pooling: Literal["subsampling", "average", "max"] = "subsampling"
    """trainable, or plain averages or maxima without activation"""
    activation: Activation = "scaled-tanh"
    head: Literal["rbf", "linear", "gaussian", "log-gaussian"] = "rbf"
    """RBF units with the codes of Fig. 3; ten weighted sums for a softmax; or Gaussians of learned
    centres, or their logarithms, as its logits"""
    adaptive: bool = False
    """train the RBF codes too"""
    initialization: Initialization = "lush"
    """v/sqrt(Fi), as the authors' code does it, 2.4/Fi, as appendix A prints it, or another"""

    @property
    def outputs(self) -> Outputs:
        return "penalties" if self.head == "rbf" else "logits"


@dataclass(frozen=True)
class LeNet1(Architecture):
    """The fields of `models.lenet.LeNet1`."""

    activation: Activation = "scaled-tanh"
    initialization: Initialization = "lush"

    @property
    def outputs(self) -> Outputs:
        return "states"


@dataclass(frozen=True)
class LeNet4(Architecture):
    """The fields of `models.lenet.LeNet4`."""

    reading: Literal["literal", "17k"] = "literal"
    """of the paper's description: all of S4 for each unit of C5, or 16,998 parameters in all"""
    activation: Activation = "scaled-tanh"
    initialization: Initialization = "lush"

    @property
    def outputs(self) -> Outputs:
        return "states"


@dataclass(frozen=True)
class Tutorial(Architecture):
    """The fields of `models.tutorial.Tutorial`."""

    activation: Activation = "none"
    initialization: Initialization = "uniform"

    @property
    def outputs(self) -> Outputs:
        return "logits"


@dataclass(frozen=True)
class FullyConnected(Architecture):
    """The fields of `models.connected.FullyConnected`."""

    hidden: tuple[int, ...] = (300,)
    """units of each hidden layer"""
    activation: Activation = "scaled-tanh"
    initialization: Initialization = "lush"

    def __post_init__(self) -> None:
        _require_widths("hidden", self.hidden)

    @property
    def outputs(self) -> Outputs:
        return "states"


@dataclass(frozen=True)
class Nielsen(Architecture):
    """The fields of `models.nielsen.Nielsen`."""

    maps: tuple[int, ...] = ()
    """of each convolution"""
    hidden: tuple[int, ...] = (100,)
    """units of each hidden layer"""
    activation: Activation = "sigmoid"
    dropout: float = 0.0
    """probability with which an input of a fully connected layer is left out in training"""

    def __post_init__(self) -> None:
        _require_widths("maps", self.maps)
        _require_widths("hidden", self.hidden)
        if len(self.maps) > 2:
            raise UserError(
                f"--model.maps has {len(self.maps)} convolutions, allowed are 2 at most: they "
                "leave 4x4 pixels, less than a third could read (for example: 20 40)"
            )
        if not 0 <= self.dropout < 1:
            raise UserError(
                f"--model.dropout is {self.dropout}, allowed is 0 or more, less than 1 (for "
                "example: 0.5)"
            )


def _require_widths(field: str, widths: tuple[int, ...]) -> None:
    for width in widths:
        if not 1 <= width <= WIDEST:
            raise UserError(
                f"--model.{field} has a layer of {width}, allowed are 1 to {WIDEST:,} (for "
                "example: 100)"
            )
