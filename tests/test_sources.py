"""The sets that --data.name takes: their formats, made small, and what is said of bad files."""

import dataclasses
import gzip
import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from lenet_jax.data import cifar, dataset, imagenet
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data

RNG = np.random.default_rng(0)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


def idx_files(folder, prefix="", first=0, numbers=(("train", 12), ("t10k", 6))):
    """Four files with labels of three classes, the train ones packed; and their arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, number in numbers:
        images = RNG.integers(0, 256, (number, 5, 4), np.uint8)
        labels = (np.arange(number) % 3 + first).astype(np.uint8)
        for what, array in (("images", images), ("labels", labels)):
            content = idx(array)
            packed = split == "train"
            name = f"{prefix}{split}-{what}-idx{array.ndim}-ubyte" + ".gz" * packed
            (folder / name).write_bytes(gzip.compress(content) if packed else content)
            arrays[f"{'train' if packed else 'test'}_{what}"] = array
    return arrays


def load(name, folder, said=None, **more):
    log = (said if said is not None else []).append
    return dataset.load(folder / "tfds", folder, name=name, log=log, **more)


def test_idx_files_are_named_by_their_folder_and_their_sum(tmp_path):
    folder = tmp_path / "mnist"  # whatever it is called, it is not shown as MNIST
    arrays, said = idx_files(folder), []
    found = load("idx", folder, said)
    assert (found.name, found.classes, found.shape, said) == ("idx-mnist", 3, (5, 4), [])
    np.testing.assert_array_equal(found.train.images, arrays["train_images"])
    np.testing.assert_array_equal(found.test.images, arrays["test_images"])
    np.testing.assert_array_equal(found.train.labels, arrays["train_labels"])
    order = ("train_images", "train_labels", "test_images", "test_labels")
    whole = b"".join(arrays[name].tobytes() for name in order)
    assert found.sha256 == hashlib.sha256(whole).hexdigest()


def test_emnist_is_turned_upright_and_its_labels_start_at_0(tmp_path):
    """Its letters are 1 to 26, and row and column of its images are changed."""
    numbers = ("train", 12), ("test", 6)
    arrays, said = idx_files(tmp_path / "gzip", "emnist-letters-", 1, numbers), []
    found = load("idx", tmp_path, said)
    assert found.shape == (4, 5)
    np.testing.assert_array_equal(found.test.images[2], arrays["test_images"][2].T)
    np.testing.assert_array_equal(found.test.labels, arrays["test_labels"] - 1)
    assert "turned upright" in said[0] and "1 to 3: label 1 becomes 0" in said[1]


def test_idx_files_that_do_not_go_together_are_refused(tmp_path):
    def complaint():
        with pytest.raises(UserError) as error:
            load("idx", tmp_path)
        return str(error.value)

    idx_files(tmp_path)
    images, labels = (tmp_path / f"t10k-{what}-ubyte" for what in ("images-idx3", "labels-idx1"))
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    assert f"{images}: its head promises test images [6, 5, 4], 120 bytes, and 119" in complaint()
    images.write_bytes(idx(np.zeros((7, 5, 4), np.uint8)))
    assert "has 7 images and" in complaint()
    images.write_bytes(idx(np.zeros((6, 5, 5), np.uint8)))
    assert "images of [5, 4]" in complaint() and "[5, 5]" in complaint()
    images.write_bytes(b"<html>not found</html>")
    assert "no IDX file with images and 't10k' or 'test' in its name" in complaint()
    images.write_bytes(whole)
    labels.write_bytes(idx(np.full(6, 3, np.uint8)))
    assert f"{labels}: labels are from 3 to 3, those of the training examples from 0 to 2" in (
        complaint()
    )
    (tmp_path / "test-labels").write_bytes(labels.read_bytes())
    assert "t10k-labels-idx1-ubyte and test-labels both hold test labels" in complaint()
    with pytest.raises(UserError, match="no such folder"):
        load("idx", tmp_path / "nowhere")
    with pytest.raises(UserError, match="needs --data.manual-dir"):
        dataset.load(name="idx")


def test_as_mnist_other_idx_files_are_refused_and_the_door_is_shown(tmp_path):
    idx_files(tmp_path)
    with pytest.raises(UserError, match="wrong checksum.*--data.name idx"):
        load("mnist", tmp_path)


def cifar_like(name, train=20, test=10):
    """Images and labels [n, 1 or 2], fine and coarse, of both splits."""
    kinds = 1 if name == "cifar10" else 2
    return {
        split: (
            RNG.integers(0, 256, (number, 32, 32, 3), np.uint8),
            RNG.integers(0, 10, (number, kinds)).astype(np.uint8),
        )
        for split, number in (("train", train), ("test", test))
    }


def binary(name, arrays, split):
    images, labels = arrays[split]
    rows = np.concatenate([labels[:, ::-1], images.transpose(0, 3, 1, 2).reshape(-1, 3072)], 1)
    files = cifar.ARCHIVES[name][0].splits[split]
    return {
        file: part.tobytes() for file, part in zip(files, np.split(rows, len(files)), strict=True)
    }


def pickled(name, arrays, split):
    images, labels = arrays[split]
    rows, files = images.transpose(0, 3, 1, 2).reshape(-1, 3072), cifar.ARCHIVES[name][1].splits
    batches = {}
    for at, file in enumerate(files[split]):
        part = slice(at * len(rows) // len(files[split]), (at + 1) * len(rows) // len(files[split]))
        keys = cifar.KEYS[name][0]
        batch = {"data": rows[part]} | {k: labels[part, i].tolist() for i, k in enumerate(keys)}
        batches[file] = pickle.dumps(batch, 4)
    return batches


def archive(path, folder, files):
    with tarfile.open(path, "w:gz") as packed:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        packed.addfile(directory)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cifar_archive(folder, name, arrays, form, monkeypatch):
    """An archive in one of both forms, with its sum in the place of the true one's."""
    folder.mkdir()
    about = cifar.ARCHIVES[name][form]
    made = (binary, pickled)[form]
    files = {**made(name, arrays, "train"), **made(name, arrays, "test")}
    names = [f"kind_{n}" for n in range(10 if name == "cifar10" else 100)]
    file, *_ = about.splits["names"]
    key = cifar.KEYS[name][1][0]
    files[file] = pickle.dumps({key: names}, 4) if form else "\n".join([*names, ""]).encode()
    if name == "cifar100" and not form:
        files["coarse_label_names.txt"] = b"coarse\n"
    sha256 = archive(folder / about.file, about.folder, files)
    forms = list(cifar.ARCHIVES[name])
    forms[form] = cifar.Archive(about.file, 0, sha256, about.folder, about.splits)
    monkeypatch.setitem(cifar.ARCHIVES, name, tuple(forms))
    return names


