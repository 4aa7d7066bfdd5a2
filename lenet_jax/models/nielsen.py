"""The networks of M. Nielsen, "Neural Networks and Deep Learning" (2015), chapter 6."""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.errors import UserError
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.folding import images_last, unfold
from lenet_jax.layers.network import Activation, Network, require_widths
from lenet_jax.layers.pooling import MaxPooling


class Nielsen(Network):
    """Convolutions of 5x5 with `maps` maps, maxima over 2x2 after each, layers of `hidden` units,
    ten weighted sums for a softmax.

    With `dropout` each input of a fully connected layer, the outputs' too, is left out with that
    probability wherever an rng "dropout" is given; without one all are as much smaller. Images that
    are a part of a batch have their places in it in the variable "places" of "batch", int32
    [images]. Weights begin normal with variance 1/n_out and those of the outputs at zero.
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
        if not 0 <= self.dropout < 1:
            raise UserError(
                f"--model.dropout is {self.dropout}, allowed is 0 or more, less than 1 (for "
                "example: 0.5)"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        x, states = images_last(images), {}
        for number, maps in enumerate(self.maps):
            c, s = f"c{2 * number + 1}", f"s{2 * number + 2}"
            sums = Convolution(maps, 5, None, "nielsen", folded=True, name=c)(x)
            states[c] = self.activate(unfold(sums))
            x = states[s] = self.activate(MaxPooling(name=s)(sums))  # either order gives the same
        for number, units in enumerate(self.hidden, 1):
            dense = Convolution(units, x.shape[1], None, "nielsen", name=f"h{number}")
            x = states[f"h{number}"] = self.activate(dense(self.drop(x)))
        output = Convolution(self.classes, x.shape[1], None, "zeros", name="output")
        return self.scores_and_maps(output(self.drop(x)), states)

    def drop(self, states: jax.Array) -> jax.Array:
        if not self.dropout:
            return states
        # What is kept is not made larger while training, as it is where dropout is "inverted": from
        # the same weights and with the same rate that would start twice as far out and go faster.
        kept = 1 - self.dropout
        if not self.has_rng("dropout"):
            return self.scale(kept, states)
        # A key for each image, by its place in the batch, so that it does not matter how a batch is
        # cut up and which devices share it.
        images = states.shape[-1]
        places = self.get_variable("batch", "places", jnp.arange(images))
        keys = jax.vmap(partial(jax.random.fold_in, self.make_rng("dropout")))(places)
        draw = partial(jax.random.bernoulli, p=kept, shape=states.shape[:-1])
        return states * jax.vmap(draw, out_axes=-1)(keys)

    def scale(self, factor: float, states: jax.Array) -> jax.Array:
        return factor * states
