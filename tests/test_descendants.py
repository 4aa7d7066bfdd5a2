"""AlexNet, ZFNet and Network in Network, against counts, published sizes and float64 references."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
from flax import linen as nn
from scipy import stats
from test_lenet import close

from lenet_jax.arithmetic import correlation
from lenet_jax.data import views
from lenet_jax.errors import UserError
from lenet_jax.experiment import MAP, SDLM, SGD, CrossEntropy, Distortion, Experiment
from lenet_jax.exporting import forward, onnx
from lenet_jax.exporting import torch as exporting
from lenet_jax.inspection import deconvnet
from lenet_jax.layers.contract import check, run, shown
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import WINDOWS, images_last
from lenet_jax.layers.network import Network
from lenet_jax.layers.normalization import ResponseNormalization, WithinMapNormalization
from lenet_jax.layers.pooling import OverlappingMaxPooling
from lenet_jax.measurement import counting, evaluation
from lenet_jax.models.alexnet import AlexNet
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nin import NIN
from lenet_jax.models.zfnet import ZFNet
from lenet_jax.recognition import networks
from lenet_jax.training import curvature, losses, optimizers, replicas, scoring, step

COLOUR_NIN: dict[str, Any] = {
    **{"size": 3, "padding": 0, "maps": (192, 192, 192)},
    **{"first": (160, 192, 192), "second": (96, 192)},
}


def connections(side, inputs, maps, size, stride, padding):
    """Of one convolution, tap by tap: those that fall on the border are none. With its biases."""
    units = (side + 2 * padding - size) // stride + 1
    places = np.arange(units)[:, None] * stride - padding + np.arange(size)
    taps = int(((places >= 0) & (places < side)).sum())
    return taps**2 * inputs * maps + units**2 * maps


ALEXNET = (  # side, inputs for each map, maps, size, stride, padding
    *((227, 3, 96, 11, 4, 0), (27, 48, 256, 5, 1, 2), (13, 256, 384, 3, 1, 1)),
    *((13, 192, 384, 3, 1, 1), (13, 192, 256, 3, 1, 1)),
)
DENSE = 9217 * 4096 + 4097 * 4096 + 4097 * 1000
COUNTS = [
    (AlexNet(classes=1000), 227, 60_965_224, sum(connections(*c) for c in ALEXNET) + DENSE),
    (AlexNet(classes=1000, reading="files"), 227, 60_965_224, None),
    (AlexNet(classes=1000, groups=1), 227, 62_378_344, None),
    (ZFNet(classes=1000), 224, 62_357_608, None),
    (ZFNet(classes=1000, maps=(96, 256, 512, 1024, 512)), 224, 107_627_624, None),
]


@pytest.mark.parametrize(("model", "side", "parameters", "connected"), COUNTS)
def test_counts_of_colour_networks(model, side, parameters, connected):
    layers = counting.count(model, (side, side, 3))
    assert sum(layer.parameters for layer in layers) == parameters
    if connected is not None:  # 671,981,928: more than a float32 counts
        assert sum(layer.connections or 0 for layer in layers) == connected


class Wide(Network):
    frame = "unit"

    @nn.compact
    def __call__(self, images):
        return self.scores_and_maps(Convolution(1, 1, name="c1")(images_last(images)), {})


def test_connections_of_one_map_are_counted_to_the_last():
    """16,785,409, and with the biases twice as many: neither is a float32."""
    (layer,) = counting.count(Wide(), (4097, 4097))
    assert (layer.multiply_adds, layer.connections) == (4097**2, 2 * 4097**2)


def test_counts_of_network_in_network():
    # Row by row: windows times inputs, and a bias for each map.
    rows = [25 * 96 + 96, 96 * 64 + 64, 64 * 48 + 48, 25 * 48 * 128 + 128, 128 * 96 + 96]
    rows += [96 * 48 + 48, 25 * 48 * 128 + 128, 128 * 96 + 96, 96 * 10 + 10]
    layers = counting.count(NIN())
    assert [layer.parameters for layer in layers] == rows and sum(rows) == 349_674
    rows = [27 * 192 + 192, 192 * 160 + 160, 160 * 96 + 96, 9 * 96 * 192 + 192, 192 * 192 + 192]
    rows += [192 * 192 + 192, 9 * 192 * 192 + 192, 192 * 192 + 192, 192 * 100 + 100]
    layers = counting.count(NIN(classes=100, **COLOUR_NIN), (32, 32, 3))
    assert [layer.parameters for layer in layers] == rows
    assert (layers[0].height, layers[0].width) == (30, 30)


def sizes(model, shape):
    image = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    inputs = jax.eval_shape(partial(shown, model), image)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    _, maps = jax.eval_shape(partial(run, model), variables, inputs)
    return {name: state.shape[1:] for name, state in maps.items()}


def test_zfnets_maps_have_the_published_sizes():
    found = sizes(ZFNet(classes=1000), (256, 256, 3))  # the middle 224 are seen
    expected = {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}
    assert {name: found[name][1:] for name in expected} == {n: (s, s) for n, s in expected.items()}
    assert found["fc6"] == found["fc7"] == (4096, 1, 1)


def test_alexnets_and_nins_maps_have_the_published_sizes():
    found = sizes(AlexNet(), (227, 227, 3))
    assert [found[n] for n in ("conv1", "conv2", "conv3", "pool5")] == [
        *((96, 55, 55), (256, 27, 27), (384, 13, 13), (256, 6, 6))
    ]
    found = sizes(NIN(), (28, 28))
    assert [found[n] for n in ("conv1", "pool1", "pool2", "output")] == [
        *((96, 28, 28), (48, 14, 14), (48, 7, 7), (10, 7, 7))
    ]


# The references, in float64.


def windows(x: Any, size: int, stride: int) -> Any:
    """[maps, rows, columns, size, size]."""
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return found[:, ::stride, ::stride]


def convolved(x: Any, layer: Any, size: int, stride=1, padding=0, groups=1) -> Any:
    kernel, bias = layer["kernel"], layer["bias"]
    x = windows(np.pad(x, ((0, 0), (padding, padding), (padding, padding))), size, stride)
    inputs = len(x) // groups
    kernel = kernel.reshape(len(kernel), inputs, size, size)
    sums = []
    for m, weights in enumerate(kernel):
        first = m // (len(kernel) // groups) * inputs
        sums.append(np.tensordot(weights, x[first : first + inputs], ((0, 1, 2), (0, 3, 4))))
        sums[-1] += bias[m]
    return np.stack(sums)


def maxima(x: Any) -> Any:
    """Over 3x3 every two pixels; a window may stand out by one pixel."""
    out = ((0, 1 - n % 2) for n in x.shape[1:])
    return windows(np.pad(x, ((0, 0), *out), constant_values=-np.inf), 3, 2).max(axis=(3, 4))


def normalized(x: Any, alpha=1e-4, groups=1) -> Any:
    y, own = np.empty_like(x), len(x) // groups
    for i in range(len(x)):
        start = i // own * own
        near = range(max(start, i - 2), min(start + own, i + 3))
        y[i] = x[i] / (2 + alpha * sum(x[j] ** 2 for j in near)) ** 0.75
    return y


def normalized_within(x: Any) -> Any:
    squares = windows(np.pad(x**2, ((0, 0), (2, 2), (2, 2))), 5, 1).sum(axis=(3, 4))
    return x / (1 + 1e-3 / 25 * squares) ** 0.75


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def alexnet(p, model, x):
    g = model.groups
    if model.reading == "paper":
        x = maxima(normalized(relu(convolved(x, p["conv1"], 11, 4))))
        x = maxima(normalized(relu(convolved(x, p["conv2"], 5, 1, 2, g))))
    else:
        x = relu(maxima(normalized(convolved(x, p["conv1"], 11, 4), 1e-4 / 5, g)))
        x = normalized(relu(convolved(x, p["conv2"], 5, 1, 2, g)), 1e-4 / 5, g)
        x = maxima(normalized_within(x))
    x = relu(convolved(x, p["conv3"], 3, 1, 1))
    x = relu(convolved(x, p["conv4"], 3, 1, 1, g))
    x = maxima(relu(convolved(x, p["conv5"], 3, 1, 1, g)))
    return dense(p, x)


def zfnet(p, model, x):
    x = normalized(maxima(relu(convolved(x, p["conv1"], 7, 2, 1))))
    x = normalized(maxima(relu(convolved(x, p["conv2"], 5, 2))))
    for name in ("conv3", "conv4", "conv5"):
        x = relu(convolved(x, p[name], 3, 1, 1))
    return dense(p, maxima(x))


def dense(p, x):
    for name in ("fc6", "fc7"):  # without an rng what dropout would have left is halved
        x = 0.5 * relu(convolved(x, p[name], x.shape[1]))
    return convolved(x, p["output"], 1)


def nin(p, model, x):
    for number in (1, 2, 3):
        x = relu(convolved(x, p[f"conv{number}"], model.size, 1, model.padding))
        x = relu(convolved(x, p[f"cccp{number}a"], 1))
        x = relu(convolved(x, p[f"cccp{number}b" if number < 3 else "output"], 1))
        if number < 3:
            x = 0.5 * maxima(x)
    return x.mean(axis=(1, 2))


NARROW = {
    "alexnet": (AlexNet(maps=(8, 8, 6, 4, 4), hidden=(9, 7), classes=5), (227, 227, 3), alexnet),
    "ungrouped": (
        AlexNet(maps=(6, 5, 6, 4, 4), hidden=(9, 7), classes=5, groups=1),
        *((227, 227, 3), alexnet),
    ),
    "files": (
        AlexNet(maps=(8, 8, 6, 4, 4), hidden=(9, 7), classes=5, reading="files"),
        *((227, 227, 3), alexnet),
    ),
    "zfnet": (ZFNet(maps=(7, 6, 5, 4, 3), hidden=(9, 7), classes=5), (224, 224, 3), zfnet),
    "nin": (NIN(maps=(6, 5, 4), first=(5, 4, 4), second=(4, 3), classes=5), (28, 28), nin),
    "nin for colours": (
        NIN(size=3, padding=0, maps=(6, 5, 4), first=(5, 4, 4), second=(4, 3), classes=5),
        *((32, 32, 3), nin),
    ),
}


def drawn(model, inputs) -> Any:
    """Parameters with which the states of all layers are about as large."""
    rng = np.random.default_rng(3)

    def one(leaf):
        fan_in = leaf.shape[1] if leaf.ndim == 2 else 1
        return rng.normal(0, (2 / fan_in) ** 0.5, leaf.shape).astype(np.float32)

    return jax.tree.map(one, jax.eval_shape(model.init, jax.random.key(0), inputs)["params"])


def images_for(model) -> np.ndarray:
    (shape,) = (shape for one, shape, _ in NARROW.values() if one == model)
    return np.random.default_rng(3).integers(0, 256, (2, *shape), np.uint8)


@pytest.fixture(params=NARROW)
def narrow(request):
    """A narrow network, its reference, parameters of the size of trained ones, and two images."""
    model, _, reference = NARROW[request.param]
    inputs = np.asarray(shown(model, jnp.asarray(images_for(model))))
    return model, reference, drawn(model, inputs), inputs


def by_reference(model, reference, params, image):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(image, np.float64)
    x = x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)
    return np.ravel(reference(p, model, x))


def test_forward_equals_the_reference(narrow):
    model, reference, params, inputs = narrow
    scores, maps = jax.jit(partial(run, model))({"params": params}, inputs)
    theirs = np.stack([by_reference(model, reference, params, image) for image in inputs])
    assert scores.shape == theirs.shape == (2, 5) and np.ptp(theirs) > 1e-3
    np.testing.assert_allclose(scores, theirs, atol=3e-6 * np.abs(theirs).max(), rtol=2e-4)
    assert all(state.ndim == 4 and state.shape[0] == 2 for state in maps.values())


def test_gradients_equal_central_differences_of_the_reference(narrow):
    model, reference, params, inputs = narrow
    weights = np.random.default_rng(4).normal(size=5)

    def loss(params):
        return jnp.vdot(run(model, {"params": params}, inputs[:1])[0], weights)

    gradient = jax.jit(jax.grad(loss))(params)
    for layer in params:
        for name, leaf in params[layer].items():
            rng = np.random.default_rng(5)
            direction = rng.normal(size=leaf.shape) / np.sqrt(leaf.size)
            step, ends = 1e-5, []
            for sign in (1, -1):
                moved = {n: dict(each) for n, each in params.items()}
                moved[layer][name] = np.asarray(leaf, np.float64) + sign * step * direction
                ends.append(weights @ by_reference(model, reference, moved, inputs[0]))
            slope = (ends[0] - ends[1]) / (2 * step)
            ours = float((np.asarray(gradient[layer][name], np.float64) * direction).sum())
            assert ours == pytest.approx(slope, rel=2e-3, abs=2e-4 * abs(weights).sum()), layer


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize(
    ("inputs", "maps", "size", "stride", "groups", "height", "width"),
    [(4, 6, 5, 3, 2, 19, 22), (3, 4, 7, 2, 1, 12, 8), (6, 4, 3, 1, 2, 5, 6), (4, 6, 5, 2, 2, 5, 6)],
)
def test_strides_and_groups(monkeypatch, on_cpu, inputs, maps, size, stride, groups, height, width):
    """Value and both gradients in both formulations, against float64."""
    if not on_cpu:
        monkeypatch.setattr(
            *(correlation, "_by_platform"),
            lambda kernel, states, on_cpu, elsewhere: elsewhere(kernel, states),
        )
    rng = np.random.default_rng(size)
    kernel = rng.normal(size=(maps, inputs // groups * size**2))
    states = rng.normal(size=(inputs, height, width, 2))
    layer = {"kernel": kernel, "bias": np.zeros(maps)}
    theirs = [convolved(states[..., n], layer, size, stride, 0, groups) for n in range(2)]
    theirs = np.stack(theirs, axis=-1)
    weights = rng.normal(size=theirs.shape)
    for_kernel, for_states = np.zeros_like(kernel), np.zeros_like(states)
    own = inputs // groups
    for m, r, c, n in np.ndindex(*theirs.shape):
        first = m // (maps // groups) * own
        window = np.s_[first : first + own, stride * r : stride * r + size]
        window = (*window, np.s_[stride * c : stride * c + size], n)
        for_kernel[m] += weights[m, r, c, n] * states[window].ravel()
        for_states[window] += weights[m, r, c, n] * kernel[m].reshape(own, size, size)

    def ours(kernel, states):
        return correlation.correlate(kernel, states, size, stride, groups)

    ones = jnp.asarray(kernel, jnp.float32), jnp.asarray(states, jnp.float32)
    sums, backward = jax.vjp(ours, *ones)
    close(sums, theirs)
    for found, expected in zip(
        backward(jnp.asarray(weights, jnp.float32)), (for_kernel, for_states), strict=True
    ):
        close(found, expected)


def test_response_normalization_by_hand():
    states = jnp.asarray([1.0, 2, 3, 4, 5, 6]).reshape(6, 1, 1, 1)
    found: Any = ResponseNormalization(k=1, n=3, alpha=0.5, beta=1, groups=2).apply({}, states)
    sums = [1 + 4, 1 + 4 + 9, 4 + 9, 16 + 25, 16 + 25 + 36, 25 + 36]
    by_hand = [a / (1 + 0.5 * s) for a, s in zip((1, 2, 3, 4, 5, 6), sums, strict=True)]
    np.testing.assert_allclose(np.ravel(found), by_hand, rtol=1e-6)


def test_normalization_within_a_map_by_hand():
    states = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    found: Any = WithinMapNormalization(size=3, alpha=9.0, beta=1).apply({}, states)
    corner, middle = 1 + 4 + 16 + 25, sum(n**2 for n in range(1, 10))
    assert found[0, 0, 0, 0] == pytest.approx(1 / (1 + corner))
    assert found[0, 1, 1, 0] == pytest.approx(5 / (1 + middle))


@pytest.mark.parametrize("side", [6, 7, 13])
def test_overlapping_maxima_and_where_their_gradient_goes(side):
    rng = np.random.default_rng(0)
    states = rng.permutation(side**2 * 2).reshape(1, side, side, 2).astype(np.float32)
    pool = OverlappingMaxPooling(rounded_up=True)
    largest: Any
    largest, backward = jax.vjp(lambda x: pool.apply({}, x), states)
    for image in range(2):
        np.testing.assert_array_equal(largest[..., image], maxima(states[..., image]))
    (gradient,) = backward(jnp.ones_like(largest))
    expected = np.zeros_like(states)
    for r, c, image in np.ndindex(*largest.shape[1:]):
        window = states[0, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3, image]
        i, j = np.unravel_index(window.argmax(), window.shape)
        expected[0, 2 * r + i, 2 * c + j, image] += 1
    np.testing.assert_array_equal(gradient, expected)


def test_maxima_that_are_not_rounded_up_leave_the_last_pixel_out():
    states = jnp.zeros((1, 8, 8, 1)).at[:, 7].set(1).at[:, :, 7].set(1)
    down: Any = OverlappingMaxPooling().apply({}, states)
    up: Any = OverlappingMaxPooling(rounded_up=True).apply({}, states)
    assert down.shape == (1, 3, 3, 1) and not down.any()
    assert up.shape == (1, 4, 4, 1) and up[0, 3, 3, 0] == 1


@pytest.mark.parametrize("reading", ["paper", "files"])
def test_alexnets_weights_begin_as_published(reading):
    model = AlexNet(reading=reading, hidden=(64, 512))
    inputs = jnp.zeros((1, 227, 227, 3))
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    wide = 0.03 if reading == "files" else 0.01
    deviations = {name: 0.01 for name in params} | {f"conv{n}": wide for n in (3, 4, 5)}
    for name, layer in params.items():
        error = 4 * deviations[name] / np.sqrt(2 * layer["kernel"].size)
        assert np.std(layer["kernel"]) == pytest.approx(deviations[name], abs=error)
        ones = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
        np.testing.assert_array_equal(layer["bias"], np.full(layer["bias"].shape, ones))


@pytest.mark.parametrize(
    ("model", "fan_in"),
    [
        (AlexNet(start="scaled", hidden=(64, 512)), (363, 1200, 2304, 1728, 1728, 9216, 64)),
        (ZFNet(start="scaled", hidden=(64, 512)), (147, 2400, 2304, 3456, 3456, 9216, 64)),
    ],
)
def test_weights_that_begin_scaled_are_as_wide_as_their_inputs_allow(model, fan_in):
    size = WINDOWS[model.frame]
    inputs = jnp.zeros((1, size, size, 3))
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    names = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    for name, number in zip(names, fan_in, strict=True):
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        deviation = np.sqrt(2 / number)
        assert np.std(kernel) == pytest.approx(deviation, rel=4 / np.sqrt(2 * kernel.size))
        assert not bias.any()


@pytest.mark.parametrize("make", [AlexNet, ZFNet])
def test_a_scaled_start_sees_pixels_in_their_deviation(make):
    """The same kernels on pixels that are 58 times as large, whose network begins as published."""
    narrow = dict(maps=(6, 8, 6, 4, 4), hidden=(9, 7), classes=5)
    scaled, published = make(start="scaled", **narrow), make(**narrow)
    size = WINDOWS[scaled.frame]
    images = np.random.default_rng(0).normal(0, 58, (2, size, size, 3)).astype(np.float32)
    params = drawn(scaled, images)
    expected = run(published, {"params": params}, jnp.asarray(images / 58))[0]
    found = run(scaled, {"params": params}, jnp.asarray(images))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_windows_lie_in_the_middle_and_the_mean_colour_is_taken_off():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 230, 241, 3), np.uint8)
    expected = images[:, 1:228, 7:234].astype(np.float32) - np.array(
        [123.68, 116.78, 103.94], np.float32
    )
    np.testing.assert_allclose(shown(AlexNet(), images), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (AlexNet(), (28, 28), "227x227x3 or more, these are 28x28"),
        (AlexNet(), (256, 256, 1), "227x227x3 or more, these are 256x256x1"),
        (ZFNet(), (223, 300, 3), "224x224x3 or more, these are 223x300x3"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(model, shape, words):
    with pytest.raises(UserError, match=words):
        check(model, shape, 10)


def test_small_pictures_do_not_fit_network_in_network():
    with pytest.raises(UserError, match="NIN fails on images of 2x2x3"):
        check(NIN(size=3, padding=0), (2, 2, 3), 10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AlexNet(maps=(96, 256)), "--model.maps has 2 numbers, this network takes 5"),
        (lambda: AlexNet(groups=5), "--model.groups is 5, allowed is what divides"),
        (lambda: AlexNet(dropout=1.0), "--model.dropout is 1.0"),
        (lambda: ZFNet(hidden=(0, 10)), "--model.hidden has a layer of 0"),
        (lambda: NIN(second=(48,)), "--model.second has 1 numbers, this network takes 2"),
    ],
)
def test_fields_that_no_network_has_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def tree(**layers: Any) -> Any:
    return {
        name: {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        for name, (kernel, bias) in layers.items()
    }


def test_rates_of_biases_and_outputs():
    """NIN's: twice the rate for biases, a tenth of it for the outputs, decay of kernels alone."""
    sgd = SGD(0.1, momentum=0.5, decay=0.25, bias_rate=2.0, output_rate=0.1)
    params = tree(conv1=([[4.0]], [4.0]), output=([[4.0]], [4.0]))
    optimizer = optimizers.of(sgd, 1, 10)
    state = optimizer.init(params)
    ones = jax.tree.map(jnp.ones_like, params)
    for momentum in (1, 1.5):  # a second equal step goes half as far again
        updates, state = optimizer.update(ones, state, params)
        kernel, bias = 0.1 * (1 + 0.25 * 4) * momentum, 2 * 0.1 * momentum
        expected = tree(conv1=([[-kernel]], [-bias]), output=([[-kernel / 10]], [-bias / 10]))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), updates, expected)


