"""Runs a trained network on images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from lenet_jax.data.frames import SHAPE
from lenet_jax.layers import contract
from lenet_jax.layers.contract import Shape
from lenet_jax.native import formulation

BLOCK = 64  # images whose states stay in a CPU core's cache


def predictor(
    module: nn.Module, params: Any, shape: Shape = SHAPE
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from uint8 images [n, *shape] to float32 scores [n, classes].

    Of a network over lines they are [n, 1, positions, classes].

    Higher is better, the prediction is the argmax. Compiled once for each n; more images than a
    block are spread over jax's devices, block by block.
    Raises ValueError for other shapes and dtypes.
    """
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), (AxisType.Auto,))
    weights = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), params)  # bound to no device

    def scores(params: Any, images: jax.Array) -> jax.Array:
        with formulation.fastest():
            return contract.scores(module, params, images)

    @jax.jit
    def forward(params: Any, images: jax.Array) -> jax.Array:
        number = len(images)
        if number <= BLOCK:
            return scores(params, images)
        missing = -number % (devices * BLOCK)
        blocks = jnp.pad(images, ((0, missing), *((0, 0),) * len(shape))).reshape(-1, BLOCK, *shape)
        spread = jax.shard_map(
            lambda params, share: lax.map(partial(scores, params), share),
            mesh=mesh,
            in_specs=(P(), P("data")),
            out_specs=P("data"),
            check_vma=False,
        )
        found = spread(params, blocks)
        return found.reshape(len(blocks) * BLOCK, *found.shape[2:])[:number]

    def predict(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != shape or images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}, expected uint8 "
                f"[n, {', '.join(map(str, shape))}]"
            )
        return np.asarray(forward(weights, images))

    return predict
