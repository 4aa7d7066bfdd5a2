"""The layers of kernels.cc as functions of jax, with their gradients."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from lenet_jax.layers.activation import Activation

ACTIVATIONS: tuple[Activation, ...] = "none", "relu", "tanh", "scaled-tanh", "sigmoid"  # kernels.cc


@dataclass(frozen=True)
class Convolved:
    """How a layer of convolutions reads; `table` has a row of 0 and 1 for each map, or is None."""

    size: int
    stride: int
    padding: int
    groups: int
    activation: Activation
    table: tuple[tuple[int, ...], ...] | None

    @property
    def attributes(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("size", "stride", "padding", "groups")}
        return {name: np.int64(number) for name, number in numbers.items()} | {
            "activation": _number(self.activation),
            "table": np.array(self.table or (), np.int32).ravel(),
        }


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(how: Convolved, kernel: jax.Array, bias: jax.Array, states: jax.Array) -> Any:
    """`Convolution.units`: kernel [maps, inputs/groups size size], bias [maps] and states [inputs,
    height, width, images] give [maps, rows, columns, images], float32.
    """
    height, width = ((n + 2 * how.padding - how.size) // how.stride + 1 for n in states.shape[1:3])
    out = _like((len(kernel), height, width, states.shape[3]))
    return _call("LenetConvolve", out, (kernel, bias, states), how.attributes)


def _convolve_forward(how: Convolved, kernel: Any, bias: Any, states: Any):
    """Each argument has its value and whether anybody asks for its gradient."""
    out = convolve(how, kernel.value, bias.value, states.value)
    asked = () if states.perturbed else None
    return out, (kernel.value, states.value, out, asked)


def _convolve_backward(how: Convolved, saved, gradient: Any):
    kernel, states, out, asked = saved
    given = kernel, states, out, _whole(gradient, out)
    of_kernel = _like(kernel.shape), _like(kernel.shape[:1])
    if asked is None:
        return *_call("LenetConvolveBackFirst", of_kernel, given, how.attributes), None
    return _call("LenetConvolveBack", (*of_kernel, _like(states.shape)), given, how.attributes)


convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def subsample(
    activation: Activation, coefficient: jax.Array, bias: jax.Array, states: jax.Array
) -> Any:
    """`Subsampling.units`: coefficient and bias [maps]; states [maps, h, w, images], float32."""
    maps, height, width, images = states.shape
    out = _like((maps, height // 2, width // 2, images))
    attributes = {"activation": _number(activation)}
    return _call("LenetSubsample", out, (coefficient, bias, states), attributes)


def _subsample_forward(activation: Activation, coefficient, bias, states):
    out = subsample(activation, coefficient, bias, states)
    return out, (coefficient, states, out)


def _subsample_backward(activation: Activation, saved, gradient: jax.Array):
    coefficient, states, _ = saved
    shapes = _like(coefficient.shape), _like(coefficient.shape), _like(states.shape)
    attributes = {"activation": _number(activation)}
    return _call("LenetSubsampleBack", shapes, (*saved, gradient), attributes)


subsample.defvjp(_subsample_forward, _subsample_backward)


def sample(image: jax.Array, places: jax.Array) -> Any:
    """`data.distort.sample`; under vmap all images in one call."""
    out = _like(places.shape[1:])
    return jax.ffi.ffi_call("LenetSample", out, vmap_method="broadcast_all")(image, places)


def _call(name: str, out: Any, given: tuple[jax.Array, ...], attributes: dict[str, Any]) -> Any:
    return jax.ffi.ffi_call(name, out, vmap_method="sequential")(*given, **attributes)


def _like(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _whole(gradient: Any, out: jax.Array) -> jax.Array:
    return jnp.zeros_like(out) if isinstance(gradient, SymbolicZero) else gradient


def _number(activation: Activation) -> np.int64:
    return np.int64(ACTIVATIONS.index(activation))
