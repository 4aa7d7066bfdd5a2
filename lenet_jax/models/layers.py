"""The layers of the paper (section II), written once for the CPU, the GPU and the TPU.

States run through the layers as float32 [maps, height, width, images]: with the images innermost
every weighted sum is one matrix product, weights x states, over contiguous memory.

Each layer forms its weighted sums in a method `weigh(weights, states)`, linear in both arguments,
takes a fixed share of states in a method `scale(factor, states)`, and each network squashes in a
method `squash(sums)`. `training/curvature.py` puts appendix C's second backward pass in the place
of these three (and of `RBF.distances`), so a layer written this way has its curvature for nothing.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import lax

from lenet_jax.models.codes import codes

Initialization = Literal["lush", "printed", "uniform", "nielsen", "zeros"]
Squashing = Literal["scaled-tanh", "tanh", "sigmoid", "relu", "none"]

# v of the authors' rule, 1 in their code, and where the subsampling coefficients start, 0.5 there.
# Chosen on held-out patterns among those whose first pass has step sizes that span what section
# III-B reports (PAPER.md).
LUSH_V = 1.3
LUSH_COEFFICIENT = 0.45


def scaled_tanh(sums: jax.Array) -> jax.Array:
    """f(a) = 1.7159 tanh(2a/3), so that f(1) = 1 and f(-1) = -1 (eq. 6, appendix A)."""
    return 1.7159 * jnp.tanh(sums * (2 / 3))


SQUASHINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "scaled-tanh": scaled_tanh,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "none": lambda sums: sums,
}


class Network(nn.Module):
    """What every network of the package is.

    Takes images as `data.normalize` makes them for its `frame`. Returns (scores, maps). Scores
    are float32 [images, classes], higher is better; a convolutional network gives larger images a
    score for each position of its window, [images, height, width, classes] (section VII). Maps
    holds its layers' states by the paper's names, each [images, maps, height, width].
    """

    frame: ClassVar[str] = "32x32"

    squashing: Squashing = "scaled-tanh"

    def squash(self, sums: jax.Array) -> jax.Array:
        return SQUASHINGS[self.squashing](flat(sums)).reshape(sums.shape)

    def answer(
        self, outputs: jax.Array, maps: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scores, maps) with the images first again."""
        scores = jnp.transpose(outputs, (3, 1, 2, 0))
        if scores.shape[1:3] == (1, 1):
            scores = scores[:, 0, 0]
        return scores, {name: jnp.moveaxis(state, -1, 0) for name, state in maps.items()}


def connected(network: Network, params: Any, images: jax.Array) -> Any:
    """The parameters, with zeros where a table has no connection.

    They weigh nothing, but an optimizer may have moved them: the orthogonal steps of Muon have no
    zeros. `images` are as the network takes them; only their shape matters.
    """
    found: dict[Any, np.ndarray] = {}

    def note(method, args, kwargs, context):
        if context.method_name == "weigh" and isinstance(layer := context.module, Convolution):
            if layer.table is not None:
                found[(*layer.path, "kernel")] = layer.mask(args[1].shape[0])
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(network.apply, {"params": params}, images)
    return traverse_util.path_aware_map(
        lambda path, leaf: leaf * found[path] if path in found else leaf, params
    )


def images_last(images: jax.Array) -> jax.Array:
    """[images, height, width] -> [1, height, width, images], as states run through the layers."""
    return jnp.moveaxis(images, 0, -1)[None]


def uniform(bound: np.ndarray | float) -> nn.initializers.Initializer:
    """Uniform between minus and plus `bound`, a number or an array that broadcasts."""

    def init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(bound, dtype)

    return init


def initializers(
    rule: Initialization, fan_in: np.ndarray | float, fan_out: float
) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """How weights and biases of units with `fan_in` inputs begin; `fan_out` is Nielsen's n_out.

    "printed" is the paper's rule, uniform in +-2.4/Fi, biases too (appendix A). "lush" is what the
    authors' own code does, uniform in +-v/sqrt(Fi), biases zero, and the default: with the printed
    rule F6 starts within 0.003 of zero, a saddle of the loss, and the step sizes of the first pass
    are not those that section III-B reports; with the other they are. "uniform" is +-1/sqrt(Fi),
    biases too, what PyTorch does unasked. "nielsen" is normal, of variance 1/n_out and for biases
    1 (his network3.py, where n_out is a layer's units, or a quarter of its maps' weights for one
    input). "zeros" needs no comment.
    """
    match rule:
        case "printed":
            return uniform(2.4 / fan_in), uniform(2.4 / np.ravel(fan_in))
        case "lush":
            return uniform(LUSH_V / np.sqrt(fan_in)), nn.initializers.zeros
        case "uniform":
            return uniform(1 / np.sqrt(fan_in)), uniform(1 / np.sqrt(np.ravel(fan_in)))
        case "nielsen":
            return nn.initializers.normal(fan_out**-0.5), nn.initializers.normal(1.0)
        case "zeros":
            return nn.initializers.zeros, nn.initializers.zeros