def pairs(images, labels):
    return sorted(i.tobytes() + bytes([n]) for i, n in zip(images, labels, strict=True))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_the_same_from_both_archives(name, tmp_path, monkeypatch):
    """Through TFDS's own files, in its own order; then also from the copy that it has prepared."""
    arrays, found = cifar_like(name), []
    for form in (0, 1):
        folder = tmp_path / str(form)
        names = cifar_archive(folder, name, arrays, form, monkeypatch)
        found.append(load(name, folder))
        assert found[form].names == tuple(names)
        assert (found[form].shape, found[form].classes) == Data(name).known
        for split in ("train", "test"):
            part, (images, labels) = getattr(found[form], split), arrays[split]
            assert pairs(part.images, part.labels) == pairs(images, labels[:, 0])
    assert found[0].sha256 == found[1].sha256
    copy = tmp_path / "0" / "tfds" / name / "3.0.2"
    for damaged in (*copy.glob("*.array_record*"), copy / "decoded.npz", copy / "features.json"):
        damaged.write_bytes(b"something else")
    said: list[str] = []
    assert load(name, tmp_path / "0", said).sha256 == found[0].sha256
    assert any("is damaged" in line and "preparing it anew" in line for line in said)
    (tmp_path / "0" / cifar.ARCHIVES[name][0].file).unlink()
    again = dataset.load(tmp_path / "0" / "tfds", name=name)
    assert (again.sha256, again.names) == (found[0].sha256, found[0].names)
    assert name in again.source and "3.0.2" in again.source


