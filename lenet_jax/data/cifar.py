"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32x32, through TFDS."""

import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data import prepared
from lenet_jax.data.dataset import Dataset, of_arrays
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data
from lenet_jax.experiment.data import CLASSES

HOST = "https://www.cs.toronto.edu/~kriz/"
SHAPE = 32, 32, 3


@dataclass(frozen=True)
class Archive:
    """One of the two forms in which the author gives a set."""

    file: str
    size: int  # bytes
    sha256: str
    folder: str  # in it
    splits: dict[str, tuple[str, ...]]  # the files in that


BATCHES = range(1, 6)
# Of each set the binary archive, of which TFDS has registered the sum, and Python's, of which Keras
# has it. Both hold the same images in the same order.
ARCHIVES = {
    "cifar10": (
        Archive(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "cifar-10-batches-bin",
            {
                "train": tuple(f"data_batch_{n}.bin" for n in BATCHES),
                "test": ("test_batch.bin",),
                "names": ("batches.meta.txt",),
            },
        ),
        Archive(
            "cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            "cifar-10-batches-py",
            {
                "train": tuple(f"data_batch_{n}" for n in BATCHES),
                "test": ("test_batch",),
                "names": ("batches.meta",),
            },
        ),
    ),
    "cifar100": (
        Archive(
            "cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            "cifar-100-binary",
            {
                "train": ("train.bin",),
                "test": ("test.bin",),
                "names": ("fine_label_names.txt", "coarse_label_names.txt"),
            },
        ),
        Archive(
            "cifar-100-python.tar.gz",
            169_001_437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            "cifar-100-python",
            {"train": ("train",), "test": ("test",), "names": ("meta",)},
        ),
    ),
}
# What Python's archive calls the labels and the names, finest first.
KEYS = {
    "cifar10": (("labels",), ("label_names",)),
    "cifar100": (("fine_labels", "coarse_labels"), ("fine_label_names", "coarse_label_names")),
}


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """A copy that TFDS has prepared in `data_dir`, or one made from an archive in `manual_dir`, or
    from TFDS's download.

    Raises UserError for an archive that is not the original, and where there is none of these.
    """
    of, data_dir = known(asked.name), prepared.data_dir_of(asked.data_dir)

    def originals() -> prepared.Files | None:
        if asked.manual_dir is None:
            return None
        sums = {archive.file: archive.sha256 for archive in ARCHIVES[asked.name]}
        return {"archive": prepared.original(asked.manual_dir.expanduser(), sums, HOST)}

    files = None if prepared.ready(of, data_dir) else originals()
    if missing := prepared.missing(of, data_dir, files):
        raise UserError(f"{missing}. Give {of.ways}")
    data_dir = prepared.prepare(of, data_dir, files, log)
    arrays = prepared.read(of, data_dir, SHAPE, originals, log)
    names = prepared.names_of(of, data_dir)
    return of_arrays(of.name, f"{of} in {data_dir}", arrays, CLASSES[of.name], names)


def known(name: str) -> prepared.Set:
    """The set as TFDS prepares it."""
    binary, python = ARCHIVES[name]
    url = HOST + binary.file

    def features(tfds: Any) -> dict[str, Any]:
        labels = {"label": tfds.features.ClassLabel(num_classes=CLASSES[name])}
        if name == "cifar100":
            labels["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
        image = tfds.features.Image(shape=SHAPE)
        return {"id": tfds.features.Text(), "image": image, **labels}

    return prepared.Set(
        title=name.upper().replace("CIFAR", "CIFAR-"),
        name=name,
        version="3.0.2",
        urls={"archive": url},
        features=features,
        examples=partial(_examples, name),
        splits=("train", "test"),
        homepage=HOST + "cifar.html",
        ways=f"{binary.file} or {python.file} in --data.manual-dir (curl -LO {url}), or a network; "
        f"or {prepared.MADE}",
        names=lambda files: _labels(name, files["archive"]),
        sums={url: (binary.size, binary.sha256)},
    )


def _examples(name: str, split: str, files: prepared.Files) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keys and examples as TFDS has them, so that the prepared copy has its order."""
    images, labels = _read(name, split, Path(files["archive"]))
    for i, image in enumerate(images):
        named = dict(zip(("label", "coarse_label"), labels[i].tolist(), strict=False))
        yield i, {"id": f"{split}_{i:05d}", "image": prepared.png(image), **named}


def _read(name: str, split: str, archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 32, 32, 3] and labels uint8 [n, 1], of CIFAR-100 [n, 2], fine and coarse."""
    form, contents = _members(name, split, archive)
    if form is ARCHIVES[name][0]:
        kinds = len(KEYS[name][0])  # CIFAR-100 has the coarse label first
        rows = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, kinds + 3 * 32 * 32)
        pixels, labels = rows[:, kinds:], rows[:, :kinds][:, ::-1]
    else:
        batches = [_unpickled(content) for content in contents]
        pixels = np.concatenate([batch["data"] for batch in batches])
        columns = [np.concatenate([batch[key] for batch in batches]) for key in KEYS[name][0]]
        labels = np.stack(columns, axis=1).astype(np.uint8)
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _labels(name: str, archive: Any) -> list[str]:
    """The names of the classes."""
    form, contents = _members(name, "names", Path(archive))
    if form is ARCHIVES[name][0]:
        return contents[0].decode().split()
    return _unpickled(contents[0])[KEYS[name][1][0]]


def _members(name: str, what: str, path: Path) -> tuple[Archive, list[bytes]]:
    """Which form an archive has, and the contents of its files with one split or the names."""
    with tarfile.open(path) as archive:
        inside = {Path(member.name).parts[-2:]: member for member in archive if member.isfile()}
        for form in ARCHIVES[name]:
            wanted = [(form.folder, file) for file in form.splits[what]]
            if all(place in inside for place in wanted):
                files = [archive.extractfile(inside[place]) for place in wanted]
                return form, [file.read() for file in files if file]
    raise UserError(f"{path}: not an archive of {name}. Get it anew from {HOST}")


class _Arrays(pickle.Unpickler):
    """Only what NumPy's arrays need: a pickle could else run anything."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not of an array")


def _unpickled(content: bytes) -> dict[str, Any]:
    return _Arrays(io.BytesIO(content), encoding="latin1").load()
