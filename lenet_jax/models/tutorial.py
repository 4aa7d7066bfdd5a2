"""A LeNet-5 of the tutorials: larger where the paper's is small, and linear from end to end."""

from typing import ClassVar

import jax
from flax import linen as nn

from lenet_jax.layers.activation import Activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Initialization
from lenet_jax.layers.inputs import images_last
from lenet_jax.layers.network import Network
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
        init, f = self.initialization, self.activation
        x, maps = images_last(images), {}
        x = maps["c1"] = Convolution(6, 3, None, init, f, padding=1, name="c1")(x)
        x = maps["s2"] = MaxPooling(name="s2")(x)
        x = maps["c3"] = Convolution(16, 5, None, init, f, name="c3")(x)
        x = maps["s4"] = MaxPooling(name="s4")(x)
        x = maps["c5"] = Convolution(120, 5, None, init, f, name="c5")(x)
        x = maps["f6"] = Convolution(84, 1, None, init, f, name="f6")(x)
        output = Convolution(self.classes, 1, None, init, name="output")
        return self.scores_and_maps(output(x), maps)
