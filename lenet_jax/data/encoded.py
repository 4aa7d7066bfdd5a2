"""Encoded pictures, in files or in TFDS's records: looked through once, decoded when asked for."""

import hashlib
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lenet_jax.data import kept
from lenet_jax.data.dataset import Images
from lenet_jax.data.pictures import Pictures, in_order, opened
from lenet_jax.errors import UserError

MOST_DAMAGED = 1000  # one in so many may be damaged
LOOKED_AT = 32  # pixels; JPEG is decoded whole, and faster, for a small picture


class Encoded(Protocol):
    """Pictures in their order."""

    where: str  # in words

    def __len__(self) -> int: ...

    def read(self, number: int) -> tuple[bytes, int]:
        """The bytes of a picture and its label. Raises OSError where they cannot be read."""
        ...

    def name(self, number: int) -> str: ...

    def files(self) -> Iterable[Path]:
        """What must be unchanged for the pictures to be the same."""
        ...


def images_of(
    encoded: Encoded, side: int, data_dir: Path, log: Callable[[str], None]
) -> tuple[Images, str]:
    """The pictures that can be decoded, uint8 [n, side, side, 3], and the SHA-256 of their content.

    The sum is of each one's label and bytes, in order. The first time all are read and decoded, to
    find it, the labels and what is damaged; that is kept in `data_dir`, by the files' names, sizes
    and times, so that the next program begins at once. Raises UserError where more than one in
    MOST_DAMAGED is damaged.
    """
    labels, damaged, sha256 = _looked_through(encoded, data_dir, log)
    if len(damaged):
        _, _, reason = _look(encoded, damaged[0])
        allowed = len(encoded) // MOST_DAMAGED
        told = (
            f"{len(damaged):,} of {len(encoded):,} pictures of {encoded.where} cannot be decoded, "
            f"the first is {encoded.name(damaged[0])} ({reason or 'now it can'})"
        )
        if len(damaged) > allowed:
            raise UserError(
                f"{told}. Allowed is one in {MOST_DAMAGED:,}, here {allowed:,}. Get them anew, or "
                "take them away"
            )
        log(f"{told}; left out")
    good = np.setdiff1d(np.arange(len(encoded)), damaged)
    make = partial(_made, encoded, side)
    return Images(Pictures(make, good, (side, side, 3)), labels[good]), sha256


def decoded(content: bytes, side: int) -> np.ndarray:
    """The middle square of a picture, upright and scaled: uint8 [side, side, 3].

    Raises whatever Pillow does for damaged pictures.
    """
    from PIL import ImageOps

    with opened(io.BytesIO(content)) as image:
        image.draft("RGB", (side, side))  # JPEG: no finer than needed
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(middle(upright, side, side))


def middle(image: Any, height: int, width: int) -> Any:
    """The largest part in the middle of a Pillow image that scales to height x width, scaled."""
    from PIL import Image

    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    box = left, top, left + scale * width, top + scale * height
    return image.resize((width, height), Image.Resampling.BICUBIC, box)


def _made(encoded: Encoded, side: int, number: int) -> np.ndarray:
    try:
        return decoded(encoded.read(number)[0], side)
    except Exception as error:  # whatever Pillow raises
        raise UserError(
            f"{encoded.name(number)} could be decoded when the run began and cannot be now "
            f"({error}). Leave the pictures as they are, and give the same command again"
        ) from error


def _look(encoded: Encoded, number: int) -> tuple[bytes, int, str]:
    """The SHA-256 of a picture's bytes, its label, and why it cannot be decoded, if so."""
    try:
        content, label = encoded.read(number)
        decoded(content, LOOKED_AT)
    except Exception as error:  # whatever Pillow raises
        return b"", -1, str(error) or type(error).__name__
    return hashlib.sha256(content).digest(), label, ""


def _looked_through(
    encoded: Encoded, data_dir: Path, log: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels int32 [n], the numbers of those damaged, and the SHA-256 of the others."""
    stamp = hashlib.sha256()
    for file in encoded.files():
        about = file.stat()
        stamp.update(f"{file}\n{about.st_size} {about.st_mtime_ns}\n".encode())
    file = data_dir / "lenet_jax" / "pictures" / f"{stamp.hexdigest()}.npz"
    try:
        with np.load(file) as found:
            return found["labels"], found["damaged"], str(found["sha256"])
    except kept.DAMAGED:
        log(f"looking through the {len(encoded):,} pictures of {encoded.where} (once)")
    sum256 = hashlib.sha256()
    labels, damaged = np.empty(len(encoded), np.int32), []
    for number, found in enumerate(in_order(partial(_look, encoded), range(len(encoded)))):
        content, labels[number], reason = found
        if reason:
            damaged.append(number)
        else:
            sum256.update(labels[number].tobytes() + content)
    looked = labels, np.array(damaged, np.int64), sum256.hexdigest()
    kept.write(file, log, labels=looked[0], damaged=looked[1], sha256=np.array(looked[2]))
    return looked
