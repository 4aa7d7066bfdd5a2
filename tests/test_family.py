"""The LeNet family and the networks beside it, against counts, formulas and float64 references."""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from conftest import ROOT, apply
from PIL import Image
from scipy import stats
from scipy.special import log_softmax
from test_lenet import close

from lenet_jax import commandline, reproduce
from lenet_jax.baselines import boosting
from lenet_jax.data import dataset, distort
from lenet_jax.data import digits as embedded
from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    SGD,
    CrossEntropy,
    Data,
    Distortion,
    Experiment,
    SquaredError,
    pages,
    serialization,
)
from lenet_jax.layers.inputs import normalize
from lenet_jax.layers.pooling import MaxPooling
from lenet_jax.measurement import counting, records
from lenet_jax.models import lenet
from lenet_jax.models.connected import FullyConnected
from lenet_jax.models.lenet import LeNet1, LeNet4, LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.models.tutorial import Tutorial
from lenet_jax.recognition import networks
from lenet_jax.recognition.predictor import predictor
from lenet_jax.reports import family
from lenet_jax.reproduction import sets
from lenet_jax.training import curvature, loop, losses, optimizers, replicas, scoring, step

# A row for each system: parameters and connections, published or added up by hand.
COUNTS = {
    "lenet1": (104 + 8 + 512 + 24 + 1930, 98_442),
    "lenet4": (50_698, 262_306),
    "lenet4:17k": (16_998, 258_306),
    "boosted": (16_998, 258_306),
    "tutorial": (61_706, 117_600 + 4_704 + 240_000 + 1_600 + 48_120 + 10_164 + 850),
    "tutorial:table": (60_850, 340_908 - 840 + 850),
    # 332 of the 9 x 784 weights of c1's window lie on its border, where there is nothing to read.
    "tutorial:linear": (
        60 + 2_416 + 48_120 + 10_164 + 850,
        6 * (10 * 784 - 332) + 241_600 + 59_134,
    ),
    "tutorial:gaussian": (60_856 + 840, 117_600 + 4_704 + 240_000 + 1_600 + 58_284 + 840),
    "nielsen": (79_510, 79_510),
    "nielsen:conv": (289_630, 20 * 576 * 26 + 288_100 + 1_010),
    "nielsen:two-conv": (85_670, 20 * 576 * 26 + 40 * 64 * 501 + 64_100 + 1_010),
    "nielsen:dropout": (1_672_570, 20 * 576 * 26 + 40 * 64 * 501 + 641_000 + 1_001_000 + 10_010),
    "fully_connected": (785 * 300 + 3_010, 785 * 300 + 3_010),
    "fully_connected:300-100": (785 * 300 + 301 * 100 + 1_010,) * 2,
    "fully_connected:1000-150": (785 * 1000 + 1001 * 150 + 1_510,) * 2,
}


def page(key: str) -> Experiment:
    name, colon, variant = key.partition(":")
    return pages.load(f"{ROOT / 'experiments' / name}.py{colon}{variant}")


@pytest.mark.parametrize("key", COUNTS)
def test_counts(key):
    layers = counting.count(page(key).model)
    total = [sum(getattr(at, what) for at in layers) for what in ("parameters", "connections")]
    assert tuple(total) == COUNTS[key]
    row = rows_of((ROOT / "FAMILY.md").read_text())[page(key).name]
    if key != "boosted":  # whose row is of three networks
        multiply_adds = sum(at.multiply_adds or 0 for at in layers)
        shown = row["parameters"], row["multiply-adds"]
        assert shown == (f"{total[0]:,}", f"{multiply_adds:,}")


def test_multiply_adds_are_connections_without_biases():
    layers = counting.count(lenet.LeNet5())
    biases = 4_704 + 1_176 + 1_600 + 400 + 120 + 84  # one connection to each unit
    assert sum(at.multiply_adds or 0 for at in layers) == 340_908 - biases


@pytest.mark.parametrize("network", [LeNet5, LeNet1, LeNet4, Tutorial, FullyConnected])
def test_every_layer_begins_by_the_rule_that_is_asked_for(network):
    for leaf in jax.tree.leaves(begun(network(initialization="zeros"))):
        assert not np.any(leaf)


