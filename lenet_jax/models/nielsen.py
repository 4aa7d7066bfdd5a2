"""The networks of M. Nielsen, "Neural Networks and Deep Learning" (2015), chapter 6."""

from typing import ClassVar

import jax
from flax import linen as nn

from lenet_jax.errors import UserError
from lenet_jax.layers.activation import Activation
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import images_last
from lenet_jax.layers.network import Network, require_dropout, require_widths
from lenet_jax.layers.pooling import MaxPooling


class Nielsen(Network):
    """Convolutions of 5x5 with `maps` maps, maxima over 2x2 after each, layers of `hidden` units,
    ten weighted sums for a softmax.

    With `dropout` each input of a fully connected layer, the outputs' too, is left out with that
    probability (`Network.drop`). Weights begin normal with variance 1/n_out and those of the
    outputs at zero.
    """

    frame: ClassVar[str] = "unit"

    activation: Activation = "sigmoid"
    maps: tuple[int, ...] = ()
    """of each convolution"""
    hidden: tuple[int, ...] = (100,)
    """units of each hidden layer"""
    dropout: float = 0.0
    """probability with which an input of a fully connected layer is left out in training"""

    def __post_init__(self) -> None:
        require_widths("maps", self.maps)
        require_widths("hidden", self.hidden)
        if len(self.maps) > 2:
            raise UserError(
                f"--model.maps has {len(self.maps)} convolutions, allowed are 2 at most: they "
                "leave 4x4 pixels, less than a third could read (for example: 20 40)"
            )
        require_dropout(self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        x, states, f = images_last(images), {}, self.activation
        for number, maps in enumerate(self.maps):
            c, s = f"c{2 * number + 1}", f"s{2 * number + 2}"
            x = states[c] = Convolution(maps, 5, None, "nielsen", f, name=c)(x)
            x = states[s] = MaxPooling(name=s)(x)
        for number, units in enumerate(self.hidden, 1):
            dense = Convolution(units, x.shape[1], None, "nielsen", f, name=f"h{number}")
            x = states[f"h{number}"] = dense(self.drop(x, self.dropout))
        output = Convolution(self.classes, x.shape[1], None, "zeros", name="output")
        return self.scores_and_maps(output(self.drop(x, self.dropout)), states)
