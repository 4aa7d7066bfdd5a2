"""The network of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks"."""

from typing import ClassVar

import jax
from flax import linen as nn

from lenet_jax.layers.activation import Activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Normal, Start
from lenet_jax.layers.inputs import DEVIATION, images_last
from lenet_jax.layers.network import Network, require_dropout, require_widths
from lenet_jax.layers.normalization import ResponseNormalization
from lenet_jax.layers.pooling import OverlappingMaxPooling


class ZFNet(Network):
    """Five convolutions and three layers of units for 224x224x3 (ECCV 2014, Fig. 3): 62,357,608
    parameters for 1,000 classes.

    The figure's maps are 110, 55, 26, 13 and 6 pixels wide: that takes a border of one pixel around
    the image, none around the second convolution, and poolings that round up. The wider one of the
    tutorials has the maps 96 256 512 1024 512, and 107,627,624 parameters.
    """

    frame: ClassVar[str] = "224x224"
    normalizes: ClassVar[bool] = True

    activation: Activation = "relu"
    start: Start = "published"
    """"scaled" is AlexNet's"""
    maps: tuple[int, ...] = (96, 256, 384, 384, 256)
    """of each convolution"""
    hidden: tuple[int, ...] = (4096, 4096)
    """units of the two hidden layers"""
    dropout: float = 0.5
    """probability with which a unit of a hidden layer is left out in training"""

    def __post_init__(self) -> None:
        require_widths("maps", self.maps, 5)
        require_widths("hidden", self.hidden, 2)
        require_dropout(self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        published, states, f = self.start == "published", {}, self.activation
        begin = Normal(0.01) if published else "he"
        x = images_last(images if published else images / DEVIATION)
        windows = ((7, 2, 1), (5, 2, 0), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # size, stride, padding
        for number, (maps, (size, stride, padding)) in enumerate(
            zip(self.maps, windows, strict=True), 1
        ):
            name = f"conv{number}"
            conv = Convolution(maps, size, None, begin, f, stride, padding, name=name)
            x = states[name] = conv(x)
            if number in (1, 2, 5):
                pool = OverlappingMaxPooling(rounded_up=True, name=f"pool{number}")
                x = states[f"pool{number}"] = pool(x)
            if number in (1, 2):
                x = ResponseNormalization(name=f"norm{number}")(x)
        for number, units in enumerate(self.hidden, 6):
            dense = Convolution(units, x.shape[1], None, begin, f, name=f"fc{number}")
            x = states[f"fc{number}"] = dense(x)
            x = self.drop(x, self.dropout)
        output = Convolution(self.classes, 1, None, begin, name="output")
        return self.scores_and_maps(output(x), states)
