"""A picture of any kind as grey levels."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lenet_jax.data.pictures import FORMATS, SUFFIXES, opened
from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require_local

MEGAPIXELS = 50  # of a picture that is decoded whole
OF_JPEG = 250  # megapixels of one that is reduced while it is decoded
KEPT = 12  # megapixels to which a JPEG may be reduced, and not below
ROWS = 256  # converted at a time, so that no second copy of a large picture is needed


class NoPicture(UserError):
    """What is given is of no format that is read."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright.

    `pixels` are uint8 or float32 [h, w] or [h, w, 3 or 4] of 0 to 255. Each stands for
    `scale` x `scale` of the picture as it lies in the file: 1, 2, 4 or 8.
    """

    pixels: np.ndarray
    scale: int = 1


def files(folder: Path) -> list[Path]:
    """The pictures in a folder, by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def read(source: Any) -> np.ndarray:
    """A picture as grey levels, float32 [h, w] of 0 to 255; `source` and errors as in `decode`."""
    return grey(pixels(source))


def pixels(source: Any) -> np.ndarray:
    """The pixels of a picture; `source` and errors as in `decode`."""
    return decode(source).pixels


def decode(source: Any, formats: tuple[str, ...] | None = None) -> Picture:
    """A picture, a large JPEG reduced by 2, 4 or 8 while it is decoded, to KEPT megapixels or more.

    `source`: the path of a picture's file, its bytes, a Pillow image, or an array [h, w] or
    [h, w, 3 or 4] of 0 to 255 (or of 0 to 1, in floats). `formats`: those of Pillow that are read
    (default: `pictures.FORMATS`, and HEIC by the extra `heic`).
    Raises UserError for anything else, damaged files and too many pixels: NoPicture where the
    format is none that is read.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        return Picture(_checked(source))
    name = str(source) if isinstance(source, str | Path) else "the picture"
    try:
        if isinstance(source, Image.Image):
            _allow(source, MEGAPIXELS, name)
            return _decoded(source.copy())
        if isinstance(source, bytes):
            return _of_file(io.BytesIO(source), formats, name)
        if isinstance(source, str | Path):
            require_local("picture", source)
            with open(source, "rb") as file:
                return _of_file(file, formats, name)
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: {_allowed(MEGAPIXELS)}") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(formats or (*FORMATS, "HEIC"))
        raise NoPicture(f"{name} is not a picture that can be read ({kinds})") from error
    except Exception as error:  # on damaged files the decoders raise whatever they like
        if isinstance(error, OSError) and error.strerror:  # no such file, no permission
            raise UserError(f"{name}: {error.strerror}") from error
        raise UserError(f"{name} is damaged: {error or type(error).__name__}") from error
    raise UserError(
        f"{source!r:.80} is no picture: give the path of a file, its bytes, a Pillow image or an "
        "array"
    )


def _of_file(file: BinaryIO, formats: tuple[str, ...] | None, name: str) -> Picture:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
        image = opened(file, formats)
    if not _in_one_pass(image):  # OpenJPEG needs more than twice what the others do
        _allow(image, MEGAPIXELS // 2 if image.format == "JPEG2000" else MEGAPIXELS, name)
        return _decoded(image)
    _allow(image, OF_JPEG, name)
    width, height = image.size
    scale = next(n for n in (8, 4, 2, 1) if n == 1 or width * height >= n * n * KEPT * 1_000_000)
    image.draft(None, (width // scale, height // scale))
    return _decoded(image, scale)


def _in_one_pass(image: Any) -> bool:
    """Whether it is a JPEG with all its colours in one scan, so that it is never held whole."""
    if image.format not in ("JPEG", "MPO") or "progressive" in image.info:
        return False
    image.fp.seek(2)
    while (marker := image.fp.read(2))[:1] == b"\xff":
        length = int.from_bytes(image.fp.read(2))
        if marker == b"\xff\xda":
            return image.fp.read(1)[0] == image.layers
        image.fp.seek(length - 2, io.SEEK_CUR)
    return False


def _allow(image: Any, megapixels: int, name: str) -> None:
    width, height = image.size
    if width * height > megapixels * 1_000_000:
        raise UserError(f"{name} has {width} x {height} pixels, {_allowed(megapixels)}")


def _allowed(megapixels: int) -> str:
    jpeg = "" if megapixels == OF_JPEG else f" ({OF_JPEG} in a JPEG that is not progressive)"
    return f"allowed are {megapixels} megapixels{jpeg}. Make it smaller first"


def _checked(array: np.ndarray) -> np.ndarray:
    given = f"an array of {array.dtype} {list(array.shape)}"
    fine = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fine or array.size == 0 or array.dtype.kind not in "uifb":
        raise UserError(f"{given} is no picture: expected numbers [h, w] or [h, w, 3 or 4]")
    if array.shape[0] * array.shape[1] > MEGAPIXELS * 1_000_000:
        raise UserError(f"{given} is too large: {_allowed(MEGAPIXELS)}")
    if array.dtype == np.uint8:
        return array
    levels = array.astype(np.float32)
    if array.dtype.kind in "fb" and not levels.max(initial=0) > 1:  # NaN goes on to the check
        levels *= 255
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
        raise UserError(
            f"{given} has values from {levels.min():g} to {levels.max():g}, allowed are 0 to 255 "
            "(or 0 to 1 in floats), none of them NaN"
        )
    return levels


def _decoded(image: Any, scale: int = 1) -> Picture:
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":
        usual = 65535 if image.mode.startswith("I") else 255
        return Picture(_stretched(_strips(image, image.mode, np.float32), usual), scale)
    clear = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    mode = "RGBA" if clear else "L" if image.mode in ("1", "L") else "RGB"
    return Picture(_strips(image, mode, np.uint8), scale)


def _strips(image: Any, mode: str, dtype: Any) -> np.ndarray:
    """The pixels in a mode of Pillow's."""
    width, height = image.size
    channels = (len(mode),) if mode in ("RGB", "RGBA") else ()
    converted = np.empty((height, width, *channels), dtype)
    for rows in _rows(height):
        strip = image.crop((0, rows.start, width, rows.stop))
        converted[rows] = np.asarray(strip if strip.mode == mode else strip.convert(mode))
    return converted


