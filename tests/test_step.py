from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import apply

from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    ML,
    SDLM,
    SGD,
    Adam,
    CrossEntropy,
    Distortion,
    Experiment,
    Muon,
    SquaredError,
)
from lenet_jax.layers.inputs import normalize
from lenet_jax.models.connected import FullyConnected
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import curvature, loop, losses, optimizers, replicas, scoring, step
from lenet_jax.training.checkpoint import Checkpoints, digest

SMALL: dict[str, Any] = {  # compiled in a fraction of the time, where any network will do
    "model": FullyConnected(hidden=(9,)),
    "loss": SquaredError(),
}


def start(digits, devices, batch_size=8, examples=12, measured=True, **more):
    """The beginning of a run; unless `measured` the curvature stays zero (its program is large)."""
    experiment = Experiment(name="test", batch_size=batch_size, **{"loss": ML(), **more})
    seeds = np.asarray(experiment.all_seeds, np.uint32)
    mesh = replicas.mesh(jax.devices()[:devices], len(seeds))
    recipe = step.recipe(experiment, examples, mesh)
    images, labels = (replicas.replicated(mesh, a[:examples]) for a in digits)
    state = step.initial_state(recipe, seeds)
    if measured:
        state = step.begin_epoch(recipe, state, 1, images, labels)
    order = step.order_of_epoch(state.key, 1, examples, batch_size, "fixed")
    return recipe, state, images, labels, order


def first(tree):
    """The first network of a stack."""
    return jax.tree.map(lambda a: a[0], tree)


def plain_loop(recipe, state, images, labels, order):
    """The same epoch without a device's loop, shard_map or a mask: in Python, update by update."""
    state, order = first((state, order))
    optimizer = recipe.optimizer
    params, opt_state = state.params, optimizer.init(state.params)
    total, misclassified = 0.0, 0

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def value_and_grad(params, images, labels):
        scores, _ = apply(recipe.model, params, normalize(images))
        each = losses.maximum_likelihood(scores, labels)
        return each.mean(), (each.sum(), (scores.argmax(1) != labels).sum())

    for row in np.asarray(order):
        row = row[row >= 0]

        (_, (loss, errors)), gradient = value_and_grad(params, images[row], labels[row])
        updates, opt_state = optimizer.update(
            gradient, opt_state, params, curvature=state.curvature
        )
        params = optax.apply_updates(params, updates)
        total, misclassified = total + float(loss), misclassified + int(errors)
    return params, total, misclassified


