"""Pictures that are decoded, or made, when they are asked for: folders of them, their stream."""

import dataclasses
import io
import json
import shutil
import threading

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from lenet_jax.data import dataset, encoded
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.data.pictures import Pictures
from lenet_jax.errors import UserError
from lenet_jax.experiment import Adam, Arrays, CrossEntropy, Data, Experiment
from lenet_jax.measurement import evaluation, records
from lenet_jax.training import feeding, loop, replicas

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 256, (30, 4, 5, 3), np.uint8)


def silent(line):
    pass


def file_of(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def noise(height, width):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def folder_of(path, counts, kind="png"):
    """Noise in class folders, as many pictures as `counts` says of each; and `path`."""
    for name, number in counts.items():
        (path / name).mkdir(parents=True)
        for n in range(number):
            noise(40, 50 + n % 3).save(path / name / f"{n:03}.{kind}")
    return path


@pytest.fixture
def pictures(tmp_path):
    """90 pictures of three classes for training and 12 for the test."""
    kinds = "cat", "dog", "owl"
    folder_of(tmp_path / "pets" / "train", dict.fromkeys(kinds, 30))
    folder_of(tmp_path / "pets" / "val", dict.fromkeys(kinds, 4), "jpg")
    return tmp_path / "pets"


def load(folder, log=silent, **more):
    return dataset.load(folder.parent / "kept", folder, name="folder", size=32, log=log, **more)


@pytest.mark.parametrize(
    "places",
    [
        *(0, -1, slice(None), slice(3, 9), slice(25, None, 2), slice(0)),
        *(np.array([5, 2, 5]), np.array([[1, 29], [0, 0]]), np.zeros((2, 0), int)),
    ],
)
def test_pictures_are_taken_as_from_an_array(places):
    lazy = Pictures(lambda number: ARRAY[number], np.arange(30), ARRAY.shape[1:])
    for part in (slice(None), slice(29, None, -1), slice(0, 30)):
        some = lazy.part(part)
        np.testing.assert_array_equal(some[places], ARRAY[part][places])
    assert (lazy.shape, lazy.nbytes, len(lazy)) == (ARRAY.shape, ARRAY.nbytes, 30)
    np.testing.assert_array_equal(np.asarray(lazy), ARRAY)
    np.testing.assert_array_equal(lazy[places], ARRAY[places])  # now that all are made


def test_none_is_made_that_is_not_asked_for_and_none_twice():
    made = []
    lazy = Pictures(lambda n: (made.append(int(n)), ARRAY[n])[1], np.arange(30), ARRAY.shape[1:])
    whole = Images(lazy, np.arange(30))
    some = dataset.split(Dataset("x", "", "", whole, whole.part(slice(0)), whole), 10, 5)
    assert (len(some.train), len(some.validation), made) == (10, 5, [])
    np.testing.assert_array_equal(some.validation.labels, np.arange(25, 30))
    some.validation.images[np.array([[1, 1], [3, 1]])]
    assert sorted(made) == [26, 28]


@pytest.mark.parametrize("turned", [False, True])
def test_the_middle_square_is_scaled(turned):
    """A square of red between white: all of it is seen, and nothing else."""
    wide = np.full((40, 100, 3), 255, np.uint8)
    wide[:, 30:70] = 200, 10, 20
    shown = encoded.decoded(file_of(Image.fromarray(wide.swapaxes(0, 1) if turned else wide)), 32)
    assert shown.shape == (32, 32, 3)
    np.testing.assert_array_equal(shown[4:-4, 4:-4], np.broadcast_to((200, 10, 20), (24, 24, 3)))
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    shown = encoded.decoded(file_of(Image.fromarray(half)), 32)  # grey, twice as large
    np.testing.assert_array_equal(shown[:, :12], 0)
    np.testing.assert_array_equal(shown[:, 20:], 255)


def test_a_photo_is_turned_as_its_camera_says():
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (0, 0, 64, 32))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise, so the upper half comes to the right
    shown = encoded.decoded(file_of(image, "JPEG", exif=exif), 32)
    assert shown[:, :12].min() > 240 and shown[:, 20:].max() < 15


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_becomes_three_channels(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    white = Image.new("RGB", (40, 40), "white").convert(mode)
    np.testing.assert_array_equal(encoded.decoded(file_of(white, kind), 32), 255)


def test_large_photos_are_scaled_from_all_their_pixels():
    """A mean of the parts that become a pixel, and not one of them; JPEG's own scaling included."""
    fine = np.zeros((256, 256), np.uint8)
    fine[::2] = 200
    for kind in ("PNG", "JPEG"):
        shown = encoded.decoded(file_of(Image.fromarray(fine), kind), 32)
        np.testing.assert_allclose(shown, 100, atol=4)


def test_a_folder_is_a_dataset(pictures):
    data = load(pictures)
    assert (data.name, data.names, data.classes) == ("folder-pets", ("cat", "dog", "owl"), 3)
    assert (len(data.train), len(data.test), data.shape) == (90, 12, (32, 32, 3))
    np.testing.assert_array_equal(data.train.labels, np.repeat(np.arange(3), 30))
    third = encoded.decoded((pictures / "train" / "dog" / "002.png").read_bytes(), 32)
    np.testing.assert_array_equal(data.train.images[32], third)


def test_it_is_looked_through_once_and_again_when_it_has_changed(pictures):
    said, first = [], load(pictures)
    assert load(pictures, said.append).sha256 == first.sha256 and said == []
    (pictures / "val" / "owl" / "000.jpg").write_bytes(file_of(noise(40, 40), "JPEG"))
    changed = load(pictures, said.append)
    assert changed.sha256 != first.sha256 and "the 12 pictures" in said[0] and len(said) == 1
    kept = list((pictures.parent / "kept").rglob("*.npz"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    kept[1].write_bytes(b"")
    assert load(pictures, said.append).sha256 in (first.sha256, changed.sha256)


def test_the_sum_is_of_what_is_shown(pictures):
    """Not of where it lies, nor of the names of the files where their order is the same."""
    first = load(pictures)
    other = pictures.parent / "other" / "pets"
    shutil.copytree(pictures, other)
    assert load(other).sha256 == first.sha256
    (other / "train" / "cat" / "029.png").rename(other / "train" / "cat" / "0291.png")
    assert load(other).sha256 == first.sha256
    larger = dataset.load(pictures.parent / "kept", pictures, name="folder", size=33, log=silent)
    assert larger.sha256 != first.sha256
    # The same pictures in the same order, one with another label.
    (other / "train" / "cat" / "0291.png").rename(other / "train" / "dog" / "0.png")
    moved = load(other)
    np.testing.assert_array_equal(moved.train.images[28:32], first.train.images[28:32])
    assert moved.train.labels[29] == 1 and moved.sha256 != first.sha256


def test_without_a_folder_for_the_test_every_fifth_is_held_out(tmp_path):
    folder, said = folder_of(tmp_path / "two", {"a": 11, "b": 5}), []
    data = load(folder, said.append)
    np.testing.assert_array_equal(data.train.labels, [0] * 9 + [1] * 4)
    np.testing.assert_array_equal(data.test.labels, [0, 0, 1])
    fifth = encoded.decoded((folder / "a" / "004.png").read_bytes(), 32)
    np.testing.assert_array_equal(data.test.images[0], fifth)
    assert "every 5th picture" in said[0]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda at: shutil.rmtree(at), "pets: No such file.*Give a folder with train/CLASS"),
        (lambda at: (at / "train" / "eel").mkdir(), "eel: no pictures of this class"),
        (lambda at: (at / "val" / "eel").mkdir(), "eel is a class in only one of train and val"),
        (lambda at: shutil.rmtree(at / "val" / "owl"), "owl is a class in only one of"),
        (lambda at: (at / "train").rename(at / "Train"), "2 folders of classes in .*are needed"),
        (lambda at: [shutil.rmtree(at / "train" / n) for n in ("cat", "dog")], "1 folders of cla"),
    ],
)
def test_a_folder_that_is_not_laid_out_so_is_refused(pictures, change, said):
    change(pictures)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(pictures)


