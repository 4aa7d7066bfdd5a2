"""MNIST through TensorFlow Datasets, without TensorFlow.

TFDS's own builder reads and encodes through TensorFlow. This one prepares the same `mnist/3.0.1`
from the four original files, known by their SHA-256, as array_record, which
`tfds.data_source` reads with nothing but Python. Decoding 70,000 PNGs takes a while, so the
decoded arrays lie beside the prepared set in one file, with their SHA-256.
"""

import contextlib
import gzip
import hashlib
import importlib.util
import io
import json
import logging
import os
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.errors import UserError

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
Arrays = dict[str, np.ndarray]
NO_FORMAT = "array_record, TFDS's file format, is not installed (there is none for Windows)"


def sha256_of(arrays: Arrays) -> str:
    """SHA-256 of the arrays' bytes in the order of FILES: images uint8, labels uint8."""
    sum256 = hashlib.sha256()
    for name in FILES:
        sum256.update(np.ascontiguousarray(arrays[name], np.uint8).tobytes())
    return sum256.hexdigest()


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
    way_out = f"it is left in place. Get the original from {URL}{file}"
    try:
        given = hashlib.sha256(content := path.read_bytes()).hexdigest()
    except OSError as error:
        return UserError(
            f"{path}: {error.strerror or error}. All four original files must be there; "
            f"get it from {URL}{file}"
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


def prepared(data_dir: Path) -> Path | None:
    """The folder under which TFDS has MNIST in a form that reads without TensorFlow, or None."""
    return next((d for d in (data_dir, _ours(data_dir)) if _file_format(d) == "array_record"), None)


def prepare(data_dir: Path, folder: Path | None, log) -> Path:
    """Lets TFDS make `mnist/3.0.1` from the originals, or download them; returns its data_dir.

    A copy in another file format is left alone: ours then goes to a folder of its own beneath.
    Raises UserError where the folder cannot be written, the download fails, or array_record is not
    installed.
    """
    taken = _file_format(data_dir)
    if taken is not None:
        log(
            f"{data_dir / 'mnist/3.0.1'} is a TFDS copy as {taken}, which needs TensorFlow to "
            f"read: leaving it alone and preparing our own in {_ours(data_dir)}"
        )
        data_dir = _ours(data_dir)
    log(f"preparing MNIST in {data_dir} from {folder or URL} (once, about a minute)")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _build(data_dir, folder)
    except UserError:
        raise
    except Exception as error:  # TFDS lets through whatever its libraries raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"MNIST could not be prepared in {data_dir}: {reason}. Give another --data.data-dir, "
            "or the four original files with --data.manual-dir"
        ) from error
    return data_dir


def read(data_dir: Path, log) -> Arrays:
    """The arrays of a prepared copy: uint8 images [n, 28, 28] and labels [n] of both splits.

    Raises UserError where they must be decoded and array_record is not installed.
    """
    decoded = data_dir / "mnist/3.0.1/decoded.npz"
    try:
        with np.load(decoded) as file:
            arrays = {name: file[name] for name in FILES}
            if sha256_of(arrays) == str(file["sha256"]):
                return arrays
        log(f"{decoded} does not match its SHA-256; decoding the images again")
    except FileNotFoundError:
        log(f"decoding the images of {decoded.parent} (once, a minute or two)")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log(f"{decoded} is damaged ({error}); decoding the images again")
    arrays = _decode(data_dir)
    partial = decoded.with_name(f"decoded.{os.getpid()}.tmp")
    try:
        with open(partial, "wb") as file:
            np.savez(file, sha256=np.array(sha256_of(arrays)), **arrays)  # type: ignore[arg-type]
        os.replace(partial, decoded)
    except OSError as error:  # a shared, read-only copy: it only costs the time again
        partial.unlink(missing_ok=True)
        log(f"cannot keep the decoded images beside {decoded.parent}: {error.strerror}")
    return arrays


def can_prepare() -> bool:
    """Whether TFDS can make, and decode, a copy that reads without TensorFlow."""
    return importlib.util.find_spec("array_record") is not None