def same(ours, theirs, relative=2e-5):
    """All leaves equal up to float32 noise: XLA sums in another order in each program."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max() + 1e-9)


@pytest.fixture(scope="module")
def whole_epoch(digits):
    """One epoch of two batches, the last one half full, on one device."""
    recipe, state, images, labels, order = start(digits, 1)
    given = jax.tree.map(jnp.copy, state)
    return step.run_steps(recipe, state, images, labels, order, 0, 2), given


def test_epoch_equals_a_python_loop_of_single_steps(digits, whole_epoch):
    recipe, _, images, labels, order = start(digits, 1)
    after, given = whole_epoch
    assert (np.asarray(order) == step.ABSENT).sum() == 4
    params, loss, errors = plain_loop(recipe, given, images, labels, order)
    after = first(after)
    same(after.params, params)
    assert float(after.loss) == pytest.approx(loss, rel=1e-5)
    assert int(after.errors) == errors and int(after.step) == 2 and int(after.broken) == -1


def test_four_devices_equal_one(digits, whole_epoch):
    recipe, state, images, labels, order = start(digits, 4)
    after = step.run_steps(recipe, state, images, labels, order, 0, 2)
    assert len(jax.tree.leaves(after.params)[0].sharding.device_set) == 4
    same(after.params, whole_epoch[0].params)
    assert int(after.errors[0]) == int(whole_epoch[0].errors[0])


def test_a_pmapped_step_gives_the_same_numbers(digits, whole_epoch):
    _, given = whole_epoch
    recipe, _, images, labels, order = start(digits, 4)
    devices = jax.devices()[:4]

    @partial(jax.pmap, axis_name="data", devices=devices)
    def pmapped(state, images, labels, present):
        return step.update(recipe, state, images, labels, present)

    keys = jax.random.split(jax.random.key(0), 4)
    given, order = first((given, order))
    numbers = given._replace(key=jnp.zeros(()))
    state = jax.tree.map(lambda a: np.stack([a] * 4), numbers)._replace(key=keys)
    for row in np.asarray(order).reshape(-1, 4, 2):
        state = pmapped(state, np.asarray(images)[row], np.asarray(labels)[row], row != step.ABSENT)
    same(first(state.params), first(whole_epoch[0].params))


def test_cuts_into_chunks_leave_no_trace(digits):
    recipe, state, images, labels, order = start(
        digits, 1, batch_size=1, measured=False, distortion=Distortion(shear=0.2)
    )
    other = jax.tree.map(jnp.copy, state)
    state = step.run_steps(recipe, state, images, labels, order, 0, 12)
    for first, last in ((0, 1), (1, 2), (2, 9), (9, 12)):
        other = step.run_steps(recipe, other, images, labels, order, first, last)
    assert digest(state) == digest(other)


def test_orders():
    keys = jax.random.split(jax.random.key(7), 2)

    def orders(how):
        return [np.asarray(step.order_of_epoch(keys, n, 103, 10, how)) for n in (1, 2)]

    (one, other), again = orders("fixed")
    assert (one != other).any() and sorted(one.ravel()) == sorted(other.ravel())
    epochs = [one, again[0]]
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert sorted(epochs[0].ravel()) == [-1] * 7 + list(range(103))
    assert (epochs[0][:-1] >= 0).all()
    fresh = [orders[0] for orders in orders("reshuffled")]
    assert (fresh[0] != fresh[1]).any() and sorted(fresh[1].ravel()) == sorted(epochs[0].ravel())
    assert (np.diff(epochs[0].ravel()[:103]) != 1).any()


def test_epochs_go_through_a_fixed_set_of_versions():
    keys = jax.random.split(jax.random.key(7), 2)

    def orders(how):
        epochs = [step.order_of_epoch(keys, n, 103, 10, how, 3) for n in range(1, 7)]
        return np.stack(epochs).reshape(2, 3, 2, -1)[..., :103]

    fixed, fresh = orders("fixed"), orders("reshuffled")
    for round_ in (*fixed, *fresh):
        for network in (0, 1):
            assert sorted(round_[:, network].ravel()) == list(range(3 * 103))
    np.testing.assert_array_equal(fixed[0], fixed[1])
    assert (fresh[0] != fresh[1]).any() and (fixed[:, :, 0] != fixed[:, :, 1]).any()


def test_samples_of_a_fixed_set_stay_and_others_are_new_in_each_epoch(digits):
    images = jnp.asarray(digits[0][:20])
    key, samples = jax.random.key(3), jnp.asarray([4, 24, 44, 5])  # example 4 thrice, and 5

    def shown(number, **more):
        ranges = Distortion(rotation=20.0, inverted=0.05, **more)
        experiment = Experiment(name="test", distortion=ranges)
        recipe = step.recipe(experiment, 20, replicas.mesh(jax.devices()[:1]))
        return np.asarray(step.distorted(recipe, key, number, samples, images[samples % 20]))

    fixed = shown(1, versions=3)
    np.testing.assert_array_equal(fixed, shown(2, versions=3))
    np.testing.assert_array_equal(fixed[[0, 3]], digits[0][[4, 5]])  # version 0
    assert (fixed[1] != digits[0][4]).any() and (fixed[1] != fixed[2]).any()
    fresh, other = shown(1), shown(2)
    assert all((a != b).any() for a, b in zip(fresh, other, strict=True))
    assert (fresh[0] != digits[0][4]).any()


@pytest.mark.parametrize("devices", [1, 4])
def test_every_image_is_counted_once(digits, devices):
    recipe, state, *_ = start(digits, devices, measured=False, **SMALL)
    images, labels = digits[0][:457], digits[1][:457]
    blocks = scoring.blocks(images, labels, recipe.mesh)
    right = scoring.count_right(recipe.model, recipe.mesh, state.params, *blocks)
    scores, _ = apply(recipe.model, first(state.params), normalize(jnp.asarray(images), "28x28"))
    assert int(right[0]) == (np.asarray(scores).argmax(1) == labels).sum()
    ours = np.asarray(scoring.scores_of(recipe.model, recipe.mesh, state.params, blocks[0]))
    same(ours[0, :457], scores)


def test_what_is_no_digit_is_no_error(digits):
    """Its label is one more than there are classes; no prediction is asked for."""
    recipe, state, *_ = start(digits, 1, measured=False, **SMALL)
    images, labels = digits[0][:40], digits[1][:40].copy()
    labels[::4] = 10
    right = scoring.count_right(
        recipe.model, recipe.mesh, state.params, *scoring.blocks(images, labels, recipe.mesh)
    )
    scores, _ = apply(recipe.model, first(state.params), normalize(jnp.asarray(images), "28x28"))
    assert int(right[0]) == 10 + (np.asarray(scores).argmax(1) == labels).sum()


def test_adams_rate_and_its_first_steps_of_size_rate(digits):
    """After k equal signs Adam's bias-corrected step is the rate: here k = 1, at the peak."""
    adam = Adam(learning_rate=0.01, warmup=0.25)
    rate = optimizers.schedule(adam, epochs=2, steps_per_epoch=4)
    np.testing.assert_allclose(
        [rate(n) for n in (0, 1, 2, 5, 8)], [0.01 / 3, 0.02 / 3, 0.01, 0.005, 0], rtol=1e-6
    )
    adam = Adam(learning_rate=0.01, warmup=0.0)
    recipe, state, images, labels, order = start(
        digits, 1, batch_size=8, examples=8, optimizer=adam
    )
    assert recipe.sdlm is None and state.curvature == {}
    before = jax.tree.map(np.array, state.params)
    after = step.run_steps(recipe, state, images, labels, order, 0, 1)
    moved = np.abs(np.asarray(after.params["f6"]["kernel"]) - before["f6"]["kernel"])
    np.testing.assert_allclose(moved, 0.01, rtol=1e-3)


