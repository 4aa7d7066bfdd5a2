"""Less resolution: subsampling (section II-B), averages and maxima."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.arithmetic.folding import flat, fold
from lenet_jax.arithmetic.windows import add_four, largest_of_four, largest_of_nine
from lenet_jax.layers.activation import Activation, activated
from lenet_jax.layers.initialization import LUSH_COEFFICIENT, Initialization, initializers


class Subsampling(nn.Module):
    """Half the resolution: the four inputs of a 2x2 window are added, times one coefficient per
    map, plus one bias per map, activated (section II-B). An odd last row or column is left out.

    `coefficient` and `bias` are [maps]. The coefficient weighs the sum of the four, as one
    connection; `optimizers.scale_by_sdlm` says what follows for its curvature.
    """

    initialization: Initialization = "lush"
    activation: Activation = "none"

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        maps = len(states)
        start, start_bias = initializers(self.initialization, 4.0, 1.0)
        if self.initialization == "lush":  # all alike and positive: their code draws no signs here
            start = nn.initializers.constant(LUSH_COEFFICIENT)
        coefficient = self.param("coefficient", start, (maps,))
        bias = self.param("bias", start_bias, (maps,))
        return self.units(coefficient, bias, states)

    def units(self, coefficient: jax.Array, bias: jax.Array, states: jax.Array) -> jax.Array:
        folded = fold(states)
        sums = self.weigh(coefficient, add_four(flat(folded))) + bias[:, None]
        sums = sums.reshape(folded.shape[1:])
        return sums if self.activation == "none" else self.activate(sums)

    def activate(self, sums: jax.Array) -> jax.Array:
        return activated(self.activation, sums)

    def weigh(self, coefficient: jax.Array, sums: jax.Array) -> jax.Array:
        return coefficient[:, None] * sums


class AveragePooling(nn.Module):
    """Half the resolution: the means over 2x2 windows."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        return self.scale(1 / 4, add_four(fold(states)))

    def scale(self, factor: float, states: jax.Array) -> jax.Array:
        return factor * states


class MaxPooling(nn.Module):
    """Half the resolution: the largest of each 2x2 window."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = fold(states)
        return self.largest(flat(folded)).reshape(folded.shape[1:])

    def largest(self, folded: jax.Array) -> jax.Array:
        return largest_of_four(folded)


class OverlappingMaxPooling(nn.Module):
    """Half the resolution: the largest of each 3x3 window, every two pixels.

    With `rounded_up` a last window that stands out by a pixel counts too.
    """

    rounded_up: bool = False

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        if self.rounded_up:
            out = ((0, 1 - n % 2) for n in states.shape[1:3])
            states = jnp.pad(states, ((0, 0), *out, (0, 0)), constant_values=-jnp.inf)
        return self.largest_overlapping(states)

    def largest_overlapping(self, states: jax.Array) -> jax.Array:
        return largest_of_nine(states)


class GlobalAveragePooling(nn.Module):
    """One number for each map: the mean of its states."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        size = states.shape[1] * states.shape[2]
        return self.scale(1 / size, states.sum(axis=(1, 2), keepdims=True))

    def scale(self, factor: float, states: jax.Array) -> jax.Array:
        return factor * states