def test_tables_of_lenet_1_and_4():
    table = lenet.LENET_1_TABLE
    assert len(table) == 12 and sum(map(len, table)) == 20
    one_based = [{i + 1 for i in row} for row in table]
    assert one_based == [
        *({1}, {1, 2}, {1, 2}, {2}, {1, 2}, {1, 2}),
        *({3}, {3, 4}, {3, 4}, {4}, {3, 4}, {3, 4}),
    ]
    for reading, kernels in (("literal", 48), ("17k", 60)):
        table, _ = lenet.lenet_4_tables(reading)
        assert len(table) == 16 and sum(map(len, table)) == kernels
        assert all(len(set(row)) == len(row) for row in table)
        often = [sum(i in row for row in table) for i in range(8)]
        assert max(often) - min(often) <= 1 and len(set(table)) == 16
    hidden = lenet.lenet_4_tables("17k")[1]
    assert hidden and len(hidden) == 120 and sum(map(len, hidden)) == 560
    assert all(len(set(row)) == len(row) for row in hidden)
    often = [sum(i in row for row in hidden) for i in range(16)]
    assert max(often) - min(often) <= 2 and len(set(hidden)) == 120


def begun(module, seed=0) -> Any:
    """Parameters as training begins, of the size that the network's frame asks for."""
    image = normalize(jnp.zeros((1, 28, 28)), module.frame)
    return jax.jit(module.init)(jax.random.key(seed), image)["params"]


def of_size(module) -> Any:
    """Parameters like those of a trained network."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), begun(module))


ACTIVATIONS = {
    "scaled-tanh": reference.f,
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "none": lambda a: a,
}


def pooled(x, how):
    windows = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    windows = windows.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2)
    return getattr(windows, how)(axis=(2, 4))


def by_reference(module, params, image):
    """The scores of one image as a network's description says, layer by layer, in float64."""
    p = {n: {k: np.asarray(v, np.float64) for k, v in layer.items()} for n, layer in params.items()}
    f = ACTIVATIONS[module.activation]

    def conv(x, name, size, table=None):
        return reference.convolution(x, p[name]["kernel"], p[name]["bias"], size, table)

    def halved(x, name):
        return reference.f(reference.subsampling(x, p[name]["coefficient"], p[name]["bias"]))

    x = np.asarray(image, np.float64)[None]
    match type(module).__name__:
        case "LeNet1":
            x = halved(f(conv(x, "c1", 5)), "s2")
            x = halved(f(conv(x, "c3", 5, lenet.LENET_1_TABLE)), "s4")
            return f(conv(x, "output", 4))
        case "LeNet4":
            for_c3, for_c5 = lenet.lenet_4_tables(module.reading)
            x = halved(np.repeat(f(conv(x, "c1", 5)), 2, axis=0), "s2")
            x = halved(f(conv(x, "c3", 5, for_c3)), "s4")
            return f(conv(f(conv(x, "c5", 5, for_c5)), "output", 1))
        case "LeNet5":
            x = pooled(f(conv(x, "c1", 5)), "mean")
            x = pooled(f(conv(x, "c3", 5)), "mean")
            x = f(conv(f(conv(x, "c5", 5)), "f6", 1))
            if module.head == "linear":
                return conv(x, "output", 1)
            centres = p["output"]["codes"][:, :, None, None]
            logarithm = -((x - centres) ** 2).sum(1) / 2
            return np.exp(logarithm) if module.head == "gaussian" else logarithm
        case "Tutorial":
            x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
            x = pooled(f(conv(x, "c1", 3)), "max")
            x = pooled(f(conv(x, "c3", 5)), "max")
            return conv(f(conv(f(conv(x, "c5", 5)), "f6", 1)), "output", 1)
        case "FullyConnected":
            x = f(conv(f(conv(x, "h1", 28)), "h2", 1))
            return f(conv(x, "output", 1))
        case "Nielsen":
            x, kept = pooled(f(conv(x, "c1", 5)), "max"), 1 - module.dropout
            return conv(kept * f(conv(kept * x, "h1", 12)), "output", 1)
    raise AssertionError(module)


FULL: dict[str, Any] = {"table": "full", "pooling": "average"}


