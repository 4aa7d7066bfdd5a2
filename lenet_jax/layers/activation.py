"""What a unit makes of its weighted sum."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from lenet_jax.arithmetic.folding import flat

Activation = Literal["scaled-tanh", "tanh", "sigmoid", "relu", "none"]


def scaled_tanh(sums: jax.Array) -> jax.Array:
    """f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1 (eq. 6, appendix A)."""
    return 1.7159 * jnp.tanh(sums * (2 / 3))


ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    "scaled-tanh": scaled_tanh,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "none": lambda sums: sums,
}


def activated(activation: Activation, sums: jax.Array) -> jax.Array:
    """The states of weighted sums [..., height, width, images]."""
    return ACTIVATIONS[activation](flat(sums)).reshape(sums.shape)