def test_a_rate_falls_tenfold_after_the_epochs_named():
    rate = optimizers.schedule(SGD(0.5, falls=(2, 3)), 5, 10)
    found = [float(rate(count)) for count in (0, 19, 20, 29, 30, 49)]
    np.testing.assert_allclose(found, [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-6)


def test_weights_of_a_map_are_put_back_to_the_largest_root_mean_square():
    """Zeiler and Fergus: a map's own, after the update, and only above the radius."""
    rows = np.array([[0.3, 0.4], [0.0, 0.02]], np.float32)
    params = tree(conv1=(rows, [9.0, 9.0]), fc6=(rows, [9.0, 9.0]))
    optimizer = optimizers.of(SGD(1.0, largest_rms=0.1), 1, 1)
    gradient = jax.tree.map(lambda leaf: -leaf, params)  # each number is doubled
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    found: Any = optax.apply_updates(params, updates)
    expected = np.array([[0.6, 0.8], [0.0, 0.04]])
    np.testing.assert_allclose(found["fc6"]["kernel"], expected, rtol=1e-6)
    expected[0] *= 0.1 / np.sqrt((0.36 + 0.64) / 2)
    np.testing.assert_allclose(found["conv1"]["kernel"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["conv1"]["bias"], [18.0, 18.0])


@pytest.mark.parametrize(
    ("sgd", "words"),
    [
        (lambda: SGD(falls=(3, 2)), "optimizer.falls is 3 2"),
        (lambda: SGD(bias_rate=0), "optimizer.bias-rate is 0"),
        (lambda: SGD(largest_rms=-1), "optimizer.largest-rms is -1"),
    ],
)
def test_descents_that_are_none_are_refused(sgd, words):
    with pytest.raises(UserError, match=words):
        sgd()


@pytest.mark.parametrize(
    ("sgd", "words"),
    [
        (SGD(output_rate=0.1), "output-rate: the network has no layer named output"),
        (SGD(largest_rms=0.1), "largest-rms: the network has no layer named conv"),
        (SGD(bias_rate=2.0), "bias-rate: the network has no biases"),
        (SGD(decay=0.1), "decay: the network has no kernels"),
    ],
)
def test_rates_of_what_a_network_has_not_are_refused(sgd, words):
    with pytest.raises(UserError, match=words):
        optimizers.of(sgd, 1, 1).init({"c1": {"weight": jnp.ones((2, 2))}})


@pytest.mark.parametrize("model", [AlexNet(), ZFNet()])
def test_curvature_does_not_pass_a_normalization(model):
    """Carried back as a gradient is, it would be no curvature: neither squared nor positive."""
    with pytest.raises(UserError, match="SDLM does not go with .*response normalization"):
        Experiment("a", model, CrossEntropy(), SDLM())
    norm, states = ResponseNormalization(), jnp.ones((6, 1, 1, 2))

    def scores(scale):
        found: Any = norm.apply({}, scale * states)
        return found[:, 0, 0].T

    with pytest.raises(ValueError, match="no curvature for response normalization"):
        curvature.diagonal(scores, jnp.ones(()), jnp.ones_like)


# What a network is shown of a picture.


def pictures(number, height=9, width=11):
    """Every pixel of every picture another: its place can be told from its colours."""
    size = number * height * width
    places = np.arange(size, dtype=np.uint16).reshape(number, height, width)
    return np.stack([places // 256, places % 256, places % 7], axis=-1).astype(np.uint8)


def test_crops_and_flips_are_windows_of_the_picture_each_as_often():
    shown_ = pictures(1)[0]
    keys = jax.random.split(jax.random.key(0), 2000)
    ranges = Distortion(crops=True, flips=True)
    many = jnp.broadcast_to(shown_, (len(keys), *shown_.shape))
    found = np.asarray(jax.jit(lambda k, p: views.view(ranges, k, p, 7))(keys, many))
    places: dict[Any, int] = {}
    for one in found:
        mirrored = one[0, 0, 1] > one[0, 1, 1]
        first = (one[:, ::-1] if mirrored else one)[0, 0]
        top, left = divmod(int(first[0] * 256 + first[1]), 11)
        window = shown_[top : top + 7, left : left + 7].astype(np.float32)
        np.testing.assert_array_equal(one, window[:, ::-1] if mirrored else window)
        places[top, left, mirrored] = places.get((top, left, mirrored), 0) + 1
    assert len(places) == 3 * 5 * 2  # all there are, and evenly: 67 each
    assert stats.chisquare(list(places.values())).pvalue > 1e-3


def test_colours_move_along_their_principal_components():
    keys = jax.random.split(jax.random.key(1), 20_000)
    grey = jnp.full((len(keys), 1, 1, 3), 128, jnp.uint8)
    ranges = Distortion(colour=0.1)
    moved = np.asarray(views.view(ranges, keys, grey, None))[:, 0, 0] - 128.0
    along = moved @ views.COMPONENTS.T
    np.testing.assert_allclose(views.COMPONENTS @ views.COMPONENTS.T, np.eye(3), atol=1e-3)
    np.testing.assert_allclose(along.std(axis=0), 0.1 * views.EIGENVALUES, rtol=0.03)
    assert abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.03
    assert abs(moved.mean(axis=0)).max() < 0.2


def test_ten_views_are_the_corners_the_middle_and_their_mirror_images():
    two = pictures(2)
    found = list(views.ten(two, 5))
    assert len(found) == 10
    for at, (top, left) in enumerate([(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)]):
        window = two[:, top : top + 5, left : left + 5]
        np.testing.assert_array_equal(found[2 * at], window)
        np.testing.assert_array_equal(found[2 * at + 1], window[:, :, ::-1])


def test_ten_views_are_averaged_as_probabilities():
    module = Sum()
    params = {"weight": jnp.ones((1, 1, 1, 1)), "Dense_0": {"kernel": 0.02 * jnp.eye(3)[:, :2]}}
    params["Dense_0"]["bias"] = jnp.zeros(2)
    shown_ = np.random.default_rng(0).integers(0, 256, (3, 260, 300, 3), np.uint8)
    trained = networks.TrainedNetwork(module, params, {}, "")
    found = evaluation.of_ten_views(trained)(shown_)
    for picture, scores in zip(shown_.astype(np.float64), found, strict=True):
        chances = []
        for top, left in [(0, 0), (0, 76), (36, 0), (36, 76), (18, 38)]:
            window = picture[top : top + 224, left : left + 224] - [123.68, 116.78, 103.94]
            logits = 0.02 * window.mean(axis=(0, 1))[:2]  # the mirror image has the same mean
            chances.append(np.exp(logits) / np.exp(logits).sum())
        np.testing.assert_allclose(np.exp(scores), np.mean(chances, axis=0), rtol=1e-4)
    with pytest.raises(UserError, match="--ten-views is for networks that see a window"):
        evaluation.of_ten_views(networks.TrainedNetwork(NIN(), {}, {}, ""))


class Sum(nn.Module):
    """Scores that tell what was seen of each picture."""

    frame = "224x224"

    @nn.compact
    def __call__(self, images):
        weight = self.param("weight", nn.initializers.ones, (1, 1, 1, 1))
        return nn.Dense(2)((weight * images).mean(axis=(1, 2)))


def test_an_update_sees_other_views_in_each_epoch_and_the_same_again():
    experiment = Experiment(
        "views",
        Sum(),
        CrossEntropy(),
        SGD(),
        distortion=Distortion(crops=True, flips=True, colour=0.1),
        batch_size=2,
    ).fitted((230, 230, 3), 2)
    mesh = replicas.mesh(jax.devices()[:1])
    recipe = step.recipe(experiment, 4, mesh, (230, 230, 3))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 230, 230, 3), np.uint8))
    key, samples = jax.random.key(5), jnp.arange(4)
    first = step.distorted(recipe, key, 1, samples, images)
    assert first.shape == (4, 224, 224, 3)
    second = step.distorted(recipe, key, 2, samples, images)
    assert not np.allclose(first, second)
    # What an example is shown as does not depend on its batch.
    again = step.distorted(recipe, key, 1, samples[::-1], images[::-1])
    np.testing.assert_array_equal(again, first[::-1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distortion(flips=True, rotation=10.0), "give no other distortion with them"),
        (lambda: Distortion(crops=True, versions=3), "no --distortion.versions"),
        (lambda: Distortion(colour=-0.1), "distortion.colour is -0.1"),
        (
            lambda: Experiment("a", distortion=Distortion(flips=True)).fitted((28, 28), 10),
            "for pictures in colours, these images are 28x28",
        ),
        (
            lambda: Experiment("a", distortion=Distortion(shear=0.1)).fitted((28, 28, 3), 10),
            "these images have 3 channels",
        ),
        (
            lambda: step.recipe(
                Experiment("a", NIN(), CrossEntropy(), SGD(), distortion=Distortion(crops=True)),
                4,
                replicas.mesh(jax.devices()[:1]),
                (32, 32, 3),
            ),
            "crops does not go with NIN, which sees all of a picture",
        ),
    ],
)
def test_views_that_do_not_fit_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