class Convolution(nn.Module):
    """Feature maps that each look at a square window of some of the maps before (section II-A).

    Fields: the number of `maps`, the window's `size`, and for each map the inputs it reads
    (`table`, as in Table I; None: all of them). `kernel` is [maps, inputs size size], a row for
    each map (XLA updates a matrix of rows faster than four dimensions), and `bias` [maps]. Entries
    of the kernel outside the table are no connections: multiplied by zero on the way in, zero
    gradient. A window of size 1 on maps of size 1 is a fully connected layer.
    With `folded` the sums come as subsampling takes them, [4, maps, h/2, w/2, images] (`fold`).
    """

    maps: int
    size: int = 5
    table: tuple[tuple[int, ...], ...] | None = None
    initialization: Initialization = "lush"
    folded: bool = False

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
        whole = self.size == states.shape[1]  # a fully connected layer
        fan_out = self.maps if whole else self.maps * self.size**2 // 4
        draw, draw_bias = initializers(self.initialization, fan_in, fan_out)
        kernel = self.param("kernel", lambda key, shape: draw(key, shape) * mask, mask.shape)
        bias = self.param("bias", draw_bias, (self.maps,))
        return add_bias(self.weigh(kernel, states), bias)

    def weigh(self, kernel: jax.Array, states: jax.Array) -> jax.Array:
        if self.table is not None:
            kernel = kernel * self.mask(states.shape[0])
        return (correlate_folded if self.folded else correlate)(kernel, states, self.size)


class Subsampling(nn.Module):
    """Half the resolution: the four inputs of a 2x2 window are added, times one coefficient per
    map, plus one bias per map (section II-B). States may come folded; else an odd last row or
    column is left out.

    `coefficient` and `bias` are [maps]. The coefficient weighs the sum of the four, as one
    connection; `optimizers.scale_by_sdlm` says what follows for its curvature.
    """

    initialization: Initialization = "lush"

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        maps = folded.shape[1]
        start, start_bias = initializers(self.initialization, 4.0, 1.0)
        if self.initialization == "lush":  # all alike and positive: their code draws no signs here
            start = nn.initializers.constant(LUSH_COEFFICIENT)
        coefficient = self.param("coefficient", start, (maps,))
        bias = self.param("bias", start_bias, (maps,))
        sums = self.weigh(coefficient, add_four(flat(folded))) + bias[:, None]
        return sums.reshape(folded.shape[1:])

    def weigh(self, coefficient: jax.Array, sums: jax.Array) -> jax.Array:
        return coefficient[:, None] * sums


