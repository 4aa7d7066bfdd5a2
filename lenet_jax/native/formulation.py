"""Where it is decided how things are computed: on a CPU natively, else as they are written."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from lenet_jax.data import distort
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.pooling import Subsampling
from lenet_jax.native import library, operations

ENOUGH = 8  # images, where the window leaves pixels out


def fastest() -> AbstractContextManager[Any]:
    """Within it the layers of a network are computed as fast as this machine can.

    Not for passes that give layers other rules (curvature, deconvnet): those work on the methods
    that a native kernel takes together.
    """
    return nn.intercept_methods(_native) if library.kind() == "native" else nullcontext()


def sample(image: jax.Array, places: jax.Array) -> jax.Array:
    """`distort.sample` as fast as this machine can."""
    if library.kind() != "native":
        return distort.sample(image, places)
    return lax.platform_dependent(image, places, cpu=operations.sample, default=distort.sample)


def _native(next_method: Callable[..., Any], args: tuple, kwargs: dict, context) -> Any:
    layer = context.module
    if context.method_name != "units" or any(each.dtype != jnp.float32 for each in args):
        return next_method(*args, **kwargs)
    if isinstance(layer, Subsampling):
        on_cpu = partial(operations.subsample, layer.activation)
    elif isinstance(layer, Convolution) and _suits(layer, args[2]):
        table = layer.table and tuple(
            tuple(int(i in row) for i in range(len(args[2]))) for row in layer.table
        )
        on_cpu = partial(
            operations.convolve,
            operations.Convolved(
                layer.size, layer.stride, layer.padding, layer.groups, layer.activation, table
            ),
        )
    else:
        return next_method(*args, **kwargs)
    return lax.platform_dependent(*args, cpu=on_cpu, default=next_method)


def _suits(layer: Convolution, states: jax.Array) -> bool:
    """Windows of one pixel, and those of all there is, are matrix products; XLA's are good.

    Where the window leaves pixels out, lanes are images: of few most would be empty.
    """
    _, *pixels, images = states.shape
    rest = max(n + 2 * layer.padding - layer.size for n in pixels)
    return layer.size > 1 and rest > 0 and (layer.stride == 1 or images >= ENOUGH)