# Mixed precision.


def gradients_in(precision):
    """Of LeNet-5: where a unit is nearly off, or two are equal, rounding can turn a switch."""
    model = LeNet5()
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8))
    params = jax.jit(model.init)(jax.random.key(0), shown(model, images))["params"]

    def loss(params):
        scores = scoring.predict(model, params, images, precision=precision)
        return losses.per_example(MAP())(scores, jnp.arange(8)).mean(), scores

    (_, scores), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves((scores, gradient))} == {jnp.dtype(jnp.float32)}
    return scores, np.concatenate([*map(np.ravel, jax.tree.leaves(gradient))])


def test_bfloat16_products_are_float32s_within_their_rounding():
    for exact, rounded in zip(gradients_in("float32"), gradients_in("bfloat16"), strict=True):
        error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        # Six layers round weights and states to eight bits, forward and backward: 2^-9 of each.
        assert 2**-14 < error < 2 * 6 * 2 * 2**-9


def test_bfloat16_is_refused_where_it_would_round_nothing():
    with pytest.raises(UserError, match="--precision bfloat16 does not go with Sum"):
        Experiment("a", Sum(), CrossEntropy(), SGD(), precision="bfloat16")


def test_products_of_bfloat16_are_added_up_in_float32():
    """4,096 ones and a 256: a sum in bfloat16 would stand still at 256."""
    kernel, states = np.ones((1, 4096 + 1), np.float32), np.ones((4097, 1, 1, 1), np.float32)
    states[0] = 256
    sums = correlation.correlate(jnp.bfloat16(kernel), jnp.bfloat16(states), 1)
    assert sums.dtype == jnp.float32 and sums.item() == 256 + 4096