@pytest.mark.parametrize(
    "model",
    [
        LeNet1(),
        LeNet4(),
        LeNet4(reading="17k"),
        LeNet5(**FULL, activation="tanh", head="linear"),
        LeNet5(**FULL, activation="sigmoid", head="gaussian"),
        LeNet5(**FULL, activation="sigmoid", head="log-gaussian"),
        Tutorial(),
        Tutorial(activation="relu"),
        FullyConnected(hidden=(9, 7)),
        Nielsen(maps=(3,), hidden=(8,), dropout=0.5),
    ],
    ids=str,
)
def test_forward_equals_reference(digits, model):
    module = model
    params = of_size(module)
    if "codes" in params.get("output", {}):  # near F6, or the Gaussians would all be 0
        params["output"]["codes"] = 0.4 + 0.1 * params["output"]["codes"]
    images = normalize(jnp.asarray(digits[0][:2]), module.frame)
    scores, maps = jax.jit(partial(apply, module))(params, images)
    theirs = np.stack([by_reference(module, params, image).reshape(-1) for image in images])
    assert theirs.shape == (2, 10) and np.ptp(theirs) > 1e-6
    close(scores, theirs, 2e-5)
    assert all(state.shape[0] == 2 and state.ndim == 4 for state in maps.values())


def test_nielsens_weights_begin_as_wide_as_in_his_network3():
    module = page("nielsen:doubled").model
    params = begun(module)
    n_out = {"c1": 20 * 25 // 4, "c3": 40 * 25 // 4, "h1": 100, "h2": 100}
    assert set(params) == {*n_out, "output"}
    for name, units in n_out.items():
        kernel = np.asarray(params[name]["kernel"], np.float64)
        five_sigma = 5 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(units**-0.5, rel=five_sigma)
    biases = np.concatenate([params[name]["bias"] for name in n_out])
    assert biases.std() == pytest.approx(1, rel=5 / np.sqrt(2 * len(biases)))
    assert not any(np.any(leaf) for leaf in params["output"].values())


def test_the_largest_of_four_get_the_gradient_in_equal_shares():
    rng = np.random.default_rng(0)
    states = rng.integers(0, 3, (2, 6, 4, 5)).astype(np.float32)  # of three values many are equal
    gradient = rng.normal(size=(2, 3, 2, 5)).astype(np.float32)
    pool = MaxPooling()
    _, pull = jax.vjp(lambda x: apply(pool, {}, x), jnp.asarray(states))
    (ours,) = pull(jnp.asarray(gradient))
    theirs, shared = np.zeros(states.shape), 0
    for m, i, j, n in np.ndindex(gradient.shape):
        block = states[m, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, n]
        hit = block == block.max()
        shared += hit.sum() > 1
        theirs[m, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, n] = hit * gradient[m, i, j, n] / hit.sum()
    assert 0 < shared < gradient.size
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_gaussian_units_begin_where_nothing_can_be_learned(digits):
    """Why the tutorial's network d does not learn: in float32 its outputs and slopes are zero."""
    module = page("tutorial:gaussian").model
    images = normalize(jnp.asarray(digits[0][:50]), module.frame)
    params = begun(module)

    def loss(params):
        scores, _ = apply(module, params, images)
        return losses.cross_entropy(scores, jnp.asarray(digits[1][:50])).mean(), scores

    (_, scores), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert float(scores.max()) < 1e-9
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)) < 1e-9


def test_frames():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 28, 28)).astype(np.uint8)
    given = jnp.asarray(images)
    np.testing.assert_allclose(normalize(given, "unit"), images / 255, rtol=1e-6)
    np.testing.assert_allclose(normalize(given, "centred"), images - 33.32, atol=1e-4)
    coloured = np.stack([images] * 3, axis=3)
    np.testing.assert_allclose(normalize(coloured, "centred"), coloured - 120.7, atol=1e-4)  # type: ignore[arg-type]
    wide = np.asarray(normalize(given))
    np.testing.assert_array_equal(normalize(given, "28x28"), wide[:, 2:-2, 2:-2])
    with pytest.raises(KeyError):
        normalize(given, "30x30")


def test_lenet_1_sees_digits_of_16x16(digits):
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 4:24, 4:24] = digits[0][:5, 4:24, 4:24]  # in the box of 20x20
    smaller = (np.asarray(normalize(jnp.asarray(images), "16x16")) + 0.1) * 255 / 1.275
    for ours, image in zip(smaller, images, strict=True):
        box = Image.fromarray(image[4:24, 4:24].astype(np.float32))
        theirs = np.zeros((28, 28))
        theirs[6:22, 6:22] = np.asarray(box.resize((16, 16), Image.Resampling.BILINEAR))
        # beyond the box PIL sees its edge again, we see background
        np.testing.assert_allclose(ours[7:21, 7:21], theirs[7:21, 7:21], atol=1e-2)
        outside = np.ones((28, 28), bool)
        outside[5:23, 5:23] = False
        assert np.abs(ours[outside]).max() < 1e-3
        assert ours.sum() == pytest.approx(image.sum() * 0.64, rel=0.02)


