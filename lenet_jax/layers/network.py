"""What every network of the package is, and how its units activate."""

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import linen as nn
from flax import traverse_util

from lenet_jax.errors import UserError
from lenet_jax.layers.activation import Activation, activated
from lenet_jax.layers.convolution import Convolution

WIDEST = 100_000  # maps or units of a layer; more is a slip

Outputs = Literal["penalties", "logits", "activations"]


class Network(nn.Module):
    """What every network of the package is.

    Takes images as `inputs.normalize` makes them for its `frame`. Returns (scores, maps). Scores
    are float32 [images, classes], higher is better; a convolutional network gives larger images a
    score for each position of its window, [images, height, width, classes] (section VII). Maps
    holds its layers' states by the paper's names, each [images, maps, height, width].
    """

    frame: ClassVar[str] = "32x32"
    normalizes: ClassVar[bool] = False  # its responses: appendix C has no curvature for that

    @property
    def outputs(self) -> Outputs:
        """What the scores are: minus penalties, activations, or the logits of a softmax."""
        return "logits"

    activation: Activation = "scaled-tanh"
    classes: Annotated[int, tyro.conf.Suppress] = 10
    """as many as the data has, which sets it"""

    def activate(self, sums: jax.Array) -> jax.Array:
        return activated(self.activation, sums)

    def drop(self, states: jax.Array, rate: float) -> jax.Array:
        """States [maps, height, width, images], each left out with probability `rate`.

        Wherever an rng "dropout" is given; without one all are as much smaller. Images that are a
        part of a batch have their places in it in the variable "places" of "batch", int32
        [images].
        """
        if not rate:
            return states
        # What is kept is not made larger while training, as it is where dropout is "inverted": from
        # the same weights and with the same rate that would start twice as far out and go faster.
        kept = 1 - rate
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

    def scores_and_maps(
        self, outputs: jax.Array, maps: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(scores, maps) with the images first again."""
        scores = jnp.transpose(outputs, (3, 1, 2, 0))
        if scores.shape[1:3] == (1, 1):
            scores = scores[:, 0, 0]
        return scores, {name: jnp.moveaxis(state, -1, 0) for name, state in maps.items()}


def connected(network: Network, params: Any, images: jax.Array) -> Any:
    """The parameters, with zeros where a table has no connection.

    They weigh nothing, but an optimizer may have moved them: the orthogonal steps of Muon have no
    zeros. `images` are as the network takes them; only their shape matters.
    """
    found: dict[Any, np.ndarray] = {}

    def note(method, args, kwargs, context):
        if context.method_name == "weigh" and isinstance(layer := context.module, Convolution):
            if layer.table is not None:
                found[(*layer.path, "kernel")] = layer.mask(args[1].shape[0])
        return method(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(network.apply, {"params": params}, images)
    return traverse_util.path_aware_map(
        lambda path, leaf: leaf * found[path] if path in found else leaf, params
    )


def require_dropout(rate: float) -> None:
    """Raises UserError unless a rate of dropout leaves something."""
    if not 0 <= rate < 1:
        raise UserError(
            f"--model.dropout is {rate}, allowed is 0 or more, less than 1 (for example: 0.5)"
        )


def require_widths(field: str, widths: tuple[int, ...], number: int | None = None) -> None:
    """Raises UserError unless each of a network's layers has 1 to WIDEST maps or units.

    And unless there are so many layers, where it says how many.
    """
    if number is not None and len(widths) != number:
        raise UserError(
            f"--model.{field} has {len(widths)} numbers, this network takes {number} (for example: "
            f"{' '.join(['96'] * number)})"
        )
    for width in widths:
        if not 1 <= width <= WIDEST:
            raise UserError(
                f"--model.{field} has a layer of {width}, allowed are 1 to {WIDEST:,} (for "
                "example: 100)"
            )
