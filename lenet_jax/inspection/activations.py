"""What the units of a network do: their states, what they see, and which images excite them most.

Nothing is known here of any one network but that it returns (scores, maps).
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.layers.contract import run, shown
from lenet_jax.layers.network import Network

BLOCK = 256  # images whose states are held at a time
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
def states(module: Network, params: Any, images: Any) -> tuple[jax.Array, Maps]:
    """Scores [n, classes], and the states of each layer by its name, [n, maps, height, width].

    images: uint8 [n, 28, 28].
    """
    return _apply(module, params, shown(module, images))


def _apply(module: Network, params: Any, inputs: jax.Array) -> tuple[jax.Array, Maps]:
    scores, maps = run(module, {"params": params}, inputs)
    return scores, OrderedDict(maps)


def strongest(
    module: Network, params: Any, images: np.ndarray, number: int = 9
) -> dict[str, Strongest]:
    """For each layer which of the images, uint8 [n, 28, 28], excite each of its maps most."""
    found: dict[str, list[np.ndarray]] = {}
    for at in range(0, len(images), BLOCK):
        block = images[at : at + BLOCK]
        filled = np.pad(block, ((0, BLOCK - len(block)), (0, 0), (0, 0)))
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
def _largest(module: Network, params: Any, images: Any) -> Maps:
    """The largest state of each map in each image, its row and its column: float [n, maps, 3]."""
    found = OrderedDict()
    for name, state in states(module, params, images)[1].items():
        flat = state.reshape(*state.shape[:2], -1)
        row, column = jnp.divmod(flat.argmax(axis=2), state.shape[3])
        found[name] = jnp.stack([flat.max(axis=2), row, column], axis=2)
    return found


def receptive_fields(
    module: Network, params: Any, height: int = 32, width: int = 32
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the units of each layer see of an input of this size.

    Returns (rows [h, 2], columns [w, 2]) for each layer: units of row r see the input's rows from
    rows[r, 0] up to, and without, rows[r, 1]. Found by trying: where the gradient of a row, or a
    column, of units is not zero, in an image of noise.
    """
    image = jnp.zeros((1, height, width))
    _, maps = jax.eval_shape(partial(_apply, module), params, image)
    asked = [
        (name, axis, at)
        for name, state in maps.items()
        for axis in (1, 2)
        for at in range(state.shape[axis + 1])
    ]
    rng = np.random.default_rng(0)
    weights = {name: np.zeros((len(asked), *maps[name].shape[1:]), np.float32) for name in maps}
    for n, (name, axis, at) in enumerate(asked):
        line = np.moveaxis(weights[name][n], axis, 0)[at]
        line[:] = rng.normal(size=line.shape)
    noise = rng.uniform(-1, 1, (len(asked), height, width)).astype(np.float32)
    gradients = np.abs(_gradients(module, params, noise, weights))
    found: dict[str, tuple[list[Any], list[Any]]] = {name: ([], []) for name in maps}
    for (name, axis, _), gradient in zip(asked, gradients, strict=True):
        profile = gradient.max(axis=2 - axis)
        reached = np.flatnonzero(profile > REACHED * profile.max())
        found[name][axis - 1].append((reached[0], reached[-1] + 1))
    return {name: (np.array(rows), np.array(columns)) for name, (rows, columns) in found.items()}


@partial(jax.jit, static_argnums=0)
def _gradients(module: Network, params: Any, inputs: Any, weights: Any) -> jax.Array:
    """The gradient of each input's weighted sum of states, [n, height, width]."""

    def total(inputs: jax.Array) -> jax.Array:
        _, maps = _apply(module, params, inputs)
        return sum((jnp.vdot(weights[name], maps[name]) for name in maps), jnp.zeros(()))

    return jax.grad(total)(inputs)
