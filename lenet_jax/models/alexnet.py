"""AlexNet (Krizhevsky, Sutskever and Hinton 2012), in the paper's reading or its files'."""

from typing import ClassVar, Literal

import jax
from flax import linen as nn

from lenet_jax.errors import UserError
from lenet_jax.layers.activation import Activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Normal, Start
from lenet_jax.layers.inputs import DEVIATION, images_last
from lenet_jax.layers.network import Network, require_dropout, require_widths
from lenet_jax.layers.normalization import ResponseNormalization, WithinMapNormalization
from lenet_jax.layers.pooling import OverlappingMaxPooling


class AlexNet(Network):
    """Five convolutions and three layers of units for 227x227x3: 60,965,224 parameters for 1,000
    classes; 62,378,344 without groups.

    The text's 224 pixels do not fit its 55x55 units. Two `reading`s: the "paper" and the "files"
    that its authors released, which draw conv3 to conv5 wider, normalize within a group, by the
    mean of the squares and before the first activation, and once more within each map (PAPER.md).
    """

    frame: ClassVar[str] = "227x227"
    normalizes: ClassVar[bool] = True

    activation: Activation = "relu"
    reading: Literal["paper", "files"] = "paper"
    """where they disagree: the published text, or the configuration files of 2012"""
    start: Start = "published"
    """"scaled", for short runs, draws kernels as wide as their inputs allow (He et al. 2015) with
    biases of 0, and measures pixels in their deviation"""
    maps: tuple[int, ...] = (96, 256, 384, 384, 256)
    """of each convolution"""
    hidden: tuple[int, ...] = (4096, 4096)
    """units of the two hidden layers"""
    groups: int = 2
    """conv2, conv4 and conv5 read only the maps of their own group"""
    dropout: float = 0.5
    """probability with which a unit of a hidden layer is left out in training"""

    def __post_init__(self) -> None:
        require_widths("maps", self.maps, 5)
        require_widths("hidden", self.hidden, 2)
        require_dropout(self.dropout)
        if self.groups < 1 or any(maps % self.groups for maps in self.maps):
            raise UserError(
                f"--model.groups is {self.groups}, allowed is what divides each of --model.maps, "
                f"{' '.join(map(str, self.maps))} (for example: 1)"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        files, (one, two, three, four, five) = self.reading == "files", self.maps
        narrow, wide = 0.01, 0.03 if files else 0.01
        states = {}

        def pool(x: jax.Array, name: str) -> jax.Array:
            return OverlappingMaxPooling(name=name)(x)

        def normalize(x: jax.Array, name: str) -> jax.Array:
            if files:
                return ResponseNormalization(alpha=1e-4 / 5, groups=self.groups, name=name)(x)
            return ResponseNormalization(name=name)(x)

        def conv(maps, size, deviation, bias, name, active=True, **more) -> Convolution:
            begin = Normal(deviation, bias) if self.start == "published" else "he"
            f = self.activation if active else "none"
            return Convolution(maps, size, None, begin, f, name=name, **more)

        x = images_last(images if self.start == "published" else images / DEVIATION)
        if files:
            x = conv(one, 11, narrow, 0, "conv1", active=False, stride=4)(x)
            states["conv1"] = self.activate(x)
            x = self.activate(pool(normalize(x, "norm1"), "pool1"))
        else:
            x = states["conv1"] = conv(one, 11, narrow, 0, "conv1", stride=4)(x)
            x = pool(normalize(x, "norm1"), "pool1")
        states["pool1"] = x
        conv2 = conv(two, 5, narrow, 1, "conv2", padding=2, groups=self.groups)
        x = states["conv2"] = conv2(x)
        x = normalize(x, "norm2")
        if files:
            x = WithinMapNormalization(name="norm2_within")(x)
        x = states["pool2"] = pool(x, "pool2")
        x = states["conv3"] = conv(three, 3, wide, 0, "conv3", padding=1)(x)
        conv4 = conv(four, 3, wide, 1, "conv4", padding=1, groups=self.groups)
        x = states["conv4"] = conv4(x)
        conv5 = conv(five, 3, wide, 1, "conv5", padding=1, groups=self.groups)
        x = states["conv5"] = conv5(x)
        x = states["pool5"] = pool(x, "pool5")
        for number, units in enumerate(self.hidden, 6):
            dense = conv(units, x.shape[1], narrow, 1, f"fc{number}")
            x = states[f"fc{number}"] = dense(x)
            x = self.drop(x, self.dropout)
        output = conv(self.classes, 1, narrow, 0, "output", active=False)
        return self.scores_and_maps(output(x), states)
