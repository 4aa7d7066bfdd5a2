"""The best LeNet-5: the network of the paper, and any training recipe.

    python -m lenet_jax.train --config experiments/best.py

A first form: the recipe is still to be chosen on held-out patterns, and nothing is measured yet.
"""

from lenet_jax.training.config import MAP, Distortion, Experiment, Muon


def get_config() -> Experiment:
    return Experiment(
        name="best",
        loss=MAP(j=5.0),
        optimizer=Muon(learning_rate=0.01, adam_learning_rate=0.01, warmup=0.05),
        distortion=Distortion(
            translation=1.0, scaling=0.1, squeezing=0.1, shear=0.1, rotation=10.0, elastic=0.7
        ),
        passes=60,
        batch_size=128,
        order="reshuffled",
    )