def test_too_few_for_a_test_are_refused(tmp_path):
    with pytest.raises(UserError, match="no class has 5 pictures"):
        load(folder_of(tmp_path / "two", {"a": 4, "b": 2}))
    with pytest.raises(UserError, match="needs --data.manual-dir"):
        dataset.load(name="folder")


class InMemory:
    """Encoded pictures without files."""

    where = "memory"

    def __init__(self, contents):
        self.contents = contents

    def __len__(self):
        return len(self.contents)

    def read(self, number):
        return self.contents[number], number % 2

    def name(self, number):
        return f"picture {number}"

    def files(self):
        return []


@pytest.mark.parametrize("number, damaged, fine", [(1000, 1, True), (999, 1, False), (1000, 2, 0)])
def test_one_in_a_thousand_may_be_damaged(number, damaged, fine, tmp_path):
    whole = [file_of(Image.new("RGB", (8, 8), (n % 256, 0, 0))) for n in range(number)]
    given, said = list(whole), []
    for at, content in zip((500, 700), (whole[500][:-30], b""), strict=True):
        given[at] = content if damaged else whole[at]
        damaged -= 1 if damaged else 0
    about = InMemory(given)
    if not fine:
        with pytest.raises(
            UserError, match="of memory cannot be decoded, the first is picture 500"
        ):
            encoded.images_of(about, 32, tmp_path, said.append)
        return
    images, _ = encoded.images_of(about, 32, tmp_path, said.append)
    assert len(images) == 999 and "1 of 1,000" in said[1] and "left out" in said[1]
    red = np.asarray(images.images)[:, 0, 0, 0]
    kept = [n for n in range(1000) if n != 500]
    np.testing.assert_array_equal(red, np.array(kept) % 256)
    np.testing.assert_array_equal(images.labels, np.array(kept) % 2)


