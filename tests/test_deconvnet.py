"""The deconvnet against one in float64 loops, against ordinary gradients, and by its properties."""

from functools import cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import apply
from flax import linen as nn
from scipy.signal import convolve2d

from lenet_jax.errors import UserError
from lenet_jax.inspection import deconvnet
from lenet_jax.layers.inputs import normalize
from lenet_jax.layers.network import Network
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nielsen import Nielsen

LAYERS = ("c1", "s2", "c3", "s4", "c5", "f6")
SIZES = {"c1": (5, 1), "s2": (6, 2), "c3": (14, 2), "s4": (16, 4), "c5": (32, 0), "f6": (32, 0)}
NETWORKS = {
    "subsampling": LeNet5(),
    "max": LeNet5(pooling="max", activation="relu"),
    "average": LeNet5(pooling="average", activation="sigmoid"),
}
ACTIVATIONS = {
    "scaled-tanh": reference.f,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "none": lambda a: a,
}


def drawn(module):
    """Normal parameters, also the biases; the coefficients of maps 0 negative."""
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32)))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[-1])
        if path[-1].key == "coefficient":
            values = np.abs(values) * np.where(np.arange(len(values)), 1, -1)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, variables["params"])


class StepByStep:
    """A LeNet-5 and its deconvnet in float64, layer by layer, with the switches in `switches`."""

    def __init__(self, module, params, image):
        self.module = module
        self.params = {
            name: {k: np.asarray(v, np.float64) for k, v in layer.items()}
            for name, layer in params.items()
        }
        f = ACTIVATIONS[module.activation]
        self.states, self.switches = {}, {}
        x = np.float64(normalize(jnp.asarray(image[None])))
        for name in LAYERS:
            if name in ("s2", "s4"):
                x = self.pool(name, x, f)
            else:
                weights, biases = self.params[name]["kernel"], self.params[name]["bias"]
                size = 1 if name == "f6" else 5
                x = f(reference.convolution(x, weights, biases, size, self.table(name)))
            self.states[name] = x

    def table(self, name):
        return reference.TABLE if name == "c3" else None

    def pool(self, name, x, f):
        if self.module.pooling == "subsampling":
            layer = self.params[name]
            return f(reference.subsampling(x, layer["coefficient"], layer["bias"]))
        maps, h, w = x.shape
        windows = x.reshape(maps, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 2, 4)
        windows = windows.reshape(maps, h // 2, w // 2, 4)
        if self.module.pooling == "average":
            return windows.mean(axis=3)
        self.switches[name] = windows.argmax(axis=3)  # the first of equal ones
        return windows.max(axis=3)

    def projection(self, layer, unit, rectified=True):
        """From one unit of a layer, (map, row, column), to the pixels."""
        signal = np.zeros_like(self.states[layer])
        signal[unit] = self.states[layer][unit]
        for name in reversed(LAYERS[: LAYERS.index(layer) + 1]):
            pooled = name in ("s2", "s4")
            activated = not pooled or self.module.pooling == "subsampling"
            if rectified and activated:
                signal = np.maximum(signal, 0)
            signal = self.unpool(name, signal) if pooled else self.filter(name, signal)
        return signal[0]

    def unpool(self, name, signal):
        maps, h, w = signal.shape
        large = np.zeros((maps, 2 * h, 2 * w))
        for m, r, c in np.ndindex(signal.shape):
            window = large[m, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            if self.module.pooling == "max":
                window[divmod(self.switches[name][m, r, c], 2)] = signal[m, r, c]
            elif self.module.pooling == "average":
                window[:] = signal[m, r, c] / 4
            else:
                window[:] = self.params[name]["coefficient"][m] * signal[m, r, c]
        return large

    def filter(self, name, signal):
        before = {"c1": 1, "c3": 6, "c5": 16, "f6": 120}[name]
        kernel = self.params[name]["kernel"].reshape(len(signal), before, -1)
        size = int(kernel.shape[2] ** 0.5)
        table = self.table(name) or [range(before)] * len(signal)
        out = np.zeros((before, *(n + size - 1 for n in signal.shape[1:])))
        for o, reads in enumerate(table):
            for i in reads:
                out[i] += convolve2d(signal[o], kernel[o, i].reshape(size, size))
        return out


IMAGE = np.random.default_rng(1).integers(1, 256, (28, 28), np.uint8)


def projected(module, params, image, layer, units, shape, rectified=True):
    """Each of the units alone."""
    kept = np.zeros((len(units), *shape), bool)
    for mask, unit in zip(kept, units, strict=True):
        mask[unit] = True
    images = np.broadcast_to(image, (len(units), *image.shape))
    found = deconvnet.projections(module, params, images, layer, kept, rectified=rectified)
    return np.array(found)


@cache
def both(name, layer, rectified=True):
    """The steps for a network, two units of a layer, and what the package projects of them."""
    module = NETWORKS[name]
    params = drawn(module)
    steps = StepByStep(module, params, IMAGE)
    states = steps.states[layer]
    units = excited(states)
    return steps, units, projected(module, params, IMAGE, layer, units, states.shape, rectified)


def excited(states):
    """The strongest units of the two maps that have the strongest."""
    maps = np.argsort(-states.max(axis=(1, 2)))[:2]
    places = (np.unravel_index(states[m].argmax(), states[m].shape) for m in maps)
    return [(int(m), int(r), int(c)) for m, (r, c) in zip(maps, places, strict=True)]


def close(ours, theirs, relative=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


CASES = [("subsampling", layer) for layer in LAYERS]
CASES += [("max", "s2"), ("max", "c3"), ("max", "f6"), ("average", "s4")]


@pytest.mark.parametrize("name, layer", CASES)
def test_it_is_the_deconvnet_step_by_step(name, layer):
    steps, units, found = both(name, layer)
    for unit, ours in zip(units, found, strict=True):
        close(ours, steps.projection(layer, unit))
    assert found.any()


def test_the_maxima_of_these_tests_are_tied_and_everywhere():
    steps, _, _ = both("max", "c3")
    assert set(np.unique(steps.switches["s2"])) == {0, 1, 2, 3}
    tied = (steps.states["s2"] == 0).mean()  # four zeros: where a gradient would be shared
    assert 0.05 < tied < 0.95


@pytest.mark.parametrize("name, layer", [("subsampling", "f6"), ("max", "c5")])
def test_without_rectification_every_slope_is_1(name, layer):
    steps, units, found = both(name, layer, rectified=False)
    for unit, ours in zip(units, found, strict=True):
        close(ours, steps.projection(layer, unit, rectified=False))
        rectified = steps.projection(layer, unit)
        assert np.abs(ours - rectified).max() > 0.01 * np.abs(ours).max()


@pytest.mark.parametrize(
    "pooling, layer", [("subsampling", "f6"), ("max", "s4"), ("average", "c5")]
)
def test_without_activations_it_is_the_vector_jacobian_product(pooling, layer):
    module = LeNet5(pooling=pooling, activation="none")
    params = drawn(module)
    inputs = normalize(jnp.asarray(IMAGE[None]))
    states, backward = jax.vjp(jax.jit(lambda x: apply(module, params, x)[1][layer]), inputs)
    for unit in excited(np.asarray(states[0])):
        (exact,) = backward(jnp.zeros_like(states).at[(0, *unit)].set(states[(0, *unit)]))
        ours = projected(module, params, IMAGE, layer, [unit], states.shape[1:], rectified=False)
        close(ours[0], np.asarray(exact[0]))


@pytest.mark.parametrize("name, layer", CASES)
def test_nothing_comes_to_where_a_unit_does_not_look(name, layer):
    steps, units, found = both(name, layer)
    size, step = SIZES[layer]
    for (number, row, column), ours in zip(units, found.copy(), strict=True):
        assert ours.any() or steps.projection(layer, (number, row, column)).max() == 0
        ours[step * row : step * row + size, step * column : step * column + size] = 0
        assert not ours.any()


def test_a_flipped_switch_is_noticed():
    _, units, found = both("max", "f6")
    steps = StepByStep(NETWORKS["max"], drawn(NETWORKS["max"]), IMAGE)
    close(found[0], steps.projection("f6", units[0]))
    steps.switches["s4"][:] ^= 3  # the places across
    assert np.abs(found[0] - steps.projection("f6", units[0])).max() > 0.1 * found[0].max()


def test_a_unit_that_is_not_excited_projects_nothing():
    steps, _, _ = both("subsampling", "c3")
    module, states = NETWORKS["subsampling"], steps.states["c3"]
    units = excited(-states)
    assert all(states[unit] < 0 for unit in units)
    assert not projected(module, drawn(module), IMAGE, "c3", units, states.shape).any()


def test_a_network_that_takes_its_maxima_before_it_activates():
    """Of a function that only grows the order is the same to the deconvnet too."""
    module = Nielsen(maps=(4,), activation="relu")
    variables: Any = module.init(jax.random.key(0), jnp.zeros((1, 28, 28)))
    params = variables["params"]
    inputs, kernel = IMAGE[None] / 255.0, np.asarray(params["c1"]["kernel"], np.float64)
    sums = reference.convolution(inputs, kernel, np.float64(params["c1"]["bias"]), 5)
    windows = sums.reshape(4, 12, 2, 12, 2)
    units = excited(windows.max(axis=(2, 4)))
    found = projected(module, params, IMAGE, "s2", units, (4, 12, 12))
    for (number, row, column), ours in zip(units, found, strict=True):
        window = windows[number, row, :, column]
        down, right = divmod(int(window.argmax()), 2)
        by_hand = np.zeros((28, 28))
        top, left = 2 * row + down, 2 * column + right
        by_hand[top : top + 5, left : left + 5] = window.max() * kernel[number].reshape(5, 5)
        close(ours, by_hand)


class Normalized(Network):
    """A colour network whose states are divided by their neighbours' before they go on."""

    frame: ClassVar[Any] = None

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        x = self.activate(nn.Conv(4, (3, 3), padding="VALID", name="c1")(images))
        x = self.activate(nn.Conv(5, (3, 3), padding="VALID", name="c2")(self.normalize(x)))
        scores = nn.Dense(2, name="output")(x.reshape(len(x), -1))
        return scores, {"c2": jnp.moveaxis(x, -1, 1)}

    def normalize(self, states: jax.Array) -> jax.Array:
        return states / (1 + (states**2).sum(axis=-1, keepdims=True))


def test_normalisation_is_passed_unchanged_and_colours_come_back():
    module = Normalized(activation="relu")
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    inputs = jnp.asarray(image[None], jnp.float32) / 255
    variables: Any = module.init(jax.random.key(3), inputs)
    params = variables["params"]
    state = np.asarray(apply(module, params, inputs)[1]["c2"])[0]
    units = excited(state)
    found = projected(module, params, image, "c2", units, state.shape)
    first, second = (np.asarray(params[name]["kernel"], np.float64) for name in ("c1", "c2"))
    for unit, ours in zip(units, found, strict=True):
        number, row, column = unit
        signal = np.maximum(float(state[unit]) * second[..., number], 0)  # [3, 3, 4]
        by_hand = np.zeros((9, 8, 3))
        for i, j in np.ndindex(3, 3):
            window = by_hand[row + i : row + i + 3, column + j : column + j + 3]
            window += first @ signal[i, j]
        close(ours, by_hand)


def test_another_librarys_network_is_refused_with_the_reason():
    module: Any = nn.Dense(3)
    with pytest.raises(UserError, match="Dense is no network of .*ordinary gradient.* saliency"):
        deconvnet.projections(module, {}, np.zeros((1, 4, 4), np.uint8), "c1", np.zeros(1))