# The deconvnet, step by step in float64.


def unpooled(signal, x):
    """Each signal to the place of the first of its window's maxima; places add up."""
    down = np.zeros((len(x), x.shape[1] + 2, x.shape[2] + 2))
    out = ((0, 1 - n % 2) for n in x.shape[1:])
    found = windows(np.pad(x, ((0, 0), *out), constant_values=-np.inf), 3, 2)
    for m, r, c in np.ndindex(*signal.shape):
        i, j = divmod(int(found[m, r, c].argmax()), 3)
        down[m, 2 * r + i, 2 * c + j] += signal[m, r, c]
    return down[:, : x.shape[1], : x.shape[2]]


def unfiltered(signal, layer, x, size, stride, padding, groups=1):
    """Through the transposed kernels to what the layer read, [inputs, h, w]."""
    down = np.zeros((len(x), x.shape[1] + 2 * padding, x.shape[2] + 2 * padding))
    own = len(x) // groups
    kernel = layer["kernel"].reshape(len(signal), own, size, size)
    for m, r, c in np.argwhere(signal):
        first = m // (len(signal) // groups) * own
        rows, columns = np.s_[stride * r : stride * r + size], np.s_[stride * c : stride * c + size]
        down[first : first + own, rows, columns] += signal[m, r, c] * kernel[m]
    return down[:, padding : padding + x.shape[1], padding : padding + x.shape[2]]


