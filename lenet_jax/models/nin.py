"""Network in Network (Lin, Chen and Yan 2014)."""

from typing import ClassVar

import jax
from flax import linen as nn

from lenet_jax.layers.activation import Activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Normal
from lenet_jax.layers.inputs import images_last
from lenet_jax.layers.network import Network, require_dropout, require_widths
from lenet_jax.layers.pooling import GlobalAveragePooling, OverlappingMaxPooling


class NIN(Network):
    """Convolutions with a small network of 1x1 windows behind each, and at the end the mean of a
    map for each class: 349,674 parameters in the authors' form for MNIST.

    Every layer is activated, the last one too. Maxima over 3x3, rounded up, and dropout follow all
    convolutions but the last.
    """

    frame: ClassVar[str] = "centred"

    activation: Activation = "relu"
    size: int = 5
    """size of the convolutions' windows"""
    padding: int = 2
    """border of zeros around what a convolution reads"""
    maps: tuple[int, ...] = (96, 128, 128)
    """of each convolution"""
    first: tuple[int, ...] = (64, 96, 96)
    """of the first 1x1 layer behind each convolution"""
    second: tuple[int, ...] = (48, 48)
    """of the second one; behind the last convolution it has a map for each class"""
    dropout: float = 0.5
    """probability with which a state is left out in training, after each pooling"""

    def __post_init__(self) -> None:
        require_widths("maps", self.maps, 3)
        require_widths("first", self.first, 3)
        require_widths("second", self.second, 2)
        require_dropout(self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        x, states, begin, f = images_last(images), {}, Normal(0.05), self.activation
        widths = zip(self.maps, self.first, (*self.second, self.classes), strict=True)
        for number, (maps, first, second) in enumerate(widths, 1):
            name = f"conv{number}"
            conv = Convolution(maps, self.size, None, begin, f, padding=self.padding, name=name)
            x = states[name] = conv(x)
            last = f"cccp{number}b" if number < len(self.maps) else "output"
            for name, inner in ((f"cccp{number}a", first), (last, second)):
                x = states[name] = Convolution(inner, 1, None, begin, f, name=name)(x)
            if number < len(self.maps):
                name = f"pool{number}"
                x = states[name] = OverlappingMaxPooling(rounded_up=True, name=name)(x)
                x = self.drop(x, self.dropout)
        return self.scores_and_maps(GlobalAveragePooling(name="mean")(x), states)