def test_lenet_1_sees_background_beyond_the_edges_of_an_image():
    """28 pixels are 22.4 then: of 28 rows those whose middle is more than 11.2 away are empty."""
    seen = np.asarray(normalize(jnp.full((1, 28, 28), 255, jnp.uint8), "16x16"))[0]
    inside = abs(np.arange(28) - 13.5) < 11.2
    np.testing.assert_allclose(seen, np.where(inside & inside[:, None], 1.175, -0.1), atol=1e-6)


def test_shifted_versions_are_rolls_without_what_comes_round(digits):
    images = np.array(digits[0][:10])
    images[:, 0] = images[:, -1] = images[:, :, 0] = images[:, :, -1] = 0
    rolls = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    ours = distort.shifted(jnp.asarray(images), jnp.arange(10) % 5)
    for n, image in enumerate(images):
        np.testing.assert_array_equal(ours[n], np.roll(image, rolls[n % 5], (0, 1)))
    full = jnp.full((1, 28, 28), 7, jnp.uint8)
    assert (np.asarray(distort.shifted(full, jnp.array([1])))[0, 0] == 0).all()


def test_five_epochs_show_each_example_in_its_five_versions(digits):
    experiment = page("nielsen:expanded")
    recipe = step.recipe(experiment, 20, replicas.mesh(jax.devices()[:1]))
    keys = jax.random.key(0)[None]
    images = jnp.asarray(digits[0][:20])
    seen = []
    for number in range(1, 6):
        order = step.order_of_epoch(keys, number, 20, 10, experiment.order, 5)
        samples = jnp.ravel(order[0])
        shown = step.distorted(recipe, keys[0], number, samples, images[samples % 20])
        seen += [np.asarray(image).tobytes() for image in shown]
        assert sorted(np.asarray(order).ravel()) != list(range(20))
    wanted = [
        np.asarray(distort.shifted(images[p : p + 1], jnp.array([v])))[0].tobytes()
        for v in range(5)
        for p in range(20)
    ]
    assert sorted(seen) == sorted(wanted)
    again = step.order_of_epoch(keys, 6, 20, 10, experiment.order, 5)  # shuffled once
    np.testing.assert_array_equal(again, step.order_of_epoch(keys, 1, 20, 10, experiment.order, 5))


def test_gradient_descent_with_momentum_and_decay_by_hand():
    params = {"h1": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([1.0])}}
    gradient = {"h1": {"kernel": jnp.array([[0.5]]), "bias": jnp.array([-1.0])}}
    optimizer = optimizers.of(SGD(0.1, momentum=0.5, decay=0.25), 1, 1)
    state = optimizer.init(params)
    kernel, bias, speeds = 2.0, 1.0, [0.0, 0.0]
    for _ in range(3):
        updates, state = optimizer.update(gradient, state, params, curvature=None)
        params: Any = optax.apply_updates(params, updates)
        speeds = [0.5 * speeds[0] + 0.5 + 0.25 * kernel, 0.5 * speeds[1] - 1.0]
        kernel, bias = kernel - 0.1 * speeds[0], bias - 0.1 * speeds[1]
        assert float(params["h1"]["kernel"][0, 0]) == pytest.approx(kernel, rel=1e-6)
        assert float(params["h1"]["bias"][0]) == pytest.approx(bias, rel=1e-6)


def test_squared_error_by_hand_and_its_curvature(digits):
    scores = jnp.array([[0.5, -1.0, 0.0], [1.0, -1.0, -1.0]])
    ours = losses.squared_error(scores, jnp.array([0, 0]))
    np.testing.assert_allclose(ours, [0.25 + 0 + 1, 0], atol=1e-6)

    module = LeNet4()
    params = of_size(module)
    images = normalize(jnp.asarray(digits[0][:3]), module.frame)
    labels = jnp.asarray(digits[1][:3])
    scores_of = partial(apply, module)
    at_scores = partial(losses.curvature_at_scores, SquaredError(), labels=labels)
    h = jax.jit(
        lambda params: curvature.diagonal(
            lambda params: scores_of(params, images)[0], params, at_scores
        )
    )(params)
    _, maps = jax.jit(scores_of)(params, images)
    hidden = np.asarray(maps["c5"], np.float64)[:, :, 0, 0]
    kernel, bias = (np.asarray(params["output"][n], np.float64) for n in ("kernel", "bias"))
    slopes = 1.7159 * 2 / 3 / np.cosh(2 / 3 * (hidden @ kernel.T + bias)) ** 2
    # eq. 25 and 27 at the outputs: 2 f'(a)^2 x^2, averaged over the examples
    close(h["output"]["kernel"], np.einsum("ni,nj->ij", 2 * slopes**2, hidden**2) / 3)
    close(h["output"]["bias"], (2 * slopes**2).mean(0))


