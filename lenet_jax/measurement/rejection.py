"""Rejection: predictions that the rubbish class beats (eq. 9), or whose two best scores lie close
together (section III-D), are not given."""

import numpy as np

from lenet_jax.recognition import answers


def error_rates_left(margins: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """The error in percent that is left when the k smallest margins are rejected, k = 0 .. n-1.

    margins [n] and wrong, bool [n]. No threshold cuts between equal margins: there the error is
    that of the cut before them.
    """
    order = np.argsort(margins, kind="stable")
    kept = np.arange(len(order), 0, -1)
    errors = 100 * np.cumsum(wrong[order][::-1])[::-1] / kept
    sorted_ = margins[order]
    cut = np.r_[True, sorted_[1:] > sorted_[:-1]]
    return errors[np.maximum.accumulate(np.where(cut, np.arange(len(order)), 0))]


def needed(margins: np.ndarray, wrong: np.ndarray, error: float = 0.5) -> float:
    """The smallest share, in percent, whose rejection leaves an error of at most `error` percent.

    100 where no share below it suffices (Fig. 10, whose error is 0.5 %).
    """
    fine = _fine(margins, wrong, error)
    return 100 * float(fine[0]) / len(wrong) if len(fine) else 100.0


def threshold(margins: np.ndarray, wrong: np.ndarray, error: float = 0.5) -> float:
    """The margin below which predictions are rejected to do so; 0 where nothing must be, or inf."""
    fine = _fine(margins, wrong, error)
    if not len(fine):
        return float("inf")
    return float(np.sort(margins)[fine[0]]) if fine[0] else 0.0


def reject_below(scores: np.ndarray, labels: np.ndarray, j: float) -> float:
    """The threshold for an error of 0.5 %, from scores [n, classes] and labels [n].

    Among the predictions that the rubbish class with its penalty j does not beat, which are
    rejected in any case.
    """
    kept = ~answers.is_rubbish(scores, j)
    wrong = scores.argmax(axis=-1) != labels
    return threshold(answers.margins(scores, j)[kept], wrong[kept])


def _fine(margins: np.ndarray, wrong: np.ndarray, error: float) -> np.ndarray:
    """Of how many rejected the error left is at most `error` percent."""
    return np.flatnonzero(error_rates_left(margins, wrong) <= error)
