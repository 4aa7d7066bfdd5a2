"""The deconvnet against one in float64 loops, against ordinary gradients, and by its properties."""

import dataclasses
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from conftest import apply
from flax import linen as nn
from scipy.signal import convolve2d

from lenet_jax import pretrained
from lenet_jax.data import digits as embedded
from lenet_jax.errors import UserError
from lenet_jax.inspection import activations, deconvnet, features
from lenet_jax.layers.inputs import normalize
from lenet_jax.layers.network import Network
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.recognition import networks

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


def drawn(module, size=32):
    """Normal parameters, also the biases; the coefficients of maps 0 negative."""
    variables: Any = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size)))
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


def projected(module, params, image, layer, units, shape, rectified: bool | None = True):
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


CASES = [("subsampling", layer) for layer in ("c1", "s2", "c3", "f6")]
CASES += [("max", "c3"), ("max", "f6"), ("average", "s4")]


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


@pytest.mark.parametrize("pooling, layer", [("subsampling", "c5"), ("max", "s4")])
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
    params = drawn(module, 28)
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


class Colour(Network):
    """States divided by their neighbours', then overlapping maxima; colours, not square."""

    frame: ClassVar[Any] = None

    maxima: bool = True

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        x = self.activate(nn.Conv(4, (3, 3), padding="VALID", name="c1")(images))
        x = (nn.max_pool if self.maxima else nn.avg_pool)(self.normalize(x), (3, 3), (2, 2))
        x = self.activate(nn.Conv(5, (2, 2), padding="VALID", name="c2")(x))
        scores = nn.Dense(2, name="output")(x.reshape(len(x), -1))
        return scores, {"c2": jnp.moveaxis(x, -1, 1)}

    def normalize(self, states: jax.Array) -> jax.Array:
        return states / (1 + (states**2).sum(axis=-1, keepdims=True))


COLOURS = np.random.default_rng(0).integers(0, 256, (12, 9, 10, 3), np.uint8)


def trained(seed, **fields):
    module = Colour(activation="relu", **fields)
    variables: Any = jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, *COLOURS.shape[1:])))
    return networks.TrainedNetwork(module, variables["params"], {}, f"epoch {seed}")


@pytest.fixture(scope="module")
def colour():
    return trained(3)


def states_of(network, images=COLOURS):
    """Of c2, by the network itself: [images, 5, 2, 2]."""
    inputs = jnp.asarray(images, jnp.float32) / 255
    return np.asarray(jax.jit(partial(apply, network.module))(network.params, inputs)[1]["c2"])


def colour_by_hand(network, image, unit):
    """The projection [9, 10, 3] of a unit of c2 in float64."""
    first, bias, second, other = (
        np.asarray(network.params[name][part], np.float64)
        for name in ("c1", "c2")
        for part in ("kernel", "bias")
    )
    number, row, column = unit
    x = np.zeros((7, 8, 4))
    for r, c in np.ndindex(7, 8):
        window = image[r : r + 3, c : c + 3] / 255.0
        x[r, c] = np.maximum(np.einsum("ijk,ijkm->m", window, first) + bias, 0)
    x /= 1 + (x**2).sum(axis=2, keepdims=True)
    down, total = np.zeros_like(x), other[number]
    switches = {}
    for i, j, m in np.ndindex(2, 2, 4):
        top, left = 2 * (row + i), 2 * (column + j)
        window = x[top : top + 3, left : left + 3, m]
        at = np.unravel_index(window.argmax(), window.shape)
        switches[i, j, m] = top + at[0], left + at[1], m
        total += window.max() * second[i, j, m, number]
    for (i, j, m), place in switches.items():
        down[place] += max(total, 0) * second[i, j, m, number]
    by_hand = np.zeros(image.shape)
    for r, c in np.ndindex(7, 8):
        by_hand[r : r + 3, c : c + 3] += first @ np.maximum(down[r, c], 0)
    return by_hand


def test_normalisation_is_passed_unchanged_and_colours_come_back(colour):
    state = states_of(colour)[0]
    units = excited(state)
    found = projected(colour.module, colour.params, COLOURS[0], "c2", units, state.shape)
    for unit, ours in zip(units, found, strict=True):
        close(ours, colour_by_hand(colour, COLOURS[0], unit))
        assert ours.any()


def test_a_network_rectifies_where_its_states_are_never_negative(colour):
    given: Any = {"relu": True, "sigmoid": True, "scaled-tanh": False}
    for activation, rectified in given.items():
        module: Any = Colour(activation=activation)
        network = dataclasses.replace(colour, module=module)
        state = states_of(network)[0]
        of = module, colour.params, COLOURS[0], "c2", excited(state), state.shape
        by_default = projected(*of, rectified=None)
        np.testing.assert_array_equal(by_default, projected(*of, rectified=rectified))
        assert (by_default != projected(*of, rectified=not rectified)).any()


@pytest.mark.parametrize("block", [3, 256])
def test_what_units_see_is_found_through_maxima_and_in_pieces(colour, monkeypatch, block):
    monkeypatch.setattr(activations, "BLOCK", block)
    rows, columns = activations.receptive_fields(colour.module, colour.params, (9, 10, 3))["c2"]
    np.testing.assert_array_equal(rows, [[0, 7], [2, 9]])
    np.testing.assert_array_equal(columns, [[0, 7], [2, 9]])