@pytest.mark.parametrize("key", ["ungrouped", "alexnet", "zfnet"])
def test_projections_equal_a_deconvnet_step_by_step(key):
    """From the strongest unit of conv3, past two poolings and two normalizations."""
    model, shape, _ = NARROW[key]
    image = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    inputs = shown(model, jnp.asarray(image[None]))
    params = drawn(model, inputs)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x0 = np.moveaxis(np.asarray(inputs[0], np.float64), -1, 0)
    first, second = ((11, 4, 0), (5, 1, 2)) if key != "zfnet" else ((7, 2, 1), (5, 2, 0))
    groups = getattr(model, "groups", 1)
    conv1 = relu(convolved(x0, p["conv1"], *first))
    if key == "zfnet":
        before1, x1 = conv1, normalized(maxima(conv1))
    else:
        before1 = normalized(conv1)
        x1 = maxima(before1)
    conv2 = relu(convolved(x1, p["conv2"], *second, groups))
    if key == "zfnet":
        before2, x2 = conv2, normalized(maxima(conv2))
    else:
        before2 = normalized(conv2)
        x2 = maxima(before2)
    conv3 = relu(convolved(x2, p["conv3"], 3, 1, 1))

    unit = np.unravel_index(conv3.argmax(), conv3.shape)
    signal = np.zeros_like(conv3)
    signal[unit] = conv3[unit]
    signal = unfiltered(relu(signal), p["conv3"], x2, 3, 1, 1)
    signal = unfiltered(relu(unpooled(signal, before2)), p["conv2"], x1, *second, groups)
    signal = unfiltered(relu(unpooled(signal, before1)), p["conv1"], x0, *first)

    kept = np.zeros((1, *conv3.shape), bool)
    kept[(0, *unit)] = True
    found = deconvnet.projections(model, params, image[None], "conv3", kept)
    assert np.abs(signal).max() > 0
    close(np.moveaxis(np.asarray(found[0]), -1, 0), signal, 1e-4)