def test_muons_first_steps_are_orthogonal(digits):
    """The first step of a kernel [r, c], r <= c, is rate sqrt(c/r) U f(S) V^T of its gradient.

    f is the polynomial of the method, here in float64 on singular values of its own; it brings
    them near 1. Biases take Adam's first step in Nesterov's way, b m2 + (1 - b) g of the unit
    gradient with m2 = (1 - b)/(1 - b^2), b = 0.9.
    """
    muon = Muon(learning_rate=0.01, adam_learning_rate=0.02, warmup=0.0)
    recipe, state, images, labels, order = start(
        digits, 1, batch_size=8, examples=8, measured=False, optimizer=muon
    )
    before = first(state.params)

    def total(params):
        scores, _ = apply(recipe.model, params, normalize(jnp.asarray(images)))
        return losses.per_example(recipe.loss)(scores, jnp.asarray(labels)).mean()

    gradient = jax.device_get(jax.jit(jax.grad(total))(before))
    before = jax.tree.map(np.array, before)
    after = first(step.run_steps(recipe, state, images, labels, order, 0, 1).params)
    for layer in ("c1", "c3", "c5", "f6"):
        u, s, vt = np.linalg.svd(np.float64(gradient[layer]["kernel"]), full_matrices=False)
        s = s / np.linalg.norm(s)
        for _ in range(5):
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        rows, columns = vt.shape
        expected = -0.01 * np.sqrt(columns / rows) * (u * s) @ vt
        moved = np.asarray(after[layer]["kernel"]) - before[layer]["kernel"]
        np.testing.assert_allclose(moved, expected, atol=2e-3 * np.abs(expected).max())
        moved = np.abs(np.asarray(after[layer]["bias"]) - before[layer]["bias"])
        np.testing.assert_allclose(moved, 0.02 * (0.9 * 0.1 / (1 - 0.81) + 1), rtol=1e-3)


