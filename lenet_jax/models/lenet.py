"""LeNet-5 as published (section II-B, Fig. 2), and LeNet-1 and LeNet-4 (section III-C)."""

from functools import cache
from itertools import combinations
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from lenet_jax.layers.codes import CHARACTERS, codes
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.initialization import Initialization
from lenet_jax.layers.inputs import images_last
from lenet_jax.layers.network import Network, Outputs
from lenet_jax.layers.pooling import AveragePooling, MaxPooling, Subsampling
from lenet_jax.layers.rbf import RBF

Table = tuple[tuple[int, ...], ...]

# Table I: for each map of C3 the maps of S2 that it reads.
TABLE_I: Table = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

TABLES = {"paper": TABLE_I, "full": None}


class LeNet5(Network):
    """The network of Fig. 2: 60,000 trainable parameters, 340,908 connections.

    Fields: the connection `table` of C3 ("paper" is Table I, "full" connects everything), the
    `pooling` (averages and maxima are not activated), the `activation`, the `head` ("rbf"; "linear"
    for a softmax over ten weighted sums; "gaussian", exp(-|x-c|^2/2) of centres that are learned,
    and "log-gaussian", its logarithm), whether the RBF codes are `adaptive`, and the
    `initialization` (`layers.initializers`).
    """

    table: Literal["paper", "full"] = "paper"
    """connections of C3: Table I, or every map of S2"""
    pooling: Literal["subsampling", "average", "max"] = "subsampling"
    """trainable, or plain averages or maxima without activation"""
    head: Literal["rbf", "linear", "gaussian", "log-gaussian"] = "rbf"
    """RBF units with the codes of Fig. 3; ten weighted sums for a softmax; or Gaussians of learned
    centres, or their logarithms, as its logits"""
    adaptive: bool = False
    """train the RBF codes too"""
    initialization: Initialization = "lush"
    """v/sqrt(Fi), as the authors' code does it, 2.4/Fi, as appendix A prints it, or another"""
    blank: bool = False
    """the last class is the space between digits (section VII)"""

    @property
    def outputs(self) -> Outputs:
        return "penalties" if self.head == "rbf" else "logits"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init, f = self.initialization, self.activation
        x, maps = images_last(images), {}
        x = maps["c1"] = Convolution(6, 5, None, init, f, name="c1")(x)
        x = maps["s2"] = self.pool(x, "s2")
        x = maps["c3"] = Convolution(16, 5, TABLES[self.table], init, f, name="c3")(x)
        x = maps["s4"] = self.pool(x, "s4")
        x = maps["c5"] = Convolution(120, 5, None, init, f, name="c5")(x)
        x = maps["f6"] = Convolution(84, 1, None, init, f, name="f6")(x)
        if self.head == "linear":
            outputs = Convolution(self.classes, size=1, initialization=init, name="output")(x)
        elif self.head == "rbf":
            outputs = RBF(self.adaptive, self.code_table(), classes=self.classes, name="output")(x)
        else:
            logarithms = RBF(drawn=True, classes=self.classes, name="output")(x) / 2
            outputs = jnp.exp(logarithms) if self.head == "gaussian" else logarithms
        return self.scores_and_maps(outputs, maps)

    def code_table(self) -> tuple[tuple[float, ...], ...] | None:
        """The codes of the classes where they are not the first characters': Fig. 3's, too."""
        if not self.blank:
            return None
        return tuple(map(tuple, codes(CHARACTERS[: self.classes - 1] + " ").tolist()))

    def pool(self, states: jax.Array, name: str) -> jax.Array:
        if self.pooling == "subsampling":
            return Subsampling(self.initialization, self.activation, name=name)(states)
        return {"average": AveragePooling, "max": MaxPooling}[self.pooling](name=name)(states)


# For each map of H3 the maps of H2 that it reads (Le Cun et al., NIPS 2, 1990).
LENET_1_TABLE: Table = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)


class LeNet1(Network):
    """LeNet-1 (section III-C.7): 2,578 parameters, 98,442 connections.

    Layers are named after those of LeNet-5; in the publication of 1990 they are H1 to H4. The
    ten outputs are activated sums, in which a class is +1 and the others -1.
    """

    frame: ClassVar[str] = "16x16"

    initialization: Initialization = "lush"

    @property
    def outputs(self) -> Outputs:
        return "activations"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init, f = self.initialization, self.activation
        x, maps = images_last(images), {}
        x = maps["c1"] = Convolution(4, 5, None, init, f, name="c1")(x)
        x = maps["s2"] = Subsampling(init, f, name="s2")(x)
        x = maps["c3"] = Convolution(12, 5, LENET_1_TABLE, init, f, name="c3")(x)
        x = maps["s4"] = Subsampling(init, f, name="s4")(x)
        outputs = Convolution(self.classes, 4, None, init, f, name="output")(x)
        return self.scores_and_maps(outputs, maps)


@cache
def lenet_4_tables(reading: str) -> tuple[Table, Table | None]:
    """The connections of C3 and of C5, whose None is all of them, in a reading of the paper.

    The paper prints no table for LeNet-4, and its sentence and its numbers cannot both hold
    (PAPER.md). "literal": 48 kernels, three for each map of C3, and a hidden layer that reads all
    of S4. "17k": 60 kernels, as many as in Table I, and a hidden layer of 560.
    """
    if reading == "literal":
        return _rows([3] * 16, 8), None
    return _rows([3] * 4 + [4] * 12, 8), _rows([4, 5, 5] * 40, 16)


def _rows(sizes: list[int], inputs: int) -> Table:
    """Different rows of so many of the inputs each, all of which are read alike often."""
    often, rows = [0] * inputs, []
    for size in sizes:
        free = (row for row in combinations(range(inputs), size) if row not in rows)
        rows.append(min(free, key=lambda row: sum(often[i] for i in row)))
        for i in rows[-1]:
            often[i] += 1
    return tuple(rows)


class LeNet4(Network):
    """LeNet-4 (section III-C.8) in a `reading` of its description, "literal" or "17k".

    50,698 parameters and 262,306 connections, or 16,998 and 258,306. Four maps in C1, each read by
    two of the eight in S2; C3, S4 and the 120 units of C5 as in LeNet-5; ten activated sums.
    """

    reading: Literal["literal", "17k"] = "literal"
    """of the paper's description: all of S4 for each unit of C5, or 16,998 parameters in all"""
    initialization: Initialization = "lush"

    @property
    def outputs(self) -> Outputs:
        return "activations"

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        init, f = self.initialization, self.activation
        for_c3, for_c5 = lenet_4_tables(self.reading)
        x, maps = images_last(images), {}
        x = maps["c1"] = Convolution(4, 5, None, init, f, name="c1")(x)
        x = maps["s2"] = Subsampling(init, f, name="s2")(jnp.repeat(x, 2, axis=0))
        x = maps["c3"] = Convolution(16, 5, for_c3, init, f, name="c3")(x)
        x = maps["s4"] = Subsampling(init, f, name="s4")(x)
        x = maps["c5"] = Convolution(120, 5, for_c5, init, f, name="c5")(x)
        outputs = Convolution(self.classes, 1, None, init, f, name="output")(x)
        return self.scores_and_maps(outputs, maps)
