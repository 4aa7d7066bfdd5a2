import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.data import dataset, digits, mnist
from lenet_jax.data.normalize import normalize
from lenet_jax.errors import UserError

# four small files in the shape of the originals; TFDS itself is tried on the real ones below
WAY = {"idx3": b"\x00\x00\x08\x03", "idx1": b"\x00\x00\x08\x01"}


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(mnist, "host_answers", lambda: False)
    monkeypatch.delenv("LENET_JAX_MNIST", raising=False)


def test_normalize_by_hand():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 0, 0], image[0, 27, 5] = 255, 100
    out = np.array(normalize(jnp.asarray(image)))[0]
    assert out.shape == (32, 32)
    assert out[2, 2] == pytest.approx(1.175) and out[29, 7] == pytest.approx(0.4)
    out[2, 2] = out[29, 7] = -0.1
    np.testing.assert_allclose(out, -0.1, rtol=1e-6)


def test_embedded_digits_lie_in_mnists_frame():
    arrays = digits.load()
    assert [len(arrays[k]) for k in ("train_images", "train_labels")] == [1497, 1497]
    assert [len(arrays[k]) for k in ("test_images", "test_labels")] == [300, 300]
    for image in arrays["test_images"]:
        rows, columns = np.nonzero(image.max(1))[0], np.nonzero(image.max(0))[0]
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)  # faint edges may round to 0
        ink = image / image.sum()
        centre = [ink.sum(1) @ np.arange(28), ink.sum(0) @ np.arange(28)]
        assert np.abs(np.array(centre) - 13.5).max() <= 0.51  # whole pixels


def test_fallback_says_so_or_stops(offline, tmp_path):
    said = []
    data = dataset.load(tmp_path, say=said.append)
    assert data.name == "uci-digits" and "not MNIST's" in said[0]
    with pytest.raises(UserError, match="no MNIST.*--data.manual-dir"):
        dataset.load(tmp_path, fallback="none")


def test_splits_are_by_position(offline, tmp_path):
    whole = dataset.load(tmp_path, say=lambda _: None)
    data = dataset.load(tmp_path, limit=50, validation=100, say=lambda _: None)
    assert (len(data.train), len(data.validation), len(data.test)) == (50, 100, 300)
    np.testing.assert_array_equal(data.train.images, whole.train.images[:50])
    np.testing.assert_array_equal(data.validation.labels, whole.train.labels[-100:])
    assert data.sha256 == whole.sha256
    for limit, validation in ((None, 1497), (1498, 0), (1000, 498)):
        with pytest.raises(UserError, match="1497 training patterns"):
            dataset.load(tmp_path, limit=limit, validation=validation, say=lambda _: None)


def originals(folder):
    """Files with the right names and magic numbers and the wrong bytes."""
    folder.mkdir()
    for file, _, (_, *shape) in mnist.FILES.values():
        head = WAY[file.split("-")[2]] + b"".join(n.to_bytes(4, "big") for n in shape)
        (folder / file).write_bytes(gzip.compress(head + bytes(10000)))
    return folder


def test_files_that_are_not_mnists_are_named_and_left(offline, tmp_path):
    folder = originals(tmp_path / "files")
    first = folder / "train-images-idx3-ubyte.gz"
    expected = mnist.FILES["train_images"][1]

    def complaint():
        before = first.read_bytes() if first.exists() else None
        with pytest.raises(UserError) as error:
            dataset.load(tmp_path / "tfds", manual_dir=folder)
        assert (first.read_bytes() if first.exists() else None) == before
        assert str(first) in str(error.value)
        return str(error.value)

    text = complaint()
    assert "wrong checksum" in text and expected in text
    first.write_bytes(gzip.compress(b"\x00\x00\x08\x01" + bytes(100)))
    assert "magic number is 2049, must be 2051" in complaint()
    first.write_bytes(first.read_bytes()[:-20])
    text = complaint()
    assert "truncated" in text and expected in text
    first.write_bytes(b"<html>not found</html>")
    assert "gzip" in complaint()
    first.unlink()
    assert "No such file" in complaint()
    with pytest.raises(UserError, match="no such folder"):
        dataset.load(tmp_path / "tfds", manual_dir=tmp_path / "nowhere")


def test_a_tensorflow_copy_is_recognised(tmp_path):
    there = tmp_path / "mnist" / "3.0.1"
    there.mkdir(parents=True)
    (there / "dataset_info.json").write_text(json.dumps({"fileFormat": "tfrecord"}))
    assert mnist.prepared(tmp_path) is None
    (there / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    assert mnist.prepared(tmp_path) == tmp_path


@pytest.mark.xdist_group("mnist")
def test_mnist_through_tfds(real_mnist, prepared_mnist):
    """The real builder on the real files."""
    data = dataset.load(prepared_mnist, say=lambda _: None)
    assert (len(data.train), len(data.test)) == (60000, 10000)

    def original(name, offset):
        content = gzip.decompress((real_mnist / mnist.FILES[name][0]).read_bytes())
        return np.frombuffer(content, np.uint8, offset=offset)

    def pairs(images, labels):
        return sorted(i.tobytes() + bytes([n]) for i, n in zip(images, labels, strict=True))

    images, labels = original("test_images", 16), original("test_labels", 8)
    theirs = pairs(images.reshape(-1, 28, 28), labels)
    assert theirs == pairs(data.test.images, data.test.labels)

    decoded = prepared_mnist / "lenet_jax" / "mnist" / "3.0.1" / "decoded.npz"
    content = bytearray(decoded.read_bytes())
    content[20_000_000] ^= 4
    decoded.write_bytes(content)
    said = []
    again = dataset.load(prepared_mnist, say=said.append)
    assert again.sha256 == data.sha256 and any("decoded.npz" in line for line in said)
