"""The optimizers: stochastic diagonal Levenberg-Marquardt (appendix C), and three from optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax import lax

from lenet_jax.errors import UserError
from lenet_jax.experiment import SDLM, SGD, Adam, Muon, Optimizer


def scale_by_sdlm(mu: float) -> optax.GradientTransformationExtraArgs:
    """Divides each gradient by mu + h, its parameter's own curvature (eq. 21 without eta).

    `update` takes the keyword argument `curvature`, non-negative numbers in the tree of the
    parameters (`curvature.diagonal`), so that forgetting it is an error. For a subsampling
    coefficient that is the sum over the map of d2E/da2 (x1 + x2 + x3 + x4)^2, the unit's true
    Gauss-Newton term and what the authors' own code takes. Eq. 23 and 25 read literally, with
    each of the four connections on its own, give d2E/da2 (x1^2 + x2^2 + x3^2 + x4^2), up to four
    times less and so larger steps (PAPER.md).

    Raises ValueError unless mu is positive.
    """
    if mu <= 0:
        raise ValueError(f"mu must be positive, it is {mu}: it bounds the step where h is 0")

    def init_fn(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(updates, state, params=None, *, curvature: optax.Updates, **extra_args):
        del params, extra_args
        # The reciprocal does not change within an epoch: XLA takes it out of the loop over
        # examples.
        return jax.tree.map(lambda g, h: g * (1 / (mu + h)), updates, curvature), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)  # type: ignore[arg-type]


def schedule(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Callable[[Any], jax.Array]:
    """The global learning rate after so many updates.

    For SDLM eta, one for each epoch, the last one for all that follow.
    """
    if isinstance(optimizer, SGD):
        if not optimizer.falls:
            return lambda count: jnp.asarray(optimizer.learning_rate)
        falls = optimizer.learning_rate * 0.1 ** np.arange(len(optimizer.falls) + 1)
        after = np.array(optimizer.falls) * steps_per_epoch
        return _once(lambda count: jnp.asarray(falls, jnp.float32)[(count >= after).sum()])
    if not isinstance(optimizer, SDLM):
        return _up_and_down(optimizer.learning_rate, optimizer.warmup, epochs * steps_per_epoch)
    rates = optimizer.learning_rates

    def rate(count) -> jax.Array:
        return jnp.asarray(rates)[jnp.minimum(count // steps_per_epoch, len(rates) - 1)]

    return _once(rate)


def _up_and_down(peak: float, warmup: float, steps: int) -> Callable[[Any], jax.Array]:
    top = int(warmup * steps)

    def rate(count) -> jax.Array:
        return peak * jnp.minimum((count + 1) / (top + 1), (steps - count) / (steps - top))

    return _once(rate)


def _once(rate: Callable[[Any], Any]) -> Callable[[Any], jax.Array]:
    """Behind a barrier, or XLA works the rate out again for every weight."""
    return lambda count: lax.optimization_barrier(jnp.asarray(rate(count)))


def of(optimizer: Any, epochs: int, steps_per_epoch: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer of an experiment. SDLM is w <- w - eta/(mu + h) dE/dw (eq. 18 and 21).

    A page may give an `optax.GradientTransformation`, or a dataclass of its own whose method
    `transformation(epochs, steps_per_epoch)` makes one.
    """
    known = isinstance(optimizer, Optimizer)
    rate: Any = schedule(optimizer, epochs, steps_per_epoch) if known else None
    match optimizer:
        case SDLM(mu=mu):
            return optax.chain(scale_by_sdlm(mu), optax.scale_by_learning_rate(rate))
        case Adam():
            first_order = optax.adam(rate)
        case SGD():
            first_order = _descent(optimizer, rate)
        case Muon(adam_learning_rate=peak, warmup=warmup):
            others = _up_and_down(peak, warmup, epochs * steps_per_epoch)
            first_order = optax.contrib.muon(rate, adam_learning_rate=others)
        case optax.GradientTransformation():
            first_order = optimizer
        case _:
            first_order = optimizer.transformation(epochs, steps_per_epoch)
    return optax.with_extra_args_support(first_order)  # takes no curvature


def _descent(sgd: SGD, rate: Callable[[Any], Any]) -> optax.GradientTransformation:
    """What is asked for, each for the parameters that it is of.

    Raises UserError, when it meets the parameters, for what is of none of them.
    """

    def of(part: Any, flag: str, what: str, found: Callable[[list[str], Any], bool]) -> Any:
        def mask(tree: Any) -> Any:
            chosen = jax.tree.map_with_path(
                lambda path, leaf: found([str(one.key) for one in path], leaf), tree
            )
            if not any(jax.tree.leaves(chosen)):
                raise UserError(f"--optimizer.{flag}: the network has no {what}. Leave it out")
            return chosen

        return optax.masked(part, mask)

    parts = [optax.sgd(rate, sgd.momentum or None)]
    if sgd.decay:
        decay = optax.add_decayed_weights(sgd.decay)
        parts.insert(0, of(decay, "decay", "kernels", lambda path, _: path[-1] == "kernel"))
    if sgd.bias_rate != 1:
        rates = optax.scale(sgd.bias_rate)
        parts.append(of(rates, "bias-rate", "biases", lambda path, _: path[-1] == "bias"))
    if sgd.output_rate != 1:
        rates, layer = optax.scale(sgd.output_rate), "layer named output"
        parts.append(of(rates, "output-rate", layer, lambda path, _: path[0] == "output"))
    if sgd.largest_rms is not None:
        parts.append(
            of(
                put_back(sgd.largest_rms),
                "largest-rms",
                "layer named conv..., of the package's",
                lambda path, leaf: (
                    path[0].startswith("conv") and path[-1] == "kernel" and leaf.ndim == 2
                ),
            )
        )
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def put_back(largest: float) -> optax.GradientTransformation:
    """Updates after which no row of a kernel has a root mean square above `largest`.

    A row that an update would bring above it is put back to it, its direction kept: "renormalize
    each filter [...] whose RMS value exceeds a fixed radius" (Zeiler and Fergus 2014, section 3).
    """

    def one(update: jax.Array, kernel: jax.Array) -> jax.Array:
        moved = kernel + update
        rms = jnp.sqrt(jnp.mean(moved**2, axis=1, keepdims=True))
        return jnp.where(rms > largest, moved * (largest / rms) - kernel, update)

    return optax.stateless(lambda updates, params: jax.tree.map(one, updates, params))
