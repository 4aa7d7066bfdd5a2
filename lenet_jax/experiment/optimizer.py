"""The optimizers that an experiment may name, with their fields."""

from dataclasses import dataclass

from lenet_jax.experiment.checks import LARGEST, require, require_positive, require_types


@dataclass(frozen=True)
class SDLM:
    """Stochastic diagonal Levenberg-Marquardt, appendix C: a step of eta/(mu + h) per parameter."""

    mu: float = 0.02
    """bounds the step where the curvature h is small (eq. 21)"""
    samples: int = 500
    """examples on which h is measured before each epoch"""
    learning_rates: tuple[float, ...] = (
        (5e-4,) * 2 + (2e-4,) * 3 + (1e-4,) * 3 + (5e-5,) * 4 + (1e-5,)
    )
    """eta of each epoch; epochs beyond the list have its last value"""
    never_below_previous: bool = True
    """h = max(h, h of the epoch before): without it training falls apart in the second epoch"""

    def __post_init__(self) -> None:
        require_types(self)
        rates = self.learning_rates
        require_positive("optimizer.mu", self.mu, "the paper's is 0.02")
        require(self.samples > 0, "optimizer.samples", self.samples, "1 or more", "500")
        require(
            len(rates) > 0 and all(0 < rate <= LARGEST for rate in rates),
            "optimizer.learning-rates",
            rates,
            f"one positive number or more, up to {LARGEST:,}",
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
        require_types(self)
        rate, warmup = self.learning_rate, self.warmup
        require_positive("optimizer.learning-rate", rate, "0.002")
        require(0 <= warmup < 1, "optimizer.warmup", warmup, "0 or more, less than 1", "0.2")


@dataclass(frozen=True)
class SGD:
    """Plain gradient descent, at one rate or one that falls."""

    learning_rate: float = 0.1
    """the first"""
    momentum: float = 0.0
    decay: float = 0.0
    """of kernels: so much of each is added to its gradient (L2)"""
    falls: tuple[int, ...] = ()
    """epochs after which the rate falls to a tenth"""
    bias_rate: float = 1.0
    """times the rate, for biases"""
    output_rate: float = 1.0
    """times the rate, for the layer named output"""
    largest_rms: float | None = None
    """root mean square of a map's weights, in layers named conv..., to which it is put back after
    an update that exceeds it (Zeiler and Fergus 2014)"""

    def __post_init__(self) -> None:
        require_types(self)
        rate, momentum, decay = self.learning_rate, self.momentum, self.decay
        require_positive("optimizer.learning-rate", rate, "0.1")
        require(0 <= momentum < 1, "optimizer.momentum", momentum, "0 or more, less than 1", "0.9")
        require(decay >= 0, "optimizer.decay", decay, "0 or more", "0.0001")
        falls = self.falls
        require(
            all(fall > 0 for fall in falls) and list(falls) == sorted(set(falls)),
            "optimizer.falls",
            " ".join(map(str, falls)),
            "numbers of epochs, 1 or more, each larger than the one before",
            "200 230",
        )
        for name in ("bias_rate", "output_rate", "largest_rms"):
            value = getattr(self, name)
            flag = f"optimizer.{name.replace('_', '-')}"
            if value is not None:
                require_positive(flag, value, "0.1")


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
        require_types(self)
        for name in ("learning_rate", "adam_learning_rate"):
            flag, rate = f"optimizer.{name.replace('_', '-')}", getattr(self, name)
            require_positive(flag, rate, "0.01")
        warmup = self.warmup
        require(0 <= warmup < 1, "optimizer.warmup", warmup, "0 or more, less than 1", "0.05")


Optimizer = SDLM | Adam | Muon | SGD
