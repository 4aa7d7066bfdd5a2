"""Saliency (Simonyan, Vedaldi and Zisserman 2014): the pixels that matter most to a prediction."""

from functools import partial
from typing import Any

import jax
from flax import linen as nn

from lenet_jax.layers.contract import run, shown


@partial(jax.jit, static_argnums=0)
def gradient(module: nn.Module, params: Any, image: Any) -> jax.Array:
    """The gradient of the winning score with respect to the network's input, float32, as large as
    that is: [32, 32] of a digit.

    image: uint8, [height, width] or with channels. Positive where more ink, or more of a colour,
    would make the prediction surer.
    """

    def winning(inputs: jax.Array) -> jax.Array:
        return run(module, {"params": params}, inputs[None])[0].max()

    return jax.grad(winning)(shown(module, image[None])[0])
