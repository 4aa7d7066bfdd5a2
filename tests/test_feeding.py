"""Whether a run is the same where its images have no room on the devices and are sent to them."""

import dataclasses

import jax
import numpy as np
import pytest

from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.experiment import SDLM, Arrays, CrossEntropy, Distortion, Experiment
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import feeding, loop, replicas

RNG = np.random.default_rng(0)


def images(number):
    pixels = RNG.integers(0, 256, (number, 28, 28), np.uint8)
    return Images(pixels, RNG.integers(0, 10, number).astype(np.int32))


DATASET = Dataset("noise", "drawn here", "0" * 64, images(52), images(7), images(11))
EXPERIMENT = Experiment(
    name="linear",
    model=Nielsen(hidden=()),
    loss=CrossEntropy(),
    optimizer=SDLM(mu=0.05, learning_rates=(0.02,), samples=20),
    epochs=3,
    batch_size=8,  # so that the last of an epoch is short
)
NO_ROOM = 3 * 8 * 784  # bytes: three batches of one network, or 24 images that are counted


@pytest.fixture
def no_room(monkeypatch):
    monkeypatch.setattr(feeding, "RESIDENT", 0.0)
    monkeypatch.setattr(feeding, "SENT", NO_ROOM)


@pytest.mark.parametrize(
    "more",
    [
        {"devices": 1},
        {"devices": 4},
        {"devices": 2, "seeds": (0, 1, 2)},  # they do not divide
        {"devices": 1, "distortion": Distortion(translation=2.0)},
        {"devices": 2, "distortion": Distortion(rotation=9.0, versions=2), "seeds": (4, 5)},
        {"devices": 1, "distortion": Distortion(shifted=True, versions=5), "order": "reshuffled"},
    ],
)
def test_a_run_is_the_same_bit_for_bit(more, tmp_path, monkeypatch, request):
    experiment = dataclasses.replace(EXPERIMENT, **more)
    resident = loop.train(experiment, DATASET, tmp_path / "resident", print)
    request.getfixturevalue("no_room")
    streamed = loop.train(experiment, DATASET, tmp_path / "streamed", print)
    assert streamed.rows == resident.rows and len(streamed.rows) == 3
    jax.tree.map(np.testing.assert_array_equal, streamed.params, resident.params)


def test_where_there_is_room_is_decided_by_the_memory_of_the_devices(monkeypatch):
    """The cores of a CPU have one memory for the images of each."""
    monkeypatch.setattr(replicas, "memory_of", lambda _: 4 * 2 * DATASET.train.images.nbytes)

    def feed(devices):
        mesh = replicas.mesh(jax.devices()[:devices])
        return feeding.feed(mesh, DATASET.train, 8, 1)

    assert isinstance(feed(2), feeding.Resident) and isinstance(feed(4), feeding.Streamed)


class Watched:
    """Images in a file, and which of them were read."""

    def __init__(self, pixels):
        self._pixels, self.read = pixels, []
        self.shape, self.dtype, self.nbytes = pixels.shape, pixels.dtype, pixels.nbytes

    def __getitem__(self, places):
        self.read.append(np.array(places))
        return self._pixels[places]


def test_of_a_batch_each_device_is_sent_its_own_images(no_room):
    """Two steps from the second on, on four devices, which have two of the eight places each."""
    watched = Watched(DATASET.train.images)
    mesh = replicas.mesh(jax.devices()[:4])
    feed = feeding.Streamed(mesh, Images(watched, DATASET.train.labels), 2)  # type: ignore[arg-type]
    order = RNG.permutation(5 * 52)[:48].reshape(1, 6, 8)  # of a set of five versions
    (shown, labels), until = feed.of_steps(order, 1, 6)
    assert until == 3 and feed.of_steps(order, 1, 2)[1] == 2 and feed.of_steps(order, 5, 6)[1] == 6
    wanted = order[:, 1:3] % 52
    np.testing.assert_array_equal(shown, DATASET.train.images[wanted])
    np.testing.assert_array_equal(labels, DATASET.train.labels[wanted])
    parts = sorted(places.tolist() for places in watched.read[:4])
    assert parts == sorted(wanted[:, :, 2 * n : 2 * n + 2].tolist() for n in range(4))


def test_counted_images_are_sent_in_pieces_that_miss_none(no_room):
    mesh = replicas.mesh(jax.devices()[:2])
    for _ in range(2):  # after each epoch
        pieces = list(feeding.counted(mesh, DATASET.train))
        labels = [np.asarray(labels) for _, labels in pieces]
        assert [(piece >= 0).sum() for piece in labels] == [24, 24, 4]
        there = np.concatenate([piece[piece >= 0] for piece in labels])
        np.testing.assert_array_equal(there, DATASET.train.labels)


def test_arrays_in_a_file_stay_there(tmp_path):
    pixels = DATASET.train.images
    np.save(tmp_path / "images.npy", pixels)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    labels = DATASET.train.labels
    arrays = Arrays("noise", classes=10, train=(mapped, labels), test=(mapped, labels))
    assert np.shares_memory(arrays.train[0], mapped)
    assert arrays == Arrays("noise", classes=10, train=(pixels, labels), test=(pixels, labels))
