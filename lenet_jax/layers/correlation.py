"""How the sums of a convolution are computed, on each platform."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lenet_jax.layers.folding import flat, fold

Correlate = Callable[..., Any]  # of a kernel, states and a size; pyright has no type for custom_vjp


def correlate(
    kernel: jax.Array, states: jax.Array, size: int, stride: int = 1, groups: int = 1
) -> jax.Array:
    """Each map's window of size x size slid over the states by `stride` pixels, no padding.

    kernel [maps, inputs/groups size size] and states [inputs, height, width, images] give
    [maps, (height - size) // stride + 1, (width - size) // stride + 1, images]; each of the groups
    of maps reads its own group of inputs. On a CPU it is patches x matrix, because XLA's
    convolution inside a loop takes a slow path there.
    Raises ValueError where the window does not fit.
    """
    inputs, height, width, _ = states.shape
    if kernel.shape[1] * groups != inputs * size**2 or min(height, width) < size:
        raise ValueError(
            f"a kernel of {kernel.shape[1]} weights per map, {size}x{size} each, does not fit "
            f"{inputs} maps of {height}x{width}"
        )

    def on_cpu(kernel: jax.Array, states: jax.Array) -> jax.Array:
        # The windows end where the states do: `_overlap` makes states of just that size.
        down, right = ((n - size) // stride * stride + size for n in (height, width))
        parts = zip(
            jnp.split(kernel, groups), jnp.split(states[:, :down, :right], groups), strict=True
        )
        sums: list[Any] = [_slide(part, of, size, 1, stride) for part, of in parts]
        return sums[0] if groups == 1 else jnp.concatenate(sums)

    return _by_platform(
        kernel, states, on_cpu, partial(convolve, size=size, stride=stride, groups=groups)
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
    if not outweighed or min(rows, columns) < 2:
        return fold(correlate(kernel, states, size))
    return _by_platform(
        kernel,
        states,
        lambda kernel, states: _slide_folded(kernel, states, size),
        lambda kernel, states: fold(convolve(kernel, states, size)),
    )


def _by_platform(
    kernel: jax.Array, states: jax.Array, on_cpu: Correlate, elsewhere: Correlate
) -> jax.Array:
    """Decided when a program is compiled, so that an exported one can hold both."""
    dtype = jnp.result_type(kernel, states)  # XLA's convolution takes no two
    return lax.platform_dependent(
        kernel.astype(dtype), states.astype(dtype), cpu=on_cpu, default=elsewhere
    )


def convolve(
    kernel: jax.Array,
    states: jax.Array,
    size: int,
    stride: int = 1,
    groups: int = 1,
    precision: lax.Precision | None = None,
) -> jax.Array:
    """`correlate` as XLA's convolution."""
    return lax.conv_general_dilated(
        states,
        kernel.reshape(len(kernel), -1, size, size),
        window_strides=(stride, stride),
        padding="VALID",
        dimension_numbers=("CHWN", "OIHW", "CHWN"),
        feature_group_count=groups,
        precision=precision,
        preferred_element_type=_sums(kernel.dtype),
    )


def _slide_folded(kernel: jax.Array, states: jax.Array, size: int) -> jax.Array:
    inputs, height, width, images = states.shape
    rows, columns = height - size + 1, width - size + 1
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _slide(kernel: jax.Array, states: jax.Array, size: int, side: int = 1, stride: int = 1) -> Any:
    """Patches x matrix: kernel [maps, inputs side side size size] and states [inputs, height,
    width, images] give [maps, rows, columns, images].

    The window moves over blocks of side x side pixels, `side` 2 for folded blocks, by `stride`.
    """
    return _slide_forward(kernel, states, size, side, stride)[0]


def _slide_forward(kernel: jax.Array, states: jax.Array, size: int, side: int, stride: int):
    rows, columns = ((n // side - size) // stride + 1 for n in states.shape[1:3])
    patches = _patches(states, size, side, stride)
    sums = jnp.matmul(kernel, patches, preferred_element_type=_sums(kernel.dtype))
    return sums.reshape(-1, rows, columns, states.shape[-1]), (kernel, patches)


def _sums(factors: Any) -> Any:
    """The type that products are added up in: no less than float32."""
    return jnp.promote_types(factors, jnp.float32)


def _slide_backward(size: int, side: int, stride: int, saved, gradient: jax.Array):
    kernel, patches = saved
    maps, rows, columns, images = gradient.shape
    gradient = gradient.reshape(maps, -1).astype(kernel.dtype)
    if gradient.shape[1] == 1:  # an outer product melts into the update of the weights
        for_kernel = gradient * patches.T
        for_patches = gradient[:, 0] @ kernel
    else:
        into = _sums(kernel.dtype)
        for_kernel = lax.dot_general(
            patches, gradient, (((1,), (1,)), ((), ())), preferred_element_type=into
        ).T.astype(kernel.dtype)
        if rows == columns == 1:  # faster so, but XLA would turn it back again
            for_patches = lax.optimization_barrier(gradient.T @ kernel).T
        else:
            for_patches = lax.dot_general(kernel, gradient, (((0,), (0,)), ((), ())))
    shape = (-1, side, side, size, size, rows, columns, images)
    return for_kernel, _overlap(for_patches.reshape(shape), stride)


_slide.defvjp(_slide_forward, _slide_backward)


def _patches(states: jax.Array, size: int, side: int, stride: int) -> jax.Array:
    """[inputs, height, width, images] -> [inputs side side size size, windows images]."""
    inputs, height, width, images = states.shape
    rows, columns = ((n // side - size) // stride + 1 for n in (height, width))
    if rows == columns == side == 1:
        return states.reshape(-1, images)
    folded = fold(states) if side == 2 else states[None]
    down, right = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    # First beside one another, then below: two stacks of `size` are faster than one of its square.
    beside = jnp.stack([folded[:, :, :, j : j + right : stride] for j in range(size)], 2)
    shifted = [beside[:, :, :, i : i + down : stride].swapaxes(0, 1) for i in range(size)]
    return jnp.stack(shifted, 2).reshape(-1, rows * columns * images)


def _overlap(patches: jax.Array, stride: int) -> jax.Array:
    """The transpose of `_patches`: each pixel collects from every window that saw it."""
    inputs, side, _, size, _, rows, columns, images = patches.shape
    if rows == columns == side == 1:
        return patches.reshape(inputs, size, size, images)
    last = size - 1
    down, right = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    wide: Any = sum(
        lax.pad(
            patches[:, :, :, :, j],
            jnp.zeros((), patches.dtype),
            ((0, 0, 0),) * 5 + ((j, last - j, stride - 1), (0, 0, 0)),
        )
        for j in range(size)
    )
    # Pixels go to their places here and not in the end: the many readers of the result would each
    # look them up again.
    wide = wide.transpose(0, 3, 4, 1, 5, 2, 6)  # inputs, i, rows, down, columns, right, images
    shape = (inputs, down + last, side, right + last, side, images)
    states = jnp.zeros(shape, patches.dtype)
    for i in range(size):  # in place: as a sum it would be computed again by each of its readers
        states = states.at[:, i : i + down : stride].add(wide[:, i])
    return states.reshape(inputs, side * (down + last), side * (right + last), images)


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
