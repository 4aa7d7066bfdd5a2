"""What trained networks predict: scores, and how many of them are right."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lenet_jax.graphs import paths
from lenet_jax.layers import contract
from lenet_jax.layers.network import Network
from lenet_jax.native import formulation
from lenet_jax.training.replicas import for_each_seed, laid_out

Params = Any

NEITHER = -2  # a label that no prediction is, nor is -1, the end of a string
CACHED = 32  # images whose states stay in a CPU core's cache, forward and backward


def predict(
    model: Network,
    params: Params,
    images: jax.Array,
    dropout: jax.Array | None = None,
    places: jax.Array | None = None,
    precision: str = "float32",
) -> jax.Array:
    """Scores [n, classes] of images [n, *shape] of 0 to 255.

    With dropout where a key is given; an image's mask comes from the key and its place in the
    batch, int32 [n]. With the precision "bfloat16" weights and states are rounded to it before
    they are multiplied; products are added up in float32.
    """
    variables: dict[str, Any] = {"params": params}
    if dropout is not None:
        variables["batch"] = {"places": places}
    chance = None if dropout is None else {"dropout": dropout}
    with nn.intercept_methods(_rounded) if precision == "bfloat16" else formulation.fastest():
        scores, _ = contract.run(model, variables, contract.shown(model, images), chance)
    return scores


def _rounded(next_method: Callable[..., Any], args: tuple, kwargs: dict, context) -> Any:
    if context.method_name != "weigh":
        return next_method(*args, **kwargs)
    weights, states = (factor.astype(jnp.bfloat16) for factor in args)
    return next_method(weights, states).astype(jnp.float32)


def right(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Which predictions are right, bool [n]: the best of scores [n, classes], by labels int [n].

    What is none of the classes, by its label, counts as right: no prediction is asked for. Of
    strings, scores [n, 1, positions, classes] and texts [n, length], that on the best path.
    """
    if labels.ndim == 1:
        return (jnp.argmax(scores, axis=1) == labels) | (labels >= scores.shape[1])
    read = paths.texts(scores[:, 0], labels.shape[1] + 1)  # with room for a digit too many
    return jnp.all(read == jnp.pad(labels, ((0, 0), (0, 1)), constant_values=-1), axis=1)


@partial(jax.jit, static_argnums=(0, 1))
def count_right(
    model: Network, on: Mesh, params: Params, images: jax.Array, labels: jax.Array
) -> jax.Array:
    """How many predictions are `right`, int32 [seeds], of `blocks`' images and labels."""

    def one(params: Params, shared) -> jax.Array:
        def block(pair):
            images, labels = pair
            return jnp.sum(right(predict(model, params, images[0]), labels[0]))

        return lax.psum(lax.map(block, shared).sum(), "data")

    return for_each_seed(on, one, params, (images, labels), shared_specs=P(None, "data"))


@partial(jax.jit, static_argnums=(0, 1))
def scores_of(model: Network, on: Mesh, params: Params, images: jax.Array) -> jax.Array:
    """float32 [seeds, images, classes] of `blocks`' images, the ones that fill up included."""

    def one(params: Params, images: jax.Array) -> jax.Array:
        scores = lax.map(lambda share: predict(model, params, share[0]), images)
        return lax.all_gather(scores, "data", axis=1)

    scores = for_each_seed(on, one, params, images, shared_specs=P(None, "data"))
    return scores.reshape(len(scores), -1, scores.shape[-1])


def blocks(
    images: np.ndarray, labels: np.ndarray, on: Mesh, size: int = CACHED
) -> tuple[jax.Array, jax.Array]:
    """Images and labels cut up for `count_right`, on the devices that share each network's.

    uint8 [blocks, shares, size, *shape] and int32 [blocks, shares, size], of strings also their
    length; the last block is filled with the label NEITHER.
    """
    shares = on.shape["data"]
    missing = -len(labels) % (shares * size)
    images = np.pad(images, ((0, missing),) + ((0, 0),) * (images.ndim - 1))
    rest = ((0, missing),) + ((0, 0),) * (labels.ndim - 1)
    labels = np.pad(labels, rest, constant_values=NEITHER)

    def one(array: np.ndarray) -> jax.Array:
        cut = array.reshape(-1, shares, size, *array.shape[1:])
        return laid_out(on, P(None, "data"), cut.shape, cut.__getitem__)

    return one(images), one(labels)
