"""Deslanting, the classical methods and boosting, against numbers worked out apart from them."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from lenet_jax.baselines import boosting, classical
from lenet_jax.data import digits as embedded
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.data.deslant import deslant
from lenet_jax.errors import UserError
from lenet_jax.experiment import Baseline, Distortion, Experiment, SquaredError
from lenet_jax.models.lenet import LeNet4
from lenet_jax.training import loop, replicas, step


def moments(image):
    y, x = np.indices(image.shape)
    mass = image.sum()
    y, x = y - (image * y).sum() / mass, x - (image * x).sum() / mass
    return (image * x * y).sum() / mass, (image * y * y).sum() / mass


def test_a_slanted_bar_is_set_upright_and_in_the_middle():
    bar = np.zeros((28, 28), np.uint8)
    for row in range(7, 19):
        bar[row, 9 + (row - 7) // 2 : 12 + (row - 7) // 2] = 200
    upright = deslant(bar[None])[0]
    covariance, variance = moments(bar.astype(float))
    assert covariance / variance > 0.4
    covariance, variance = moments(upright)
    assert abs(covariance / variance) < 0.02
    assert ndimage.center_of_mass(upright) == pytest.approx((9.5, 9.5), abs=0.05)
    assert upright.sum() == pytest.approx(bar.sum(), rel=1e-3)
    columns = upright[8:12].argmax(axis=1)
    assert np.ptp(columns) <= 1


def test_digits_are_deslanted_and_an_empty_image_stays_empty(digits):
    images = np.concatenate([digits[0][:200], np.zeros((1, 28, 28), np.uint8)])
    upright = deslant(images)
    assert upright.shape == (201, 20, 20) and (upright[-1] == 0).all()
    before, after = (
        np.array([np.divide(*moments(image.astype(float))) for image in stack[:-1]])
        for stack in (images, upright)
    )
    assert np.abs(after).mean() < 0.25 * np.abs(before).mean()


@pytest.fixture(scope="module")
def halves():
    arrays = embedded.load()
    return [
        (arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int32))
        for part in ("train", "test")
    ]


METHODS = {  # with the most errors it may make on 300 embedded digits; guessing makes 270
    "linear": 60,
    "pairwise": 40,
    "neighbours": 20,
    "quadratic": 25,
    "rbf": 40,
    "svm": 20,
    "virtual-svm": 20,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("deslanted", [False, True])
def test_each_method_reads_and_counts_what_it_keeps(halves, method, deslanted):
    (images, labels), (shown, true) = halves
    baseline = Baseline("x", method=method, deslanted=deslanted, units=100, components=20)
    fitted = classical.fit(baseline, images, labels)
    scores = fitted.scores(shown)
    assert scores.shape == (300, 10) and scores.dtype == np.float32
    assert (scores.argmax(1) != true).sum() <= METHODS[method]
    estimator: Any = fitted.estimator
    if method == "linear":
        kept = estimator.coef_.size + estimator.intercept_.size
        work = estimator.coef_.size
    elif method == "pairwise":
        kept = sum(e.coef_.size + e.intercept_.size for e in estimator.estimators_)
        work = sum(e.coef_.size for e in estimator.estimators_)
    elif method == "neighbours":
        kept = work = estimator._fit_X.size
    elif method == "quadratic":
        pca, powers, linear = estimator
        constant = 1  # of the polynomial, which the intercept makes idle
        kept = pca.components_.size + pca.mean_.size + linear.coef_.size
        kept += linear.intercept_.size - 10 * constant
        products = powers.n_output_features_ - 20 - constant
        work = pca.components_.size + products + linear.coef_.size - 10 * constant
    elif method == "rbf":
        centres, linear = estimator[0].centres_, estimator[1]
        kept = centres.size + linear.coef_.size + linear.intercept_.size
        work = centres.size + len(centres) + linear.coef_.size
    else:
        machine = estimator[-1]
        kept = machine.support_vectors_.size + machine.dual_coef_.size + machine.intercept_.size
        work = machine.support_vectors_.size + len(machine.support_) + machine.dual_coef_.size
    assert (fitted.parameters, fitted.multiply_adds) == (kept, work)


@pytest.mark.parametrize("method", ["linear", "pairwise", "quadratic", "rbf"])
def test_least_squares_have_the_ridge_of_the_page(method):
    made = classical.make(Baseline("x", method=method, ridge=7.0))
    ridges = [v for name, v in made.get_params().items() if name.split("__")[-1] == "alpha"]
    assert ridges == [7.0]


SHIFTS = (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)


@pytest.mark.parametrize("deslanted", [False, True])
def test_a_virtual_machine_has_seen_its_support_vectors_move(halves, deslanted):
    """Deslanted digits too, which would come back to where they were if they moved before."""
    (images, labels), _ = halves
    baseline = Baseline("x", method="svm", degree=9, deslanted=deslanted)
    plain = classical.fit(baseline, images, labels).estimator[-1]
    virtual = classical.fit(
        dataclasses.replace(baseline, method="virtual-svm"), images, labels
    ).estimator[-1]
    assert virtual.shape_fit_[0] == 5 * len(plain.support_)
    # Every vector that it keeps is one of them, as it was or moved by a pixel.
    padded = np.pad(classical.seen(images[plain.support_], deslanted), ((0, 0), (1, 1), (1, 1)))
    rolled = [np.roll(padded, by, (1, 2))[:, 1:-1, 1:-1] for by in SHIFTS]
    seen = classical.vectors(np.concatenate(rolled))
    lengths = np.linalg.norm(seen, axis=1, keepdims=True)
    kept = virtual.support_vectors_
    nearest = cdist(kept, seen / lengths).argmin(1)
    np.testing.assert_allclose(kept, (seen / lengths)[nearest], atol=1e-6)
    assert set(nearest // len(plain.support_)) == set(range(5))


def test_gaussian_units_by_scipy(halves):
    (images, labels), _ = halves
    x = classical.vectors(classical.seen(images, False))
    units = classical.Gaussians(5, 3.0).fit(x, labels)
    assert units.centres_.shape == (50, 784)
    theirs = np.exp(-(cdist(x[:20], units.centres_) ** 2) / 18)
    np.testing.assert_allclose(units.transform(x[:20]), theirs, rtol=1e-3)
    # each group of five is of one class
    nearest = labels[cdist(units.centres_, x).argmin(1)].reshape(10, 5)
    assert (nearest == np.arange(10)[:, None]).mean() > 0.9


def test_the_early_stop_asks_as_few_as_lose_nothing():
    labels = np.zeros(5, int)
    first = np.array([[1.0, 0], [5, 0], [0, 2], [0, 3], [4, 0]])  # margins 1 5 2 3 4
    others = np.array([[0.0, 3], [0, 0], [3, 0], [0, 0], [0, 0]])
    scores = np.stack([first, others, np.zeros_like(first)])
    # Always added: examples 0 and 3 are misclassified. The first alone makes two errors as well, 2
    # and 3: below its smallest margin nobody is asked.
    assert boosting.early_stop(scores, labels) == 1.0
    first[3] = 3, 0
    scores = np.stack([first, others, np.zeros_like(first)])
    # Now one either way, 0 or 2.
    assert boosting.early_stop(scores, labels) == 1.0
    others[0] = 0
    scores = np.stack([first, others, np.zeros_like(first)])
    # Added, none; so example 2, of margin 2, must be asked, and the next one, of 3, need not.
    assert boosting.early_stop(scores, labels) == 3.0


def test_boosted_predictions_come_from_the_first_where_it_is_sure():
    first = np.array([[4.0, 0], [1, 0], [0, 0.5]])
    second, third = np.array([[0.0, 9], [0, 2], [0, 0]]), np.array([[0.0, 0], [0, 0], [3, 0]])
    found = boosting.Boosted(np.stack([first, second, third]), 0, 2.0, (1, 1), 0.0)
    np.testing.assert_array_equal(found.predictions(), [[12, 0], [1, 2], [3, 0.5]])
    assert found.calls() == pytest.approx(1 + 2 * 2 / 3)
    assert found.errors(np.array([0, 0, 0])) == [1, 2, 0, 2]


@pytest.fixture(scope="module")
def stream(digits):
    experiment = Experiment(
        name="x",
        model=LeNet4(reading="17k"),
        loss=SquaredError(),
        distortion=Distortion(translation=1.0, versions=10),
    )
    train = Images(digits[0][:100], digits[1][:100])
    nothing = Images(digits[0][:0], digits[1][:0])
    data = Dataset("x", "", "", train, nothing, nothing)
    return experiment, boosting.Stream(experiment, data)


def untrained(experiment, seed):
    """Predictions of a network that has learned nothing: wrong and right at random."""
    recipe = step.recipe(experiment, 100, replicas.mesh(jax.devices()[:1]))
    params = step.initial_state(recipe, np.array([seed], np.uint32)).params
    return loop.Result({}, [], None, recipe, params)  # type: ignore[arg-type]


def test_a_stream_shows_every_example_once_a_round_and_never_the_same(stream, digits):
    _, made = stream
    batches = [made.batch(n) for n in (0, 1, 0)]
    for batch in batches:
        assert sorted(batch.labels) == sorted(digits[1][:100])
    np.testing.assert_array_equal(batches[0].images, batches[2].images)
    assert (batches[0].images != batches[1].images).any()


def test_each_seed_has_distortions_of_its_own(stream, digits):
    """Of every example, and another order of them."""
    experiment, made = stream
    data = Dataset("x", "", "", made.examples, made.examples, made.examples)
    other = boosting.Stream(dataclasses.replace(experiment, seed=1), data)
    ours, theirs = made.batch(0), other.batch(0)
    assert (ours.labels != theirs.labels).any()
    known = {image.tobytes() for image in ours.images}
    assert len(known) == 100 and not known & {image.tobytes() for image in theirs.images}


def test_the_second_network_gets_half_that_the_first_misreads(stream):
    experiment, made = stream
    first = untrained(experiment, 0)
    examples, drawn = made.half_wrong(first, 60)
    wrong = boosting.scores(first, examples.images).argmax(1) != examples.labels
    assert len(examples) == 60 and wrong.sum() == 30 and drawn % 100 == 0 and drawn > 60
    assert (wrong[::2] != wrong[1::2]).all()  # in turn


def test_the_third_gets_those_on_which_the_two_disagree(stream):
    experiment, made = stream
    first, second = untrained(experiment, 0), untrained(experiment, 1)
    examples, _ = made.disputed(first, second, 80)
    predictions = [boosting.scores(run, examples.images).argmax(1) for run in (first, second)]
    assert len(examples) == 80 and (predictions[0] != predictions[1]).all()


def test_the_first_network_is_asked_alone_where_it_is_sure():
    """A margin at the limit is sure; then its own scores count threefold."""
    first = np.array([[3.0, 1.0, 0.0], [1.5, 1.0, 0.0], [0.0, 1.0, 0.75]])  # margins 2, 0.5, 0.25
    others = np.array([[[0.0, 9.0, 0.0]] * 3, [[0.0, 0.0, 1.0]] * 3])
    made = boosting.Boosted(np.stack([first, *others]), 0, 0.5, (0, 0), 0.0)
    assert made.calls() == pytest.approx(1 + 2 / 3)
    expected = [[9.0, 3.0, 0.0], [4.5, 3.0, 0.0], [0.0, 10.0, 1.75]]
    assert made.predictions().tolist() == expected
    assert made.errors(np.array([0, 0, 1])) == [0, 2, 3, 2]


def test_a_network_without_fault_ends_the_search(stream, monkeypatch):
    experiment, made = stream
    monkeypatch.setattr(boosting, "MOST_ROUNDS", 2)
    first = untrained(experiment, 0)
    with pytest.raises(UserError, match="2 rounds .* too few that are misread"):
        made.disputed(first, first, 10)