class AveragePooling(nn.Module):
    """Half the resolution: the means over 2x2 windows. States may come folded."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        return self.scale(1 / 4, add_four(folded))

    def scale(self, factor: float, states: jax.Array) -> jax.Array:
        return factor * states


class MaxPooling(nn.Module):
    """Half the resolution: the largest of each 2x2 window. States may come folded."""

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        folded = states if states.ndim == 5 else fold(states)
        return largest_of_four(flat(folded)).reshape(folded.shape[1:])


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

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        start = np.asarray(codes() if self.code_table is None else self.code_table, np.float32)
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


def fold(states: jax.Array) -> jax.Array:
    """The four pixels of each 2x2 block as four arrays: [maps, 2h, 2w, images] -> [4, maps, h, w,
    images], top left, top right, bottom left, bottom right. An odd last row or column is left out.
    """
    maps, height, width, images = states.shape
    h, w = height // 2, width // 2
    blocks = states[:, : 2 * h, : 2 * w].reshape(maps, h, 2, w, 2, images)
    return blocks.transpose(2, 4, 0, 1, 3, 5).reshape(4, maps, h, w, images)


def unfold(folded: jax.Array) -> jax.Array:
    """The inverse of `fold`: [4, maps, h, w, images] -> [maps, 2h, 2w, images]."""
    _, maps, h, w, images = folded.shape
    blocks = folded.reshape(2, 2, maps, h, w, images).transpose(2, 3, 0, 4, 1, 5)
    return blocks.reshape(maps, 2 * h, 2 * w, images)


def flat(states: jax.Array) -> jax.Array:
    """[..., height, width, images] -> [..., height width images].

    XLA's CPU vectorises the last axis only, and only where it is long.
    """
    return states.reshape(*states.shape[:-3], -1)


def correlate(kernel: jax.Array, states: jax.Array, size: int) -> jax.Array:
    """Each map's window of size x size slid over the states, no padding, stride 1.

    kernel [maps, inputs size size] and states [inputs, height, width, images] give
    [maps, height - size + 1, width - size + 1, images]. On a CPU it is patches x matrix, because
    XLA's convolution inside a loop takes a slow path there.
    Raises ValueError where the window does not fit.
    """
    inputs, height, width, _ = states.shape
    if kernel.shape[1] != inputs * size**2 or min(height, width) < size:
        raise ValueError(
            f"a kernel of {kernel.shape[1]} weights per map, {size}x{size} each, does not fit "
            f"{inputs} maps of {height}x{width}"
        )
    if jax.default_backend() == "cpu":
        return _slide(kernel, states, size)
    return lax.conv_general_dilated(
        states,
        kernel.reshape(-1, inputs, size, size),
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("CHWN", "OIHW", "CHWN"),
    )


def correlate_folded(kernel: jax.Array, states: jax.Array, size: int) -> jax.Array:
    """`fold(correlate(kernel, states, size))`, on a CPU without strides through the memory.

    On folded states a window of size x size that moves in single steps is four windows of
    n x n x 4, n = size // 2 + 1, that move together in steps of two: four times the rows in the
    matrix, (2n)^2/size^2 = 1.44 times the multiplications, a quarter of the columns in the
    patches, and products of a shape that the hardware likes. That pays once the states outweigh
    the wider kernel.
    """
    inputs, height, width, images = states.shape
    rows, columns = height - size + 1, width - size + 1
    outweighed = inputs * 4 * (size // 2 + 1) ** 2 <= rows * columns * images
    if jax.default_backend() != "cpu" or not outweighed or min(rows, columns) < 2:
        return fold(correlate(kernel, states, size))
    maps, n = len(kernel), size // 2 + 1
    wide = (kernel.reshape(-1, size**2) @ _places(size)).reshape(maps, inputs, 4, -1)
    wide = wide.transpose(2, 0, 1, 3).reshape(4 * maps, -1)
    last = size - 1
    even = states[:, : rows // 2 * 2 + last, : columns // 2 * 2 + last]
    sums: Any = _slide(wide, even, n, 2)
    return sums.reshape(4, maps, rows // 2, columns // 2, images)


def _places(size: int) -> np.ndarray:
    """Where a window's weights go in a window of n x n folded blocks, for its four positions.

    float32 [size size, 4 4 n n], 0 or 1, n = size // 2 + 1.
    """
    n = size // 2 + 1
    places = np.zeros((2, 2, size, size, 2, 2, n, n), np.float32)
    for down, right, i, j in np.ndindex(2, 2, size, size):
        row, column = i + down, j + right
        places[down, right, i, j, row % 2, column % 2, row // 2, column // 2] = 1
    return places.reshape(4, size**2, -1).swapaxes(0, 1).reshape(size**2, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _slide(kernel: jax.Array, states: jax.Array, size: int, side: int = 1) -> Any:
    """Patches x matrix: kernel [maps, inputs side side size size] and states [inputs, height,
    width, images] give [maps, rows, columns, images].

    The window moves over blocks of side x side pixels, `side` 2 for folded blocks.
    """
    return _slide_forward(kernel, states, size, side)[0]


def _slide_forward(kernel: jax.Array, states: jax.Array, size: int, side: int):
    rows, columns = states.shape[1] // side - size + 1, states.shape[2] // side - size + 1
    patches = _patches(states, size, side)
    sums = (kernel @ patches).reshape(-1, rows, columns, states.shape[-1])
    return sums, (kernel, patches)


def _slide_backward(size: int, side: int, saved, gradient: jax.Array):
    kernel, patches = saved
    maps, rows, columns, images = gradient.shape
    gradient = gradient.reshape(maps, -1)
    if gradient.shape[1] == 1:  # an outer product melts into the update of the weights
        for_kernel = gradient * patches.T
        for_patches = gradient[:, 0] @ kernel
    else:
        for_kernel = lax.dot_general(patches, gradient, (((1,), (1,)), ((), ()))).T
        if rows == columns == 1:  # faster so, but XLA would turn it back again
            for_patches = lax.optimization_barrier(gradient.T @ kernel).T
        else:
            for_patches = lax.dot_general(kernel, gradient, (((0,), (0,)), ((), ())))
    shape = (-1, side, side, size, size, rows, columns, images)
    return for_kernel, _overlap(for_patches.reshape(shape))


_slide.defvjp(_slide_forward, _slide_backward)


def _patches(states: jax.Array, size: int, side: int) -> jax.Array:
    """[inputs, height, width, images] -> [inputs side side size size, windows images]."""
    inputs, height, width, images = states.shape
    rows, columns = height // side - size + 1, width // side - size + 1
    if rows == columns == side == 1:
        return states.reshape(-1, images)
    folded = fold(states) if side == 2 else states[None]
    shifted = [
        folded[:, :, i : i + rows, j : j + columns] for i in range(size) for j in range(size)
    ]
    return jnp.stack([s.swapaxes(0, 1) for s in shifted], 2).reshape(-1, rows * columns * images)


def _overlap(patches: jax.Array) -> jax.Array:
    """The transpose of `_patches`: each pixel collects from every window that saw it."""
    inputs, side, _, size, _, rows, columns, images = patches.shape
    if rows == columns == side == 1:
        return patches.reshape(inputs, size, size, images)
    last = size - 1
    wide: Any = sum(
        jnp.pad(patches[:, :, :, :, j], ((0, 0),) * 5 + ((j, last - j), (0, 0)))
        for j in range(size)
    )
    # Pixels go to their places here and not in the end: the many readers of the result would each
    # look them up again.
    wide = wide.transpose(0, 3, 4, 1, 5, 2, 6)  # inputs, i, rows, down, columns, right, images
    shape = (inputs, rows + last, side, columns + last, side, images)
    states = jnp.zeros(shape, patches.dtype)
    for i in range(size):  # in place: as a sum it would be computed again by each of its readers
        states = states.at[:, i : i + rows].add(wide[:, i])
    return states.reshape(inputs, side * (rows + last), side * (columns + last), images)


@jax.custom_vjp
def add_bias(sums: jax.Array, bias: jax.Array) -> jax.Array:
    """One bias for each map: sums [..., maps, height, width, images], bias [maps]."""
    return (flat(sums) + bias.reshape((1,) * (sums.ndim - 4) + (-1, 1))).reshape(sums.shape)


def _add_bias_backward(_, gradient: jax.Array):
    # Of the same rows as `_slide_backward` takes, or XLA works out the gradient for each anew.
    maps = gradient.shape[-4]
    rows = flat(gradient).reshape(-1, math.prod(gradient.shape[-3:]))
    return gradient, (rows @ jnp.ones((rows.shape[1], 1), rows.dtype)).reshape(-1, maps).sum(0)


add_bias.defvjp(lambda sums, bias: (add_bias(sums, bias), None), _add_bias_backward)


@jax.custom_vjp
def add_four(folded: jax.Array) -> jax.Array:
    """The sums over 2x2 blocks: [4, ...] -> [...]. As a reduction it is slow on XLA's CPU."""
    return folded[0] + folded[1] + folded[2] + folded[3]


# Left to itself, jax pads four arrays and adds them.
add_four.defvjp(
    lambda folded: (add_four(folded), None),
    lambda _, gradient: (jnp.broadcast_to(gradient, (4, *gradient.shape)),),
)


@jax.custom_vjp
def largest_of_four(folded: jax.Array) -> jax.Array:
    """The maxima over 2x2 blocks: [4, ...] -> [...]. Equal ones share the gradient."""
    return jnp.maximum(jnp.maximum(folded[0], folded[1]), jnp.maximum(folded[2], folded[3]))


def _largest_backward(saved, gradient: jax.Array):
    folded, largest = saved
    hit = (folded == largest[None]).astype(gradient.dtype)
    return (hit * (gradient / add_four(hit))[None],)


def _largest_forward(folded: jax.Array):
    largest = largest_of_four(folded)
    return largest, (folded, largest)


# Left to itself, jax pads here too.
largest_of_four.defvjp(_largest_forward, _largest_backward)
