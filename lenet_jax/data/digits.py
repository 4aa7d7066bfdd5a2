"""The embedded set: scikit-learn's 1,797 handwritten UCI digits, brought into MNIST's frame."""

from collections.abc import Callable

import numpy as np

from lenet_jax.data.dataset import Dataset, NamedArrays, of_arrays
from lenet_jax.experiment import Data
from lenet_jax.segmentation.preparation import frame

TRAIN = 1497  # by position; the 300 that follow are the test set


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """Both splits of the set, which is always there."""
    return of_arrays("uci-digits", "scikit-learn's load_digits", load())


def load() -> NamedArrays:
    """uint8 images [n, 28, 28] and labels [n] of both splits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.asarray(digits.images) * (255 / 16)  # type: ignore[attr-defined]
    images = np.stack([frame(image) for image in pixels])
    labels = np.asarray(digits.target, np.uint8)  # type: ignore[attr-defined]
    return {
        "train_images": images[:TRAIN],
        "train_labels": labels[:TRAIN],
        "test_images": images[TRAIN:],
        "test_labels": labels[TRAIN:],
    }
