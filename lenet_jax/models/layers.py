"""The layers of the paper (section II), written once for the CPU, the GPU and the TPU.

States run through the layers as float32 [maps, height, width, images]: with the images innermost
every weighted sum is one matrix product, weights x states, over contiguous memory.

Each layer forms its weighted sums in a method `weigh(weights, states)`, linear in both arguments,
and each network squashes in a method `squash(sums)`. `training/curvature.py` puts appendix C's
second backward pass in the place of these two (and of `RBF.distances`), so a layer written this
way has its curvature for nothing.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from lenet_jax.models.codes import codes

Initialization = Literal["lush", "printed"]

# v of the authors' rule. It is chosen between 1 and 1.2 so that the step sizes of the first pass
# span what section III-B reports; the subsampling coefficients start at v/sqrt(4) = 0.55.
LUSH_V = 1.1


def scaled_tanh(sums: jax.Array) -> jax.Array:
    """f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1 (eq. 6, appendix A)."""
    return 1.7159 * jnp.tanh(sums * (2 / 3))


def uniform(
    initialization: Initialization, fan_in: np.ndarray | float
) -> nn.initializers.Initializer:
    """Initial weights of units with `fan_in` inputs, a number or an array that broadcasts.

    "printed" is the paper's rule, uniform in +-2.4/Fi (appendix A). "lush" is what the authors'
    own code does, uniform in +-v/sqrt(Fi), and the default everywhere: with the printed rule F6
    starts within 0.003 of zero, a saddle of the loss, and the step sizes of the first pass are
    not those that section III-B reports; with the other they are.
    """
    bound = 2.4 / fan_in if initialization == "printed" else LUSH_V / np.sqrt(fan_in)

    def init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype)

    return init


def bias_init(initialization: Initialization, fan_in: np.ndarray | float):
    """Initial biases: zero in the authors' code, drawn like every weight in the printed rule."""
    return uniform(initialization, fan_in) if initialization == "printed" else nn.initializers.zeros


def per_map(values: jax.Array) -> jax.Array:
    """[maps] -> [maps, 1, 1, 1], to be added to or multiplied with states."""
    return values[:, None, None, None]


class Convolution(nn.Module):
    """Feature maps that each look at a square window of some of the maps before (section II-A).

    Fields: the number of `maps`, the window's `size`, and for each map the inputs it reads
    (`table`, as in Table I; None: all of them). `kernel` is [maps, inputs size size], a row for
    each map (as a matrix of rows it is updated several times faster than in four dimensions), and
    `bias` [maps]. Entries of the kernel outside the table are no connections: multiplied by zero
    on the way in, zero gradient. A window of size 1 on maps of size 1 is a fully connected layer.
    """

    maps: int
    size: int = 5
    table: tuple[tuple[int, ...], ...] | None = None
    initialization: Initialization = "lush"

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
        mask = self.mask(states.shape[0])
        fan_in = mask.sum(axis=1, keepdims=True)
        draw = uniform(self.initialization, fan_in)
        kernel = self.param("kernel", lambda key, shape: draw(key, shape) * mask, mask.shape)
        bias = self.param("bias", bias_init(self.initialization, fan_in[:, 0]), (self.maps,))
        return self.weigh(kernel, states) + per_map(bias)

    def weigh(self, kernel: jax.Array, states: jax.Array) -> jax.Array:
        return correlate(kernel * self.mask(states.shape[0]), states, self.size)


