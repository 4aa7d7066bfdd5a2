"""States on their way through the layers: float32 [maps, height, width, images]."""

import jax


def fold(states: jax.Array) -> jax.Array:
    """The four pixels of each 2x2 block as four arrays: [maps, 2h, 2w, images] -> [4, maps, h, w,
    images], top left, top right, bottom left, bottom right. An odd last row or column is left out.
    """
    maps, height, width, images = states.shape
    h, w = height // 2, width // 2
    blocks = states[:, : 2 * h, : 2 * w].reshape(maps, h, 2, w, 2, images)
    return blocks.transpose(2, 4, 0, 1, 3, 5).reshape(4, maps, h, w, images)


def flat(states: jax.Array) -> jax.Array:
    """[..., height, width, images] -> [..., height width images].

    XLA's CPU vectorises the last axis only, and only where it is long.
    """
    return states.reshape(*states.shape[:-3], -1)
