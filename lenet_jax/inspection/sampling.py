"""What a layer that leaves pixels out cannot tell apart."""

from typing import Any

import jax
import numpy as np
from flax import linen as nn

from lenet_jax.layers import contract
from lenet_jax.layers.contract import Shape

RESOLUTION = 64  # of the spectrum, in each direction


def too_fine(kernels: np.ndarray, step: int) -> np.ndarray:
    """The share of each kernel's power whose period is under two steps of its window, [maps].

    kernels: [maps, height, width] or [maps, height, width, channels]. What repeats within fewer
    than two steps looks, sampled at every step, like something coarser (aliasing). Zeiler and
    Fergus (2014, section 4.1) found AlexNet's second layer full of it, and took steps of 2 for 4.
    Of white noise the share is 1 - 1/step^2.
    """
    spectrum = np.abs(np.fft.fft2(kernels, (RESOLUTION, RESOLUTION), axes=(1, 2))) ** 2
    power = spectrum.reshape(*spectrum.shape[:3], -1).sum(axis=3)
    fine = np.abs(np.fft.fftfreq(RESOLUTION)) > 1 / (2 * step)
    total = power.sum(axis=(1, 2))
    share = np.where(fine[:, None] | fine, power, 0).sum(axis=(1, 2))
    return np.divide(share, total, out=np.zeros_like(total), where=total > 0)


def step(module: nn.Module, params: Any, shape: Shape, layer: str) -> int:
    """By how many pixels the window of a convolution of the package moves; 1 for other layers."""
    found = {}

    def note(method, args, kwargs, context):
        found[context.module.name] = getattr(context.module, "stride", 1)
        return method(*args, **kwargs)

    image = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    with nn.intercept_methods(note):
        jax.eval_shape(lambda image: contract.scores(module, params, image), image)
    return found.get(layer, 1)
