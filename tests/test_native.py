"""The native kernels against float64 references; the gate runs this under the sanitizers too."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_jax.data import distort
from lenet_jax.experiment import Distortion
from lenet_jax.models.lenet import TABLE_I
from lenet_jax.native import formulation, library, operations
from lenet_jax.native.operations import Convolved

pytestmark = pytest.mark.skipif(
    library.kind(build=True) != "native", reason=library.remark() or "LENET_JAX_KERNELS is xla"
)

FUNCTIONS = {  # a state of a sum, and the slope there
    "none": (lambda a: a, np.ones_like),
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0).astype(float)),
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "scaled-tanh": (
        lambda a: 1.7159 * np.tanh(2 / 3 * a),
        lambda a: 1.7159 * 2 / 3 / np.cosh(2 / 3 * a) ** 2,
    ),
    "sigmoid": (
        lambda a: 1 / (1 + np.exp(-a)),
        lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2,
    ),
}


def mask(how, maps, inputs):
    """Which weights are connections, [maps, inputs, 1, 1] for each group's inputs."""
    table = np.ones((maps, inputs)) if how.table is None else np.array(how.table)
    return table[:, :, None, None]


def reference(how, kernel, bias, states, weights):
    """States, and the gradients of kernel, bias and inputs of sum(weights * states), in float64."""
    maps, groups, s, k = len(kernel), how.groups, how.stride, how.size
    inputs = len(states) // groups
    each = kernel.astype(float).reshape(maps, inputs, k, k) * mask(how, maps, inputs)
    p = how.padding
    x = np.pad(states.astype(float), ((0, 0), (p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::s, ::s]
    out, of_kernel, of_x = [], [], np.zeros_like(x)
    function, slope = FUNCTIONS[how.activation]
    for g in range(groups):
        own = slice(g * maps // groups, (g + 1) * maps // groups)
        read = windows[g * inputs : (g + 1) * inputs]
        sums = np.einsum("mikl,ircnkl->mrcn", each[own], read)
        sums += bias.astype(float)[own, None, None, None]
        d = weights[own] * slope(sums)
        out.append((function(sums), d))
        of_kernel.append(np.einsum("mrcn,ircnkl->mikl", d, read))
        rows, columns = sums.shape[1:3]
        for i, j in np.ndindex(k, k):
            part = np.einsum("mi,mrcn->ircn", each[own][:, :, i, j], d)
            down, right = (
                slice(i, i + s * (rows - 1) + 1, s),
                slice(j, j + s * (columns - 1) + 1, s),
            )
            of_x[g * inputs : (g + 1) * inputs, down, right] += part
    of_kernel = np.concatenate(of_kernel) * mask(how, maps, inputs)
    values, slopes = (np.concatenate(parts) for parts in zip(*out, strict=True))
    inside = of_x[:, p : of_x.shape[1] - p, p : of_x.shape[2] - p]
    return values, of_kernel.reshape(kernel.shape), slopes.sum(axis=(1, 2, 3)), inside


def drawn(how, maps, inputs, height, width, images, seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.3, (maps, inputs // how.groups * how.size**2))
    bias, states = rng.normal(size=maps), rng.normal(size=(inputs, height, width, images))
    rows, columns = ((n + 2 * how.padding - how.size) // how.stride + 1 for n in (height, width))
    weights = rng.normal(size=(maps, rows, columns, images))
    return tuple(a.astype(np.float32) for a in (kernel, bias, states, weights))


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=4e-6 * max(1, abs(theirs).max()))


def compare(how, maps, inputs, height, width, images, seed=0):
    kernel, bias, states, weights = drawn(how, maps, inputs, height, width, images, seed)
    values, *gradients = reference(how, kernel, bias, states, weights)

    def objective(kernel, bias, states):
        return jnp.vdot(operations.convolve(how, kernel, bias, states), weights)

    close(operations.convolve(how, kernel, bias, states), values)
    for asked in ((0, 1, 2), (0, 1)):  # of a first layer's inputs nobody asks for the gradient
        ours = jax.grad(objective, asked)(*map(jnp.asarray, (kernel, bias, states)))
        for mine, theirs in zip(ours, gradients, strict=asked == (0, 1, 2)):
            close(mine, theirs)


TABLE = tuple(tuple(int(i in row) for i in range(6)) for row in TABLE_I)
LAYERS = {
    "C1": (Convolved(5, 1, 0, 1, "scaled-tanh", None), 6, 1, 32, 32),
    "C3": (Convolved(5, 1, 0, 1, "scaled-tanh", TABLE), 16, 6, 14, 14),
    "padded": (Convolved(3, 1, 1, 1, "relu", None), 7, 3, 9, 13),
    "groups": (Convolved(5, 1, 2, 2, "tanh", None), 8, 4, 13, 11),
    "strides": (Convolved(11, 4, 0, 1, "sigmoid", None), 5, 2, 23, 26),
    "strides, padded": (Convolved(7, 2, 1, 1, "none", None), 9, 3, 10, 13),
    "odd": (Convolved(2, 1, 1, 1, "relu", None), 11, 5, 5, 4),
    "tall": (Convolved(4, 1, 3, 1, "tanh", None), 3, 2, 40, 2),
}


@pytest.mark.parametrize("images", [1, 2, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_convolutions_and_its_gradients(name, images):
    compare(*LAYERS[name], images)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_layers_of_any_shape(data):
    def number(least, most):
        return data.draw(st.integers(least, most))

    size, groups = number(1, 6), number(1, 2)
    padding, stride = number(0, size - 1), number(1, 3)
    least = max(1, size - 2 * padding)
    maps, inputs = groups * number(1, 8), groups * number(1, 4)
    table = None
    if groups == 1 and number(0, 1):
        table = tuple(tuple(number(0, 1) for _ in range(inputs)) for _ in range(maps))
    activation = data.draw(st.sampled_from(operations.ACTIVATIONS))
    how = Convolved(size, stride, padding, groups, activation, table)
    compare(how, maps, inputs, number(least, 12), number(least, 12), number(1, 20), number(0, 99))


@pytest.mark.parametrize("images", [1, 2, 16, 17])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (11, 7), (2, 2)])
@pytest.mark.parametrize("activation", ["scaled-tanh", "none"])
def test_subsampling_and_its_gradients(images, height, width, activation):
    rng = np.random.default_rng(images)
    coefficient, bias = (rng.normal(size=5).astype(np.float32) for _ in range(2))
    states = rng.normal(size=(5, height, width, images)).astype(np.float32)
    rows, columns = height // 2, width // 2
    weights = rng.normal(size=(5, rows, columns, images)).astype(np.float32)
    even = states[:, : 2 * rows, : 2 * columns].astype(float)
    four = even.reshape(5, rows, 2, columns, 2, images).sum(axis=(2, 4))
    wide = (slice(None), None, None, None)
    sums = four * coefficient[wide] + bias[wide]
    function, slope = FUNCTIONS[activation]
    d = weights * slope(sums)
    of_states = np.zeros(states.shape)
    of_states[:, : 2 * rows, : 2 * columns] = (
        (d * coefficient[wide]).repeat(2, axis=1).repeat(2, axis=2)
    )

    def objective(*given):
        return jnp.vdot(operations.subsample(activation, *given), weights)

    close(operations.subsample(activation, coefficient, bias, states), function(sums))
    ours = jax.grad(objective, (0, 1, 2))(*map(jnp.asarray, (coefficient, bias, states)))
    axes = (1, 2, 3)
    for mine, theirs in zip(ours, ((d * four).sum(axes), d.sum(axes), of_states), strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("images", [1, 3, 17])
@pytest.mark.parametrize(
    ("shape", "shown"), [((28, 28), (28, 28)), ((7, 12), (9, 5)), ((1, 1), (3, 3))]
)
def test_sampled_images(images, shape, shown):
    """Against SciPy, in float64; places beyond the edges are 0."""
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (images, *shape)).astype(np.float32)
    edge = np.array(shape).reshape(2, 1, 1)
    places = rng.uniform(-3, edge + 2, (images, 2, *shown)).astype(np.float32)
    places[0, :, 0, 0], places[0, :, 0, 1], places[0, :, 0, 2] = -1e9, 1e9, edge[:, 0, 0] - 1
    ours = jax.vmap(operations.sample)(jnp.asarray(pictures), jnp.asarray(places))
    theirs = [
        scipy.ndimage.map_coordinates(
            picture.astype(float), place.astype(float), order=1, mode="grid-constant"
        )
        for picture, place in zip(pictures, places, strict=True)
    ]
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_distorted_images_are_those_of_the_other_formulation():
    """Each image by its own key, with the same random numbers: equal to float32 rounding."""
    ranges = Distortion(translation=2, rotation=10, scaling=0.1, elastic=1.2, inverted=0.1)
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (5, 28, 28), np.uint8))
    keys = jax.random.split(jax.random.key(2), 5)
    both = [
        jax.jit(partial(distort.distort, ranges, sample=sample))(keys, images)
        for sample in (formulation.sample, distort.sample)
    ]
    np.testing.assert_allclose(*both, atol=1e-3)
    assert np.ptp(np.asarray(both[0])) > 200


@pytest.mark.parametrize("name", LAYERS)
def test_states_of_an_image_do_not_depend_on_its_batch(name):
    how, maps, inputs, height, width = LAYERS[name]
    kernel, bias, states, _ = drawn(how, maps, inputs, height, width, 19)
    whole = np.asarray(operations.convolve(how, kernel, bias, states))
    for some in (slice(0, 1), slice(3, 19), slice(2, 19)):
        part = operations.convolve(how, kernel, bias, np.ascontiguousarray(states[..., some]))
        np.testing.assert_array_equal(part, whole[..., some])


def test_two_devices_at_once_do_not_disturb_each_other():
    """Layers of different sizes, so that each wants other buffers than the one beside it."""
    devices = jax.devices()[:2]
    assert len(devices) == 2

    def program(name, device):
        how, *shape = LAYERS[name]
        kernel, bias, states, weights = drawn(how, *shape, images=17)
        given = jax.device_put((kernel, bias, states), device)

        def objective(kernel, bias, states):
            return jnp.vdot(operations.convolve(how, kernel, bias, states), weights)

        gradient = jax.jit(jax.grad(objective, (0, 1, 2)))
        return lambda: jax.tree.map(np.asarray, gradient(*given))

    programs = [program("C1", devices[0]), program("C3", devices[1])]
    alone = [run() for run in programs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda n: programs[n % 2](), range(60)))
    for n, gradients in enumerate(together):
        jax.tree.map(np.testing.assert_array_equal, gradients, alone[n % 2])


@pytest.mark.parametrize("activation", operations.ACTIVATIONS)
def test_what_is_not_finite_comes_through(activation):
    """To the units that read it, and to no other."""
    how = Convolved(3, 1, 0, 1, activation, None)
    kernel, bias, states, _ = drawn(how, 4, 2, 8, 9, 5)
    for bad in (np.nan, np.inf):
        given = states.copy()
        given[1, 4, 4, 2] = bad
        out = np.asarray(operations.convolve(how, kernel, bias, given))
        sums = np.asarray(
            operations.convolve(Convolved(3, 1, 0, 1, "none", None), kernel, bias, given)
        )
        reached = np.zeros(out.shape, bool)
        reached[:, 2:5, 2:5, 2] = True
        assert not np.isfinite(sums[reached]).any()
        np.testing.assert_array_equal(np.isnan(out), reached & np.isnan(sums))
        plain = operations.convolve(how, kernel, bias, states)
        np.testing.assert_array_equal(out[~reached], np.asarray(plain)[~reached])
