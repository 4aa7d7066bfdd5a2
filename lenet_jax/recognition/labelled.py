"""A network's answers to images whose digits are known: MNIST's, or pictures in folders 0 to 9."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lenet_jax.analysis.evaluation import Evaluation
from lenet_jax.data import dataset, pictures
from lenet_jax.errors import UserError
from lenet_jax.recognition import reader
from lenet_jax.recognition.network import Network
from lenet_jax.recognition.predictor import predictor


def evaluate_test_set(
    network: Network, manual_dir: Path | None, say: Callable[[str], None]
) -> Evaluation:
    """MNIST's test digits (`data.dataset.load` finds them), or the embedded set's."""
    data = dataset.load(manual_dir=manual_dir, say=say)
    scores = predictor(network.module, network.params)(data.test.images)
    return Evaluation(f"{data.name}, test", data.test.images, data.test.labels, scores)


def evaluate(network: Network, folder: Path, say: Callable[[str], None]) -> Evaluation:
    """The pictures of folders named 0 to 9, each to be read as one digit.

    Raises UserError where there are none.
    """
    found = [
        (file, int(part.name))
        for part in sorted(folder.glob("[0-9]"))
        for file in pictures.files(part)
    ]
    if not found:
        raise UserError(
            f"--pictures {folder}: no pictures there. Put them into folders 0 to 9 by their digit: "
            f"{folder / '7' / 'some.png'}"
        )
    images, labels, scores, unread = [], [], [], []
    ...