class Subsampling(nn.Module):
    """Half the resolution: the four inputs of a 2x2 window are added, times one coefficient per
    map, plus one bias per map (section II-B). An odd last row or column is left out.

    `coefficient` and `bias` are [maps]. The coefficient weighs the sum of the four, as one
    connection; `optimizers.scale_by_sdlm` says what follows for its curvature.
    """

    initialization: Initialization = "lush"

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        maps, height, width, _ = states.shape
        if self.initialization == "printed":
            start = uniform("printed", 4.0)
        else:  # all alike and positive: the authors' code draws no signs here
            start = nn.initializers.constant(LUSH_V / 2)
        coefficient = self.param("coefficient", start, (maps,))
        bias = self.param("bias", bias_init(self.initialization, 4.0), (maps,))
        states = states[:, : height // 2 * 2, : width // 2 * 2]
        return self.weigh(coefficient, add_four(states)) + per_map(bias)

    def weigh(self, coefficient: jax.Array, sums: jax.Array) -> jax.Array:
        return per_map(coefficient) * sums


class RBF(nn.Module):
    """Euclidean radial basis functions, one for each class, centred on its code (eq. 7).

    Returns scores [classes, height, width, images], minus the squared distances: higher is
    better, 0 is a perfect match. The codes are fixed, as in LeNet-5 (section IX-B says so in
    passing); with `adaptive` they are a parameter that starts there. A network with fixed codes
    can be given others: `code_table` is float32 [classes, inputs], None the digits of Fig. 3.
    """

    adaptive: bool = False
    code_table: tuple[tuple[float, ...], ...] | None = None

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        start = np.asarray(codes() if self.code_table is None else self.code_table, np.float32)
        if start.shape[1:] != states.shape[:1]:
            raise ValueError(f"codes of {start.shape[1]} bits do not fit {states.shape[0]} units")
        centres = self.param("codes", lambda _: jnp.asarray(start)) if self.adaptive else start
        return -self.distances(jnp.asarray(centres), states)

    def distances(self, centres: jax.Array, states: jax.Array) -> jax.Array:
        return jnp.sum((states[None] - centres[:, :, None, None, None]) ** 2, axis=1)


# A matrix product whose left factor is transposed on the fly takes a slow path on XLA's CPU; the
# barrier makes the transpose an array of its own.
_materialize = lax.optimization_barrier


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlate(kernel: jax.Array, states: jax.Array, size: int) -> jax.Array:
    """Each map's window of size x size slid over the states, no padding, stride 1.

    kernel [maps, inputs size size] and states [inputs, height, width, images] give
    [maps, height - size + 1, width - size + 1, images]. Written as patches x matrix, because
    XLA's convolution inside a loop takes a slow path on the CPU.
    Raises ValueError where the window does not fit.
    """
    return _correlate(kernel, states, size)[0]


def _correlate(kernel: jax.Array, states: jax.Array, size: int):
    inputs, height, width, images = states.shape
    if kernel.shape[1] != inputs * size**2 or min(height, width) < size:
        raise ValueError(
            f"a kernel of {kernel.shape[1]} weights per map, {size}x{size} each, does not fit "
            f"{inputs} maps of {height}x{width}"
        )
    patches = _patches(states, size)
    sums = (kernel @ patches).reshape(-1, height - size + 1, width - size + 1, images)
    return sums, (kernel, patches)


def _correlate_backward(size: int, saved, gradient: jax.Array):
    kernel, patches = saved
    maps, rows, columns, images = gradient.shape
    gradient = gradient.reshape(maps, -1)
    if gradient.shape[1] == 1:  # an outer product melts into the update of the weights
        for_kernel = gradient * patches.T
        for_patches = gradient[:, 0] @ kernel
    else:
        for_kernel = lax.dot_general(gradient, patches, (((1,), (1,)), ((), ())))
        for_patches = _materialize(kernel.T) @ gradient
    return for_kernel, _overlap(for_patches.reshape(-1, size, size, rows, columns, images))


correlate.defvjp(_correlate, _correlate_backward)


def _patches(states: jax.Array, size: int) -> jax.Array:
    """[inputs, H, W, images] -> [inputs size size, windows images], what each window sees."""
    inputs, height, width, images = states.shape
    rows, columns = height - size + 1, width - size + 1
    if rows == columns == 1:
        return states.reshape(-1, images)
    shifted = [states[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
    return jnp.stack(shifted, axis=1).reshape(inputs * size**2, rows * columns * images)


def _overlap(patches: jax.Array) -> jax.Array:
    """The transpose of `_patches`: each pixel collects from every window that saw it."""
    inputs, size, _, rows, columns, images = patches.shape
    if rows == columns == 1:
        return patches.reshape(inputs, size, size, images)
    last = size - 1
    wide: Any = sum(
        jnp.pad(patches[:, :, j], ((0, 0), (0, 0), (0, 0), (j, last - j), (0, 0)))
        for j in range(size)
    )
    states = jnp.zeros((inputs, rows + last, columns + last, images), patches.dtype)
    for i in range(size):  # in place: as a sum it would be computed again by each of its readers
        states = states.at[:, i : i + rows].add(wide[:, i])
    return states


@jax.custom_vjp
def add_four(states: jax.Array) -> jax.Array:
    """The sums over the 2x2 windows: [maps, 2h, 2w, images] -> [maps, h, w, images]."""
    return (
        states[:, 0::2, 0::2]
        + states[:, 1::2, 0::2]
        + states[:, 0::2, 1::2]
        + states[:, 1::2, 1::2]
    )


# Left to itself, jax pads four strided arrays and adds them.
add_four.defvjp(
    lambda states: (add_four(states), None),
    lambda _, gradient: (jnp.repeat(jnp.repeat(gradient, 2, axis=1), 2, axis=2),),
)
