"""Each method of Fig. 9 as a scikit-learn estimator, and what it costs to use."""

import math
import time
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, PolynomialFeatures
from sklearn.svm import SVC

from lenet_jax.data.deslant import deslant
from lenet_jax.data.distort import SHIFTS, shifted
from lenet_jax.experiment import Baseline

CLASSES = 10
CACHE_MB = 2000


@dataclass(frozen=True)
class Fitted:
    """A trained baseline: numbers that it keeps, multiply-adds for a digit, seconds of training."""

    estimator: Any
    deslanted: bool
    parameters: int
    multiply_adds: int
    seconds: float

    def scores(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, 10] of uint8 images [n, 28, 28]; higher is better."""
        shown = vectors(seen(images, self.deslanted))
        how = "predict_proba" if hasattr(self.estimator, "predict_proba") else "decision_function"
        return np.asarray(getattr(self.estimator, how)(shown), np.float32)


def fit(baseline: Baseline, images: np.ndarray, labels: np.ndarray) -> Fitted:
    """Trains a baseline on uint8 images [n, 28, 28] with labels [n], each of 0 to 9 among them."""
    digits = seen(images, baseline.deslanted)
    shown = vectors(digits)
    began = time.monotonic()
    estimator = make(baseline).fit(shown, labels)
    if baseline.method == "virtual-svm":
        support = estimator[-1].support_
        versions = np.repeat(np.arange(len(SHIFTS)), len(support))
        support = np.tile(support, len(SHIFTS))
        # Moved once they are upright, which would put them back into the middle.
        moved = shifted(jnp.asarray(digits[support]), jnp.asarray(versions))
        estimator = make(baseline).fit(vectors(np.asarray(moved)), labels[support])
    seconds = time.monotonic() - began
    return Fitted(estimator, baseline.deslanted, *cost(baseline, estimator, shown.shape), seconds)


def seen(images: np.ndarray, deslanted: bool) -> np.ndarray:
    """What a method sees, float32 [n, h, w], 0 to 1: 28x28 pixels, or 20x20 of deslanted digits."""
    return (deslant(images) if deslanted else images.astype(np.float32)) / 255


def vectors(digits: np.ndarray) -> np.ndarray:
    """[n, pixels] of images [n, h, w]."""
    return digits.reshape(len(digits), -1)


def make(baseline: Baseline) -> Any:
    """The untrained estimator of a method."""
    match baseline.method:
        case "linear":
            return RidgeClassifier(alpha=baseline.ridge)
        case "pairwise":
            return OneVsOneClassifier(RidgeClassifier(alpha=baseline.ridge))
        case "neighbours":
            return KNeighborsClassifier(baseline.neighbours, algorithm="brute", n_jobs=-1)
        case "quadratic":
            return make_pipeline(
                PCA(baseline.components, random_state=0),
                PolynomialFeatures(2),
                # Products of products, summed in single precision, would lose their last digits.
                RidgeClassifier(alpha=baseline.ridge, solver="svd"),
            )
        case "rbf":
            return make_pipeline(
                Gaussians(baseline.units // CLASSES, baseline.width),
                RidgeClassifier(alpha=baseline.ridge),
            )
        case "svm" | "virtual-svm":
            # (x y + 1)^d of vectors of length 1, divided by its largest value, 2^d, within C.
            return make_pipeline(
                Normalizer(),
                SVC(
                    C=baseline.penalty / 2**baseline.degree,
                    kernel="poly",
                    degree=baseline.degree,
                    gamma=1.0,  # type: ignore[arg-type]
                    coef0=1.0,
                    cache_size=CACHE_MB,
                ),
            )


class Gaussians(TransformerMixin, BaseEstimator):
    """Gaussian units around the k means of each class (section III-C.4)."""

    def __init__(self, each: int, width: float) -> None:
        self.each = each
        self.width = width

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Gaussians":
        self.centres_ = np.concatenate(
            [
                KMeans(min(self.each, int((y == label).sum())), n_init=1, random_state=0)  # type: ignore[arg-type]
                .fit(x[y == label])
                .cluster_centers_
                for label in np.unique(y)
            ]
        )
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """exp(-|x - c|^2 / 2 width^2), [n, units]."""
        apart = (x**2).sum(1)[:, None] - 2 * x @ self.centres_.T + (self.centres_**2).sum(1)
        return np.exp(-apart / (2 * self.width**2))


def cost(baseline: Baseline, estimator: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """Numbers kept, and multiply-adds for one digit; a kernel or a power counts as one."""
    examples, pixels = shape
    pairs = math.comb(CLASSES, 2)
    match baseline.method:
        case "linear":
            return CLASSES * (pixels + 1), CLASSES * pixels
        case "pairwise":
            return pairs * (pixels + 1), pairs * pixels
        case "neighbours":
            return examples * pixels, examples * pixels
        case "quadratic":
            n = baseline.components
            terms = n + math.comb(n + 1, 2)
            numbers = pixels * (n + 1) + CLASSES * (terms + 1)
            return numbers, pixels * n + terms - n + CLASSES * terms
        case "rbf":
            units = len(estimator[0].centres_)
            return units * pixels + CLASSES * (units + 1), units * (pixels + 1 + CLASSES)
        case "svm" | "virtual-svm":
            support = len(estimator[-1].support_)
            weights = (CLASSES - 1) * support
            return support * pixels + weights + pairs, support * (pixels + 1) + weights