def test_a_download_is_used_if_it_is_the_original(host, tmp_path, monkeypatch):
    arrays = cifar_like("cifar10")
    cifar_archive(tmp_path / "there", "cifar10", arrays, 0, monkeypatch)
    form, other = cifar.ARCHIVES["cifar10"]
    content = (tmp_path / "there" / form.file).read_bytes()
    form = dataclasses.replace(form, size=len(content))
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", (form, other))
    monkeypatch.setattr(cifar, "HOST", f"{host.url}/")
    monkeypatch.delenv("LENET_JAX_OFFLINE")
    host.files = {f"/{form.file}": content}
    found = dataset.load(tmp_path / "right", name="cifar10", log=print)
    assert pairs(found.train.images, found.train.labels) == pairs(
        arrays["train"][0], arrays["train"][1][:, 0]
    )
    damaged = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    host.files = {f"/{form.file}": damaged}
    with pytest.raises(UserError, match="CIFAR-10 could not be prepared.*(?i:checksum)"):
        dataset.load(tmp_path / "wrong", name="cifar10", log=print)


def test_a_pickle_that_would_do_more_than_hold_arrays_is_refused(tmp_path, monkeypatch):
    class Bad:
        def __reduce__(self):
            return eval, ("1",)

    monkeypatch.setattr(pickle, "dumps", lambda batch, protocol, d=pickle.dumps: d(Bad(), protocol))
    cifar_archive(tmp_path / "it", "cifar10", cifar_like("cifar10"), 1, monkeypatch)
    with pytest.raises(UserError, match="could not be prepared.*eval is not of an array"):
        load("cifar10", tmp_path / "it")


def test_an_archive_that_is_not_the_original_is_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match="cifar-10-python.tar.gz: wrong checksum.*is 6d958"):
        load("cifar10", tmp_path)
    with pytest.raises(UserError, match="cifar-100-binary.tar.gz or .* is not there"):
        load("cifar100", tmp_path)
    assert (tmp_path / "cifar-10-python.tar.gz").read_bytes() == b"something else"


@pytest.mark.parametrize("name, fetch", [("cifar10", "kriz/cifar-10-b"), ("imagenette", "clas/im")])
def test_a_set_that_is_nowhere_is_named_with_the_ways_to_it(name, fetch, tmp_path):
    said = (
        f"none prepared in {tmp_path}.*OFFLINE is set.*curl -LO https.*{fetch}.*--data.name shapes"
    )
    with pytest.raises(UserError, match=said):
        dataset.load(tmp_path, name=name)


def test_imagenet_needs_an_account_and_that_is_said(tmp_path):
    with pytest.raises(UserError, match="no ImageNet.*without an account.*--data.name shapes"):
        dataset.load(tmp_path, name="imagenet")


def jpeg(colour):
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(file, "JPEG")
    return file.getvalue()


def test_imagenette_through_tfds_from_its_archive(tmp_path, monkeypatch):
    """Every class has one colour, so that pictures and labels are seen to belong together."""
    colours = [(25 * n, 250 - 25 * n, 100) for n in range(10)]
    files = {
        f"{split}/{label}/{label}_{n}.JPEG": jpeg(colours[at])
        for split, number in (("train", 3), ("val", 1))
        for at, label in enumerate(imagenet.NAMES)
        for n in range(number)
    }
    files["noisy_imagenette.csv"] = b"path,label"
    form = imagenet.ARCHIVES[0]
    sha256 = archive(tmp_path / form.file, "imagenette2-160", files)
    small = imagenet.Archive(form.side, form.config, form.file, 0, sha256)
    monkeypatch.setattr(imagenet, "ARCHIVES", (small, imagenet.ARCHIVES[1]))
    found = load("imagenette", tmp_path, size=32)
    assert (found.name, len(found.train), len(found.test)) == ("imagenette", 30, 10)
    assert (found.shape, found.classes) == Data("imagenette", size=32).known
    assert found.names[:2] == ("tench", "English springer")
    assert "imagenette/160px-v2/1.0.0" in found.source
    for part in (found.train, found.test):
        middle = np.asarray(part.images)[:, 16, 16].astype(int)
        np.testing.assert_allclose(middle, np.array(colours)[part.labels], atol=3)
    again = dataset.load(tmp_path / "tfds", name="imagenette", size=64)
    assert again.shape == (64, 64, 3) and again.sha256 != found.sha256  # as loaded
    with pytest.raises(UserError, match="imagenette2-320.tgz is not there"):
        load("imagenette", tmp_path, size=161)
    copy = tmp_path / "tfds" / "imagenette" / form.config / "1.0.0"
    about = (copy / "dataset_info.json").read_text()
    for file, content in (
        ("features.json", "{"),
        ("dataset_info.json", about.replace('"30"', '"3p"')),
    ):
        assert (copy / file).read_text() != content
        (copy / file).write_text(content)
        with pytest.raises(UserError, match="is damaged.*cannot be prepared anew: LENET_JAX_OFF"):
            dataset.load(tmp_path / "tfds", name="imagenette", size=32)
        assert load("imagenette", tmp_path, size=32).sha256 == found.sha256


