"""How a network's error grows with what is done to the test images (section III-E, Fig. 13)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lenet_jax.data import distort
from lenet_jax.data.dataset import Images
from lenet_jax.training import scoring, step

LEVELS: dict[str, tuple[float, ...]] = {
    "rotation": tuple(range(-60, 61, 10)),  # degrees, positive is counterclockwise
    "scale": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4),  # factor of the size
    "shift": tuple(range(-10, 11, 2)),  # pixels down
    "squeeze": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.11, 1.25, 1.43, 1.67, 2.0),  # factor of the width
    "noise": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),  # probability that a pixel is inverted
}


def curves(
    recipe: step.Recipe, params: step.Params, test: Images
) -> dict[str, list[tuple[float, list[int]]]]:
    """For each kind of change its levels, each with the errors of every network."""
    result: dict[str, list[tuple[float, list[int]]]] = {}
    images = np.asarray(test.images)
    for kind, levels in LEVELS.items():
        result[kind] = []
        for level in levels:
            changed = np.asarray(_changed(kind, jnp.float32(level), images))
            blocks = scoring.blocks(changed, test.labels, recipe.mesh)
            right = np.asarray(scoring.count_right(recipe.model, recipe.mesh, params, *blocks))
            result[kind].append((level, (len(test) - right).tolist()))
    return result


@partial(jax.jit, static_argnums=0)
def _changed(kind: str, level: jax.Array, images: jax.Array) -> jax.Array:
    """The images, uint8 [n, 28, 28], all changed by one level."""
    if kind == "noise":
        inverted = jax.random.bernoulli(jax.random.key(0), level, images.shape)
        return jnp.where(inverted, 255 - images, images)
    places = distort.moved(images.shape[1:], *MAPS[kind](level))
    sampled = jax.lax.map(
        lambda image: distort.sample(image.astype(jnp.float32), places), images, batch_size=100
    )
    return jnp.round(sampled).astype(jnp.uint8)


def _rotation(degrees: jax.Array) -> tuple[jax.Array, jax.Array]:
    cos, sin = jnp.cos(jnp.radians(degrees)), jnp.sin(jnp.radians(degrees))
    return jnp.array([[cos, sin], [-sin, cos]]), jnp.zeros(2)


def _sized(rows: Any, columns: Any) -> tuple[jax.Array, jax.Array]:
    return jnp.diag(1 / jnp.array([rows, columns])), jnp.zeros(2)


# From the changed image's places to the original's.
MAPS: dict[str, Callable[[jax.Array], tuple[jax.Array, jax.Array]]] = {
    "rotation": _rotation,
    "scale": lambda factor: _sized(factor, factor),
    "shift": lambda pixels: (jnp.eye(2), jnp.array([-pixels, 0.0])),
    "squeeze": lambda factor: _sized(1 / factor, factor),
}
