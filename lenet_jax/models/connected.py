"""The fully connected networks of section III-C.5 and 6."""

from typing import ClassVar

import jax
from flax import linen as nn

from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Initialization
from lenet_jax.layers.inputs import images_last
from lenet_jax.layers.network import Network, Outputs, require_widths


class FullyConnected(Network):
    """28x28 pixels, one layer of `hidden` units after the other, ten activated sums.

    A layer is a convolution whose window is all there is.
    """

    frame: ClassVar[str] = "28x28"

    hidden: tuple[int, ...] = (300,)
    """units of each hidden layer"""
    initialization: Initialization = "lush"

    def __post_init__(self) -> None:
        require_widths("hidden", self.hidden)
        super().__post_init__()

    @property
    def outputs(self) -> Outputs:
        return "activations"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init, f = self.initialization, self.activation
        x, maps = images_last(images), {}
        for number, units in enumerate(self.hidden, 1):
            name = f"h{number}"
            x = maps[name] = Convolution(units, x.shape[1], None, init, f, name=name)(x)
        output = Convolution(self.classes, x.shape[1], None, init, f, name="output")
        return self.scores_and_maps(output(x), maps)