def test_of_a_tanh_the_signed_projections_are_those_that_look_like_the_images():
    """Why its signals keep their sign, as `deconvnet` says: by correlation, on average over C5."""
    module, params = pretrained.load("lenet5-best")
    images = embedded.load()["test_images"]
    best = activations.strongest(module, params, images)["c5"]
    seen = activations.seen(module, images)[best.images].mean(axis=1)  # of the nine, [120, 32, 32]
    kept = np.eye(120, dtype=bool)[:, :, None, None]
    excited = best.states[:, 0] > 0
    assert excited.sum() > 100
    alike = {}
    for rectified in (True, False):
        first = images[best.images[:, 0]]
        down = deconvnet.projections(module, params, first, "c5", kept, rectified=rectified)
        pairs = zip(np.asarray(down)[excited], seen[excited], strict=True)
        alike[rectified] = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    assert alike[False] > 0 > alike[True]


def scaled(part):
    """Zero in the middle of 0 to 1, the strongest 2 % of what is not zero as the least of them."""
    if not part.any():
        return np.full(part.shape, 0.5)
    sizes = np.sort(np.abs(part[part != 0]))
    place = 0.98 * (len(sizes) - 1)
    low, high = sizes[int(place)], sizes[min(int(place) + 1, len(sizes) - 1)]
    most = low + (place - int(place)) * (high - low)
    return 0.5 + 0.5 * np.clip(part, -most, most) / most


def data_of(ax):
    return np.asarray(ax.images[0].get_array(), np.float64)


def test_the_projections_drawn_stand_beside_what_was_seen(colour):
    figure = features.deconvolved(colour.module, colour.params, COLOURS, "a caption")
    (ax,) = figure.axes
    shown, states = data_of(ax), states_of(colour)
    dead = int((states.max(axis=(0, 2, 3)) <= 0).sum())
    title = f"C2: 5 maps ({dead} never above 0), a unit sees 7x7 pixels"
    assert dead and ax.get_title("left") == title
    width = 2 * 23 + 2  # two nines of 7x7 with gaps of 1, 2 between them, and 4 to the next map
    for number in range(5):
        order = np.argsort(-states[:, number].max(axis=(1, 2)), kind="stable")[:9]
        for place, image in enumerate(order):
            state = states[image, number]
            row, column = map(int, np.unravel_index(state.argmax(), state.shape))
            seen = np.s_[2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
            by_hand = colour_by_hand(colour, COLOURS[image], (number, row, column))[seen]
            top, left = 8 * (place // 3), (width + 4) * number + 8 * (place % 3)
            close(shown[top : top + 7, left : left + 7], scaled(by_hand), 1e-4)
            left += 25
            close(shown[top : top + 7, left : left + 7], COLOURS[image][seen] / 255)


def test_a_projection_that_is_the_same_in_every_image_is_drawn_once():
    network = trained(3, maxima=False)
    (ax,) = features.deconvolved(network.module, network.params, COLOURS).axes
    states = states_of(network)
    image = int(states[:, 0].max(axis=(1, 2)).argmax())
    unit = (0, *map(int, np.unravel_index(states[image, 0].argmax(), (2, 2))))
    found = projected(network.module, network.params, COLOURS[image], "c2", [unit], (5, 2, 2))
    part = found[0][2 * unit[1] : 2 * unit[1] + 7, 2 * unit[2] : 2 * unit[2] + 7]
    rows = np.arange(23) * 7 // 23  # as large as a nine of 7x7 with gaps of 1
    close(data_of(ax)[:23, :23], scaled(part)[np.ix_(rows, rows)], 1e-4)


def test_of_a_large_layer_the_maps_with_the_largest_states_are_drawn():
    states = np.random.default_rng(4).normal(size=(40, 9))
    zeros = np.zeros((40, 9), int)
    best = activations.Strongest(zeros, zeros, zeros, -np.sort(-states))
    numbers = features._chosen(best, features.MOST)
    assert len(numbers) == 16 and (np.diff(numbers) > 0).all()
    left = np.setdiff1d(np.arange(40), numbers)
    assert states.max(axis=1)[numbers].min() > states.max(axis=1)[left].max()


def test_development_shows_each_checkpoint_in_its_place():
    history = [trained(seed) for seed in (3, 4, 5)]
    figure = features.development(history, COLOURS)
    assert figure.get_suptitle().endswith("after\nepoch 3, epoch 4, epoch 5")
    shown = data_of(figure.axes[0])
    for time, network in enumerate(history):
        states = states_of(network)
        for number in range(5):
            image = int(states[:, number].max(axis=(1, 2)).argmax())
            state = states[image, number]
            row, column = map(int, np.unravel_index(state.argmax(), state.shape))
            by_hand = colour_by_hand(network, COLOURS[image], (number, row, column))
            part = by_hand[2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
            left = 8 * time + (3 * 8 - 1 + 4) * number
            close(shown[:7, left : left + 7], scaled(part), 1e-4)


def test_another_librarys_network_is_refused_with_the_reason():
    module: Any = nn.Dense(3)
    with pytest.raises(UserError, match="Dense is no network of .*ordinary gradient.* saliency"):
        deconvnet.projections(module, {}, np.zeros((1, 4, 4), np.uint8), "c1", np.zeros(1))