def test_first_loss_that_is_not_finite_is_named(digits):
    recipe, state, images, labels, order = start(
        digits,
        1,
        batch_size=1,
        measured=False,
        model=LeNet5(activation="relu"),
        optimizer=SDLM(learning_rates=(1e6,)),
    )
    at = 0
    for at in range(12):
        state = step.run_steps(recipe, state, images, labels, order, at, at + 1)
        if not np.isfinite(float(state.loss[0])):
            break
    assert int(state.broken[0]) == at > 0
    state = step.run_steps(recipe, state, images, labels, order, at + 1, 12)
    assert int(state.broken[0]) == at


def test_checkpoint_is_bit_exact_also_on_other_devices(digits, tmp_path):
    recipe, state, images, labels, order = start(digits, 4, measured=False)
    state = step.run_steps(recipe, state, images, labels, order, 0, 1)
    saved = digest(state)
    Checkpoints(tmp_path / "c", 2, print).save(1, state, [], {})
    on_four = step.run_steps(recipe, state, images, labels, order, 1, 2)
    for devices in (4, 1, 2):
        recipe, like, images, labels, order = start(digits, devices, measured=False)
        back = Checkpoints(tmp_path / "c", 2, print).restore(like)
        assert back is not None and digest(back.state) == saved != digest(like)
        assert len(back.state.loss.sharding.device_set) == devices
        after = step.run_steps(recipe, back.state, images, labels, order, 1, 2)
        if devices == 4:
            assert digest(after) == digest(on_four)
        same(after.params, on_four.params)


def test_a_replica_is_the_run_of_its_seed(digits):
    """Bit for bit, for any number of devices; five networks on four devices fill some up."""
    wanted = [5, 0, 7, 2, 9]
    alone = {}
    for seed in (7, 9):
        recipe, state, images, labels, order = start(digits, 1, seed=seed, batch_size=1)
        alone[seed] = step.run_steps(recipe, state, images, labels, order, 0, 12)
    for devices in (1, 4):
        recipe, state, images, labels, order = start(
            digits, devices, seeds=tuple(wanted), batch_size=1
        )
        assert recipe.mesh.shape == {"seeds": devices, "data": 1}
        assert len({row.tobytes() for row in np.asarray(order)}) == 5
        after = step.run_steps(recipe, state, images, labels, order, 0, 12)
        for seed, one in alone.items():
            at = wanted.index(seed)
            assert digest(jax.tree.map(lambda a, at=at: a[at : at + 1], after)) == digest(one)


DROPOUT: dict[str, Any] = {
    "model": Nielsen(hidden=(20,), dropout=0.5),
    "loss": CrossEntropy(),
    "optimizer": SGD(0.5),
}


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("seeds", [(7,), (7, 3), (5, 7, 3)])
def test_networks_of_a_run_are_those_of_their_seeds_with_batches_and_dropout_too(
    digits, seeds, devices
):
    """One device, or a batch of one: bit for bit. Several: up to float32 noise, the masks alike.

    Batches of 66 have parts, the last of them not full, and two updates.
    """
    for batch_size, examples in ((1, 12), (66, 100)):
        networks = []
        shared = devices if len(seeds) > 1 or batch_size % devices == 0 else 1
        for number, some in ((1, (7,)), (shared, seeds)):
            given = {"seeds": some} if len(some) > 1 else {"seed": some[0]}
            recipe, state, images, labels, order = start(
                digits, number, batch_size, examples, measured=False, **given, **DROPOUT
            )
            state = step.run_steps(recipe, state, images, labels, order, 0, 2)
            at = some.index(7)
            networks.append(jax.tree.map(lambda a, at=at: a[at : at + 1], state))
        alone, one = networks
        if devices == 1 or batch_size == 1:
            assert digest(one) == digest(alone)
        else:
            same(one.params, alone.params, 1e-6)


