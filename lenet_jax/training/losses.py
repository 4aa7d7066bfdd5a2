"""The losses of section II-C, per example, over scores (minus the penalties of eq. 7)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lenet_jax.experiment import MAP, ML, CrossEntropy, Discriminative, Loss, SquaredError
from lenet_jax.graphs import automaton, paths

LossFunction = Callable[[jax.Array, jax.Array], jax.Array]


def maximum_likelihood(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Eq. 8, the penalty of the right class. scores [n, classes], labels int [n] -> [n]."""
    return -jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]


def maximum_a_posteriori(scores: jax.Array, labels: jax.Array, j: float) -> jax.Array:
    """Eq. 9: the penalty of the right class + log(e^-j + sum_i e^-penalty_i). Never negative.

    scores [n, classes], labels int [n] -> [n]. The rubbish class with its constant penalty j is
    one more class of a softmax, and what is no digit has the label `classes`: there j is right
    (section X). While j is far below every penalty, this is eq. 8 minus j.
    """
    rubbish = jnp.full_like(scores[:, :1], -j)
    return cross_entropy(jnp.concatenate([scores, rubbish], axis=1), labels)


def cross_entropy(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Minus the log of the right class's softmax. scores [n, classes], labels int [n] -> [n]."""
    return maximum_likelihood(scores, labels) + jax.nn.logsumexp(scores, axis=1)


def squared_error(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """sum_i (score_i - target_i)^2, targets 1 and -1. scores [n, classes], labels int [n] -> [n].

    Without a factor 1/2, as eq. 7.
    """
    targets = 2 * jax.nn.one_hot(labels, scores.shape[1]) - 1
    return jnp.sum((scores - targets) ** 2, axis=1)


def discriminative(scores: jax.Array, texts: jax.Array, best: bool = False) -> jax.Array:
    """The penalty of the right string less that of all that could be read (section VI).

    That of a string is the forward penalty of all its paths (discriminative forward training,
    section VI), or with `best` that of the best one (discriminative Viterbi training).
    scores [n, 1, positions, classes], of which the last is blank, texts int [n, length], -1 behind
    their ends -> [n], never negative.
    """
    joined, sweep = (jnp.max, paths.highest) if best else (jax.nn.logsumexp, paths.total)
    # Everything may be read, and then a path is free at every position.
    of_all = joined(scores[:, 0], axis=2).sum(axis=1)

    def of_right(scores: jax.Array, text: jax.Array) -> jax.Array:
        graph = automaton.spelled(text, blank=scores.shape[1] - 1)
        return sweep(graph, scores[:, None], len(scores))

    return of_all - jax.vmap(of_right)(scores[:, 0], texts)


def per_example(loss: Loss) -> LossFunction:
    """The function (scores, labels) -> losses that a configuration names."""
    match loss:
        case ML():
            return maximum_likelihood
        case MAP(j=j):
            return lambda scores, labels: maximum_a_posteriori(scores, labels, j)
        case CrossEntropy():
            return cross_entropy
        case SquaredError():
            return squared_error
        case Discriminative(paths=kind):
            return lambda scores, texts: discriminative(scores, texts, kind == "best")


def curvature_at_scores(loss: Loss, scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Where appendix C's backward pass begins: [n, classes] non-negative numbers, one example each.

    For a softmax the exact second derivatives p(1 - p), for squared errors 2. The penalty losses
    are measured at the RBF units: the weight with which each unit's squared distance, whose second
    derivative is 2, enters. Eq. 8 has weight 1 at the right class and this is exact. Eq. 9 takes
    the same: its true value falls to zero once an example is learned, and steps would grow to
    eta/mu (the authors' code fills in a constant for this loss as well).
    """
    if isinstance(loss, CrossEntropy):
        probabilities = jax.nn.softmax(scores)
        return probabilities * (1 - probabilities)
    if isinstance(loss, SquaredError):
        return jnp.full_like(scores, 2)
    return jax.nn.one_hot(labels, scores.shape[1])
