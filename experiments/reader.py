"""The reader's own network: LeNet-5, trained on digits as the reader cuts them out of pictures.

python -m lenet_jax.train --config experiments/reader.py
"""

import numpy as np

from lenet_jax import settings
from lenet_jax.data import dataset, digits
from lenet_jax.experiment import MAP, Arrays, Distortion, Experiment, Muon
from lenet_jax.recognition import practice


def examples() -> Arrays:
    """MNIST's training digits as they are and as the reader finds them on made pages, those of
    another country's writers, and what is no digit; tested on MNIST's test digits."""
    mnist = dataset.load(fallback="none", log=print)
    kept = settings.cache_folder() / "practice.npz"
    if not kept.exists():
        images, labels = practice.examples(mnist.train.images, mnist.train.labels, 0, print)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, images=images, labels=labels)
    made = np.load(kept)
    others = digits.load()
    train = (
        np.concatenate([mnist.train.images, made["images"], *[others["train_images"]] * 3]),
        np.concatenate([mnist.train.labels, made["labels"], *[others["train_labels"]] * 3]),
    )
    return Arrays(
        "reader", 10, train=train, test=(mnist.test.images, mnist.test.labels), rubbish=True
    )


def get_config() -> Experiment:
    return Experiment(
        name="reader",
        loss=MAP(j=10.0),
        optimizer=Muon(learning_rate=0.01, adam_learning_rate=0.01, warmup=0.05),
        data=examples(),
        distortion=Distortion(
            translation=1.0, scaling=0.1, squeezing=0.1, shear=0.1, rotation=10.0, elastic=0.4
        ),
        epochs=20,
        batch_size=128,
        order="reshuffled",
    )
