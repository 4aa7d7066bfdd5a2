"""The diagonal Gauss-Newton curvature of every parameter, appendix C, from one backward pass.

An ordinary backward pass carries dE/da through the transposed weights. Here it carries d2E/da2,
through the squared weights and the squared slopes (eq. 27); a weight collects it times its squared
input (eq. 25), over all the connections that share it (eq. 23). So it is the same automatic
differentiation with other rules for four methods of a network, and works on any network whose
layers form their sums in `weigh`, take shares in `scale` and activate in `activate`
(`lenet_jax/layers`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Params = Any
Function = Callable[..., jax.Array]


def diagonal(
    scores: Callable[[Params], jax.Array],
    params: Params,
    at_scores: Callable[[jax.Array], jax.Array],
) -> Params:
    """h_kk of eq. 23, averaged over the images (eq. 24), in the tree of the parameters.

    `scores` maps the parameters to scores [images, classes] of a fixed batch, and `at_scores`
    those to the second derivatives of the loss there, [images, classes]
    (`losses.curvature_at_scores`). Every h is non-negative; a parameter without connections
    has 0. `adaptive` RBF codes get theirs by the same rule.
    Raises ValueError for Gaussian heads, for `_distances` knows distances that are a loss
    themselves and not those that a softmax is taken of, and for response normalization.
    """
    with nn.intercept_methods(_second_order):
        values, backward = jax.vjp(scores, params)
    (summed,) = backward(at_scores(values))
    return jax.tree.map(lambda h: h / len(values), summed)


def _second_order(next_method: Function, args: tuple, kwargs: dict, context) -> Any:
    rule = RULES.get(context.method_name)
    if rule is _distances and context.module.drawn:
        raise ValueError("no curvature for Gaussian heads: take another head or optimizer")
    if context.method_name == "normalize":
        raise ValueError("no curvature for response normalization: take another optimizer")
    return next_method(*args, **kwargs) if rule is None else rule(next_method)(*args)


def _weigh(product: Function) -> Function:
    """Sums a = product(weights, states): squared weights and squared states take their places.

    Both arguments get what they would from an ordinary backward pass through the squares, for
    the product is linear in each. Masked weights keep their zero, biases their 1.
    """

    @jax.custom_vjp
    def weigh(weights: jax.Array, states: jax.Array) -> jax.Array:
        return product(weights, states)

    def backward(saved: tuple[jax.Array, jax.Array], h: jax.Array):
        weights, states = saved
        return jax.vjp(product, weights**2, states**2)[1](h)

    weigh.defvjp(lambda weights, states: (product(weights, states), (weights, states)), backward)
    return weigh


def _activate(function: Function) -> Function:
    """States x = f(a): the squared slope. The term with f'' is dropped (Gauss-Newton, eq. 27)."""

    @jax.custom_vjp
    def activate(sums: jax.Array) -> jax.Array:
        return function(sums)

    def backward(sums: jax.Array, h: jax.Array):
        _, slope = jax.jvp(function, (sums,), (jnp.ones_like(sums),))
        return (h * slope**2,)

    activate.defvjp(lambda sums: (function(sums), sums), backward)
    return activate


def _distances(function: Function) -> Function:
    """Squared distances y_i = sum_j (x_j - w_ij)^2: 2 with respect to each x_j and each w_ij.

    h is the weight of each y_i in the loss. This second derivative is exact; its sign is that
    of the distance, not of the score, which is why the weights come in as non-negative numbers.
    """

    @jax.custom_vjp
    def distances(centres: jax.Array, states: jax.Array) -> jax.Array:
        return function(centres, states)

    def backward(saved: tuple[jax.Array, jax.Array], h: jax.Array):
        centres, states = saved
        h = 2 * jnp.abs(h)  # `RBF` turns the sign of the distances, and h with it
        per_centre = h.sum(axis=tuple(range(1, h.ndim)))
        return (
            jnp.broadcast_to(per_centre[:, None], centres.shape),
            jnp.broadcast_to(h.sum(axis=0), states.shape),
        )

    distances.defvjp(lambda c, s: (function(c, s), (c, s)), backward)
    return distances


# A share is a weight that is not trained.
RULES = {"weigh": _weigh, "scale": _weigh, "activate": _activate, "distances": _distances}
