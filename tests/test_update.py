"""What an update is made of: a seed, a step of the schedule, dropout's masks, curvature's samples.

A linear softmax that begins at zero tells them: its gradient and its curvature show which examples
went in, and what was left of them.
"""

import gzip
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import start

from lenet_jax.data import mnist
from lenet_jax.errors import UserError
from lenet_jax.experiment import SDLM, SGD, Adam, CrossEntropy, Distortion, Experiment, Muon
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import replicas, scoring, step


@pytest.mark.parametrize(
    "optimizer, sizes",
    [
        (SDLM(learning_rates=(0.8, 0.2)), [1, 1, 0.25, 0.25]),
        (Adam(warmup=0.0), [1, 0.75, 0.5, 0.25]),
        (Muon(warmup=0.0), [1, 0.75, 0.5, 0.25]),
    ],
    ids=["SDLM", "Adam", "Muon"],
)
def test_a_short_last_batch_is_a_step_of_the_schedule(optimizer, sizes):
    """Twelve examples by eights are two steps; what a steady gradient moves is the rate alone."""
    experiment = Experiment(
        name="test",
        model=Nielsen(hidden=()),
        loss=CrossEntropy(),
        optimizer=optimizer,
        epochs=2,
        batch_size=8,
    )
    recipe = step.recipe(experiment, 12, replicas.mesh(jax.devices()[:1]))
    ones = {"output": {"kernel": jnp.eye(10, 784), "bias": jnp.ones(10)}}
    state, moved = recipe.optimizer.init(ones), []
    for _ in range(4):
        updates: Any
        updates, state = recipe.optimizer.update(ones, state, ones, curvature=ones)
        moved.append(float(updates["output"]["kernel"][0, 0]))
    np.testing.assert_allclose(np.array(moved) / moved[0], sizes, rtol=1e-5)


