"""Data sets through TensorFlow Datasets, without TensorFlow.

TFDS's own builders read and encode through TensorFlow. This one prepares the same sets, from their
original files, as array_record, which TFDS reads with nothing but Python. Decoding tens of
thousands of PNGs takes a while, so the decoded arrays of small images lie beside the prepared set
in one file, with their SHA-256.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data import kept
from lenet_jax.data.dataset import ARRAYS, NamedArrays, sha256_of
from lenet_jax.errors import UserError

Log = Callable[[str], None]
Files = dict[str, Any]  # the original files, by what is in them
Originals = Callable[[], Files | None]  # looks for them and checks their sums, which takes a while
MADE = "take the set that this package makes, --data.name shapes"
NO_FORMAT = "array_record, TFDS's file format, is not installed (there is none for Windows)"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What TFDS knows a set by that it has prepared."""

    title: str  # in messages
    name: str
    version: str
    splits: tuple[str, str]  # for training and for the test
    ways: str  # how it may be had
    config: str = ""  # of TFDS's builder

    def folder(self, data_dir: Path) -> Path:
        """Where TFDS has it."""
        return data_dir / self.name / self.config / self.version

    def __str__(self) -> str:
        return "/".join(filter(None, ("TFDS " + self.name, self.config, self.version)))


@dataclass(frozen=True, kw_only=True)
class Set(Copy):
    """And how it is made from its original files.

    `examples` gives the keys and examples of a split, `features` what they consist of, and `names`
    those of the classes where TFDS keeps them. `sums` are the sizes and SHA-256 of files by their
    URL, beside those that TFDS's common register has.
    """

    urls: dict[str, str]
    features: Callable[[Any], dict[str, Any]]
    examples: Callable[[str, Files], Iterator[tuple[Any, dict[str, Any]]]]
    homepage: str
    names: Callable[[Files], list[str]] | None = None
    sums: dict[str, tuple[int, str]] = field(default_factory=dict)


