import gzip
import io
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.data import dataset, digits, mnist, prepared
from lenet_jax.errors import UserError
from lenet_jax.layers.inputs import normalize
from lenet_jax.segmentation.preparation import frame

# four small files in the shape of the originals; TFDS itself is tried on the real ones below
WAY = {"idx3": b"\x00\x00\x08\x03", "idx1": b"\x00\x00\x08\x01"}


@pytest.fixture
def nowhere(monkeypatch):
    """No MNIST is named, and conftest.py keeps the host unasked."""
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


@pytest.mark.parametrize("turns", range(4))
def test_a_lopsided_digit_stays_within_the_frame(turns):
    """Its middle cannot come into the middle: it lies at the frame's edge, whole."""
    image = np.full((40, 30), 1.0)
    image[0] = 255  # nearly all of the mass, in the first row
    framed = np.rot90(frame(np.rot90(image, turns)), -turns)
    rows, columns = np.nonzero(framed.max(1))[0], np.nonzero(framed.max(0))[0]
    assert (rows[0], rows[-1]) == (8, 27)
    assert np.ptp(columns) + 1 == 15


def test_fallback_says_so_or_stops(nowhere, tmp_path):
    said = []
    data = dataset.load(tmp_path, log=said.append)
    assert data.name == "uci-digits" and "not MNIST's" in said[0]
    with pytest.raises(UserError, match="no MNIST.*--data.manual-dir"):
        dataset.load(tmp_path, fallback="none")


@pytest.mark.parametrize("limit", [None, 50])
@pytest.mark.parametrize("validation", [0, 100])
def test_held_out_examples_are_in_no_other_part(nowhere, tmp_path, limit, validation):
    """The last are held out, then the first kept; of none is a copy elsewhere."""
    whole, data = digits.load(), dataset.embedded(limit, validation)
    kept = 1497 - validation
    parts = {
        "train": (data.train, slice(0, limit or kept)),
        "validation": (data.validation, slice(kept, None)),
    }
    for part, place in parts.values():
        np.testing.assert_array_equal(part.images, whole["train_images"][place])
        np.testing.assert_array_equal(part.labels, whole["train_labels"][place])
    np.testing.assert_array_equal(data.test.images, whole["test_images"])
    np.testing.assert_array_equal(data.test.labels, whole["test_labels"])
    assert data.sha256 == dataset.sha256_of(whole)
    train, held_out, test = (
        {image.tobytes() for image in part.images}
        for part in (data.train, data.validation, data.test)
    )
    assert len(held_out) == validation and len(test) == 300
    assert not train & held_out and not train & test and not held_out & test

    loaded = dataset.load(tmp_path, limit=limit, validation=validation, log=lambda _: None)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(loaded, name), getattr(data, name)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("limit, validation", [(None, 1497), (1498, 0), (1000, 498)])
def test_more_than_there_is_is_refused(limit, validation):
    with pytest.raises(UserError, match="1497 training examples"):
        dataset.embedded(limit, validation)


@pytest.fixture
def small(nowhere, host, monkeypatch):
    """Twelve and three digits in the place of MNIST, at its host."""
    arrays = {name: a[: 12 if "train" in name else 3] for name, a in digits.load().items()}
    files, contents = {}, {}
    for name, (file, _, (magic, *_)) in mnist.FILES.items():
        numbers = magic, *arrays[name].shape
        head = b"".join(n.to_bytes(4, "big") for n in numbers)
        contents[file] = gzip.compress(head + arrays[name].tobytes())
        files[name] = file, "", numbers
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist, "URL", f"{host.url}/")  # TFDS knows the sums of the true one's
    host.files = {f"/{file}": content for file, content in contents.items()}
    return arrays


def pairs(images, labels):
    """In an order that is theirs alone."""
    return sorted(i.tobytes() + bytes([n]) for i, n in zip(images, labels, strict=True))


def test_the_host_is_asked_and_used_unless_the_switch_is_set(small, host, monkeypatch, tmp_path):
    said = []
    assert dataset.load(tmp_path, log=said.append).name == "uci-digits"
    assert "LENET_JAX_OFFLINE is set" in said[0]
    with pytest.raises(UserError, match="LENET_JAX_OFFLINE is set"):
        dataset.load(tmp_path, fallback="none")
    assert host.asked == []

    monkeypatch.delenv("LENET_JAX_OFFLINE")
    data = dataset.load(tmp_path, fallback="none", log=said.append)
    assert data.name == "mnist"
    assert {f"GET {path}" for path in host.files} <= set(host.asked)
    for part, name in ((data.train, "train"), (data.test, "test")):
        theirs = pairs(small[f"{name}_images"], small[f"{name}_labels"])
        assert pairs(part.images, part.labels) == theirs
    host.asked.clear()  # a prepared copy is read without a question
    assert dataset.load(tmp_path, log=said.append).sha256 == data.sha256
    assert host.asked == []


def test_the_programs_that_tests_start_ask_nobody(program, host):
    """They are told to go through a proxy, which hears of every question."""
    flags = ("--config", "experiments/classic.py", "--data.fallback", "none")
    done = program("train", *flags, HTTPS_PROXY=host.url)
    assert done.returncode == 2 and "LENET_JAX_OFFLINE is set" in done.stderr
    assert host.asked == []
    done = program("train", *flags, HTTPS_PROXY=host.url, LENET_JAX_OFFLINE="")
    assert done.returncode == 2 and f"{mnist.URL} does not answer" in done.stderr
    assert len(host.asked) == 1 and mnist.URL.split("/")[2] in host.asked[0]


