"""Response normalization across maps (Krizhevsky, Sutskever and Hinton 2012, section 3.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class ResponseNormalization(nn.Module):
    """b_i = a_i / (k + alpha sum_j a_j^2)^beta over the n maps around map i.

    Of n neighbours those that there are; in `groups` only those of the own group.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        own = len(states) // self.groups
        parts = (lax.slice_in_dim(states, g * own, (g + 1) * own) for g in range(self.groups))
        return jnp.concatenate([self.normalize(part) for part in parts])

    def normalize(self, states: jax.Array) -> jax.Array:
        half = self.n // 2
        squares = jnp.pad(states**2, ((half, half), (0, 0), (0, 0), (0, 0)))
        around: Any = sum(lax.slice_in_dim(squares, i, i + len(states)) for i in range(self.n))
        return states * _power(self.k + self.alpha * around, -self.beta)


class WithinMapNormalization(nn.Module):
    """a / (1 + alpha s)^beta, s the mean square of the size x size window around each state.

    Beyond the edges the states count as 0. In the authors' files only (PAPER.md).
    """

    size: int = 5
    alpha: float = 1e-3
    beta: float = 0.75

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        return self.normalize(states)

    def normalize(self, states: jax.Array) -> jax.Array:
        (height, width), half = states.shape[1:3], self.size // 2
        squares = jnp.pad(states**2, ((0, 0), (half, half), (half, half), (0, 0)))
        rows: Any = sum(lax.slice_in_dim(squares, i, i + height, axis=1) for i in range(self.size))
        around: Any = sum(lax.slice_in_dim(rows, j, j + width, axis=2) for j in range(self.size))
        return states * _power(1 + self.alpha / self.size**2 * around, -self.beta)


def _power(positive: jax.Array, exponent: float) -> jax.Array:
    """positive ** exponent, as it is computed faster."""
    return jnp.exp(exponent * jnp.log(positive))