def test_folders_of_other_classes_are_not_imagenet(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
    for name, classes in (("imagenette", 10), ("imagenet", 1000)):
        with pytest.raises(UserError, match=f"2 classes, cat, dog.*has {classes}.*name folder"):
            load(name, tmp_path)


def test_a_size_is_for_pictures_that_have_none():
    for name in ("mnist", "uci-digits", "cifar10", "cifar100", "idx"):
        with pytest.raises(UserError, match=f"--data.size 64: the images of {name} have a size"):
            Data(name, size=64)
    for size in (31, 257):
        with pytest.raises(UserError, match=f"--data.size is {size}, allowed is 32 to 256"):
            Data("shapes", size=size)


@pytest.mark.parametrize("asked", [Data("uci-digits"), Data("shapes"), Data("shapes", size=48)])
def test_what_is_known_of_a_set_without_a_look_is_so(asked):
    """Of CIFAR and Imagenette it is compared above."""
    found = dataset.of(asked)
    assert (found.shape, found.classes) == asked.known


def test_an_unknown_name_is_answered_with_those_there_are(program):
    done = program("train", "--config", "classic", "--data.name", "imagenet21k")
    assert done.returncode == 2
    assert "--data.name imagenet21k: there are mnist, uci-digits, practice, shapes" in done.stderr


def test_fashion_like_files_train_and_are_evaluated_under_their_name(program, tmp_path):
    folder = tmp_path / "fashion"
    folder.mkdir()
    for split, number in (("train", 40), ("t10k", 20)):
        images = RNG.integers(0, 256, (number, 28, 28), np.uint8)
        for what, array in (("images", images), ("labels", np.arange(number, dtype=np.uint8) % 10)):
            (folder / f"{split}-{what}-idx{array.ndim}-ubyte").write_bytes(idx(array))
    run, page = tmp_path / "run", tmp_path / "small.py"
    page.write_text(
        "from lenet_jax.experiment import Adam, CrossEntropy, Experiment, Paper\n"
        "from lenet_jax.models.nielsen import Nielsen\n"
        "def get_config():\n"
        "    return Experiment('small', Nielsen(hidden=()), CrossEntropy(), Adam(), epochs=1,\n"
        "                      batch_size=8, paper=Paper(0.1, 0.1, 'a table'))\n"
    )
    flags = "--data.name", "idx", "--data.manual-dir", folder, "--workdir", run
    done = program("train", "--config", page, *flags)
    assert done.returncode == 0, done.stderr
    assert "small on idx-fashion" in done.stdout and "paper" not in done.stdout.lower()
    record = json.loads((run / "result.json").read_text())
    assert (record["dataset"], record["test_size"]) == ("idx-fashion", 20)
    evaluated = program("evaluate", run, "--out", tmp_path / "out")
    assert evaluated.returncode == 0, evaluated.stderr
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (found["data"], found["errors"]) == ("idx-fashion, test", record["test_errors"])


def test_images_that_a_network_does_not_take_are_refused_before_the_run(program, tmp_path):
    run = tmp_path / "run"
    done = program("train", "--config", "classic", "--data.name", "shapes", "--workdir", run)
    assert done.returncode == 2 and not run.exists()
    assert "LeNet5 fails on images of 32x32x3" in done.stderr
    assert "Traceback" not in done.stderr


def test_imagenette_from_its_unpacked_folders(tmp_path):
    for split, number in (("train", 2), ("val", 1)):
        for at, label in enumerate(imagenet.NAMES):
            (tmp_path / split / label).mkdir(parents=True)
            for n in range(number):
                (tmp_path / split / label / f"{n}.JPEG").write_bytes(jpeg((20 * at, 100, 100)))
    (tmp_path / "test").mkdir()  # as ImageNet's own, without labels
    found = load("imagenette", tmp_path, size=40)
    assert (found.name, len(found.train), len(found.test)) == ("imagenette", 20, 10)
    assert found.names[-1] == "parachute" and f"pictures in {tmp_path}" in found.source
    assert (found.shape, found.classes) == Data("imagenette", size=40).known
    red = np.asarray(found.test.images)[:, 20, 20, 0].astype(int)
    np.testing.assert_allclose(red, 20 * found.test.labels, atol=3)
