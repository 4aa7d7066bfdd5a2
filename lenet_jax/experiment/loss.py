"""The losses that an experiment may name."""

from dataclasses import dataclass
from typing import Literal

from lenet_jax.experiment.checks import require_positive, require_types


@dataclass(frozen=True)
class ML:
    """Maximum likelihood, eq. 8: the penalty of the right class."""


@dataclass(frozen=True)
class MAP:
    """Maximum a posteriori, eq. 9: competition between the classes and a rubbish class."""

    j: float = 10.0
    """the rubbish class's penalty: a large one makes wrong classes compete, a small one lets go of
    examples that are learned"""

    def __post_init__(self) -> None:
        require_types(self)
        require_positive("loss.j", self.j, "10")


@dataclass(frozen=True)
class CrossEntropy:
    """The loss of a softmax over the scores."""


@dataclass(frozen=True)
class SquaredError:
    """The squared distance of the outputs from +1 for the right class and -1 for the others."""


@dataclass(frozen=True)
class Discriminative:
    """Of strings: the penalty of the right one less that of all readings (section VI)."""

    paths: Literal["all", "best"] = "all"
    """each is that of all its paths together (discriminative forward training), or that of its best
    one (discriminative Viterbi training)"""

    def __post_init__(self) -> None:
        require_types(self)


Loss = ML | MAP | CrossEntropy | SquaredError | Discriminative

# Which scores a loss is over (`layers.network.Network.outputs`).
SCORES = {
    **{ML: "penalties", MAP: "penalties", Discriminative: "penalties"},
    **{CrossEntropy: "logits", SquaredError: "activations"},
}