def test_dropout_leaves_out_half_in_training_and_halves_all_afterwards():
    module = Nielsen(maps=(), hidden=(), dropout=0.5)
    images = jnp.ones((300, 28, 28))
    params = module.init(jax.random.key(0), images[:1])["params"]
    kernel = np.zeros((10, 784), np.float32)
    kernel[np.arange(10), 7 * np.arange(10) + 300] = 1  # each output shows one input
    params["output"]["kernel"] = jnp.asarray(kernel)
    np.testing.assert_array_equal(apply(module, params, images)[0], 0.5)
    chance = {"dropout": jax.random.key(1)}
    shown = np.asarray(module.apply({"params": params}, images, rngs=chance)[0])  # type: ignore[index]
    assert set(shown.flat) == {0, 1}
    assert abs(shown.mean() - 0.5) < 5 * 0.5 / shown.size**0.5
    assert (np.abs(np.corrcoef(shown.T) - np.eye(10)) < 5 / 300**0.5).all()


def test_training_draws_other_masks_each_time_and_counts_without(digits):
    experiment = Experiment(
        name="x",
        model=Nielsen(hidden=(50,), dropout=0.5),
        loss=CrossEntropy(),
        optimizer=SGD(1e-9),  # nothing moves: only the masks can differ
        batch_size=40,
    )
    recipe = step.recipe(experiment, 40, replicas.mesh(jax.devices()[:1]))
    state = step.initial_state(recipe, np.zeros(1, np.uint32))
    noise = jax.random.normal(jax.random.key(5), state.params["output"]["kernel"].shape)
    state.params["output"]["kernel"] = noise
    images, labels = digits[0][:40], digits[1][:40]
    order = step.order_of_epoch(state.key, 1, 40, 40, "fixed")
    values = []
    for _ in range(2):
        before = float(state.loss[0])
        state = step.run_steps(recipe, state, images, labels, order, 0, 1)
        values.append(float(state.loss[0]) - before)
    plain = losses.cross_entropy(
        scoring.predict(recipe.model, jax.tree.map(lambda a: a[0], state.params), images), labels
    )
    assert abs(values[0] - values[1]) > 1e-2 and abs(values[0] - float(plain.sum())) > 1e-2


