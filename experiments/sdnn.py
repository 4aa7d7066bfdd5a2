"""The space displacement network: LeNet-5 over whole lines of digits (section VII).

    python -m lenet_jax.train --config experiments/sdnn.py
    python -m lenet_jax.train --config experiments/sdnn.py:centred

An eleventh class, the space of Fig. 3, stands between digits. Over a line the network gives scores
every four pixels, and what is read is the string on the best path through them. The lines are
composed of MNIST's training digits, anew in each epoch, each in one hand, with gaps from an overlap
of four pixels to twelve apart, and trained on as a whole: by the penalty of the right string less
that of all readings (section VI). `centred` is what the paper trained on: a digit between two
others, or none, with 10 % of the pixels inverted. What they read is not recorded yet.
"""

from typing import Any

from lenet_jax.experiment import (
    MAP,
    Data,
    Discriminative,
    Distortion,
    Experiment,
    Muon,
    Strings,
    variant,
)
from lenet_jax.models.lenet import LeNet5

VARIANTS: dict[str, dict[str, Any]] = {
    "centred": {
        "loss": MAP(j=20.0),
        "strings": Strings(examples="centred", gaps=(-1, 4)),
        "distortion": Distortion(inverted=0.1),
        "batch_size": 128,
    },
}


def get_config(name: str = "") -> Experiment:
    base = Experiment(
        name="sdnn",
        model=LeNet5(blank=True),
        loss=Discriminative(),
        optimizer=Muon(learning_rate=0.01, adam_learning_rate=0.01, warmup=0.05),
        data=Data(validation=5000),
        strings=Strings(
            hand=Distortion(shear=0.3, scaling=0.15, squeezing=0.1), slope=0.05, strokes=0.2
        ),
        distortion=Distortion(
            translation=1.0, scaling=0.1, squeezing=0.1, shear=0.1, rotation=7.0, elastic=0.5
        ),
        epochs=10,
        batch_size=32,
        order="reshuffled",
    )
    return variant(base, VARIANTS, name)
