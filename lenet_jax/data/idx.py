"""Sets in MNIST's file format (IDX): Fashion-MNIST, KMNIST, EMNIST, or one of your own."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lenet_jax.data.dataset import ARRAYS, Dataset, NamedArrays, of_arrays
from lenet_jax.errors import UserError
from lenet_jax.experiment import Data

BELOW = ("", "raw", "gzip")  # where a folder of torchvision's, or of EMNIST's archive, has them
UNSIGNED_BYTE = 8
SPLITS = {"train": ("train",), "test": ("t10k", "test")}  # what the names of the files say
TRANSPOSED = "emnist"  # in a file's name: rows are columns (Cohen et al. 2017)


def find(asked: Data, log: Callable[[str], None]) -> Dataset:
    """The four files of --data.manual-dir, packed or not, named idx-NAME by that folder.

    Images are known by their three dimensions, labels by their one, the split by `train`, or `t10k`
    or `test`, in the name. EMNIST's images are turned upright, and labels that do not start at 0
    are moved to do so; both is said. The sum is of all arrays after that.
    Raises UserError for files that are missing, of several sets, damaged, or do not go together.
    """
    if asked.manual_dir is None:
        raise UserError(
            "--data.name idx needs --data.manual-dir: the folder of the four files, images and "
            "labels, such as train-images-idx3-ubyte.gz"
        )
    folder = asked.manual_dir.expanduser()
    files = _files(folder)
    arrays: NamedArrays = {name: _read(path, name) for name, path in files.items()}
    _require_pairs(arrays, files)
    if all(TRANSPOSED in path.name.lower() for path in files.values()):
        log(f"{folder} holds EMNIST, whose images lie on their side: they are turned upright")
        for name in ("train_images", "test_images"):
            arrays[name] = arrays[name].swapaxes(1, 2).copy()
    lowest, highest = (int(f(arrays["train_labels"])) for f in (np.min, np.max))
    if lowest:
        log(
            f"the labels of {folder} are {lowest} to {highest}: label {lowest} becomes 0, and so on"
        )
    for name in ("train_labels", "test_labels"):
        given = arrays[name]
        if not lowest <= given.min() <= given.max() <= highest:
            raise UserError(
                f"{files[name]}: labels are from {given.min()} to {given.max()}, those of the "
                f"training examples from {lowest} to {highest}. Give files of one set"
            )
        arrays[name] = given - lowest
    if highest == lowest:
        raise UserError(f"{files['train_labels']}: all labels are {lowest}, 2 or more are needed")
    name = f"idx-{folder.resolve().name}"
    return of_arrays(name, f"IDX files in {folder}", arrays, highest - lowest + 1)


def _files(folder: Path) -> dict[str, Path]:
    """The four files by what they hold."""
    places = [folder / below for below in BELOW if (folder / below).is_dir()]
    if not places:
        raise UserError(f"--data.manual-dir {folder}: no such folder. Give that of the four files")
    found: dict[str, list[Path]] = {name: [] for name in ARRAYS}
    for path in (path for place in places for path in sorted(place.iterdir())):
        dimensions = {3: "images", 1: "labels"}.get(_dimensions(path))
        split = next((s for s, w in SPLITS.items() if any(each in path.name for each in w)), None)
        if dimensions and split:
            found[f"{split}_{dimensions}"].append(path)
    for name, paths in found.items():
        split, what = name.split("_")
        if not paths:
            raise UserError(
                f"--data.manual-dir {folder}: no IDX file with {what} and "
                f"{' or '.join(map(repr, SPLITS[split]))} in its name. All four must be there, "
                "such as train-images-idx3-ubyte.gz"
            )
        if len(paths) > 1:
            raise UserError(
                f"--data.manual-dir {folder}: {paths[0].name} and {paths[1].name} both hold "
                f"{split} {what}. Give a folder with the four files of one set"
            )
    return {name: path for name, (path,) in found.items()}


def _dimensions(path: Path) -> int:
    """How many dimensions a file's array of bytes has, by its first four bytes; 0 for others."""
    try:
        with (gzip.open if _packed(path) else open)(path, "rb") as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return 0
    return head[3] if len(head) == 4 and head[:3] == bytes([0, 0, UNSIGNED_BYTE]) else 0


def _packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read(path: Path, name: str) -> np.ndarray:
    """The array of an IDX file: uint8 [n, height, width] or [n]."""
    try:
        content = path.read_bytes()
        if _packed(path):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}). Get it anew") from error
    start = 4 * (1 + content[3])
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != math.prod(shape) or 0 in shape:
        raise UserError(
            f"{path}: its head promises {name.replace('_', ' ')} {shape}, {math.prod(shape):,} "
            f"bytes, and {max(0, len(content) - start):,} follow. Get it anew"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _require_pairs(arrays: NamedArrays, files: dict[str, Path]) -> None:
    for split in SPLITS:
        images, labels = (len(arrays[f"{split}_{what}"]) for what in ("images", "labels"))
        if images != labels:
            raise UserError(
                f"{files[f'{split}_images']} has {images:,} images and "
                f"{files[f'{split}_labels']} {labels:,} labels. Give files of one set"
            )
    train, test = (arrays[f"{split}_images"].shape[1:] for split in SPLITS)
    if train != test:
        raise UserError(
            f"{files['train_images']} has images of {list(train)}, {files['test_images']} of "
            f"{list(test)}. Give files of one set"
        )