def test_a_picture_that_goes_away_during_a_run_is_named(pictures):
    data = load(pictures)
    (pictures / "train" / "cat" / "003.png").unlink()
    with pytest.raises(UserError, match="cat/003.png could be decoded when the run began"):
        data.train.images[:5]


class Linear(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.classes)(images[:, ::8, ::8].reshape(len(images), -1))


EXPERIMENT = Experiment(
    "linear", Linear(), CrossEntropy(), Adam(), epochs=2, batch_size=4, devices=2
)
UPDATE = 4 * 32 * 32 * 3  # bytes


@pytest.fixture
def no_room(monkeypatch):
    monkeypatch.setattr(feeding, "RESIDENT", 0.0)
    monkeypatch.setattr(feeding, "SENT", 2 * UPDATE)


def test_a_run_from_files_is_that_on_arrays_bit_for_bit(pictures, tmp_path, request):
    """Also where it is stopped in the middle of an epoch and goes on in another feed."""
    data = load(pictures)
    arrays = Arrays(
        "pets",
        classes=3,
        train=(np.asarray(data.train.images), data.train.labels),
        test=(np.asarray(data.test.images), data.test.labels),
    )
    resident = loop.train(EXPERIMENT, dataset.of(arrays), tmp_path / "resident", print)
    request.getfixturevalue("no_room")
    looks = iter([False] * 4 + [True])
    with pytest.raises(loop.Interrupted):
        loop.train(EXPERIMENT, data, tmp_path / "run", print, stopping=lambda: next(looks))
    said = []
    streamed = loop.train(EXPERIMENT, load(pictures), tmp_path / "run", said.append)
    assert said == [f"resuming from step 10 in {tmp_path / 'run'}"]
    assert streamed.rows == resident.rows and len(streamed.rows) == 2
    jax.tree.map(np.testing.assert_array_equal, streamed.params, resident.params)


def test_what_a_network_answers_is_the_same_in_pieces(pictures, tmp_path, monkeypatch, request):
    data = load(pictures)
    run = loop.train(dataclasses.replace(EXPERIMENT, epochs=1), data, tmp_path / "run", print)
    weights = np.asarray(run.params["Dense_0"]["kernel"][0], np.float64)

    def scores(images):  # of a NumPy of its own
        assert isinstance(images, np.ndarray) and len(images) <= 5
        return (images[:, ::8, ::8] / 255).reshape(len(images), -1) @ weights

    monkeypatch.setattr(evaluation, "PIECE", 5)
    found = evaluation.of_test_set(scores, data)
    expected = (np.asarray(data.test.images)[:, ::8, ::8] / 255).reshape(12, -1) @ weights
    np.testing.assert_allclose(found.scores, expected, atol=1e-12)
    request.getfixturevalue("no_room")
    of_run = records._scores(run, data.test)[0] - np.asarray(run.params["Dense_0"]["bias"])
    np.testing.assert_allclose(of_run, expected, atol=1e-4)