# Exports.


def test_onnx_gives_the_references_scores(narrow):
    model, reference, params, inputs = narrow
    graph = onnx.convert(forward.forward(model, params), images_for(model).shape[1:])
    session: Any = onnxruntime.InferenceSession(graph.SerializeToString())
    (scores,) = session.run(None, {"images": images_for(model)})
    theirs = np.stack([by_reference(model, reference, params, image) for image in inputs])
    np.testing.assert_allclose(scores, theirs, atol=3e-6 * np.abs(theirs).max(), rtol=2e-4)


def test_torchs_layers_give_the_references_scores_from_its_layout(narrow):
    torch = pytest.importorskip("torch", reason="no torch to read its layout: pip install torch")
    model, reference, params, inputs = narrow
    state = exporting.state_dict(model, params, images_for(model).shape[1:])
    w = {name: torch.tensor(array) for name, array in state.items()}
    f = torch.nn.functional

    def conv(x, name, *stride_and_padding, groups=1):
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        if weight.ndim == 2:  # what it reads is one pixel wide
            return f.linear(x.flatten(1), weight, bias)[..., None, None]
        return f.conv2d(x, weight, bias, *stride_and_padding, groups=groups)

    def norm(x, alpha=1e-4):  # PyTorch divides alpha by the size
        return f.local_response_norm(x, 5, 5 * alpha, 0.75, 2.0)

    def norm_of_groups(x):
        return torch.cat([norm(part, 1e-4 / 5) for part in x.chunk(model.groups, 1)], 1)

    def norm_within(x):
        return x / (1 + 1e-3 * f.avg_pool2d(x**2, 5, 1, 2)) ** 0.75

    def pool(x):
        return f.max_pool2d(x, 3, 2, ceil_mode=True)

    x = torch.tensor(inputs)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    if isinstance(model, NIN):
        for n in (1, 2, 3):
            x = conv(x, f"conv{n}", 1, model.padding).relu()
            x = conv(x, f"cccp{n}a").relu()
            x = conv(x, f"cccp{n}b" if n < 3 else "output").relu()
            x = 0.5 * pool(x) if n < 3 else x.mean((2, 3))
    elif isinstance(model, ZFNet):
        x = norm(pool(conv(x, "conv1", 2, 1).relu()))
        x = norm(pool(conv(x, "conv2", 2).relu()))
    elif model.reading == "files":
        x = pool(norm_of_groups(conv(x, "conv1", 4))).relu()
        x = norm_of_groups(conv(x, "conv2", 1, 2, groups=model.groups).relu())
        x = pool(norm_within(x))
    else:
        x = pool(norm(conv(x, "conv1", 4).relu()))
        x = pool(norm(conv(x, "conv2", 1, 2, groups=model.groups).relu()))
    if not isinstance(model, NIN):
        groups = getattr(model, "groups", 1)
        x = conv(x, "conv3", 1, 1).relu()
        x = conv(x, "conv4", 1, 1, groups=groups).relu()
        x = pool(conv(x, "conv5", 1, 1, groups=groups).relu())
        for name in ("fc6", "fc7"):
            x = 0.5 * conv(x, name).relu()
        x = conv(x, "output").flatten(1)
    theirs = np.stack([by_reference(model, reference, params, image) for image in inputs])
    np.testing.assert_allclose(x.numpy(), theirs, atol=3e-6 * np.abs(theirs).max(), rtol=2e-4)
