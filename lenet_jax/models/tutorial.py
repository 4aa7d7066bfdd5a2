"""A LeNet-5 of the tutorials: larger where the paper's is small, and linear from end to end."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.folding import images_last, unfold
from lenet_jax.layers.initialization import Initialization
from lenet_jax.layers.network import Activation, Network
from lenet_jax.layers.pooling import MaxPooling


class Tutorial(Network):
    """Six maps by 3x3 windows with a border of 1, sixteen by 5x5, maxima over 2x2 after each, then
    120, 84 and 10 units: 61,610 parameters. With the activation "none" nothing but the maxima keeps
    it from being one matrix.
    """

    frame: ClassVar[str] = "unit"

    activation: Activation = "none"
    initialization: Initialization = "uniform"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init = self.initialization
        x = jnp.pad(images_last(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
        maps = {}
        sums = Convolution(6, 3, initialization=init, folded=True, name="c1")(x)
        maps["c1"] = self.activate(unfold(sums))
        x = maps["s2"] = self.activate(MaxPooling(name="s2")(sums))
        sums = Convolution(16, 5, initialization=init, folded=True, name="c3")(x)
        maps["c3"] = self.activate(unfold(sums))
        x = maps["s4"] = self.activate(MaxPooling(name="s4")(sums))
        x = maps["c5"] = self.activate(Convolution(120, initialization=init, name="c5")(x))
        x = maps["f6"] = self.activate(Convolution(84, size=1, initialization=init, name="f6")(x))
        return self.scores_and_maps(
            Convolution(self.classes, size=1, initialization=init, name="output")(x), maps
        )
