"""The network as one function of raw images, for compilers that are not ours."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import lax

from lenet_jax.arithmetic.correlation import convolve
from lenet_jax.data.frames import SHAPE
from lenet_jax.layers.contract import run, shown
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.network import Network


def shape_of(card: dict[str, Any]) -> tuple[int, ...]:
    """Of the images that a network was trained on, by its card."""
    return tuple(card.get("dataset_shape", SHAPE))


def forward(module: Network, params: Any) -> Callable[[jax.Array], jax.Array]:
    """The function from uint8 images [n, 28, 28] to float32 scores [n, classes]; n may be symbolic.

    Higher is better. Normalisation and weights are inside. It is the same on every backend.
    """
    constants = jax.tree.map(np.asarray, params)

    def scores(images: jax.Array) -> jax.Array:
        with nn.intercept_methods(_convolve):
            return run(module, {"params": constants}, shown(module, images))[0]

    return scores


def _convolve(next_method: Callable[..., Any], args: tuple, kwargs: dict, context) -> Any:
    """Weighted sums as convolutions, where `layers` would choose by the backend and the batch.

    In full precision: where it is not asked for, a TPU and newer GPUs multiply in less.
    """
    layer = context.module
    if context.method_name != "weigh" or not isinstance(layer, Convolution):
        return next_method(*args, **kwargs)
    kernel, states = args
    if layer.table is not None:
        kernel = kernel * layer.mask(len(states))
    return convolve(
        kernel,
        layer.padded(states),
        layer.size,
        layer.stride,
        layer.groups,
        lax.Precision.HIGHEST,
    )