class Counted:
    """An array of images that tells when so many pieces of it have been read."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.nbytes = pixels, pixels.shape, pixels.nbytes
        self.read, self.changed = 0, threading.Condition()

    def __getitem__(self, places):
        with self.changed:
            self.read += 1
            self.changed.notify_all()
        return self.pixels[places]

    def waits_for(self, number):
        with self.changed:
            return self.changed.wait_for(lambda: self.read >= number, timeout=30)


def test_the_next_pieces_are_read_while_one_is_used():
    """So many and no more, and they are those that follow; another order begins anew."""
    images = Counted(RNG.integers(0, 256, (60, 4, 4), np.uint8))
    labels = np.arange(60, dtype=np.int32)
    feed = feeding.Streamed(replicas.mesh(jax.devices()[:1]), Images(images, labels), 2)  # type: ignore[arg-type]
    order = np.arange(60).reshape(1, 20, 3)
    feed.of_steps(order, 0, 20)
    assert images.waits_for(2) and images.waits_for(1 + feeding.AHEAD)
    (shown, numbers), until = feed.of_steps(order, 2, 20)
    assert until == 4 and images.waits_for(2 + feeding.AHEAD)
    assert not images.read > 3 + feeding.AHEAD
    np.testing.assert_array_equal(numbers, order[:, 2:4])
    np.testing.assert_array_equal(shown, images.pixels[order[:, 2:4]])
    for other, first in ((order[:, ::-1], 4), (order, 4), (order, 9)):
        (_, numbers), _ = feed.of_steps(other, first, 20)
        np.testing.assert_array_equal(numbers, other[:, first : first + 2])
    (_, numbers), until = feed.of_steps(order, 11, 12)  # fewer than a piece
    assert until == 12
    (_, numbers), _ = feed.of_steps(order, 12, 20)
    np.testing.assert_array_equal(numbers, order[:, 12:14])


def test_a_folder_trains_and_is_evaluated_by_the_programs(program, pictures, tmp_path):
    page = tmp_path / "pets.py"
    page.write_text(
        "from flax import linen as nn\n"
        "from lenet_jax.experiment import Adam, CrossEntropy, Data, Experiment\n"
        "class Linear(nn.Module):\n"
        "    outputs_of_mine: int = 3\n"
        "    @nn.compact\n"
        "    def __call__(self, images):\n"
        "        return nn.Dense(self.outputs_of_mine)(images.reshape(len(images), -1))\n"
        "def get_config():\n"
        "    return Experiment('pets', Linear(), CrossEntropy(), Adam(), Data('folder', size=32),\n"
        "                      epochs=1, batch_size=8)\n"
    )
    run, kept = tmp_path / "run", ("--data.data-dir", tmp_path / "kept")
    flags = "--config", page, "--data.manual-dir", pictures, *kept
    done = program("train", *flags, "--workdir", run)
    assert done.returncode == 0, done.stderr
    assert "pets on folder-pets" in done.stdout
    record = json.loads((run / "result.json").read_text())
    assert record["dataset_sha256"] == load(pictures).sha256
    evaluated = program("evaluate", run, "--trust-page", "--out", tmp_path / "out")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (found["errors"], found["size"]) == (record["test_errors"], 12)
    shown = sorted((pictures / "val").rglob("*.jpg"))
    predicted = program("predict", *shown, "--network", run, "--trust-page", "--json")
    assert predicted.returncode == 0, predicted.stderr
    rows = [json.loads(line) for line in predicted.stdout.splitlines()]
    right = [
        row["classes"][0]["name"] == at.parent.name for row, at in zip(rows, shown, strict=True)
    ]
    assert (len(right), right.count(False)) == (12, record["test_errors"])
    in_words = program("predict", shown[0], "--network", run, "--trust-page").stdout.splitlines()
    assert in_words[0] == f"{shown[0]}: {rows[0]['classes'][0]['name']}" and len(in_words) == 4
    marked = "--annotate", tmp_path / "marked.png"
    refused = program("predict", shown[0], "--network", run, "--trust-page", *marked)
    assert refused.returncode == 2 and "for digits. Leave them out" in refused.stderr
    two = folder_of(tmp_path / "two", {"a": 10, "b": 10})
    other = "--trust-page", "--manual-dir", two, "--out", tmp_path / "out"
    refused = program("evaluate", run, *other)
    assert refused.returncode == 2
    assert "images of 32x32x3 in 3 classes, those of folder-two are 32x32x3 in 2" in refused.stderr
    refused = program("train", *flags, "--model.outputs-of-mine", 4, "--workdir", tmp_path / "new")
    assert refused.returncode == 2
    assert "returns [2, 4]" in refused.stderr and "expected are scores [2, 3]" in refused.stderr
    assert not (tmp_path / "new").exists()
    counted = program("summary", *flags)
    assert counted.returncode == 0 and f"{3 * (32 * 32 * 3 + 1):,}" in counted.stdout


def test_what_a_folder_is_asked_for_is_written_down():
    asked = Data("folder", size=64)
    assert asked.known is None and asked.side == 64 and Data("folder").side == 256
