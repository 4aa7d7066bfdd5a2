"""A data set that knows where it came from, and the table of those that have a name."""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lenet_jax.data.pictures import Pictures
from lenet_jax.errors import UserError
from lenet_jax.experiment import Arrays, Data

# Data sets by name: the module of this room whose `find(asked, log)` gives them whole. Another one
# is a file and a line.
SOURCES = {
    "mnist": "mnist",
    "uci-digits": "digits",
    "practice": "practice",
    "shapes": "shapes",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "imagenette": "imagenet",
    "imagenet": "imagenet",
    "idx": "idx",
    "folder": "folder",
}
# The arrays of a set of small images by their names: images uint8 [n, ...], labels uint8 [n].
NamedArrays = dict[str, np.ndarray]
ARRAYS = "train_images", "train_labels", "test_images", "test_labels"


@dataclass(frozen=True)
class Images:
    """uint8 images [n, height, width] or [n, height, width, channels], and labels, int32 [n].

    The images are an array, which may lie in a file, or `Pictures` that are made when asked for.
    """

    images: np.ndarray | Pictures
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> "Images":
        """Some of them, none copied or made."""
        images = self.images
        some = images.part(which) if isinstance(images, Pictures) else images[which]
        return Images(some, self.labels[which])


@dataclass(frozen=True)
class Dataset:
    """Training, validation (may be empty) and test images, with their name, source and sum.

    `sha256` is of all images and labels as loaded, before anything is held out or left away; for
    pictures that are made when asked for their source says what it is of. `names` are those of the
    classes, where they are known.
    """

    name: str
    source: str
    sha256: str
    train: Images
    validation: Images
    test: Images
    classes: int = 10
    names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: (height, width) or (height, width, channels)."""
        return self.test.images.shape[1:]


def of(asked: Data | Arrays, log: Callable[[str], None] = print) -> Dataset:
    """The data that an experiment asks for: by name (`load`), or its page's own arrays.

    Raises UserError as `load` does, and for arrays that are only a description of a run's.
    """
    if isinstance(asked, Arrays):
        found = _of_page(asked)
    elif asked.name in SOURCES:
        source = importlib.import_module(f"lenet_jax.data.{SOURCES[asked.name]}")
        found = source.find(asked, log)
    else:
        raise UserError(f"--data.name {asked.name}: there are {', '.join(SOURCES)}")
    return split(found, asked.limit, asked.validation)


def load(
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    fallback: str = "uci-digits",
    limit: int | None = None,
    validation: int = 0,
    log: Callable[[str], None] = print,
    name: str = "mnist",
    size: int | None = None,
) -> Dataset:
    """A data set by its name in SOURCES, MNIST by default; the fields are those of `Data`.

    The last `validation` training examples are held out, then the first `limit` kept.
    Raises UserError for an unknown name, for splits larger than the set, and where its module does:
    for files that are missing or not what they should be.
    """
    asked = Data(name, data_dir, manual_dir, fallback, limit, validation, size)  # type: ignore[arg-type]
    return of(asked, log)


def embedded(limit: int | None = None, validation: int = 0) -> Dataset:
    """The embedded set, whatever else there is; the rest as `load`."""
    return load(name="uci-digits", limit=limit, validation=validation)


def split(found: Dataset, limit: int | None, validation: int) -> Dataset:
    """A whole set with its last training examples held out and then the first kept."""
    kept = len(found.train) - validation
    if kept < 1 or (limit or 0) > kept:
        raise UserError(
            f"--data.validation {validation} and --data.limit {limit} ask for more than the "
            f"{len(found.train)} training examples of {found.name}: together they may have at "
            "most as many, one of them to train on. Give less"
        )
    return replace(
        found,
        train=found.train.part(slice(min(kept, limit or kept))),
        validation=found.train.part(slice(kept, None)),
    )


def of_arrays(
    name: str, source: str, arrays: NamedArrays, classes: int = 10, names: tuple[str, ...] = ()
) -> Dataset:
    """A whole set of small images."""
    train, test = (
        Images(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int32))
        for split in ("train", "test")
    )
    about = name, source, sha256_of(arrays)
    return Dataset(*about, train, train.part(slice(0)), test, classes, names)


def sha256_of(arrays: NamedArrays) -> str:
    """SHA-256 of the arrays' bytes in the order of ARRAYS: images uint8, labels uint8."""
    sum256 = hashlib.sha256()
    for name in ARRAYS:
        sum256.update(np.ascontiguousarray(arrays[name], np.uint8).tobytes())
    return sum256.hexdigest()


def _of_page(asked: Arrays) -> Dataset:
    if asked.train is None:
        raise UserError(f"the arrays of {asked.name} are not here: they come with their page")
    train, test = Images(*asked.train), Images(*asked.test)
    about = asked.name, "arrays of the page", asked.sha256
    return Dataset(*about, train, train.part(slice(0)), test, asked.classes)
