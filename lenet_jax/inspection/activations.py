"""What the units of a network do: their states, what they see, and which images excite them most.

Nothing is known here of any one network but that it returns (scores, maps).
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lenet_jax.data.frames import SHAPE
from lenet_jax.layers.contract import Shape, run, shown

BLOCK = 256  # images whose states are held at a time, fewer of large ones:
PIXELS = 2**21  # in all of them
DRAWS = 8  # of noise: through maxima one image shows only some of what units see
REACHED = 1e-5  # of the largest gradient: less is the rounding of a GPU's fast convolutions

Maps = OrderedDict[str, jax.Array]  # of a dict jax sorts the keys; this keeps the layers' order


@dataclass(frozen=True)
class Strongest:
    """For each map of a layer the images in which it has its largest states.

    Arrays of [maps, number], the largest state first: the number of the image in `images`, the
    place of the unit in `rows` and `columns`, its state in `states`. An image comes once for each
    map; of equal states the one with the lower number is first.
    """

    images: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    states: np.ndarray


@partial(jax.jit, static_argnums=0)
def states(module: nn.Module, params: Any, images: Any) -> tuple[jax.Array, Maps]:
    """Scores [n, classes], and the states of each layer by its name, [n, maps, height, width].

    images: uint8 [n, *shape].
    """
    return _apply(module, params, shown(module, images))


def _apply(module: nn.Module, params: Any, inputs: jax.Array) -> tuple[jax.Array, Maps]:
    scores, maps = run(module, {"params": params}, inputs)
    return scores, OrderedDict(maps)


def seen(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """What a network sees of images, uint8 [n, *shape], from 0 for their 0 to 1 for their 255.

    Returns float32 [n, height, width] or [n, height, width, 3], as large as the network's input;
    what it puts around them is 0.
    """
    images = np.asarray(images)
    every = [np.zeros_like(images[:1]), np.full_like(images[:1], 255), images]
    low, high, found = (np.asarray(shown(module, pixels)) for pixels in every)
    levels = np.divide(found - low, high - low, out=np.zeros_like(found), where=high > low)
    return levels[..., 0] if levels.shape[3:] == (1,) else levels


def shapes(module: nn.Module, params: Any, shape: Shape = SHAPE) -> dict[str, Shape]:
    """(maps, height, width) of each layer's states for images of a shape."""
    image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    _, maps = jax.eval_shape(partial(states, module), params, image)
    return {name: state.shape[1:] for name, state in maps.items()}


def strongest(
    module: nn.Module, params: Any, images: np.ndarray, number: int = 9
) -> dict[str, Strongest]:
    """For each layer which of the images, uint8 [n, *shape], excite each of its maps most."""
    found: dict[str, list[np.ndarray]] = {}
    size = _block(images.shape[1:])
    for at in range(0, len(images), size):
        block = images[at : at + size]
        filled = np.pad(block, ((0, size - len(block)), *((0, 0),) * (block.ndim - 1)))
        for name, largest in _largest(module, params, filled).items():
            found.setdefault(name, []).append(np.asarray(largest)[: len(block)])
    result = {}
    for name, parts in found.items():
        every = np.concatenate(parts)  # [images, maps, 3]
        order = np.argsort(-every[..., 0], axis=0, kind="stable")[:number]
        state, row, column = np.take_along_axis(every, order[..., None], axis=0).T
        result[name] = Strongest(order.T, row.astype(int), column.astype(int), state)
    return result


@partial(jax.jit, static_argnums=0)
def _largest(module: nn.Module, params: Any, images: Any) -> Maps:
    """The largest state of each map in each image, its row and its column: float [n, maps, 3]."""
    found = OrderedDict()
    for name, state in states(module, params, images)[1].items():
        flat = state.reshape(*state.shape[:2], -1)
        row, column = jnp.divmod(flat.argmax(axis=2), state.shape[3])
        found[name] = jnp.stack([flat.max(axis=2), row, column], axis=2)
    return found


def receptive_fields(
    module: nn.Module, params: Any, shape: Shape = SHAPE
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the units of each layer see of the network's input, for images of a shape.

    Returns (rows [h, 2], columns [w, 2]) for each layer: units of row r see the input's rows from
    rows[r, 0] up to, and without, rows[r, 1]. Found by trying: where the gradient of a row, or a
    column, of units is not zero, in DRAWS images of noise, fewer of large ones; units that nothing
    reaches are said to see all of it.
    """
    of = shapes(module, params, shape)
    size = jax.eval_shape(partial(shown, module), jax.ShapeDtypeStruct((1, *shape), np.uint8)).shape
    lines = [(name, axis, at) for name in of for axis in (1, 2) for at in range(of[name][axis])]
    asked = lines * max(1, min(DRAWS, PIXELS // (len(lines) * math.prod(size[1:]))))
    found: dict[Any, list[int]] = {line: [] for line in lines}
    rng = np.random.default_rng(0)
    block = min(len(asked), _block(size[1:]))
    for start in range(0, len(asked), block):
        part = asked[start : start + block]
        weights = {name: np.zeros((block, *of[name]), np.float32) for name in of}
        for n, (name, axis, at) in enumerate(part):
            line = np.moveaxis(weights[name][n], axis, 0)[at]
            line[:] = rng.normal(size=line.shape)
        noise = rng.uniform(-1, 1, (block, *size[1:])).astype(np.float32)
        gradients = np.abs(_gradients(module, params, noise, weights))
        for line, gradient in zip(part, gradients, strict=False):
            profile = gradient.reshape(*size[1:3], -1).max(axis=(2 - line[1], 2))
            found[line] += np.flatnonzero(profile > REACHED * profile.max()).tolist()

    def ends(name: str, axis: int) -> np.ndarray:
        reached = (found[name, axis, at] or [0, size[axis] - 1] for at in range(of[name][axis]))
        return np.array([(min(places), max(places) + 1) for places in reached])

    return {name: (ends(name, 1), ends(name, 2)) for name in of}


def _block(shape: Shape) -> int:
    """How many images of a shape are held at a time."""
    return min(BLOCK, max(1, PIXELS // math.prod(shape)))


@partial(jax.jit, static_argnums=0)
def _gradients(module: nn.Module, params: Any, inputs: Any, weights: Any) -> jax.Array:
    """The gradient of each input's weighted sum of states, in the shape of the inputs."""

    def total(inputs: jax.Array) -> jax.Array:
        _, maps = _apply(module, params, inputs)
        return sum((jnp.vdot(weights[name], maps[name]) for name in maps), jnp.zeros(()))

    return jax.grad(total)(inputs)
