"""Saliency (Simonyan, Vedaldi and Zisserman 2014): the pixels that matter most to a prediction."""

from functools import partial
from typing import Any

import jax

from lenet_jax.layers.contract import run, shown
from lenet_jax.layers.network import Network


@partial(jax.jit, static_argnums=0)
def gradient(module: Network, params: Any, image: Any) -> jax.Array:
    """The gradient of the winning score with respect to the network's input, float32 [32, 32].

    image: uint8 [28, 28]. Positive where more ink would make the prediction surer.
    """

    def winning(inputs: jax.Array) -> jax.Array:
        return run(module, {"params": params}, inputs[None])[0].max()

    return jax.grad(winning)(shown(module, image[None])[0])
