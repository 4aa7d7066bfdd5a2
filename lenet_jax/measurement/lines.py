"""What a network reads on lines of digits: whole strings, right or wrong."""

from typing import Any

import jax
import numpy as np

from lenet_jax.data.dataset import Images
from lenet_jax.graphs import paths
from lenet_jax.layers import contract
from lenet_jax.native import formulation
from lenet_jax.recognition.networks import TrainedNetwork

PIECE = 100  # lines at a time


def read(network: TrainedNetwork, lines: np.ndarray) -> list[str]:
    """The string on the best path over each line, uint8 [n, 28, width]."""

    @jax.jit
    def forward(params: Any, lines: jax.Array) -> jax.Array:
        with formulation.fastest():
            scores = contract.scores(network.module, params, lines)[:, 0]
        return paths.texts(scores, longest=scores.shape[1])

    found = []
    for at in range(0, len(lines), PIECE):
        piece = lines[at : at + PIECE]
        filled = np.pad(piece, ((0, PIECE - len(piece)), (0, 0), (0, 0)))
        found.append(np.asarray(forward(network.params, filled))[: len(piece)])
    return list(map(text, np.concatenate(found)))


def text(labels: np.ndarray) -> str:
    """The labels of a string, int [length], -1 behind its end."""
    return "".join(str(label) for label in labels if label >= 0)


def as_json(name: str, test: Images, found: list[str]) -> dict[str, Any]:
    """How many strings are wrong, in all and of each length; `wrong` has number, text and what was
    read of each.
    """
    texts = list(map(text, test.labels))
    wrong = [
        [number, right, read_]
        for number, (right, read_) in enumerate(zip(texts, found, strict=True))
        if right != read_
    ]
    lengths = sorted({len(each) for each in texts})
    return {
        "data": name,
        "size": len(texts),
        "errors": len(wrong),
        "by_length": [
            {
                "length": length,
                "size": sum(len(each) == length for each in texts),
                "errors": sum(len(right) == length for _, right, _ in wrong),
            }
            for length in lengths
        ],
        "wrong": wrong,
    }
