"""Distortions against scipy, and against what holds for any of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from lenet_jax.data import distort
from lenet_jax.errors import UserError
from lenet_jax.experiment import Distortion


def keys(number, seed=0):
    return jax.random.split(jax.random.key(seed), number)


def test_sampling_between_pixels_is_scipys():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (9, 7)).astype(np.float32)
    rows, columns = rng.uniform(-1.5, 9.5, 120), rng.uniform(-1.5, 7.5, 120)
    ours = distort.sample(jnp.asarray(image), jnp.array([rows, columns]))
    theirs = ndimage.map_coordinates(np.pad(image, 2), [rows + 2, columns + 2], order=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-3)


def affine(image, matrix, shift):
    return np.asarray(distort.sample(image, distort.moved(image.shape, matrix, shift)))


@pytest.fixture(scope="module")
def image(digits):
    return jnp.asarray(digits[0][7], jnp.float32)


def test_no_change_returns_the_image_exactly(digits, image):
    np.testing.assert_array_equal(affine(image, jnp.eye(2), jnp.zeros(2)), image)
    images = digits[0][:5]
    tiny = distort.distort(Distortion(scaling=1e-30, shear=1e-30), keys(5), images)
    for unchanged in (tiny, distort.distort(Distortion(), keys(5), images)):
        np.testing.assert_array_equal(unchanged, images)


@pytest.mark.parametrize("down, right", [(2, 0), (0, -3), (-1, 4)])
def test_a_translation_by_whole_pixels_is_a_roll(image, down, right):
    framed = np.pad(np.asarray(image)[4:-4, 4:-4], 4)  # nothing leaves the picture
    moved = affine(jnp.asarray(framed), jnp.eye(2), -jnp.array([float(down), float(right)]))
    np.testing.assert_array_equal(moved, np.roll(framed, (down, right), axis=(0, 1)))


def test_affine_maps_equal_scipys(image):
    generator = np.random.default_rng(0)
    middle = (np.array(image.shape) - 1) / 2
    for _ in range(10):
        matrix = np.eye(2) + generator.uniform(-0.3, 0.3, (2, 2))
        shift = generator.uniform(-3, 3, 2)
        offset: Any = middle + shift - matrix @ middle
        theirs = ndimage.affine_transform(
            np.float64(image), matrix, offset, order=1, mode="grid-constant"
        )
        ours = affine(image, jnp.asarray(matrix, jnp.float32), jnp.asarray(shift, jnp.float32))
        # Grey levels change by up to 255 a pixel, and float32 places are good to 2e-6.
        np.testing.assert_allclose(ours, theirs, atol=255 * 1e-5)
        assert np.abs(theirs - np.asarray(image)).max() > 50


def test_a_map_and_its_inverse_nearly_cancel():
    rows, columns = np.indices((28, 28)) - 13.5
    blob = jnp.asarray(200 * np.exp(-(rows**2 + 2 * columns**2) / 40), jnp.float32)
    matrix, shift = jnp.array([[0.9, -0.2], [0.25, 1.05]]), jnp.array([1.5, -0.5])
    there = affine(blob, matrix, shift)
    inverse = jnp.linalg.inv(matrix)
    back = affine(jnp.asarray(there), inverse, -inverse @ shift)
    assert np.abs(there - np.asarray(blob)).max() > 50
    assert np.abs(back - np.asarray(blob)).max() < 10  # what two bilinear samplings smear


@pytest.mark.parametrize(
    "name, value, row, column",
    [
        # Where the pixel 6 right of the middle and 3 below it comes from, at the range's end.
        ("translation", 2.0, 3 + 2, 6 + 2),
        ("scaling", 0.2, 3 * np.exp(0.2), 6 * np.exp(0.2)),
        ("squeezing", 0.2, 3 * np.exp(0.2), 6 * np.exp(-0.2)),
        ("shear", 0.5, 3, 6 + 0.5 * 3),
        ("rotation", 90.0, -6, 3),
    ],
)
def test_ranges_are_reached_and_kept(monkeypatch, name, value, row, column):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, **_: jnp.ones(shape))
    matrix, shift = distort.affine_map(Distortion(**{name: value}), jax.random.key(0))
    np.testing.assert_allclose(matrix @ jnp.array([3.0, 6.0]) + shift, [row, column], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["translation", "scaling", "squeezing", "shear", "rotation", "elastic", "inverted"]
)
def test_each_range_alone_is_a_distortion(name):
    given: dict[str, Any] = {name: 0.2}
    ranges = Distortion(**given)
    assert ranges.any and ranges.moves == (name != "inverted")
    nothing = Distortion(smoothness=8.0)
    assert not nothing.any and not nothing.moves


def test_ink_stays_within_bounds(digits):
    """No map of the usual ranges makes or loses more ink than its change of area says."""
    images = digits[0][:400]
    ranges = Distortion(translation=1.0, squeezing=0.1, shear=0.2, rotation=10.0, elastic=0.5)
    changed = np.asarray(distort.distort(ranges, keys(400), images))
    assert changed.min() >= 0 and changed.max() <= 255 * (1 + 1e-6)
    assert changed.mean() == pytest.approx(images.mean(), rel=0.02)
    assert (np.abs(changed - images).mean(axis=(1, 2)) > 1).all()
    larger = np.asarray(distort.distort(Distortion(scaling=0.1), keys(400), images))
    shares = larger.sum(axis=(1, 2)) / images.sum(axis=(1, 2))
    # The area changes by up to exp(0.2); a little more where strokes are thin, or reach the edge.
    assert np.exp(-0.24) < shares.min() < np.exp(-0.16) and np.exp(0.16) < shares.max()
    assert shares.max() < np.exp(0.24)


def test_the_bumps_of_an_elastic_field_lie_evenly_about_the_middle():
    for length in (24, 28):
        bumps = distort._bumps(length, 4.0)
        np.testing.assert_allclose(bumps, bumps[::-1, ::-1], atol=1e-6)


def test_elastic_fields_have_the_size_and_smoothness_they_should():
    fields = jax.vmap(lambda key: distort.elastic_field(key, (28, 24), 1.5, 4.0))(keys(2000))
    fields = np.asarray(fields, np.float64)
    assert fields.shape == (2000, 2, 28, 24)
    # Of 2,000 draws: within 5 standard errors, 1/sqrt(n) and 1/sqrt(2n) of the size.
    assert np.abs(fields.mean(axis=0)).max() < 5 * 1.5 / np.sqrt(2000)
    np.testing.assert_allclose(fields.std(axis=0), 1.5, rtol=5 / np.sqrt(4000))
    # White noise smoothed by a Gaussian of s is correlated by exp(-d^2 / 4 s^2).
    for apart in (1, 4, 8):
        product = fields[..., apart:] * fields[..., :-apart]
        assert product.mean() / 1.5**2 == pytest.approx(np.exp(-(apart**2) / 64), abs=0.03)


def test_images_move_by_the_field_and_by_the_map():
    """A slope of 5 grey levels a pixel tells how far from where its middle comes.

    Variances add up: 1.5^2 of the field, and 2^2/3 of a shift of up to 2 pixels.
    """
    slopes = jnp.asarray(5.0 * np.indices((28, 28)) + 30).repeat(1000, axis=0)  # down, right
    ranges = Distortion(translation=2.0, elastic=1.5)
    changed = distort.distort(ranges, keys(2000), slopes)
    moved = np.asarray(changed - slopes, np.float64)[:, 13, 13].reshape(2, 1000) / 5
    np.testing.assert_allclose(moved.mean(axis=1), 0, atol=5 * 1.9 / np.sqrt(1000))
    variance = 1.5**2 + 2**2 / 3
    np.testing.assert_allclose(moved.var(axis=1), variance, rtol=5 * np.sqrt(2 / 1000))


def test_noise_inverts_a_tenth_of_the_pixels(digits):
    images = digits[0][:50]
    noisy = np.asarray(distort.distort(Distortion(inverted=0.1), keys(50), images))
    flipped = noisy != images
    assert (noisy[flipped] == 255 - images[flipped].astype(float)).all()
    expected, pixels = 0.1, images.size
    error = np.sqrt(expected * (1 - expected) / pixels)
    assert flipped.mean() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(
    "ranges, said",
    [
        ({"rotation": -1}, "--distortion.rotation is -1, allowed is 0 or more"),
        ({"elastic": float("nan")}, "Distortion: elastic is nan, allowed are finite numbers"),
        ({"smoothness": 1}, "--distortion.smoothness"),
        ({"inverted": 1.5}, "--distortion.inverted is 1.5, allowed is 0 to 1"),
        ({"versions": 0}, "--distortion.versions"),
    ],
)
def test_ranges_that_are_none_are_refused(ranges, said):
    with pytest.raises(UserError, match=said):
        Distortion(**ranges)