@pytest.mark.usefixtures("small")
def test_a_damaged_decoded_copy_is_decoded_again(monkeypatch, tmp_path):
    monkeypatch.delenv("LENET_JAX_OFFLINE")
    data = dataset.load(tmp_path, fallback="none", log=lambda _: None)
    decoded = tmp_path / "mnist" / "3.0.1" / "decoded.npz"
    whole = decoded.read_bytes()
    with np.load(decoded) as file:
        arrays = dict(file)
    arrays["train_labels"][3] ^= 1
    np.savez(other := io.BytesIO(), **arrays)  # a whole file, with the sum of another
    flipped = whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:]
    for damaged in (flipped, whole[:5000], b"", other.getvalue()):
        decoded.write_bytes(damaged)
        said = []
        assert dataset.load(tmp_path, log=said.append).sha256 == data.sha256
        assert any("decoded.npz" in line and "again" in line for line in said)
        assert dataset.load(tmp_path, log=said.append).sha256 == data.sha256
        assert len(said) == 1


@pytest.mark.usefixtures("small")
def test_without_array_record_only_a_decoded_copy_is_read(host, monkeypatch, tmp_path):
    """As on Windows, for which there is none."""
    monkeypatch.delenv("LENET_JAX_OFFLINE")
    made = dataset.load(tmp_path / "there", log=lambda _: None)
    monkeypatch.setitem(sys.modules, "array_record", None)
    assert dataset.load(tmp_path / "there", log=lambda _: None).sha256 == made.sha256

    host.asked.clear()
    said = []
    assert dataset.load(tmp_path / "here", log=said.append).name == "uci-digits"
    assert "array_record" in said[0] and "copy prepared on another system" in said[0]
    assert host.asked == []
    with pytest.raises(UserError, match="array_record.*decoded.npz in it"):
        prepared.prepare(mnist.known(), tmp_path / "here", {"it": tmp_path / "x"}, print)
    (tmp_path / "there" / "mnist" / "3.0.1" / "decoded.npz").unlink()
    with pytest.raises(UserError, match="array_record.*decoded.npz in it"):
        dataset.load(tmp_path / "there", log=lambda _: None)


def originals(folder):
    """Files with the right names and magic numbers and the wrong bytes."""
    folder.mkdir()
    for file, _, (_, *shape) in mnist.FILES.values():
        head = WAY[file.split("-")[2]] + b"".join(n.to_bytes(4, "big") for n in shape)
        (folder / file).write_bytes(gzip.compress(head + bytes(10000)))
    return folder


def test_files_that_are_not_mnists_are_named_and_left(nowhere, tmp_path):
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
    assert prepared.ready(mnist.known(), tmp_path) is None
    (there / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    assert prepared.ready(mnist.known(), tmp_path) == tmp_path


@pytest.mark.xdist_group("mnist")
def test_mnist_through_tfds(real_mnist, prepared_mnist):
    """The real builder on the real files."""
    data = dataset.load(prepared_mnist, log=lambda _: None)
    assert (len(data.train), len(data.test)) == (60000, 10000)

    def original(name, offset):
        content = gzip.decompress((real_mnist / mnist.FILES[name][0]).read_bytes())
        return np.frombuffer(content, np.uint8, offset=offset)

    for name, part in (("train", data.train), ("test", data.test)):
        images, labels = original(f"{name}_images", 16), original(f"{name}_labels", 8)
        theirs = pairs(images.reshape(-1, 28, 28), labels)
        assert theirs == pairs(part.images, part.labels)


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_originals_are_known_by_what_is_in_them(real_mnist, tmp_path, below, packed):
    """Under other names, as torchvision has them, and beside a file that only looks like one."""
    folder = tmp_path / "there" / below
    folder.mkdir(parents=True)
    for file, _, _ in mnist.FILES.values():
        content = (real_mnist / file).read_bytes()
        name = file.removesuffix(".gz").replace("-idx", ".idx") + (".gz" if packed else "")
        (folder / name).write_bytes(content if packed else gzip.decompress(content))
    (folder / "0").write_bytes(bytes(10_008))
    found = mnist.originals(tmp_path / "there")
    for name, path in found.items():
        array = mnist._idx(path, name)
        assert array.shape == mnist.FILES[name][2][1:] and path.parent == folder
    (folder / "t10k-labels.idx1-ubyte").unlink(missing_ok=True)
    (folder / "t10k-labels.idx1-ubyte.gz").unlink(missing_ok=True)
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz: No such file"):
        mnist.originals(tmp_path / "there")


def test_unpacked_originals_make_the_same_copy(real_mnist, prepared_mnist, tmp_path):
    for file, _, _ in mnist.FILES.values():
        unpacked = gzip.decompress((real_mnist / file).read_bytes())
        (tmp_path / file.removesuffix(".gz")).write_bytes(unpacked)
    made = dataset.load(tmp_path / "tfds", manual_dir=tmp_path, log=lambda _: None)
    assert made.sha256 == dataset.load(prepared_mnist, log=lambda _: None).sha256
