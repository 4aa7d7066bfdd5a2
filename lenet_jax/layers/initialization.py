"""How weights and biases begin."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

Initialization = Literal["lush", "printed", "uniform", "nielsen", "he", "zeros"]

Start = Literal["published", "scaled"]
"""of a large network: as published, or with "he" and pixels of a deviation of 1"""


class Normal(NamedTuple):
    """Weights from N(0, deviation^2), all biases alike."""

    deviation: float
    bias: float = 0.0


# v of the authors' rule, 1 in their code, and where the subsampling coefficients start, 0.5 there.
# Chosen on held-out examples among those whose first epoch has step sizes that span what section
# III-B reports (PAPER.md).
LUSH_V = 1.3

LUSH_COEFFICIENT = 0.45


def uniform(bound: np.ndarray | float) -> nn.initializers.Initializer:
    """Uniform between minus and plus `bound`, a number or an array that broadcasts."""

    def init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype)

    return init


def initializers(
    rule: Initialization | Normal, fan_in: np.ndarray | float, fan_out: float
) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """How weights and biases of units with `fan_in` inputs begin; `fan_out` is Nielsen's n_out.

    "printed" is the paper's rule, uniform in +-2.4/Fi, biases too (appendix A). "lush" is what the
    authors' own code does, uniform in +-v/sqrt(Fi), biases zero, and the default: with the printed
    rule F6 starts within 0.003 of zero, a saddle of the loss, and the step sizes of the first epoch
    are not those that section III-B reports; with the other they are. "uniform" is +-1/sqrt(Fi),
    biases too, what PyTorch does unasked. "nielsen" is normal, of variance 1/n_out and for biases
    1 (his network3.py, where n_out is a layer's units, or a quarter of its maps' weights for one
    input). "he" is normal, of variance 2/Fi, biases zero: states of rectified units stay as large
    from layer to layer (He et al. 2015, eq. 10). "zeros" sets everything to zero.
    """
    match rule:
        case "printed":
            return uniform(2.4 / fan_in), uniform(2.4 / np.ravel(fan_in))
        case "lush":
            return uniform(LUSH_V / np.sqrt(fan_in)), nn.initializers.zeros
        case "uniform":
            return uniform(1 / np.sqrt(fan_in)), uniform(1 / np.sqrt(np.ravel(fan_in)))
        case "nielsen":
            return nn.initializers.normal(fan_out**-0.5), nn.initializers.normal(1.0)
        case "he":
            return nn.initializers.normal(np.sqrt(2 / fan_in)), nn.initializers.zeros
        case Normal(deviation, bias):
            return nn.initializers.normal(deviation), nn.initializers.constant(bias)
        case "zeros":
            return nn.initializers.zeros, nn.initializers.zeros
