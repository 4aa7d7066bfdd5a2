"""Euclidean radial basis functions (eq. 7)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lenet_jax.layers.codes import CHARACTERS, codes


class RBF(nn.Module):
    """Euclidean radial basis functions, one for each class, centred on its code (eq. 7).

    Returns scores [classes, height, width, images], minus the squared distances: higher is
    better, 0 is a perfect match. The codes are fixed, as in LeNet-5 (section IX-B says so in
    passing); with `adaptive` they are a parameter that starts there, or, `drawn`, at random
    (standard normal). A network with fixed codes can be given others: `code_table` is float32
    [classes, inputs], None the digits of Fig. 3.
    """

    adaptive: bool = False
    code_table: tuple[tuple[float, ...], ...] | None = None
    drawn: bool = False
    classes: int = 10

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        start = np.asarray(
            codes(CHARACTERS[: self.classes]) if self.code_table is None else self.code_table,
            np.float32,
        )
        if start.shape[1:] != states.shape[:1]:
            raise ValueError(f"codes of {start.shape[1]} bits do not fit {states.shape[0]} units")
        if self.drawn:
            centres = self.param("codes", nn.initializers.normal(1.0), start.shape)
        elif self.adaptive:
            centres = self.param("codes", lambda _: jnp.asarray(start))
        else:
            centres = start
        return -self.distances(jnp.asarray(centres), states)

    def distances(self, centres: jax.Array, states: jax.Array) -> jax.Array:
        return jnp.sum((states[None] - centres[:, :, None, None, None]) ** 2, axis=1)