def data_dir_of(asked: Path | None) -> Path:
    """The folder of prepared sets: the one asked for, or TFDS's own."""
    return (asked or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")).expanduser()


def ready(of: Copy, data_dir: Path) -> Path | None:
    """The data_dir under which TFDS has a set in a form that reads without TensorFlow, or None."""
    places = data_dir, _ours(data_dir)
    return next((d for d in places if _file_format(of, d) == "array_record"), None)


def missing(of: Set, data_dir: Path, files: Files | None) -> str:
    """Why a set cannot be had, in words; empty where it is prepared or can be."""
    if ready(of, data_dir) or files:
        return ""
    reason = cannot_download(of)
    return reason and (
        f"no {of.title}: none prepared in {data_dir}, no original files given, and {reason}"
    )


def prepare(of: Set, data_dir: Path, files: Files | None, log: Log) -> Path:
    """The data_dir of a set that is not `missing`, prepared by TFDS if it is not yet.

    Made from the original files, or from its download. A copy in another file format is left alone:
    ours then goes to a folder of its own beneath. Raises UserError where the folder cannot be
    written, the download fails, or array_record is not installed.
    """
    if found := ready(of, data_dir):
        shutil.rmtree(
            _making(of, found), ignore_errors=True
        )  # of a program killed when all but done
        return found
    taken = _file_format(of, data_dir)
    if taken is not None:
        log(
            f"{of.folder(data_dir)} is a TFDS copy as {taken}, which needs TensorFlow to read: "
            f"leaving it alone and preparing our own in {_ours(data_dir)}"
        )
        data_dir = _ours(data_dir)
    first = next(iter(files.values())) if files else None
    source = Path(first).parent if first else next(iter(of.urls.values())).rpartition("/")[0]
    log(f"preparing {of.title} in {data_dir} from {source} (once, about a minute)")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _alone(of, data_dir, log):
            if not ready(of, data_dir):  # else another program has made it meanwhile
                _build(of, data_dir, files, log)
    except UserError:
        raise
    except Exception as error:  # TFDS lets through whatever its libraries raise
        raise UserError(
            f"{of.title} could not be prepared in {data_dir}: {_reason(error)}. Give another "
            "--data.data-dir, or the original files with --data.manual-dir"
        ) from error
    return data_dir


def read(
    of: Set, data_dir: Path, shape: tuple[int, ...], originals: Originals, log: Log
) -> NamedArrays:
    """The arrays of a prepared copy of small images: uint8 [n, *shape], and labels uint8 [n].

    A copy that is damaged is moved aside and prepared anew, from its original files or its
    download. Raises UserError where neither is at hand, and where images must be decoded and
    array_record is not installed.
    """
    decoded = of.folder(data_dir) / "decoded.npz"
    try:
        with np.load(decoded) as file:
            arrays = {name: file[name] for name in ARRAYS}
            if sha256_of(arrays) == str(file["sha256"]):
                return arrays
        log(f"{decoded} does not match its SHA-256; decoding the images again")
    except FileNotFoundError:
        log(f"decoding the images of {decoded.parent} (once, a minute or two)")
    except kept.DAMAGED as error:
        log(f"{decoded} is damaged ({error}); decoding the images again")
    try:
        arrays = _decode(of, data_dir, shape)
    except UserError:
        raise
    except Exception as error:  # whatever its libraries make of a flipped bit
        arrays = _decode(of, anew(of, data_dir, originals, log, error), shape)
    kept.write(decoded, log, sha256=np.array(sha256_of(arrays)), **arrays)
    return arrays


def anew(of: Copy, data_dir: Path, originals: Originals, log: Log, error: Exception) -> Path:
    """The data_dir of a set whose copy is damaged, as an error says, once it is prepared anew.

    Raises UserError where that cannot be.
    """
    damaged = f"{of.folder(data_dir)} is damaged ({_reason(error)})"
    files, reason = originals(), "it is only read here"
    if not isinstance(of, Set) or (not files and (reason := cannot_download(of))):
        raise UserError(
            f"{damaged}, and cannot be prepared anew: {reason}. Move it away and give {of.ways}"
        ) from error
    log(f"{damaged}: preparing it anew")
    _move_aside(of.folder(data_dir), log)
    return prepare(of, data_dir, files, log)


def records(of: Copy, data_dir: Path, split: str) -> Any:
    """The examples of a split, a sequence in the order of the prepared copy, pictures undecoded.

    TFDS shuffles them by their keys, alike for everyone.
    """
    tfds = _tfds(of)
    raw = {"image": tfds.decode.SkipDecoding()}  # TFDS's own decoding takes longer
    builder = tfds.builder_from_directory(str(of.folder(data_dir)))
    return builder.as_data_source(split=split, decoders=raw)


def names_of(of: Copy, data_dir: Path) -> tuple[str, ...]:
    """The names of the classes, where TFDS keeps them beside a prepared copy."""
    try:
        names = (of.folder(data_dir) / "label.labels.txt").read_text(encoding="utf-8")
    except OSError:
        return ()
    return tuple(names.splitlines())


def original(folder: Path, sums: dict[str, str], host: str) -> Path:
    """The first file in a folder that has one of the names in `sums`, and its SHA-256.

    Raises UserError where there is none, or it is another.
    """
    path = next((folder / name for name in sums if (folder / name).is_file()), None)
    if path is None:
        names = " or ".join(sums)
        raise UserError(f"--data.manual-dir {folder}: {names} is not there. Get it from {host}")
    with path.open("rb") as file:
        given = hashlib.file_digest(file, "sha256").hexdigest()
    if given != sums[path.name]:
        raise UserError(
            f"{path}: wrong checksum; SHA-256 is {given}, the original's is {sums[path.name]}; it "
            f"is left in place. Get the original from {host}{path.name}"
        )
    return path


def png(image: np.ndarray) -> io.BytesIO:
    """An image as TFDS stores it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    file.seek(0)
    return file


def can_prepare() -> bool:
    """Whether TFDS can make, and decode, a copy that reads without TensorFlow."""
    return importlib.util.find_spec("array_record") is not None


def cannot_download(of: Set, seconds: float = 8) -> str:
    """Why a set cannot be had from its host now; empty where it can.

    The host is asked, for TFDS itself would retry for minutes, unless LENET_JAX_OFFLINE is set.
    """
    if not can_prepare():
        return NO_FORMAT
    if os.environ.get("LENET_JAX_OFFLINE"):
        return "LENET_JAX_OFFLINE is set"
    import requests

    url = list(of.urls.values())[-1]
    answers = []

    def ask() -> None:
        try:
            requests.head(url, timeout=seconds / 2).raise_for_status()
            answers.append(True)
        except requests.RequestException:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a name server may hang, too
    thread.start()
    thread.join(seconds)
    return "" if answers else f"{url.rpartition('/')[0]}/ does not answer"


def _ours(data_dir: Path) -> Path:
    return data_dir / "lenet_jax"


@contextlib.contextmanager
def _alone(of: Set, data_dir: Path, log: Log) -> Iterator[None]:
    """Holds a set in a data_dir, once no other program does."""
    import fcntl  # where there is array_record there is this

    with open(data_dir / f".preparing-{of.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another program is preparing {of.title} in {data_dir}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield


def _making(of: Copy, data_dir: Path) -> Path:
    return data_dir / f".preparing-{of.name}"


def _move_aside(folder: Path, log: Log) -> None:
    aside = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        folder.rename(aside)
    except OSError as error:
        raise UserError(
            f"{folder} is damaged and cannot be moved aside: {error.strerror}. Move it away, or "
            "give another --data.data-dir"
        ) from error
    log(f"{folder} was moved to {aside}")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _file_format(of: Copy, data_dir: Path) -> str | None:
    try:
        info = json.loads((of.folder(data_dir) / "dataset_info.json").read_text())
        return info.get("fileFormat", "tfrecord")
    except (OSError, ValueError, AttributeError):
        return None


def _tfds(of: Copy) -> Any:
    if not can_prepare():
        raise UserError(f"{of.title} cannot be prepared or decoded: {NO_FORMAT}. Give {of.ways}")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)  # advice to install OpenCV
    return tfds


def _build(of: Set, data_dir: Path, files: Files | None, log: Log) -> None:
    """Has TFDS prepare a set in a folder of its own, which then gets its name: a program that is
    killed leaves nothing but what the next one throws away.
    """
    tfds = _tfds(of)

    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            """One of the sets that this package reads."""

            name = of.name
            VERSION = tfds.core.Version(of.version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=of.config)] if of.config else []

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(of.features(tfds)),
                    supervised_keys=("image", "label"),
                    homepage=of.homepage,
                )

            def _split_generators(self, dl_manager):
                got = files or dl_manager.download(of.urls)
                if of.names:
                    self.info.features["label"].names = of.names(got)
                return {split: self._generate_examples(split, got) for split in of.splits}

            def _generate_examples(self, split, got):
                return of.examples(split, got)

        if of.sums:
            from tensorflow_datasets.core.download import checksums

            Builder.url_infos = {
                url: checksums.UrlInfo(tfds.core.utils.Size(size), sha256, url.rpartition("/")[2])
                for url, (size, sha256) in of.sums.items()
            }

    making = _making(of, data_dir)
    shutil.rmtree(making, ignore_errors=True)
    builder = Builder(data_dir=str(making), file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=str(data_dir / "downloads"))
    folder = of.folder(data_dir)
    if folder.exists():  # without a readable dataset_info.json
        _move_aside(folder, log)
    folder.parent.mkdir(parents=True, exist_ok=True)
    of.folder(making).rename(folder)
    shutil.rmtree(making, ignore_errors=True)


def _decode(of: Set, data_dir: Path, shape: tuple[int, ...]) -> NamedArrays:
    from PIL import Image

    arrays: NamedArrays = {}
    for ours, theirs in zip(("train", "test"), of.splits, strict=True):
        source = records(of, data_dir, theirs)
        arrays[f"{ours}_images"] = images = np.empty((len(source), *shape), np.uint8)
        arrays[f"{ours}_labels"] = labels = np.empty(len(source), np.uint8)
        for start in range(0, len(source), 1000):
            several = source.__getitems__(range(start, min(start + 1000, len(source))))
            for i, example in enumerate(several, start):
                images[i] = np.asarray(Image.open(io.BytesIO(example["image"])))
                labels[i] = example["label"]
    return arrays
