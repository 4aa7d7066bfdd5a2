"""Feature maps (section II-A)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lenet_jax.arithmetic.correlation import add_bias, correlate
from lenet_jax.layers.activation import Activation, activated
from lenet_jax.layers.initialization import Initialization, Normal, initializers


class Convolution(nn.Module):
    """Feature maps that each look at a square window of some of the maps before (section II-A).

    Fields: the number of `maps`, the window's `size`, and for each map the inputs it reads
    (`table`, as in Table I; None: all of them). `kernel` is [maps, inputs size size], a row for
    each map, and `bias` [maps]. Entries of the kernel outside the table are no connections:
    multiplied by zero on the way in, zero gradient. A window of size 1 on maps of size 1 is a
    fully connected layer.
    The window moves by `stride` pixels over a border of `padding` zeros. In `groups`, each part of
    the maps reads its own part of the inputs, and `kernel` is [maps, inputs/groups size size].
    """

    maps: int
    size: int = 5
    table: tuple[tuple[int, ...], ...] | None = None
    initialization: Initialization | Normal = "lush"
    activation: Activation = "none"
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def mask(self, inputs: int) -> np.ndarray:
        """The connections as float32 [maps, inputs size size], 1 or 0.

        Raises ValueError where the table has another number of maps or names a missing input.
        """
        table = self.table or (tuple(range(inputs)),) * self.maps
        named = sorted({i for row in table for i in row})
        if len(table) != self.maps or not set(named) <= set(range(inputs)):
            raise ValueError(
                f"a connection table of {len(table)} rows that reads maps {named} does not "
                f"fit {self.maps} maps over {inputs} inputs, numbered from 0"
            )
        mask = np.zeros((self.maps, inputs), np.float32)
        for row, reads in enumerate(table):
            mask[row, list(reads)] = 1
        return mask.repeat(self.size**2, axis=1)

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        inputs = states.shape[0]
        shape = self.maps, inputs // self.groups * self.size**2
        mask = np.ones((1, shape[1]), np.float32) if self.table is None else self.mask(inputs)
        fan_in = mask.sum(axis=1, keepdims=True)
        whole = self.size == states.shape[1]  # a fully connected layer
        fan_out = self.maps if whole else self.maps * self.size**2 // 4
        draw, draw_bias = initializers(self.initialization, fan_in, fan_out)
        kernel = self.param("kernel", lambda key, shape: draw(key, shape) * mask, shape)
        bias = self.param("bias", draw_bias, (self.maps,))
        return self.units(kernel, bias, states)

    def units(self, kernel: jax.Array, bias: jax.Array, states: jax.Array) -> jax.Array:
        """x = f(a), where a is the weighted sum of what a unit reads, plus its bias (eq. 5)."""
        sums = add_bias(self.weigh(kernel, states), bias)
        return sums if self.activation == "none" else self.activate(sums)

    def activate(self, sums: jax.Array) -> jax.Array:
        return activated(self.activation, sums)

    def weigh(self, kernel: jax.Array, states: jax.Array) -> jax.Array:
        if self.table is not None:
            kernel = kernel * self.mask(states.shape[0])
        return correlate(kernel, self.padded(states), self.size, self.stride, self.groups)

    def padded(self, states: jax.Array) -> jax.Array:
        border = (self.padding, self.padding)
        return jnp.pad(states, ((0, 0), border, border, (0, 0))) if self.padding else states
