"""A classical method and its settings."""

from dataclasses import dataclass, field
from typing import Literal

from lenet_jax.experiment.arrays import NOT_IN_JSON
from lenet_jax.experiment.checks import require_types
from lenet_jax.experiment.data import Data
from lenet_jax.experiment.reproduced import Paper, Reproduced


@dataclass(frozen=True)
class Baseline:
    """A classical method of Fig. 9 and its settings (`baselines.classical`)."""

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
    reproduced: Reproduced | None = field(default=None, compare=False, metadata=NOT_IN_JSON)

    def __post_init__(self) -> None:
        require_types(self)
