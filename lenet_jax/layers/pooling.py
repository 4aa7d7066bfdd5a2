"""Half the resolution: subsampling (section II-B), averages and maxima."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.layers.folding import flat, fold
from lenet_jax.layers.initialization import LUSH_COEFFICIENT, Initialization, initializers


class Subsampling(nn.Module):
    """Half the resolution: the four inputs of a 2x2 window are added, times one coefficient per
    map, plus one bias per map (section II-B). States may come folded; else an odd last row or
    column is left out.

    `coefficient` and `bias` are [maps]. The coefficient weighs the sum of the four, as one
    connection; `optimizers.scale_by_sdlm` says what follows for its curvature.
    """

    initialization: Initialization = "lush"

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        maps = folded.shape[1]
        start, start_bias = initializers(self.initialization, 4.0, 1.0)
        if self.initialization == "lush":  # all alike and positive: their code draws no signs here
            start = nn.initializers.constant(LUSH_COEFFICIENT)
        coefficient = self.param("coefficient", start, (maps,))
        bias = self.param("bias", start_bias, (maps,))
        sums = self.weigh(coefficient, add_four(flat(folded))) + bias[:, None]
        return sums.reshape(folded.shape[1:])

    def weigh(self, coefficient: jax.Array, sums: jax.Array) -> jax.Array:
        return coefficient[:, None] * sums


class AveragePooling(nn.Module):
    """Half the resolution: the means over 2x2 windows. States may come folded."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        return self.scale(1 / 4, add_four(folded))

    def scale(self, factor: float, states: jax.Array) -> jax.Array:
        return factor * states


class MaxPooling(nn.Module):
    """Half the resolution: the largest of each 2x2 window. States may come folded."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        return self.largest(flat(folded)).reshape(folded.shape[1:])

    def largest(self, folded: jax.Array) -> jax.Array:
        return largest_of_four(folded)


@jax.custom_vjp
def add_four(folded: jax.Array) -> jax.Array:
    """The sums over 2x2 blocks: [4, ...] -> [...]. As a reduction it is slow on XLA's CPU."""
    return folded[0] + folded[1] + folded[2] + folded[3]


# Left to itself, jax pads four arrays and adds them.
add_four.defvjp(
    lambda folded: (add_four(folded), None),
    lambda _, gradient: (jnp.broadcast_to(gradient, (4, *gradient.shape)),),
)


@jax.custom_vjp
def largest_of_four(folded: jax.Array) -> jax.Array:
    """The maxima over 2x2 blocks: [4, ...] -> [...]. Equal ones share the gradient."""
    return jnp.maximum(jnp.maximum(folded[0], folded[1]), jnp.maximum(folded[2], folded[3]))


def _largest_backward(saved, gradient: jax.Array):
    folded, largest = saved
    hit = (folded == largest[None]).astype(gradient.dtype)
    return (hit * (gradient / add_four(hit))[None],)


def _largest_forward(folded: jax.Array):
    largest = largest_of_four(folded)
    return largest, (folded, largest)


# Left to itself, jax pads here too.
largest_of_four.defvjp(_largest_forward, _largest_backward)
