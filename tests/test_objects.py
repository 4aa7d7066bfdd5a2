"""What a picture of one object is taken for."""

import math

import numpy as np
import pytest
from PIL import Image

from lenet_jax.data import encoded
from lenet_jax.errors import UserError
from lenet_jax.recognition import decoding, objects

RNG = np.random.default_rng(0)
CARD = {"dataset_shape": [8, 8, 3], "dataset_names": ["cat", "dog", "owl"]}


def pixels(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels)).astype(np.float32)


def test_classes_come_with_their_names_and_shares_the_likeliest_first():
    given = []

    def scores(images):
        given.append(images)
        return np.log(np.array([[1, 5, 2]], np.float32))

    found = objects.classify(pixels(20, 30), scores, CARD)
    assert [(each.label, each.name) for each in found] == [(1, "dog"), (2, "owl"), (0, "cat")]
    np.testing.assert_allclose([each.confidence for each in found], [5 / 8, 2 / 8, 1 / 8], 1e-6)
    assert found[0].score == pytest.approx(math.log(5))
    assert (given[0].shape, given[0].dtype) == ((1, 8, 8, 3), np.uint8)


def test_labels_stand_for_names_that_are_not_known():
    found = objects.classify(
        pixels(9, 9), lambda images: np.zeros((1, 2)), {"dataset_shape": [8, 8, 3]}
    )
    assert [each.name for each in found] == ["0", "1"]


def test_the_network_is_shown_what_training_shows(tmp_path):
    Image.fromarray(pixels(50, 90).astype(np.uint8)).save(tmp_path / "a.png")
    expected = encoded.decoded((tmp_path / "a.png").read_bytes(), 16)
    shown = objects.seen(decoding.pixels(tmp_path / "a.png"), (16, 16, 3))
    np.testing.assert_array_equal(shown, expected)


def test_grey_and_transparent_pictures_and_other_shapes():
    grey = pixels(12, 12)[..., 0]
    np.testing.assert_array_equal(objects.seen(grey, (12, 12, 3))[..., 2], grey)
    np.testing.assert_array_equal(objects.seen(grey, (12, 12)), grey)
    clear = np.concatenate([pixels(6, 6), np.zeros((6, 6, 1), np.float32)], axis=2)
    np.testing.assert_array_equal(objects.seen(clear, (6, 6, 3)), 255)
    half = np.full((6, 6, 4), 51, np.float32)  # alpha 0.2
    np.testing.assert_allclose(objects.seen(half, (6, 6, 3)), 255 - 0.2 * 204, atol=1)
    striped = np.zeros((40, 40, 3), np.float32)
    striped[10:30] = 90  # the middle, in which 20x40 fits
    np.testing.assert_array_equal(objects.seen(striped, (20, 40, 3)), 90)
    with pytest.raises(UserError, match="takes images of 8x8x4"):
        objects.seen(grey, (8, 8, 4))


def test_which_networks_read_digits():
    assert objects.shows_digits({}) and objects.shows_digits({"dataset_shape": [28, 28]})
    assert not objects.shows_digits(CARD) and not objects.shows_digits({"dataset_shape": [28, 30]})