def ways() -> str:
    """How this machine may get MNIST, in words."""
    if can_prepare():
        return "the four original files (--data.manual-dir or LENET_JAX_MNIST), or a network"
    return "a copy prepared on another system, decoded.npz in it (--data.data-dir)"


def cannot_download(seconds: float = 8) -> str:
    """Why MNIST cannot be had from its host now; empty where it can.

    The host is asked, for TFDS itself would retry for minutes, unless LENET_JAX_OFFLINE is set.
    """
    if not can_prepare():
        return NO_FORMAT
    if os.environ.get("LENET_JAX_OFFLINE"):
        return "LENET_JAX_OFFLINE is set"
    import requests

    answers = []

    def ask() -> None:
        try:
            requests.head(URL + FILES["test_labels"][0], timeout=seconds / 2).raise_for_status()
            answers.append(True)
        except requests.RequestException:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a name server may hang, too
    thread.start()
    thread.join(seconds)
    return "" if answers else f"{URL} does not answer"


def _ours(data_dir: Path) -> Path:
    return data_dir / "lenet_jax"


def _file_format(data_dir: Path) -> str | None:
    try:
        info = json.loads((data_dir / "mnist/3.0.1/dataset_info.json").read_text())
    except (OSError, ValueError):
        return None
    return info.get("fileFormat", "tfrecord")


def _tfds() -> Any:
    if not can_prepare():
        raise UserError(f"MNIST cannot be prepared or decoded: {NO_FORMAT}. Give {ways()}")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # advice to install OpenCV
    return tfds


def _build(data_dir: Path, folder: Path | None) -> None:
    tfds = _tfds()
    files = originals(folder) if folder else None

    with tfds.core.registered.skip_registration():

        class Mnist(tfds.core.GeneratorBasedBuilder):
            """The database of handwritten digits."""

            name = "mnist"
            VERSION = tfds.core.Version("3.0.1")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "image": tfds.features.Image(shape=(28, 28, 1)),
                            "label": tfds.features.ClassLabel(num_classes=10),
                        }
                    ),
                    supervised_keys=("image", "label"),
                    homepage="http://yann.lecun.com/exdb/mnist/",
                )

            def _split_generators(self, dl_manager):
                urls = {name: URL + file for name, (file, _, _) in FILES.items()}
                got = files or dl_manager.download(urls)
                return {
                    split: self._generate_examples(
                        split, got[f"{split}_images"], got[f"{split}_labels"]
                    )
                    for split in ("train", "test")
                }

            def _generate_examples(self, split, images, labels):
                from PIL import Image

                pictures = _idx(images, f"{split}_images")
                for i, label in enumerate(_idx(labels, f"{split}_labels")):
                    png = io.BytesIO()
                    Image.fromarray(pictures[i]).save(png, "PNG", compress_level=1)
                    png.seek(0)
                    yield i, {"image": png, "label": int(label)}

    builder = Mnist(data_dir=str(data_dir), file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()


def _idx(path, name: str) -> np.ndarray:
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    _, *shape = FILES[name][2]
    return np.frombuffer(content, np.uint8, offset=4 * (1 + len(shape))).reshape(shape)


def _decode(data_dir: Path) -> Arrays:
    """In the order of the prepared copy, which TFDS shuffles, alike for everyone, by its keys."""
    from PIL import Image

    tfds = _tfds()
    arrays: Arrays = {}
    raw = {"image": tfds.decode.SkipDecoding()}  # TFDS's own decoding takes longer
    for split in ("train", "test"):
        source = tfds.data_source("mnist:3.0.1", split=split, data_dir=str(data_dir), decoders=raw)
        arrays[f"{split}_images"] = images = np.empty((len(source), 28, 28), np.uint8)
        arrays[f"{split}_labels"] = labels = np.empty(len(source), np.uint8)
        for start in range(0, len(source), 1000):
            several = source.__getitems__(range(start, min(start + 1000, len(source))))
            for i, example in enumerate(several, start):
                images[i] = np.asarray(Image.open(io.BytesIO(example["image"])))
                labels[i] = example["label"]
    return arrays
