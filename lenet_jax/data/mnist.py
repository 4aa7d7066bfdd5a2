"""MNIST: its original files, known by their SHA-256, and the places where it may lie."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data import digits, prepared
from lenet_jax.data.dataset import Dataset, of_arrays
from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
# name in our arrays: the original file, its bytes' SHA-256 (those that TFDS registers), its magic
# number and shape
FILES = {
    "train_images": (
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        (2051, 60000, 28, 28),
    ),
    "train_labels": (
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        (2049, 60000),
    ),
    "test_images": (
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        (2051, 10000, 28, 28),
    ),
    "test_labels": (
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        (2049, 10000),
    ),
}
# The same unpacked; how many bytes each has, packed and unpacked; and where others keep them.
UNPACKED = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SIZES = {
    "train_images": (9_912_422, 47_040_016),
    "train_labels": (28_881, 60_008),
    "test_images": (1_648_877, 7_840_016),
    "test_labels": (4_542, 10_008),
}
BELOW = ("", "raw", "MNIST/raw")


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """MNIST from the first of these places, or else the embedded set.

    1. a copy that TFDS has prepared in `data_dir` (default: TFDS's own folder);
    2. the four original files in `manual_dir` (default: the environment's LENET_JAX_MNIST),
       verified and prepared through TFDS;
    3. TFDS's download, if its host answers within seconds (LENET_JAX_OFFLINE: it is not asked);
    4. unless `fallback` is "none", the 1,797 digits that scikit-learn carries ("uci-digits").

    Raises UserError for files that are not MNIST's, and for no MNIST and no fallback.
    """
    of, data_dir = known(), prepared.data_dir_of(asked.data_dir)
    manual_dir = asked.manual_dir
    if manual_dir is None and os.environ.get("LENET_JAX_MNIST"):
        manual_dir = Path(os.environ["LENET_JAX_MNIST"])
    # Named files are checked even where a prepared copy makes them idle.
    files = originals(manual_dir.expanduser()) if manual_dir else None
    if missing := prepared.missing(of, data_dir, files):
        if asked.fallback == "none":
            raise UserError(
                f"{missing}. Give {of.ways}, or take the embedded digits with --data.fallback "
                "uci-digits"
            )
        log(
            f"{missing}.\nTaking the embedded set instead: uci-digits, 1,797 small digits from "
            f"scikit-learn. Its results are not MNIST's.\nFor MNIST: {of.ways}."
        )
        return digits.find(asked, log)
    data_dir = prepared.prepare(of, data_dir, files, log)
    arrays = prepared.read(of, data_dir, SHAPE, lambda: files, log)
    return of_arrays("mnist", f"{of} in {data_dir}", arrays)


def known() -> prepared.Set:
    """MNIST as TFDS prepares it."""
    return prepared.Set(
        title="MNIST",
        name="mnist",
        version="3.0.1",
        urls={name: URL + file for name, (file, _, _) in FILES.items()},
        features=lambda tfds: {
            "image": tfds.features.Image(shape=(*SHAPE, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        },
        examples=_examples,
        splits=("train", "test"),
        homepage="http://yann.lecun.com/exdb/mnist/",
        ways="the four original files (--data.manual-dir or LENET_JAX_MNIST), or a network"
        if prepared.can_prepare()
        else "a copy prepared on another system, decoded.npz in it (--data.data-dir)",
    )


def originals(folder: Path) -> dict[str, Path]:
    """The four original files in a folder, or where torchvision keeps them below it, by their names
    in FILES. They are known by what is in them, packed or not, whatever they are called.

    Raises UserError unless each is there, byte for byte. Changes nothing.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder. Give --data.manual-dir (or LENET_JAX_MNIST) the folder "
            f"of the four original files, {', '.join(f for f, _, _ in FILES.values())}"
        )
    return {name: _original(name, folder) for name in FILES}


def _original(name: str, folder: Path) -> Path:
    file, packed, shape = FILES[name]
    places = [folder / below for below in BELOW]
    named = next((path for place in places if (path := place / file).is_file()), folder / file)
    if named.is_file() and hashlib.sha256(named.read_bytes()).hexdigest() == packed:
        return named
    for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
        if path.is_file() and path.stat().st_size in SIZES[name]:
            if hashlib.sha256(path.read_bytes()).hexdigest() in (packed, UNPACKED[name]):
                return path
    raise _damaged(named, file, packed, shape[0])


def _damaged(path: Path, file: str, expected: str, magic: int) -> UserError:
    """What is wrong with a file that should be an original."""
    other = (
        "Another set of this format (Fashion-MNIST, KMNIST, EMNIST) is taken, under its own name, "
        "with --data.name idx"
    )
    way_out = f"it is left in place. Get the original from {URL}{file}. {other}"
    try:
        given = hashlib.sha256(content := path.read_bytes()).hexdigest()
    except OSError as error:
        return UserError(
            f"{path}: {error.strerror or error}. All four original files must be there; "
            f"get it from {URL}{file}. {other}"
        )
    sums = f"SHA-256 is {given}, MNIST's is {expected}; {way_out}"
    try:
        head = gzip.GzipFile(fileobj=io.BytesIO(content)).read(4)
        gzip.decompress(content)
    except EOFError:
        return UserError(f"{path}: truncated ({len(content)} bytes); {sums}")
    except (OSError, zlib.error) as error:
        return UserError(f"{path}: not a whole gzip file ({error}); {sums}")
    found = int.from_bytes(head, "big")
    if found != magic:
        return UserError(f"{path}: its magic number is {found}, must be {magic}; {sums}")
    return UserError(f"{path}: wrong checksum; {sums}")


def _examples(split: str, files: prepared.Files) -> Iterator[tuple[int, dict[str, Any]]]:
    images, labels = (
        _idx(files[f"{split}_{what}"], f"{split}_{what}") for what in ("images", "labels")
    )
    for i, label in enumerate(labels):
        yield i, {"image": prepared.png(images[i]), "label": int(label)}


def _idx(path, name: str) -> np.ndarray:
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    _, *shape = FILES[name][2]
    return np.frombuffer(content, np.uint8, offset=4 * (1 + len(shape))).reshape(shape)
