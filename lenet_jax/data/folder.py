"""A folder of pictures: class/name.jpg, or train/class/name.jpg and test/class/name.jpg."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from lenet_jax.data import encoded, prepared
from lenet_jax.data.dataset import Dataset
from lenet_jax.data.pictures import SUFFIXES
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data

TESTS = "test", "val", "validation"  # what a folder of test pictures may be called
HELD_OUT = 5  # without one, every fifth picture of each class is for the test
LAYOUT = (
    "a folder with train/CLASS/NAME.jpg and test/CLASS/NAME.jpg (or val), or with CLASS/NAME.jpg "
    "alone"
)


class Files:
    """Pictures in files, with their labels; `encoded.Encoded`."""

    def __init__(self, where: str, paths: list[Path], labels: list[int]) -> None:
        self.where, self._paths, self._labels = where, paths, labels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, number: int) -> tuple[bytes, int]:
        return self._paths[number].read_bytes(), self._labels[number]

    def name(self, number: int) -> str:
        return str(self._paths[number])

    def files(self) -> Iterable[Path]:
        return self._paths


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """The pictures of --data.manual-dir, named folder-NAME by that folder.

    Raises UserError for a folder without classes, a class without pictures, and test pictures of
    other classes.
    """
    if asked.manual_dir is None:
        raise UserError(
            f"--data.name folder needs --data.manual-dir: {LAYOUT}. Without pictures of your own "
            "there are those that this package makes: --data.name shapes"
        )
    folder = asked.manual_dir.expanduser()
    name, source = f"folder-{folder.resolve().name}", f"pictures in {folder}"
    return of_encoded(name, source, *splits(folder, log), classes_of(folder), asked, log)


def of_encoded(
    name: str,
    source: str,
    train: encoded.Encoded,
    test: encoded.Encoded,
    names: tuple[str, ...],
    asked: Data,
    log: Callable[[str], None],
) -> Dataset:
    """A set of encoded pictures of named classes. The sum is of the names, the size and the sums of
    both splits (`encoded.images_of`)."""
    side, data_dir = asked.side, prepared.data_dir_of(asked.data_dir)
    (shown, sum_of_train), (held, sum_of_test) = (
        encoded.images_of(split, side, data_dir, log) for split in (train, test)
    )
    sum256 = hashlib.sha256(repr((names, side, sum_of_train, sum_of_test)).encode())
    return Dataset(
        name=name,
        source=f"{source}, {side}x{side} pixels",
        sha256=sum256.hexdigest(),
        train=shown,
        validation=shown.part(slice(0)),
        test=held,
        classes=len(names),
        names=names,
    )


def classes_of(folder: Path) -> tuple[str, ...]:
    """The classes of a folder's training pictures: the names of the folders that they lie in."""
    return tuple(each.name for each in _folders(_training(folder)))


def _training(folder: Path) -> Path:
    return folder / "train" if (folder / "train").is_dir() else folder


def _folders(folder: Path) -> list[Path]:
    try:
        found = [each for each in folder.iterdir() if each.is_dir() and each.name[0] != "."]
    except OSError as error:
        raise UserError(f"--data.manual-dir {folder}: {error.strerror}. Give {LAYOUT}") from error
    return sorted(found)


def splits(folder: Path, log: Callable[[str], None]) -> tuple[Files, Files]:
    """The pictures for training and for the test; errors as in `find`."""
    training, names = _training(folder), classes_of(folder)
    tests = [folder / name for name in TESTS if (folder / name).is_dir()]
    if len(names) < 2 or (training == folder and tests):
        raise UserError(
            f"--data.manual-dir {folder}: {len(names)} folders of classes in {training}, 2 or more "
            f"are needed. Give {LAYOUT}"
        )
    shown = {name: _pictures(training / name) for name in names}
    labelled = [test for test in tests if _folders(test)]  # that of ImageNet has no labels
    if not labelled:
        log(
            f"{folder} has no folder {' or '.join(TESTS)}: every {HELD_OUT}th picture of each "
            "class is held out for the test"
        )
        held = {name: paths[HELD_OUT - 1 :: HELD_OUT] for name, paths in shown.items()}
        for paths in shown.values():
            del paths[HELD_OUT - 1 :: HELD_OUT]
        if not any(held.values()):
            raise UserError(
                f"--data.manual-dir {folder}: no class has {HELD_OUT} pictures, so none is left "
                f"for the test. Give more, or a folder {folder / TESTS[0]}"
            )
        return _files(training, shown), _files(training, held)
    test = labelled[0]
    if others := sorted({each.name for each in _folders(test)} ^ set(names)):
        raise UserError(
            f"--data.manual-dir {folder}: {others[0]} is a class in only one of {training.name} "
            f"and {test.name}. Give both the same classes"
        )
    return _files(training, shown), _files(test, {name: _pictures(test / name) for name in names})


def _pictures(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(
            f"{folder}: no pictures of this class ({', '.join(SUFFIXES)}). Put some there, or take "
            "the folder away"
        )
    return found


def _files(folder: Path, of_classes: dict[str, list[Path]]) -> Files:
    paths = [path for each in of_classes.values() for path in each]
    labels = np.repeat(np.arange(len(of_classes)), [len(each) for each in of_classes.values()])
    return Files(str(folder), paths, labels.tolist())
