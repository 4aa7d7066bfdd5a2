"""The ladder of M. Nielsen, "Neural Networks and Deep Learning" (2015), chapter 6.

    python -m lenet_jax.train --config experiments/nielsen.py             # the lowest rung, shallow
    python -m lenet_jax.train --config experiments/nielsen.py:dropout

                the book    this
    shallow     97.80       97.71 (five seeds; the first three 97.65, the others came after)
    conv        98.78       98.71 (two seeds, as those below)
    two-conv    99.06       99.05
    relu        99.23       99.11

Test accuracy in percent (MNIST; results/nielsen*.json); the other rungs are not measured yet.

50,000 patterns to learn from in one order, 10,000 held out, ten share an update; the test error
reported is that of the pass with the least error on the held-out ones, the last of equal ones, as
in network3.py. From `expanded` on a pattern comes in five versions, as it is and moved by one pixel
each way, and five passes here are one of the book's.
"""

from typing import Any

from lenet_jax.training.architecture import Nielsen
from lenet_jax.training.config import (
    SGD,
    CrossEntropy,
    Data,
    Distortion,
    Experiment,
    Paper,
    variant,
)

PATTERNS = 50_000
PASSES = 60
EXPANDED_PASSES = 120  # 24 of the book's 60, which would take eight hours of a core
DROPOUT_PASSES = 75  # 15 of the book's 40, which would take fourteen


def _sgd(rate: float, strength: float, patterns: int = PATTERNS) -> SGD:
    """The book's lambda is of the cost's sum over the batches of a pass."""
    return SGD(learning_rate=rate, decay=strength / (patterns / 10))


def _rung(accuracy: float, model: Nielsen, **more: Any) -> dict[str, Any]:
    error = round(100 - accuracy, 2)
    return {"model": model, "paper": Paper(error, None, "the book, chapter 6"), **more}


def _relu(hidden: tuple[int, ...], dropout: float = 0.0) -> Nielsen:
    return Nielsen(maps=(20, 40), hidden=hidden, squashing="relu", dropout=dropout)


EXPANDED = {
    "optimizer": _sgd(0.03, 0.1, 5 * PATTERNS),
    "distortion": Distortion(shifted=True, versions=5),
    "passes": EXPANDED_PASSES,
}
VARIANTS = {
    "conv": _rung(98.78, Nielsen(maps=(20,))),
    "two-conv": _rung(99.06, Nielsen(maps=(20, 40))),
    "relu": _rung(99.23, _relu((100,)), optimizer=_sgd(0.03, 0.1)),
    "expanded": _rung(99.37, _relu((100,)), **EXPANDED),
    "wide": _rung(99.43, _relu((1000,)), **EXPANDED),
    "doubled": _rung(99.43, _relu((100, 100)), **EXPANDED),
    "dropout": _rung(
        99.60,
        _relu((1000, 1000), 0.5),
        **EXPANDED | {"optimizer": _sgd(0.03, 0.0), "passes": DROPOUT_PASSES},
    ),
}


def get_config(name: str = "") -> Experiment:
    base = Experiment(
        name="nielsen",
        loss=CrossEntropy(),
        batch_size=10,
        passes=PASSES,
        data=Data(validation=10_000),
        reported="best-validation",
        **_rung(97.80, Nielsen(), optimizer=_sgd(0.1, 0.0)),
    )
    return variant(base, VARIANTS, name)