@pytest.mark.parametrize("seeds, batch_size", [((), 8), ((4,), 1), ((5,), 1)])
def test_a_second_call_is_not_compiled_again(digits, seeds, batch_size):
    """Nor is the first of another run of the same kind."""
    given: dict[str, Any] = {"name": "test", "seeds": seeds, "batch_size": batch_size, **SMALL}
    recipe, state, images, labels, order = start(
        digits, 4, seeds=seeds, batch_size=batch_size, **SMALL
    )
    like = step.initial_state(recipe, np.asarray([0] * len(state.step), np.uint32))
    assert jax.tree.map(lambda a: a.sharding, like) == jax.tree.map(lambda a: a.sharding, state)
    state = step.run_steps(recipe, state, images, labels, order, 0, 1)
    events = []

    def note(event: str, duration_secs: float, **_: Any) -> None:
        events.append(event)

    another = step.recipe(Experiment(**given), len(images), recipe.mesh)
    assert another is not recipe
    jax.monitoring.register_event_duration_secs_listener(note)
    state = step.run_steps(recipe, state, images, labels, order, 1, 2)
    state = step.begin_epoch(recipe, state, 2, images, labels)
    state = step.run_steps(recipe, state, images, labels, order, 0, 1)
    step.run_steps(another, state, images, labels, order, 0, 1)
    jax.monitoring.unregister_event_duration_listener(note)
    assert not [name for name in events if "trace" in name or "compile" in name]


def test_replicas_under_vmap_equal_those_in_a_row(digits, monkeypatch):
    """What a GPU or a TPU does."""
    recipe, state, images, labels, order = start(
        digits, 1, seeds=(3,), batch_size=4, measured=False
    )
    other = jax.tree.map(jnp.copy, state)
    in_a_row = step.run_steps(recipe, state, images, labels, order, 0, 3)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    at_once = step.run_steps(recipe, other, images, labels, order, 0, 3)
    jax.clear_caches()
    # Three updates with no curvature, eta/mu each, magnify the noise of the first.
    same(at_once.params, in_a_row.params, 1e-4)
    np.testing.assert_array_equal(at_once.errors, in_a_row.errors)


def test_large_batches_go_in_parts(digits):
    """A batch of 83, three parts of which the last is not full, is one step of its mean.

    The curvature is measured on the same 83 examples, in parts as well.
    """
    assert scoring.CACHED < 83 / 2
    recipe, state, images, labels, order = start(digits, 1, batch_size=83, examples=83)
    given = jax.tree.map(jnp.copy, state)
    after = first(step.run_steps(recipe, state, images, labels, order, 0, 1))
    params, loss, errors = plain_loop(recipe, given, images, labels, order)
    same(after.params, params)
    assert float(after.loss) == pytest.approx(loss, rel=1e-5)
    assert int(after.errors) == errors

    @jax.jit
    def at_once(params):
        return curvature.diagonal(
            lambda params: apply(recipe.model, params, normalize(images))[0],
            params,
            lambda scores: losses.curvature_at_scores(recipe.loss, scores, labels),
        )

    same(first(given.curvature), at_once(first(given.params)))


def test_devices_divide_the_batch():
    for batch_size, number in ((1, 1), (16, 1), (32, 2), (48, 3), (67, 1), (64, 4), (128, 4)):
        experiment = Experiment(name="test", batch_size=batch_size)
        assert len(loop.choose_devices(experiment, print)) == number
    for seeds in (2, 3):
        several = Experiment(name="test", seeds=(seeds,))
        assert len(loop.choose_devices(several, print)) == 4
    said = []
    loop.choose_devices(Experiment(name="test", batch_size=67), said.append)
    assert not said  # that cores of a CPU are left over is no news
    with pytest.raises(UserError, match="--devices 4 .*--batch-size 6"):
        Experiment(name="test", batch_size=6, devices=4)
    with pytest.raises(UserError, match="--devices 64.* sees 4"):
        loop.choose_devices(Experiment(name="test", batch_size=64, devices=64), print)
