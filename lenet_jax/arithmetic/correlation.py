"""How the sums of a convolution are computed, on each platform."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lenet_jax.arithmetic.folding import flat

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
        sums: list[Any] = [_slide(part, of, size, stride) for part, of in parts]
        return sums[0] if groups == 1 else jnp.concatenate(sums)

    return _by_platform(
        kernel, states, on_cpu, partial(convolve, size=size, stride=stride, groups=groups)
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _slide(kernel: jax.Array, states: jax.Array, size: int, stride: int = 1) -> Any:
    """Patches x matrix: kernel [maps, inputs size size] and states [inputs, height, width, images]
    give [maps, rows, columns, images].
    """
    return _slide_forward(kernel, states, size, stride)[0]


def _slide_forward(kernel: jax.Array, states: jax.Array, size: int, stride: int):
    rows, columns = ((n - size) // stride + 1 for n in states.shape[1:3])
    patches = _patches(states, size, stride)
    sums = jnp.matmul(kernel, patches, preferred_element_type=_sums(kernel.dtype))
    return sums.reshape(-1, rows, columns, states.shape[-1]), (kernel, patches)


def _sums(factors: Any) -> Any:
    """The type that products are added up in: no less than float32."""
    return jnp.promote_types(factors, jnp.float32)


def _slide_backward(size: int, stride: int, saved, gradient: jax.Array):
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
    return for_kernel, _overlap(for_patches.reshape(-1, size, size, rows, columns, images), stride)


_slide.defvjp(_slide_forward, _slide_backward)


def _patches(states: jax.Array, size: int, stride: int) -> jax.Array:
    """[inputs, height, width, images] -> [inputs size size, windows images]."""
    inputs, height, width, images = states.shape
    rows, columns = ((n - size) // stride + 1 for n in (height, width))
    if rows == columns == 1:
        return states.reshape(-1, images)
    down, right = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    # First beside one another, then below: two stacks of `size` are faster than one of its square.
    beside = jnp.stack([states[:, :, j : j + right : stride] for j in range(size)], 1)
    below = jnp.stack([beside[:, :, i : i + down : stride] for i in range(size)], 1)
    return below.reshape(-1, rows * columns * images)


def _overlap(patches: jax.Array, stride: int) -> jax.Array:
    """The transpose of `_patches`: each pixel collects from every window that saw it."""
    inputs, size, _, rows, columns, images = patches.shape
    if rows == columns == 1:
        return patches.reshape(inputs, size, size, images)
    last = size - 1
    down, right = stride * (rows - 1) + 1, stride * (columns - 1) + 1
    wide: Any = sum(
        lax.pad(
            patches[:, :, j],
            jnp.zeros((), patches.dtype),
            ((0, 0, 0),) * 3 + ((j, last - j, stride - 1), (0, 0, 0)),
        )
        for j in range(size)
    )
    states = jnp.zeros((inputs, down + last, right + last, images), patches.dtype)
    for i in range(size):  # in place: as a sum it would be computed again by each of its readers
        states = states.at[:, i : i + down : stride].add(wide[:, i])
    return states


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
