"""Boosted LeNet-4 (section III-C.9): three networks after Schapire and Drucker, outputs added.

    python -m lenet_jax.reproduce --set family --only boosted

Each is a LeNet-4 of 16,998 parameters (the paper counts 51,000 for the three) and is trained as
this page says, the first on distorted patterns as experiments/distorted.py has them. The second
gets as many new distorted patterns, half of which the first reads wrongly, the third as many on
which the first two disagree (`training/boosting.py`). `lenet_jax.train` trains the first alone.
"""

import distorted

from lenet_jax.training.architecture import LeNet4
from lenet_jax.training.config import Experiment, Paper, SquaredError


def get_config() -> Experiment:
    return Experiment(
        name="boosted",
        model=LeNet4(reading="17k"),
        loss=SquaredError(),
        distortion=distorted.RANGES,
        paper=Paper(test_error=0.7, train_error=None, source="section III-C.9 and Fig. 9"),
    )
