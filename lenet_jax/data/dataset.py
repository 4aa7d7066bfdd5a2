"""A data set that knows where it came from, and the places where MNIST may lie."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_jax.data import digits, mnist
from lenet_jax.errors import UserError
from lenet_jax.experiment import Arrays, Data

EMBEDDED = "uci-digits", "scikit-learn's load_digits"  # name and source
# Data sets that need no looking for, by name: where they are from, how many classes they have, and
# the function that gives their arrays, named as in `mnist.FILES`. Another one is a file and a line.
SOURCES: dict[str, tuple[str, int, Callable[[], mnist.Arrays]]] = {
    EMBEDDED[0]: (EMBEDDED[1], 10, digits.load)
}


@dataclass(frozen=True)
class Images:
    """uint8 images [n, height, width] or [n, height, width, channels], and labels, int32 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Training, validation (may be empty) and test images, with their name, source and sum.

    `sha256` is of all images and labels as loaded, before anything is held out or left away.
    """

    name: str
    source: str
    sha256: str
    train: Images
    validation: Images
    test: Images
    classes: int = 10

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: (height, width) or (height, width, channels)."""
        return self.test.images.shape[1:]


def of(asked: Data | Arrays, log: Callable[[str], None] = print) -> Dataset:
    """The data that an experiment asks for: by name (`load`), or its page's own arrays.

    Raises UserError as `load` does, and for arrays that are only a description of a run's.
    """
    if isinstance(asked, Data):
        return load(**vars(asked), log=log)
    if asked.train is None:
        raise UserError(f"the arrays of {asked.name} are not here: they come with their page")
    train, test = Images(*asked.train), Images(*asked.test)
    about = asked.name, "arrays of the page", asked.sha256
    return _split(*about, train, test, asked.limit, asked.validation, asked.classes)


def load(
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    fallback: str = "uci-digits",
    limit: int | None = None,
    validation: int = 0,
    log: Callable[[str], None] = print,
    name: str = "mnist",
) -> Dataset:
    """A data set by name; MNIST from the first of these places, or else the embedded set.

    1. a copy that TFDS has prepared in `data_dir` (default: TFDS's own folder);
    2. the four original files in `manual_dir` (default: the environment's LENET_JAX_MNIST),
       verified and prepared through TFDS;
    3. TFDS's download, if its host answers within seconds (LENET_JAX_OFFLINE: it is not asked);
    4. unless `fallback` is "none", the 1,797 digits that scikit-learn carries ("uci-digits").

    The last `validation` training examples are held out, then the first `limit` kept.
    Raises UserError for files that are not MNIST's, for no MNIST and no fallback, and for
    splits larger than the set.
    """
    if name in SOURCES:
        source, classes, arrays = SOURCES[name]
        return _of_arrays(name, source, arrays(), limit, validation, classes)
    if name != "mnist":
        raise UserError(f"--data.name {name}: there are mnist, {', '.join(SOURCES)}")
    return _of_arrays(*_find(data_dir, manual_dir, fallback, log), limit, validation)


def embedded(limit: int | None = None, validation: int = 0) -> Dataset:
    """The embedded set, whatever else there is; the rest as `load`."""
    return _of_arrays(*EMBEDDED, digits.load(), limit, validation)


def _of_arrays(
    name: str,
    source: str,
    arrays: mnist.Arrays,
    limit: int | None,
    validation: int,
    classes: int = 10,
) -> Dataset:
    train, test = _images(arrays, "train"), _images(arrays, "test")
    return _split(name, source, mnist.sha256_of(arrays), train, test, limit, validation, classes)


def _split(
    name: str,
    source: str,
    sha256: str,
    train: Images,
    test: Images,
    limit: int | None,
    validation: int,
    classes: int = 10,
) -> Dataset:
    kept = len(train) - validation
    if kept < 1 or (limit or 0) > kept:
        raise UserError(
            f"--data.validation {validation} and --data.limit {limit} ask for more than the "
            f"{len(train)} training examples of {name}: together they may have at most as many, "
            "one of them to train on. Give less"
            + (f", or, for MNIST, {mnist.ways()}" if name == EMBEDDED[0] else "")
        )
    return Dataset(
        name=name,
        source=source,
        sha256=sha256,
        train=Images(train.images[:kept][:limit], train.labels[:kept][:limit]),
        validation=Images(train.images[kept:], train.labels[kept:]),
        test=test,
        classes=classes,
    )


def _find(
    data_dir: Path | None, manual_dir: Path | None, fallback: str, log: Callable[[str], None]
) -> tuple[str, str, mnist.Arrays]:
    if data_dir is None:
        data_dir = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    data_dir = data_dir.expanduser()
    if manual_dir is None and os.environ.get("LENET_JAX_MNIST"):
        manual_dir = Path(os.environ["LENET_JAX_MNIST"])
    if manual_dir is not None:  # named files are checked even where a prepared copy makes them idle
        manual_dir = manual_dir.expanduser()
        mnist.originals(manual_dir)
    ready = mnist.prepared(data_dir)
    reason = "" if ready or manual_dir else mnist.cannot_download()
    if not reason:
        ready = ready or mnist.prepare(data_dir, manual_dir, log)
        return "mnist", f"TFDS mnist/3.0.1 in {ready}", mnist.read(ready, log)
    missing = f"no MNIST: none prepared in {data_dir}, no original files given, and {reason}"
    if fallback == "none":
        raise UserError(
            f"{missing}. Give {mnist.ways()}, or take the embedded digits with --data.fallback "
            "uci-digits"
        )
    log(
        f"{missing}.\nTaking the embedded set instead: uci-digits, 1,797 small digits from "
        f"scikit-learn. Its results are not MNIST's.\nFor MNIST: {mnist.ways()}."
    )
    return *EMBEDDED, digits.load()


def _images(arrays: mnist.Arrays, split: str) -> Images:
    return Images(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int32))
