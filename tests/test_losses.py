from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import reference
from conftest import apply
from test_lenet import parameters

from lenet_jax.layers.codes import codes
from lenet_jax.layers.inputs import normalize
from lenet_jax.models.lenet import LeNet5
from lenet_jax.training import losses


def test_by_hand():
    scores = jnp.array([[-1.0, -2.0, -4.0], [-3.0, -0.5, -1.0]])
    labels = jnp.array([1, 0])
    np.testing.assert_allclose(losses.maximum_likelihood(scores, labels), [2, 3])
    ours = losses.maximum_a_posteriori(scores, labels, 1.5)
    theirs = [
        2 + np.log(np.exp(-1.5) + np.exp(-1) + np.exp(-2) + np.exp(-4)),
        3 + np.log(np.exp(-1.5) + np.exp(-3) + np.exp(-0.5) + np.exp(-1)),
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    ours = losses.cross_entropy(scores, labels)
    theirs = [
        -np.log(np.exp(-2) / (np.exp(-1) + np.exp(-2) + np.exp(-4))),
        -np.log(np.exp(-3) / (np.exp(-3) + np.exp(-0.5) + np.exp(-1))),
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_what_is_no_digit_has_the_rubbish_class():
    """Its label is one more than there are classes: minus the log of e^-j's share."""
    scores = jnp.array([[-1.0, -2.0, -4.0]])
    ours = losses.maximum_a_posteriori(scores, jnp.array([3]), 1.5)
    whole = np.exp(-1.5) + np.exp(-1) + np.exp(-2) + np.exp(-4)
    np.testing.assert_allclose(ours, [-np.log(np.exp(-1.5) / whole)], rtol=1e-6)
    gradient = jax.grad(lambda s: losses.maximum_a_posteriori(s, jnp.array([3]), 1.5).sum())(scores)
    np.testing.assert_allclose(gradient[0], np.exp([-1, -2, -4]) / whole, rtol=1e-5)


def test_eq_9_is_eq_8_while_j_is_far_below_every_penalty():
    rng = np.random.default_rng(0)
    scores = -jnp.asarray(rng.uniform(60, 90, (50, 10)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, 50))
    eq8 = losses.maximum_likelihood(scores, labels)
    eq9 = losses.maximum_a_posteriori(scores, labels, 1.0)
    np.testing.assert_allclose(eq9 + 1.0, eq8, rtol=1e-6)
    # and not once j is among the penalties
    assert (losses.maximum_a_posteriori(scores, labels, 75.0) + 75.0 > eq8 + 0.1).any()


def test_eq_9_is_never_negative():
    rng = np.random.default_rng(1)
    scores = -jnp.asarray(rng.uniform(0, 50, (500, 10)), jnp.float32)
    labels = jnp.argmax(scores, axis=1)  # where it is smallest
    assert (losses.maximum_a_posteriori(scores, labels, 10.0) >= 0).all()


def test_gradient_of_eq_9_over_classes_and_rubbish_sums_to_zero():
    rng = np.random.default_rng(2)
    penalties = jnp.asarray(rng.uniform(1, 20, (30, 10)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, 30))

    def total(penalties, j):
        each = jax.vmap(lambda p, n, j: losses.maximum_a_posteriori(-p[None], n[None], j)[0])
        return each(penalties, labels, j).sum()

    by_class, by_rubbish = jax.grad(total, (0, 1))(penalties, jnp.full(30, 5.0))
    np.testing.assert_allclose(by_class.sum(1) + by_rubbish, 0, atol=3e-7)
    posterior = np.exp(-5.0) / (np.exp(-5.0) + np.exp(-np.asarray(penalties)).sum(1))
    np.testing.assert_allclose(-by_rubbish, posterior, rtol=1e-5)  # section II-C


def test_gradients_equal_central_differences_of_the_reference(digits):
    """Of eq. 8 and eq. 9, every kind of parameter, in float64; the differences know no jax.

    The rubbish class's penalty is the smallest of the classes', or eq. 9 would be eq. 8 here.
    """
    with jax.enable_x64(True):
        params = parameters(LeNet5())
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        image = jnp.asarray(normalize(jnp.asarray(digits[0][:1])), jnp.float64)
        label = int(digits[1][0])
        j = -float(jax.jit(partial(apply, LeNet5()))(params, image)[0].max())

        def ours(params):
            scores, _ = apply(LeNet5(), params, image)
            eq8 = losses.maximum_likelihood(scores, jnp.array([label]))[0]
            return eq8, losses.maximum_a_posteriori(scores, jnp.array([label]), j)[0]

        gradients = jax.tree.map(np.asarray, jax.jit(jax.jacrev(ours))(params))
        params = jax.tree.map(np.array, params)

    def theirs():
        penalties = reference.lenet5(params, image[0], codes(), reference.TABLE)[0][:, 0, 0]
        everything = np.log(np.exp(-j) + np.exp(-penalties).sum())
        return np.array([penalties[label], penalties[label] + everything])

    rng = np.random.default_rng(0)
    for layer, leaves in params.items():
        for name, values in leaves.items():
            slopes = [gradient[layer][name] for gradient in gradients]
            there = np.argwhere(slopes[0] != 0)
            for index in map(tuple, rng.choice(there, 3)):
                kept, step = values[index], 1e-5
                values[index] = kept + step
                above = theirs()
                values[index] = kept - step
                differences = (above - theirs()) / (2 * step)
                values[index] = kept
                for slope, difference in zip(slopes, differences, strict=True):
                    size = max(abs(difference), np.abs(slope).max() * 1e-3)
                    assert abs(slope[index] - difference) < 1e-6 * size, (layer, name, index)
