"""Sums and maxima over small windows, with gradients that XLA's CPU is quick at."""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax


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


@jax.custom_vjp
def largest_of_nine(states: jax.Array) -> jax.Array:
    """The maxima over 3x3 windows every two pixels. Equal ones share the gradient.

    [maps, h, w, images] -> [maps, (h - 3) // 2 + 1, (w - 3) // 2 + 1, images].
    """
    return reduce(jnp.maximum, nine(states))


def nine(states: jax.Array) -> list[jax.Array]:
    """The pixels of the windows, each place in them as an array of its own."""
    maps, height, width, images = states.shape
    down, right = ((n - 3) // 2 * 2 + 1 for n in (height, width))
    return [
        lax.slice(states, (0, i, j, 0), (maps, i + down, j + right, images), (1, 2, 2, 1))
        for i in range(3)
        for j in range(3)
    ]


def to_places(states: jax.Array, shares: list[jax.Array]) -> jax.Array:
    """The transpose of `nine`: each pixel of `states` collects what its windows give it."""
    (height, width), (rows, columns) = states.shape[1:3], shares[0].shape[1:3]
    zero, parts = jnp.zeros((), states.dtype), []
    for place, share in enumerate(shares):
        i, j = divmod(place, 3)
        down, right = (i, height - i - 2 * rows + 1, 1), (j, width - j - 2 * columns + 1, 1)
        parts.append(lax.pad(share, zero, ((0, 0, 0), down, right, (0, 0, 0))))
    return reduce(jnp.add, parts)


def _nine_backward(saved, gradient: jax.Array):
    states, largest = saved
    hits = [(one == largest).astype(gradient.dtype) for one in nine(states)]
    share = gradient / reduce(jnp.add, hits)
    return (to_places(states, [hit * share for hit in hits]),)


def _nine_forward(states: jax.Array):
    largest = largest_of_nine(states)
    return largest, (states, largest)


# Left to itself, XLA's CPU goes through the windows pixel by pixel.
largest_of_nine.defvjp(_nine_forward, _nine_backward)