def test_every_seed_is_another_network():
    recipe = step.recipe(Experiment(name="test"), 12, replicas.mesh(jax.devices()[:1]))
    seeds = np.array([0, 1, 2, 3, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    state = step.initial_state(recipe, seeds)
    for stack in (state.params["f6"]["kernel"], jax.random.key_data(state.key)):
        assert len({row.tobytes() for row in np.asarray(stack)}) == len(seeds)


@pytest.mark.parametrize(
    "given", [{"seed": 2**32}, {"seeds": (0, 2**32)}, {"seeds": (3, -1)}, {"seeds": (0,)}]
)
def test_seeds_have_32_bits(given):
    Experiment(name="test", seed=2**32 - 1)
    with pytest.raises(UserError, match="0 to 4294967295|1 or more"):
        Experiment(name="test", **given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(learning_rate=0.0),
        lambda: Adam(warmup=1.0),
        lambda: Adam(warmup=-0.1),
        lambda: Muon(learning_rate=0.0),
        lambda: Muon(adam_learning_rate=0.0),
        lambda: Muon(warmup=1.0),
        lambda: SDLM(learning_rates=(1e-3, 0.0)),
        lambda: Experiment(name="test", devices=0),
        lambda: Experiment(name="test", keep=0),
    ],
)
def test_what_no_run_can_have_is_refused(make):
    with pytest.raises(UserError, match=r"--[a-z.-]+ is .*, allowed is "):
        make()


def dropout_masks(devices, updates=1, seed=0):
    """bool [64, 784]: the inputs that an update of 64 examples kept of each.

    They are read from the gradient of a linear softmax that begins at zero: for class c the mean of
    (1/10 - [label = c]) times what is left of an example. Eight examples have the label c and the
    grey levels 1, 2, 4 to 128, so that their sum tells them apart; none has the label 9.
    """
    grey = np.resize(2 ** np.arange(8), 64).astype(np.uint8)
    examples = np.ones((64, 28, 28), np.uint8) * grey[:, None, None], np.arange(64) // 8
    recipe, state, images, labels, order = start(
        examples,
        devices,
        batch_size=64,
        examples=64,
        model=Nielsen(hidden=(), dropout=0.5),
        loss=CrossEntropy(),
        optimizer=SGD(learning_rate=1.0),
        seed=seed,
    )
    for _ in range(updates):
        state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
        state = step.run_steps(recipe, state, images, labels, order, 0, 1)
    moved = np.asarray(state.params["output"]["kernel"][0], np.float64) * 255 * 64
    left = np.rint(moved[:8] - moved[9]).astype(np.uint8)
    np.testing.assert_allclose(moved[:8] - moved[9], left, atol=0.01)
    return np.unpackbits(left[:, None], axis=1, bitorder="little").reshape(64, 784)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_dropout_leaves_out_other_inputs_of_each_example(devices):
    """In a part of a batch, in another, on another device, in another update and seed.

    Two masks of 784 fair coins agree in half of the places, and each keeps half.
    """
    assert scoring.CACHED < 64
    ways = {}, {"updates": 2}, {"seed": 1}
    kept = np.concatenate([dropout_masks(devices, **way) for way in ways])
    signs = np.where(kept, 1, -1)
    apart = (signs @ signs.T)[~np.eye(len(signs), dtype=bool)]
    bound = 5.5 * np.sqrt(784)  # standard deviations, of 18,336 pairs
    assert np.abs(apart).max() < bound and np.abs(signs.sum(axis=1)).max() < bound


def measured(number, seed=0, versions=None):
    """The samples on which `begin_epoch` measures the curvature of epoch `number`, a set.

    Each of 63 examples is a pixel, three rows or columns from the next, so that a version, which
    moves it by one, leaves it in its place of three by three. For a linear softmax that begins at
    zero the curvature at a pixel is 1/10 (1 - 1/10) of the share of the samples that light it.
    """
    examples = np.zeros((63, 28, 28), np.uint8)
    row, column = np.divmod(np.arange(63), 9)
    examples[np.arange(63), 3 * row + 4, 3 * column + 1] = 255
    experiment = Experiment(
        name="test",
        model=Nielsen(hidden=()),
        loss=CrossEntropy(),
        optimizer=SDLM(samples=40),
        distortion=Distortion(shifted=versions is not None, versions=versions),
    )
    recipe = step.recipe(experiment, 63, replicas.mesh(jax.devices()[:1]))
    state = step.initial_state(recipe, np.array([seed], np.uint32))
    state = step.begin_epoch(recipe, state, number, examples, np.zeros(63, np.int32))
    h = np.asarray(state.curvature["output"]["kernel"]).reshape(10, 28, 28)
    lit = np.argwhere(h[0])
    np.testing.assert_allclose(h[:, *lit.T], 0.09 / 40, rtol=1e-5)
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]  # of the versions, down and right
    return {
        moves.index((row % 3 - 1, column % 3 - 1)) * 63 + (row // 3 - 1) * 9 + column // 3
        for row, column in lit.tolist()
    }


def test_curvature_is_measured_on_other_samples_for_each_epoch_and_seed():
    found = [measured(1), measured(2), measured(3), measured(1, seed=1)]
    for samples in found:
        assert len(samples) == 40 and samples <= set(range(63))
    # Two draws of 40 from 63 share 25.4 on average, with a standard deviation of 1.9.
    assert max(len(a & b) for a, b in itertools.combinations(found, 2)) < 35


def test_curvature_is_measured_on_the_version_that_the_epoch_shows():
    versions = [{sample // 63 for sample in measured(n, versions=5)} for n in range(1, 7)]
    assert versions == [{0}, {1}, {2}, {3}, {4}, {0}]


def test_step_sizes_of_the_first_epoch_span_what_section_iii_b_reports(real_mnist):
    """From 7e-5 to 0.016, of the paper's one run; ours over five seeds, on its images.

    Of the embedded digits, which are other images, the paper says nothing.
    """
    images_file, labels_file = (
        real_mnist / mnist.FILES[f"train_{what}"][0] for what in ("images", "labels")
    )
    with gzip.open(images_file) as images, gzip.open(labels_file) as labels:
        pixels = np.frombuffer(images.read(16 + 500 * 784), np.uint8, offset=16)
        classes = np.frombuffer(labels.read(8 + 500), np.uint8, offset=8)
    experiment = Experiment(name="test", seeds=(5,))
    recipe = step.recipe(experiment, 500, replicas.mesh(jax.devices()[:1], 5))
    state = step.initial_state(recipe, np.arange(5, dtype=np.uint32))
    state = step.begin_epoch(
        recipe, state, 1, pixels.reshape(500, 28, 28), classes.astype(np.int32)
    )
    h = np.concatenate([a.reshape(5, -1) for a in jax.tree.leaves(state.curvature)], axis=1)
    smallest = 0.0005 / (0.02 + h.max(axis=1))
    largest = 0.0005 / (0.02 + np.where(h > 0, h, np.inf).min(axis=1))  # where connections are
    np.testing.assert_allclose(np.log(smallest / 7e-5), 0, atol=np.log(1.6))
    np.testing.assert_allclose(np.log(largest / 0.016), 0, atol=np.log(1.6))


def test_an_update_sees_its_examples_in_the_distortions_of_its_epoch(digits):
    """A linear softmax at zero moves by the mean of ([label = c] - 1/10) times what it sees."""
    recipe, state, images, labels, order = start(
        digits,
        1,
        batch_size=4,
        examples=8,
        model=Nielsen(hidden=()),
        loss=CrossEntropy(),
        optimizer=SGD(learning_rate=1.0),
        distortion=Distortion(translation=2.0),
    )
    for number, at in ((1, 0), (1, 1), (2, 0), (2, 1)):
        samples = order[0, at]
        shown = step.distorted(recipe, state.key[0], number, samples, images[samples])
        shown = shown.reshape(4, 784) / 255
        classes = np.eye(10)[np.asarray(labels[samples])] - 0.1
        state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
        state = step.run_steps(recipe, state, images, labels, order, at, at + 1)
        moved = state.params["output"]["kernel"][0]
        np.testing.assert_allclose(moved, classes.T @ np.asarray(shown) / 4, atol=1e-6)


def test_whatever_a_network_predictions_filled_up_images_are_not_counted():
    """Ten networks, each of which answers with one class only."""
    experiment = Experiment(name="test", model=Nielsen(hidden=()), loss=CrossEntropy(), seeds=(10,))
    recipe = step.recipe(experiment, 12, replicas.mesh(jax.devices()[:1], 10))
    params = {"output": {"kernel": np.zeros((10, 10, 784), np.float32), "bias": np.eye(10)}}
    labels = np.array([0, 3, 3, 9, 8, 3, 1], np.int32)
    images = np.zeros((7, 28, 28), np.uint8)
    right = scoring.count_right(
        recipe.model, recipe.mesh, params, *scoring.blocks(images, labels, recipe.mesh)
    )
    np.testing.assert_array_equal(right, [1, 1, 0, 3, 0, 0, 0, 0, 1, 1])
