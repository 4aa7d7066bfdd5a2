"""A small case for each kernel, against the layers as they are written."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.data import distort
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.pooling import Subsampling
from lenet_jax.native import operations

Layer = Callable[..., Any]

BOUND = 1e-4  # of the largest value; sums of fifty products in float32 differ by 1e-6
TABLE = ((0,), (0, 1), (1,))
IMAGES = 1, 20  # the lanes of one image are its pixels


def agrees() -> bool:
    """Whether the results and gradients of the registered kernels are those of the layers."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    convolved = [(draw(3, 50), draw(3), draw(2, 14, 14, n)) for n in IMAGES]
    subsampled = [(draw(3), draw(3), draw(3, 10, 10, n)) for n in IMAGES]
    sampled = draw(9, 11), rng.uniform(-1, 11, (2, 9, 11)).astype(np.float32)
    cpu = jax.local_devices(backend="cpu")[0]
    # Somebody may be tracing a program right now, and this is not a part of it.
    with jax.ensure_compile_time_eval(), jax.default_device(cpu):
        apart = jax.jit(_differences)(convolved, subsampled, sampled)
    return bool(np.all(np.asarray(apart) < BOUND))  # no number is not less either


def _differences(convolved: Any, subsampled: Any, sampled: Any) -> jax.Array:
    """Of each result, the largest, as a share of the largest value."""
    reads = tuple(tuple(int(i in row) for i in (0, 1)) for row in TABLE)
    convolution = Convolution(3, table=TABLE, activation="scaled-tanh").units
    convolve = partial(operations.convolve, operations.Convolved(5, 1, 0, 1, "scaled-tanh", reads))
    subsampling = Subsampling(activation="scaled-tanh").units
    subsample = partial(operations.subsample, "scaled-tanh")
    pairs = [(distort.sample(*sampled), operations.sample(*sampled))]
    for given in convolved:
        pairs += _results(convolution, convolve, given)
        # Another kernel where nobody asks for the gradient of the inputs.
        states = given[2]
        pairs += _results(_fed(convolution, states), _fed(convolve, states), given[:2])
    for given in subsampled:
        pairs += _results(subsampling, subsample, given)
    return jnp.stack([jnp.abs(a - b).max() / jnp.abs(a).max() for a, b in pairs])


def _fed(layer: Layer, states: jax.Array) -> Layer:
    return lambda kernel, bias: layer(kernel, bias, states)


def _results(written: Layer, native: Layer, given: Any):
    """The states and all gradients of a sum of them, both ways."""
    states, pull = jax.vjp(written, *given)
    others, pull_others = jax.vjp(native, *given)
    weights = jnp.cos(jnp.arange(states.size)).reshape(states.shape)
    return zip((states, *pull(weights)), (others, *pull_others(weights)), strict=True)
