import hashlib
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import ROOT, apply

from lenet_jax.arithmetic import correlation
from lenet_jax.layers import activation
from lenet_jax.layers.codes import BITMAPS, codes
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import normalize
from lenet_jax.layers.rbf import RBF
from lenet_jax.models.lenet import TABLE_I, LeNet5
from lenet_jax.recognition.predictor import predictor


def fresh(module, seed=0):
    return jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, 32, 32)))["params"]


def parameters(module, seed=0):
    """Parameters like those of a trained network: of some size, none of them zero."""
    params = fresh(module, seed)
    keys = iter(jax.random.split(jax.random.key(seed + 1), 99))
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params)


def close(ours, theirs, relative=1e-5):
    """To float32 accuracy, measured by the largest value."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


def test_activation_constants():
    assert activation.scaled_tanh(jnp.array(1.0)) == pytest.approx(1.0, abs=3e-6)
    assert activation.scaled_tanh(jnp.array(-1.0)) == pytest.approx(-1.0, abs=3e-6)
    assert jax.grad(activation.scaled_tanh)(0.0) == pytest.approx(1.14393, abs=1e-5)
    assert jax.grad(activation.scaled_tanh)(1.0) == pytest.approx(0.7554, abs=5e-5)


@pytest.mark.parametrize("table", ["paper", "full"])
@pytest.mark.parametrize("size", [(32, 32), (36, 40)])
def test_forward_equals_reference(digits, table, size):
    module = LeNet5(table=table)
    params = parameters(module)
    images = np.random.default_rng(0).uniform(-0.1, 1.175, (3, *size)).astype(np.float32)
    images[:, :32, :32] = normalize(jnp.asarray(digits[0][:3]))
    scores, maps = jax.jit(partial(apply, module))(params, images)
    rows = reference.TABLE if table == "paper" else [list(range(6))] * 16
    for n, image in enumerate(images):
        penalties, states = reference.lenet5(params, image, codes(), rows)
        close(-scores[n], penalties[:, 0, 0] if size == (32, 32) else np.moveaxis(penalties, 0, -1))
        assert maps.keys() == states.keys()
        for name in states:
            close(maps[name][n], states[name])


def test_any_table_and_any_codes():
    rng = np.random.default_rng(1)
    table = [sorted(rng.choice(5, rng.integers(1, 6), replace=False).tolist()) for _ in range(7)]
    states = rng.normal(size=(5, 9, 8, 2)).astype(np.float32)
    conv = Convolution(7, size=3, table=tuple(map(tuple, table)))
    params: Any = conv.init(jax.random.key(0), states)["params"]
    # what lies outside the table must not matter, whatever it is
    params = {"kernel": rng.normal(size=params["kernel"].shape), "bias": rng.normal(size=7)}
    sums = apply(conv, params, states)
    centres = rng.normal(size=(4, 7)).astype(np.float32)
    rbf = RBF(code_table=tuple(map(tuple, centres.tolist())))
    scores = apply(rbf, {}, sums)
    for n in range(2):
        theirs = reference.convolution(
            states[..., n].astype(np.float64), params["kernel"], params["bias"], 3, table
        )
        close(sums[..., n], theirs)
        distances = ((theirs[None] - centres[:, :, None, None].astype(np.float64)) ** 2).sum(1)
        close(-scores[..., n], distances)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("images", [1, 40])
def test_every_formulation_of_the_convolution(monkeypatch, on_cpu, images):
    """Value and both gradients against float64, few images and many."""
    rng = np.random.default_rng(images)
    kernel, states = rng.normal(size=(4, 3 * 25)), rng.normal(size=(3, 11, 14, images))
    table, no_bias = [[0, 1, 2]] * 4, np.zeros(4)
    theirs = np.stack(
        [reference.convolution(states[..., n], kernel, no_bias, 5, table) for n in range(images)],
        axis=-1,
    )  # [4, 7, 10, images]
    if not on_cpu:
        monkeypatch.setattr(
            correlation,
            "_by_platform",
            lambda kernel, states, on_cpu, elsewhere: elsewhere(kernel, states),
        )
    ours = correlation.correlate(jnp.float32(kernel), jnp.float32(states), 5)
    close(ours, theirs)
    weights = rng.normal(size=theirs.shape)  # the objective: sum(weights * sums)
    windows = np.lib.stride_tricks.sliding_window_view(states, (5, 5), axis=(1, 2))
    for_kernel = np.einsum("mrcn,ircnyx->miyx", weights, windows).reshape(4, 75)
    for_states = np.zeros_like(states)
    for y, x in np.ndindex(5, 5):
        one = kernel.reshape(4, 3, 5, 5)[:, :, y, x]
        for_states[:, y : y + 7, x : x + 10] += np.einsum("mi,mrcn->ircn", one, weights)

    def objective(kernel, states):
        return jnp.sum(correlation.correlate(kernel, states, 5) * weights)

    gradients = jax.grad(objective, argnums=(0, 1))(jnp.float32(kernel), jnp.float32(states))
    close(gradients[0], for_kernel)
    close(gradients[1], for_states)


def test_the_platform_chooses_the_formulation():
    given = jnp.zeros((4, 75)), jnp.zeros((3, 12, 14, 40))
    traced = jax.jit(lambda kernel, states: correlation.correlate(kernel, states, 5)).trace(*given)
    for platforms, convolved, multiplied in (
        (("cpu",), False, True),
        (("cuda",), True, False),
        (("cpu", "cuda"), True, True),
    ):
        program = traced.lower(lowering_platforms=platforms).as_text()
        assert ("stablehlo.convolution" in program) == convolved
        assert ("stablehlo.dot_general" in program) == multiplied


@pytest.mark.parametrize("images", [1, 10, 40])
def test_a_window_of_all_the_states_is_a_product_of_matrices(images):
    rng = np.random.default_rng(images)
    kernel, states = rng.normal(size=(7, 75)), rng.normal(size=(3, 5, 5, images))
    weights = rng.normal(size=(7, images))  # the objective: sum(weights * sums)
    columns = states.reshape(75, images)

    def objective(kernel, states):
        sums = correlation.correlate(kernel, states, 5)
        return jnp.sum(sums[:, 0, 0] * weights), sums

    gradients, sums = jax.grad(objective, argnums=(0, 1), has_aux=True)(
        jnp.float32(kernel), jnp.float32(states)
    )
    close(sums[:, 0, 0], kernel @ columns)
    close(gradients[0], weights @ columns.T)
    close(gradients[1].reshape(75, images), kernel.T @ weights)


def test_a_window_as_high_as_the_states_slides_along_them():
    rng = np.random.default_rng(0)
    kernel, states = rng.normal(size=(2, 75)), rng.normal(size=(3, 5, 9, 2))
    windows = np.lib.stride_tricks.sliding_window_view(states, (5, 5), axis=(1, 2))
    theirs = np.einsum("miyx,ircnyx->mrcn", kernel.reshape(2, 3, 5, 5), windows)
    close(correlation.correlate(jnp.float32(kernel), jnp.float32(states), 5), theirs)


def test_predictor_gives_the_networks_scores_in_order(digits):
    module = LeNet5()
    params = parameters(module)
    predict = predictor(module, params)
    images = digits[0][:300]
    scores, _ = jax.jit(partial(apply, module))(params, normalize(jnp.asarray(images)))
    for number in (1, 5, 300):  # 300 on four devices: the last blocks are filled up
        close(predict(images[:number]), scores[:number])
    with pytest.raises(ValueError, match=r"float32 \[1, 28, 28\], expected uint8 \[n, 28, 28\]"):
        predict(images[:1].astype(np.float32))
    with pytest.raises(ValueError, match=r"\[28, 28\]"):
        predict(images[0])


# How the SHA-256 of each character of Fig. 3 begins, space to ~, taken from the images in the
# paper's PDF and not from our table: twelve rows of "#" and ".", joined by line feeds.
FIG_3 = """
a26d 836f 292b 335a 8e42 d904 a635 7565 70a5 bf9b 221e c40e 845e 7a87 5b8c 350b
5a69 7c76 bf98 aba0 b070 9a2c 7cb1 2084 f93e 242d f411 219c 4505 1737 b133 a905
97b1 d278 f2b0 f7e7 a9c7 e446 6c80 ccba f2d7 c20a 69c1 787d 8895 31a4 0bfd 9714
fea0 dd5c c3e1 e65f 9ce8 253b 0835 0d88 2ecf 0512 1031 0bdc 3c98 35da 79b6 e85f
a57a 7ffc 7925 1c96 e7c4 360a fdbe e45d 025b d7c8 a952 5bd4 73c7 65da ae68 eb52
a885 2ec8 3602 e212 42fe fcb8 dcaa 4882 a04e b946 b813 ea0b 8985 a763 4574
""".split()


def test_every_bitmap_is_that_of_fig_3():
    file = ROOT.parent / "shared" / "codes_7x12.json"  # those images themselves, where they are
    there = json.loads(file.read_text()) if file.exists() else {}
    for character, begins in zip(map(chr, range(32, 127)), FIG_3, strict=True):
        pixels = codes(character).reshape(12, 7)
        rows = ["".join("#" if p == 1 else "." for p in row) for row in pixels]
        assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:4] == begins, character
        assert rows == there.get(character, rows)


def test_codes_are_those_of_fig_3():
    assert len(BITMAPS) == 95 and set(BITMAPS) == set(map(chr, range(32, 127)))
    pictures = codes("4g").reshape(2, 12, 7)
    drawn = ["".join("#" if p == 1 else "." for p in row) for row in pictures[0]]
    assert drawn == [
        *(".#####.", ".......", ".......", ".##..##", ".##..##", "###..##"),
        *("##...##", "##...##", "##..###", ".######", ".....##", ".....##"),
    ]
    digits = codes()
    assert set(np.unique(digits)) == {-1, 1}
    assert (digits == 1).sum(1).tolist() == [35, 27, 33, 32, 41, 35, 39, 25, 43, 39]
    bits = (digits[:, None] != digits[None]).sum(-1)
    assert [bits[6, 8], bits[0, 4], bits[8, 9], bits[1, 4]] == [12, 18, 18, 50]
    everything = codes("".join(BITMAPS))
    assert len({row.tobytes() for row in everything}) == 95
    with pytest.raises(ValueError, match="é"):
        codes("é")


def test_table_1():
    assert [list(row) for row in TABLE_I] == reference.TABLE
    assert [len(row) for row in TABLE_I] == [3] * 6 + [4] * 9 + [6]
    assert [sum(i in row for row in TABLE_I) for i in range(6)] == [10] * 6


def test_first_map_of_c3_reads_three_maps_of_s2():
    module = LeNet5()
    params = parameters(module)
    conv = Convolution(16, table=TABLE_I)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 14, 14, 2)), jnp.float32)

    def first_map(x):
        return apply(conv, params["c3"], x)[0].sum()

    reached = np.abs(jax.grad(first_map)(x)).max(axis=(1, 2, 3))
    assert (reached[:3] > 0).all() and (reached[3:] == 0).all()


def test_masked_weights_have_no_gradient_and_no_value(digits):
    module = LeNet5()
    outside = Convolution(16, table=TABLE_I).mask(6) == 0
    assert outside.sum() == (96 - 60) * 25
    assert (np.asarray(fresh(module)["c3"]["kernel"])[outside] == 0).all()
    params = parameters(module)

    def total(params):
        return apply(module, params, normalize(jnp.asarray(digits[0][:4])))[0].sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(params)["c3"]["kernel"])
    assert (gradient[outside] == 0).all() and (gradient[~outside] != 0).all()


def test_adaptive_codes_are_parameters_that_start_at_fig_3():
    params = fresh(LeNet5(adaptive=True))
    np.testing.assert_array_equal(params["output"]["codes"], codes())
    assert "output" not in fresh(LeNet5())


@pytest.mark.parametrize(
    "rule, bound, biases",
    [
        ("printed", lambda fan_in: 2.4 / fan_in, True),
        ("lush", lambda fan_in: 1.3 / fan_in**0.5, False),
        ("uniform", lambda fan_in: 1 / fan_in**0.5, True),
    ],
)
def test_initialisation(rule, bound, biases):
    """Uniform between minus and plus a bound that the units' number of inputs sets."""
    params = fresh(LeNet5(initialization=rule), 3)
    for name, fan_in in {"c1": 25, "c5": 400, "f6": 120}.items():
        kernel, bias = (np.asarray(params[name][kind]) for kind in ("kernel", "bias"))
        assert 0.95 * bound(fan_in) < np.abs(kernel).max() <= bound(fan_in)
        assert kernel.std() == pytest.approx(bound(fan_in) / 3**0.5, rel=0.1)
        assert (bias != 0).all() == biases
        assert 0.6 * bound(fan_in) * biases <= np.abs(bias).max() <= bound(fan_in) * biases
    c3 = params["c3"]
    for row, bias, reads in zip(c3["kernel"], c3["bias"], TABLE_I, strict=True):
        fan_in = 25 * len(reads)
        assert 0.9 * bound(fan_in) < np.abs(row).max() <= bound(fan_in)
        assert np.abs(bias) <= bound(fan_in) * biases
    coefficients, bias = (np.asarray(params["s4"][kind]) for kind in ("coefficient", "bias"))
    assert (bias != 0).all() == biases
    if rule == "lush":
        np.testing.assert_allclose(coefficients, 0.45, rtol=1e-6)
    else:
        assert (coefficients < 0).any() and (coefficients > 0).any()
        assert 0.7 * bound(4) < np.abs(coefficients).max() <= bound(4)


def test_wrong_shapes_are_refused_with_numbers():
    states = jnp.zeros((3, 4, 4, 1))
    with pytest.raises(ValueError, match="2 rows .* 3 maps"):
        Convolution(3, table=((0,), (1,))).init(jax.random.key(0), states)
    with pytest.raises(ValueError, match=r"\[0, 7\]"):
        Convolution(1, size=3, table=((0, 7),)).init(jax.random.key(0), states)
    with pytest.raises(ValueError, match="5x5.*4x4"):
        Convolution(2).init(jax.random.key(0), states)
    with pytest.raises(ValueError, match="84 bits .* 3 units"):
        RBF().init(jax.random.key(0), states)
