"""A picture of any kind as grey levels."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.pictures import SUFFIXES
from lenet_jax.errors import UserError
from lenet_jax.experiment.checks import require_local

MEGAPIXELS = 40


def files(folder: Path) -> list[Path]:
    """The pictures in a folder, by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def read(source: Any) -> np.ndarray:
    """A picture as grey levels, float32 [h, w] of 0 to 255; `source` and errors as in `pixels`."""
    return grey(pixels(source))


def pixels(source: Any) -> np.ndarray:
    """A picture upright, float32 [h, w] or [h, w, 3 or 4] of 0 to 255.

    `source`: the path of a file that Pillow reads, its bytes, a Pillow image, or an array [h, w]
    or [h, w, 3 or 4] of 0 to 255 (or of 0 to 1, in floats).
    Raises UserError for anything else, damaged files and more than 40 megapixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        return _checked(source)
    name = str(source) if isinstance(source, str | Path) else "the picture"
    if isinstance(source, str | Path):
        require_local("picture", source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            if isinstance(source, bytes):
                source = Image.open(io.BytesIO(source))
            elif not isinstance(source, Image.Image):
                source = Image.open(source)
        width, height = source.size
        if width * height > MEGAPIXELS * 1_000_000:
            raise UserError(
                f"{name} has {width} x {height} pixels, allowed are {MEGAPIXELS} megapixels. "
                "Make it smaller first"
            )
        return _levels(ImageOps.exif_transpose(source))
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large: allowed are {MEGAPIXELS} megapixels") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{name} is not a picture that Pillow reads (PNG, JPEG, GIF, TIFF, BMP, WebP, ...)"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        if isinstance(error, OSError) and error.strerror:  # no such file, no permission
            raise UserError(f"{name}: {error.strerror}") from error
        raise UserError(f"{name} is damaged: {error}") from error


def _checked(array: np.ndarray) -> np.ndarray:
    given = f"an array of {array.dtype} {list(array.shape)}"
    fine = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fine or array.size == 0 or array.dtype.kind not in "uifb":
        raise UserError(f"{given} is no picture: expected numbers [h, w] or [h, w, 3 or 4]")
    if array.shape[0] * array.shape[1] > MEGAPIXELS * 1_000_000:
        raise UserError(f"{given} is too large: allowed are {MEGAPIXELS} megapixels")
    levels = array.astype(np.float32)
    if array.dtype.kind in "fb" and not levels.max(initial=0) > 1:  # NaN goes on to the check
        levels = levels * 255
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
        raise UserError(
            f"{given} has values from {levels.min():g} to {levels.max():g}, allowed are 0 to 255 "
            "(or 0 to 1 in floats), none of them NaN"
        )
    return levels


def _levels(image: Any) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: what range is not said
        levels = np.asarray(image, np.float32)
        low, high = np.nanmin(levels), np.nanmax(levels)
        high = 65535 if image.mode.startswith("I") and 255 < high <= 65535 else max(high, 255)
        return np.nan_to_num((levels - min(low, 0)) / (high - min(low, 0)) * 255)
    alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if alpha else "RGB"), np.float32)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The grey levels [h, w]; behind what is transparent lies paper that differs from the ink."""
    if pixels.ndim == 2:
        return pixels
    levels = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    if pixels.shape[2] == 4:
        seen = pixels[..., 3] / 255
        inked = float((levels * seen).sum() / max(seen.sum(), 1e-6))
        levels = seen * levels + (1 - seen) * (255.0 if inked < 128 else 0.0)
    return levels