def test_nielsens_error_is_that_of_his_best_epoch(tmp_path):
    experiment = dataclasses.replace(
        page("nielsen"), epochs=20, seeds=(3,), data=Data(limit=300, validation=200),
        optimizer=SGD(learning_rate=3.0),
    )  # fmt: skip
    data = dataset.embedded(300, 200)
    run = loop.train(experiment, data, tmp_path / "run", lambda _: None)
    record = records.of([run], serialization.as_json(experiment), "nielsen", "", data, False)
    rows = run.rows
    for seed in range(3):
        held_out = [row["validation_errors"][seed] for row in rows]
        best = max(at for at in range(20) if held_out[at] == min(held_out))
        assert record["reported_epochs"][seed] == best + 1
        assert record["errors"][seed] == rows[best]["test_errors"][seed]
        params = jax.tree.map(lambda a, seed=seed: a[seed], run.params)
        images = normalize(jnp.asarray(data.test.images), "unit")
        scores, _ = apply(experiment.model, params, images)
        right = log_softmax(np.asarray(scores, np.float64), axis=1)[
            np.arange(len(images)), data.test.labels
        ]
        assert record["test_loss"][seed] == pytest.approx(-right.mean(), rel=1e-5)
    assert record["reported_epochs"] != [20, 20, 20]  # or the test could not fail


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: page("baselines"), "is no network"),
        (lambda: page("nielsen:deep"), "no variant 'deep'. There are: conv,"),
        (
            lambda: Experiment(name="x", model=LeNet1()),
            "whose scores are activations: give one of SquaredError",
        ),
        (lambda: Experiment(name="x", reported="best-validation"), "held out"),
        (lambda: Distortion(shifted=True), "versions 5"),
        (lambda: SGD(learning_rate=0), "allowed is a positive number"),
        (lambda: SGD(momentum=1), "less than 1"),
        (lambda: SGD(decay=-1), "0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_drawings_and_pages_are_for_lenet_5(tmp_path):
    written = serialization.as_json(page("lenet1")) | {"dataset": "x", "dataset_sha256": "y"}
    (tmp_path / "config.json").write_text(json.dumps(written))
    (tmp_path / "checkpoints").mkdir()
    assert networks.check(str(tmp_path)) == written
    with pytest.raises(UserError, match="holds a LeNet1, and this needs a LeNet5"):
        networks.check(str(tmp_path), only="LeNet5")


once = pytest.mark.xdist_group("family")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The set on the embedded digits, in this process, whose jax has been set up."""
    out = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commandline, "set_up_jax", lambda: None)
        assert reproduce.main(["--set", "family", "--quick", "--out", str(out)]) == 0
    return out


def record(out, name):
    return json.loads((out / "results" / f"{name}.json").read_text())


def rows_of(text):
    """The cells of a page's first table, by the names of the systems."""
    table = text[text.index("| system |") :].partition("\n\n")[0].splitlines()
    head, _, *lines = ([cell.strip() for cell in line[1:-1].split("|")] for line in table)
    return {line[0]: dict(zip(head, line, strict=True)) for line in lines}


def by_hand(record):
    """Test errors in percent as a page shows them: mean and interval, or one or two values."""
    each = [100 * n / record["test_size"] for n in record["errors"]]
    if len(each) < 3:
        return ", ".join(f"{error:.2f}" for error in each)
    low, high = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    return f"{np.mean(each):.2f} +- {(high - low) / 2:.2f}"


def check_rows(text, records):
    """The counts of each row of FAMILY.md against its record's; the rows have no others."""
    rows = rows_of(text)
    assert len(rows) == len(records)
    for name, found in records.items():
        row = rows[name]
        assert row["ours, mean and 95 % interval"] == by_hand(found)
        seeds = len(found["seeds"])
        averaged = f"{100 * found['ensemble_errors'] / found['test_size']:.2f}"
        assert (row["seeds"], row["averaged"]) == (str(seeds), averaged if seeds > 1 else "")
        assert row["epochs"] == str(found["epochs"])
        assert row["errors"] == ", ".join(map(str, found["errors"]))
    return rows


# Parameters and multiply-adds: `COUNTS` less a connection for each bias, or the paper's arithmetic.
COSTS = {
    "lenet1": (2_578, 98_442 - 2_304 - 576 - 768 - 192 - 10),
    "lenet4": (50_698, 262_306 - 6_834),
    "lenet4-17k": (16_998, 258_306 - 6_834),
    "nielsen": (79_510, 79_510 - 110),
    "fully_connected": (238_510, 238_510 - 310),
    "tutorial-linear": (61_610, 45_048 + 241_600 + 59_134 - 4_704 - 1_600 - 120 - 84 - 10),
    "classic": (60_000, 340_908 - 8_084),
    "linear": (7_850, 7_840),
    "linear-deslanted": (4_010, 4_000),
    "pairwise": (45 * 785, 45 * 784),
    "neighbours": (60_000 * 784, 60_000 * 784),
    "neighbours-deslanted": (60_000 * 400, 60_000 * 400),
}


@once
def test_the_page_has_a_row_for_each_record(quick):
    text = (quick / "FAMILY.md").read_text()
    files = {"nielsen": "nielsen", "boosted": "boosted"}
    files |= {"linear": "baselines", "virtual-svm": "baselines-virtual-svm"}
    rows = check_rows(text, {name: record(quick, file) for name, file in files.items()})
    for name in ("nielsen", "linear"):
        cost = tuple(f"{n:,}" for n in COSTS[name])
        assert (rows[name]["parameters"], rows[name]["multiply-adds"]) == cost
    calls = sum(record(quick, "boosted")["calls"]) / 2
    work = COSTS["lenet4-17k"][1] * calls
    assert rows["boosted"]["parameters"] == "50,994"
    assert rows["boosted"]["multiply-adds"] == f"{round(work):,}"
    assert all(row["published"] == "" for row in rows.values())
    assert "uci-digits" in text and "mnist" not in text
    for name in ("family-parameters", "family-multiply-adds"):
        assert (quick / "results" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_committed_page_is_of_the_committed_records():
    text = (ROOT / "FAMILY.md").read_text()
    records, published = {}, {}
    for page, how in sets.reproduced().values():
        if how.set != "family" and not how.in_family:
            continue
        name = page.name
        shown = "linear" if name == "baselines" else name.removeprefix("baselines-")
        records[shown] = record(ROOT, name)
        paper = records[shown]["config"]["paper"]
        published[shown] = f"{paper['test_error']:g}" if paper else ""
    rows = check_rows(text, records)
    assert {name: row["published"] for name, row in rows.items()} == published
    for name, cost in COSTS.items():
        assert (rows[name]["parameters"], rows[name]["multiply-adds"]) == tuple(
            f"{n:,}" for n in cost
        )
    boosted = records["boosted"]
    calls = sum(boosted["calls"]) / 5
    assert rows["boosted"]["parameters"] == f"{3 * 16_998:,}"
    assert rows["boosted"]["multiply-adds"] == f"{round(251_472 * calls):,}"
    assert f"calls {calls:.2f} networks for a digit on average (the paper 1.75)" in text
    parts = text[text.index("| part |") :].splitlines()
    assert parts[0] == "| part | without | | with | |" and len(parts) == 2 + len(PARTS)
    for line, (what, without, made) in zip(parts[2:], PARTS, strict=True):
        cells = what, without, by_hand(records[without]), made, by_hand(records[made])
        assert line == f"| {' | '.join(cells)} |"


@once
def test_a_boosted_record_adds_up(quick):
    found = record(quick, "boosted")
    made = family.row(found)
    assert made.parameters == 3 * 16_998
    calls = sum(found["calls"]) / 2
    assert 1 <= calls <= 3
    assert made.multiply_adds == round((258_306 - 3_136 - 1_568 - 1_600 - 400 - 130) * calls)
    labels = embedded.load()["test_labels"]
    for wrong, errors in zip(found["wrong"], found["errors"], strict=True):
        assert len(wrong) == errors
        assert all(labels[at] == true != prediction for at, true, prediction in wrong)
    assert all(seen % 1000 == 0 and seen > 0 for pair in found["drawn"] for seen in pair)


@once
def test_boosted_seeds_are_three_networks_each_of_their_own(quick):
    found, seconds, sums = record(quick, "boosted"), 0.0, []
    labels = embedded.load()["test_labels"]
    given = reproduce.parse(["--set", "family", "--quick"])
    seen = sets.data_of(sets.prepared(*sets.reproduced()["boosted"], given), True, print).train
    for at, seed in enumerate((0, 1)):
        folder = quick / "runs" / "reproduce" / f"boosted-{seed}"
        trained = np.zeros((len(seen), 10))
        for number in (1, 2, 3):
            one = networks.load(str(folder / str(number)))
            trained += predictor(one.module, one.params)(seen.images)
            run = json.loads((folder / str(number) / "result.json").read_text())
            assert run["seed"] == seed
            assert run["test_errors"] == found["errors_of_each"][at][number - 1]
            times = (folder / str(number) / "times.jsonl").read_text().splitlines()
            examples = run["train_size"]
            seconds += sum(examples / json.loads(line)["images_per_second"] for line in times)
        with np.load(folder / "scores.npz") as kept:
            first, added = kept["scores"][0], kept["scores"].sum(0)
        assert found["train_errors"][at] == (trained.argmax(1) != seen.labels).sum()
        sums.append(added)
        best = np.sort(first, axis=1)
        sure = best[:, -1] - best[:, -2] >= found["unsure_below"][at]
        assert found["calls"][at] == pytest.approx(3 - 2 * sure.mean(), abs=1e-4)
        predictions = np.where(sure, first.argmax(1), added.argmax(1))
        assert found["errors"][at] == (predictions != labels).sum()
        assert found["errors_always_added"][at] == (added.argmax(1) != labels).sum()
    assert (sums[0] != sums[1]).any()
    assert found["wall_seconds"] == pytest.approx(seconds, abs=1)


@once
def test_a_boosted_run_is_read_again_for_its_own_configuration_and_data_alone(quick):
    given = reproduce.parse(["--set", "family", "--quick"])
    experiment = sets.prepared(*sets.reproduced()["boosted"], given)
    assert isinstance(experiment, Experiment)
    one = dataclasses.replace(experiment, seed=1, seeds=())
    data = sets.data_of(experiment, True, print)
    folder = quick / "runs" / "reproduce" / "boosted-1"

    def never(line):
        raise AssertionError(line)

    found = boosting.train(one, data, folder, never)
    assert found.errors(data.test.labels)[:3] == record(quick, "boosted")["errors_of_each"][1]
    for other in (dict(epochs=3), dict(seed=2), dict(distortion=Distortion(rotation=1.0))):
        with pytest.raises(UserError, match=f"holds another run:\n  {next(iter(other))}"):
            boosting.train(dataclasses.replace(one, **other), data, folder, never)
    with pytest.raises(UserError, match="dataset_sha256"):
        boosting.train(one, dataclasses.replace(data, sha256="other"), folder, never)


# What is added, to which system, and which one that makes.
PARTS = (
    ("Table I, for every map of S2 to every map of C3", "classic-full-table", "classic"),
    ("RBF units, eq. 9, appendix C, for sums, softmax, Muon", "tutorial-table", "classic"),
    ("tanh, for no activation", "tutorial-linear", "tutorial-linear-tanh"),
    ("ReLU, for no activation", "tutorial-linear", "tutorial-linear-relu"),
    ("ReLU, for sigmoids", "nielsen-two-conv", "nielsen-relu"),
    ("a convolution", "nielsen", "nielsen-conv"),
    ("a second convolution", "nielsen-conv", "nielsen-two-conv"),
    ("a second hidden layer of 100", "fully_connected", "fully_connected-300-100"),
    ("distorted examples", "fully_connected", "fully_connected-300-distorted"),
    ("distorted examples", "classic", "distorted"),
    ("boosting, on distorted examples", "lenet4-17k", "boosted"),
)


def test_what_a_part_buys():
    assert family.PARTS == PARTS
    assert family.COMPARED[0] == "| part | without | | with | |"
    measured = {
        "classic": {"errors": [9, 10, 11], "test_size": 1000},
        "distorted": {"errors": [7], "test_size": 1000},
        "nielsen": {"errors": [22, 24], "test_size": 1000},
        "nielsen-conv": {"errors": [12, 13], "test_size": 1000},
    }
    assert family.parts(measured) == [
        "| a convolution | nielsen | 2.20, 2.40 | nielsen-conv | 1.20, 1.30 |",
        "| distorted examples | classic | 1.00 +- 0.25 | distorted | 0.70 |",
    ]


def test_what_is_said_of_boosting_and_of_the_vote():
    boosted = {
        "experiment": "boosted", "calls": [1.1, 1.3, 1.5], "errors_always_added": [40, 50, 60],
        "errors_of_each": [[100, 200, 300], [110, 230, 360], [120, 200, 300]],
    }  # fmt: skip
    dropout = {"experiment": "x", "seeds": [0, 1], "vote_errors": 37, "test_size": 10_000}
    said = family.notes({"boosted": boosted, "nielsen-dropout": dropout})
    assert "calls 1.30 networks for a digit on average (the paper 1.75)" in said[0]
    assert "its three misclassify 110, 210, 320 digits" in said[0] and said[0].endswith(", 50.")
    assert "plurality vote of the 2 networks" in said[1] and "37 of 10,000 digits" in said[1]
    assert len(said) == 2


def test_the_ladder_is_compared_at_equal_epochs():
    long = {
        "experiment": "nielsen", "epochs": 3, "test_size": 1000,
        "curve": {
            "validation_errors": [[9, 5], [7, 5], [1, 1]],
            "test_errors": [[90, 50], [70, 20], [10, 10]],
        },
    }  # fmt: skip
    short = long | {"epochs": 2, "curve": {name: rows[:2] for name, rows in long["curve"].items()}}
    # Within two epochs both are best after the second, the other network as after the first.
    assert family.best_within(long, 2) == family.best_within(short, 2) == [7.0, 2.0]
    assert family.best_within(long, 3) == [1.0, 1.0]
    (words,) = family.notes({"nielsen": long, "nielsen-relu": short, "lenet1": {"experiment": ""}})
    assert "nielsen 7.00, 2.00; nielsen-relu 7.00, 2.00." in words
    assert family.notes({"nielsen": long}) == []
