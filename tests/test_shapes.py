"""The set that the package makes: what is drawn, and how hard it is."""

import math

import numpy as np
import pytest
from flax import linen as nn
from jax import numpy as jnp
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from lenet_jax.data import dataset, shapes
from lenet_jax.experiment import Adam, CrossEntropy, Data, Experiment
from lenet_jax.training import loop

AREAS = {
    "disc": math.pi,
    "ring": math.pi * (1 - 0.5**2),
    "half disc": 0.92**2 * math.pi / 2,
    # without what two circles of radius 1 and a distance of 0.7 have in common
    "crescent": math.pi - (2 * math.acos(0.35) - 0.35 * math.sqrt(4 - 0.7**2)),
    "triangle": 3 * math.sqrt(3) / 4,
    "square": 2,
    "bar": 1.9 * 0.5,
    "cross": 0.95**2 * (2 * (2 * 0.6) - 0.6**2),
    "corner": 1.4**2 - 0.9**2,
    "star": 10 * 0.4 * math.sin(math.pi / 5) / 2,
}


@pytest.mark.parametrize("kind", shapes.KINDS)
def test_a_kind_is_drawn_as_it_is_called(kind):
    """Its area by hand, also after a turn, the ring's hole left out; and it fits the circle."""
    outline = shapes.KINDS[kind]
    assert np.hypot(*outline.T).max() <= 1 + 1e-9
    for degrees in (0, 33):
        turned = 0.4 * outline @ shapes._turn(degrees) + 0.5

        def draw(canvas, scale, turned=turned):
            canvas.polygon(shapes._at(turned, scale), (255, 0, 0, 255))

        covered, _ = shapes._drawn(256, draw)
        assert covered.mean() == pytest.approx(0.4**2 * AREAS[kind], rel=0.03)


def test_a_picture_depends_on_its_number_alone():
    data = dataset.load(name="shapes")
    some = data.train.images[np.array([17, 4, 17])]
    for image, number in zip(some, (17, 4, 17), strict=True):
        np.testing.assert_array_equal(image, shapes.picture(0, number, 32))
    assert (shapes.picture(0, 17, 32) != shapes.picture(1, 17, 32)).mean() > 0.9
    assert (shapes.picture(0, 17, 32) != shapes.picture(0, 27, 32)).mean() > 0.9
    limited = dataset.load(name="shapes", limit=20, validation=30)
    np.testing.assert_array_equal(limited.validation.images[0], shapes.picture(0, 9970, 32))


def test_all_sizes_show_the_same():
    """But for the noise, which is of the pixels, and finer stripes."""
    for number in range(20):
        small, large = (shapes.picture(0, number, side).astype(float) for side in (32, 128))
        shrunk = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 12
        other = shapes.picture(0, number + 10, 32)
        assert np.abs(shrunk - other).mean() > 24


def test_the_set_says_what_it_is(monkeypatch):
    data = dataset.load(name="shapes", size=48)
    assert (data.name, data.shape, data.classes) == ("shapes", (48, 48, 3), 10)
    assert data.names[3] == "crescent" and "made by lenet_jax" in data.source
    for part, number in ((data.train, 10_000), (data.test, 2_000)):
        assert len(part) == number
        np.testing.assert_array_equal(np.bincount(part.labels), number // 10)
    assert dataset.load(name="shapes", size=48).sha256 == data.sha256
    assert dataset.load(name="shapes", size=49).sha256 != data.sha256
    for name in ("SEED", "RECIPE"):
        with monkeypatch.context() as changed:
            changed.setattr(shapes, name, 7)
            assert dataset.load(name="shapes", size=48).sha256 != data.sha256


def test_a_linear_classifier_fails():
    data = dataset.load(name="shapes")
    shown, test = (
        np.asarray(part.part(slice(2000)).images).reshape(2000, -1) / 127.5 - 1
        for part in (data.train, data.test)
    )
    fitted = RidgeClassifier(alpha=300).fit(shown, data.train.labels[:2000])
    assert fitted.score(test, data.test.labels) < 0.4


def test_colours_say_nothing_of_the_kind():
    """Neither that of the ground, at the edge, nor that of the middle, where a shape may be."""
    images = dataset.load(name="shapes").train.part(slice(2000))
    pixels = np.asarray(images.images).astype(float)
    edge = np.concatenate([pixels[:, 0], pixels[:, -1]], axis=1).mean(1)
    middle = pixels[:, 14:18, 14:18].mean((1, 2))
    for colours in (edge, middle):
        fitted = KNeighborsClassifier(9).fit(colours[:1500], images.labels[:1500])
        assert fitted.score(colours[1500:], images.labels[1500:]) < 0.2


class Small(nn.Module):
    """Three convolutions, as patches x matrix: XLA's own are slow in a loop on a CPU."""

    @nn.compact
    def __call__(self, images):
        x = images - images.mean((1, 2), keepdims=True)
        x = 2 * jnp.concatenate([x, jnp.linalg.norm(x, axis=-1, keepdims=True)], axis=-1)
        x = nn.relu(nn.Dense(24)(patches(x, 5, 2)))
        for maps in (32, 64):
            x = nn.relu(nn.Dense(maps)(patches(x, 3, 1)))
            n, height, width, _ = x.shape
            x = x.reshape(n, height // 2, 2, width // 2, 2, maps).max((2, 4))
        x = nn.relu(nn.Dense(128)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def patches(x, size, stride):
    """What a window of size x size sees at each place, [n, height, width, size size channels]."""
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    shifted = [
        x[:, row : row + height : stride, column : column + width : stride]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def test_a_small_convolutional_network_passes(tmp_path):
    experiment = Experiment(
        "shapes",
        Small(),
        CrossEntropy(),
        Adam(learning_rate=0.003),
        Data("shapes", limit=6000),
        epochs=3,
        batch_size=16,
        order="reshuffled",
    )
    data = dataset.of(experiment.data)
    result = loop.train(experiment, data, tmp_path / "run", print)
    assert result.record["test_size"] == 2000
    assert result.record["test_errors"] < 0.05 * 2000
