"""LeNet-5 as published (section II-B, Fig. 2)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.models.layers import (
    RBF,
    Convolution,
    Initialization,
    Subsampling,
    flat,
    scaled_tanh,
    unfold,
)

# Table I: for each map of C3 the maps of S2 that it reads.
TABLE_I = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

TABLES = {"paper": TABLE_I, "full": None}
POOLINGS = {"subsampling": Subsampling}
SQUASHINGS = {"scaled-tanh": scaled_tanh}


class LeNet5(nn.Module):
    """The network of Fig. 2: 60,000 trainable parameters, 340,908 connections.

    Takes images as float32 [images, 32, 32], background -0.1 and ink 1.175 (`data.normalize`).
    Returns (scores, maps). Scores are float32 [images, classes], higher is better; larger images
    give a score for each position of the window, [images, height, width, classes] (section VII).
    Maps holds the states of C1 to F6 by the paper's names, each [images, maps, height, width].

    Fields: the connection `table` of C3 ("paper" is Table I, "full" connects everything), the
    `pooling`, the `squashing`, the `head` ("rbf", or "linear" for a softmax over ten weighted
    sums), whether the RBF codes are `adaptive`, and the `initialization` (`layers.uniform`).
    """

    table: Literal["paper", "full"] = "paper"
    pooling: Literal["subsampling"] = "subsampling"
    squashing: Literal["scaled-tanh"] = "scaled-tanh"
    head: Literal["rbf", "linear"] = "rbf"
    adaptive: bool = False
    initialization: Initialization = "lush"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init = self.initialization
        pool = POOLINGS[self.pooling]
        x = jnp.moveaxis(images, 0, -1)[None]
        maps = {}
        c1 = Convolution(6, initialization=init, folded=True, name="c1")
        x = self.squash(c1(x))
        maps["c1"] = unfold(x)
        x = maps["s2"] = self.squash(pool(init, name="s2")(x))
        c3 = Convolution(16, 5, TABLES[self.table], init, folded=True, name="c3")
        x = self.squash(c3(x))
        maps["c3"] = unfold(x)
        x = maps["s4"] = self.squash(pool(init, name="s4")(x))
        x = maps["c5"] = self.squash(Convolution(120, initialization=init, name="c5")(x))
        x = maps["f6"] = self.squash(Convolution(84, size=1, initialization=init, name="f6")(x))
        if self.head == "rbf":
            x = RBF(self.adaptive, name="output")(x)
        else:
            x = Convolution(10, size=1, initialization=init, name="output")(x)
        scores = jnp.transpose(x, (3, 1, 2, 0))
        if scores.shape[1:3] == (1, 1):
            scores = scores[:, 0, 0]
        return scores, {name: jnp.moveaxis(state, -1, 0) for name, state in maps.items()}

    def squash(self, sums: jax.Array) -> jax.Array:
        return SQUASHINGS[self.squashing](flat(sums)).reshape(sums.shape)