def _rows(height: int) -> Iterator[slice]:
    return (slice(top, min(top + ROWS, height)) for top in range(0, height, ROWS))


def _stretched(levels: np.ndarray, usual: int) -> np.ndarray:
    """Levels of 16 bits or more as 0 to 255, in place. Their range is not said, mostly `usual`."""
    low = float(np.fmin.reduce(levels, axis=None, initial=0))
    high = float(np.fmax.reduce(levels, axis=None, initial=255))
    high = usual if 255 < high <= usual else high
    with np.errstate(all="ignore"):
        levels -= low
        levels *= 255 / (high - low)
    np.nan_to_num(levels, copy=False)
    return np.clip(levels, 0, 255, out=levels)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The grey levels, float32 [h, w]; behind what is clear is paper that differs from the ink."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32, copy=False)
    levels = np.empty(pixels.shape[:2], np.float32)
    ink = seen = 0.0
    for rows in _rows(len(pixels)):
        strip = pixels[rows].astype(np.float32)
        levels[rows] = strip[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
        if pixels.shape[2] == 4:
            ink += float((levels[rows] * strip[..., 3]).sum())
            seen += float(strip[..., 3].sum())
    if pixels.shape[2] == 4:
        paper = 255.0 if ink <= 128 * seen else 0.0
        for rows in _rows(len(pixels)):
            levels[rows] += (1 - pixels[rows, :, 3] / np.float32(255)) * (paper - levels[rows])
    return levels
