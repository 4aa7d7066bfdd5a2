"""A user's own picture: where its digits are, and each prepared as MNIST's were (section III-A).

Ink is what differs from the paper around it, so that shadows do not matter; whether it is the
darker or the lighter of the two comes out of the picture. Everything between is in pixels of a
picture whose longest side has at most SIDE of them.
"""

import io
import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lenet_jax.data.digits import frame
from lenet_jax.errors import UserError

MEGAPIXELS = 40
SIDE = 1024
MOST = 400  # parts of a picture that are looked at, the largest
COARSE = 24  # longest side of the picture in which light on dark is told from dark on light
STROKE = 2.0  # pixels: thinner strokes in the 20x20 box are thickened to this

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Page:
    """The ink of a picture, float32 [h, w] of 0 to 1, and its parts that may be digits.

    Boxes are (left, top, right, bottom) in pixels of `ink`, in reading order; one of these pixels
    is `scale` pixels of the picture wide.
    """

    ink: np.ndarray
    boxes: list[Box]
    scale: float


SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


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


def find(grey: np.ndarray) -> Page:
    """The ink and the parts of a picture, float32 [h, w] of 0 to 255 (`read`), that may be digits.

    Raises UserError for a picture of fewer than 8 pixels in height or width.
    """
    if min(grey.shape) < 8:
        height, width = grey.shape
        raise UserError(f"the picture has {width} x {height} pixels: no digit fits in fewer than 8")
    scale = max(1.0, max(grey.shape) / SIDE)
    if scale > 1:
        grey = _resized(grey, tuple(max(8, round(n / scale)) for n in grey.shape))
    ink = _ink(grey)
    mask = ink > 0.5
    mask &= ~_rules(mask)
    return Page(ink * ndimage.binary_dilation(mask, iterations=2), _boxes(mask), scale)


def _resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image with as many rows and columns as `shape` says, areas averaged."""
    from PIL import Image

    resized = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


def _ink(grey: np.ndarray) -> np.ndarray:
    """float32 of 0 (paper) to 1 (ink), all 0 where nothing stands out."""
    if min(grey.shape) >= 100:  # grain and specks; a smaller picture has no pixel to spare
        grey = ndimage.gaussian_filter(ndimage.median_filter(grey, 3), 1)
    if _light_on_dark(grey):
        grey = 255 - grey
    # The paper is what is left when all that is darker, and narrower than any stroke, is filled
    # up. The edges of shadows stay where they are, and so are no ink.
    widest = max(5, min(3 * min(grey.shape) // 4, max(grey.shape) // 5))
    # A slope of the light goes on beyond the edges (odd reflection), or they would be ink.
    wide = np.pad(grey, widest, mode="reflect", reflect_type="odd")
    closed: Any = ndimage.grey_closing(wide, (widest, widest))
    paper = closed[widest:-widest, widest:-widest]
    depth = 255 * (1 - grey / np.maximum(paper, 32))  # in the shade strokes are as much darker
    usual = np.median(depth)
    noise = 1.48 * np.median(np.abs(depth - usual))
    standing_out = depth[depth > max(16, usual + 5 * noise)]
    if not len(standing_out):
        return np.zeros_like(grey)
    half = max(12, usual + 3 * noise, 0.5 * np.percentile(standing_out, 75))
    return np.clip(depth * (0.5 / half), 0, 1).astype(np.float32)


def _light_on_dark(grey: np.ndarray) -> bool:
    """Whether what differs from most of its surroundings, the ink, is lighter than they are."""
    shape = tuple(max(1, round(n * min(1.0, COARSE / max(grey.shape)))) for n in grey.shape)
    coarse = _resized(grey, shape)
    differs: Any = coarse - ndimage.median_filter(coarse, max(shape) // 4, mode="nearest")
    return float((differs * np.abs(differs)).sum()) > 0


def _rules(mask: np.ndarray) -> np.ndarray:
    """The rules of the paper, horizontal and vertical, not where digits cross them.

    A stroke of a digit may be as straight and as long. But a rule goes from edge to edge of the
    picture, or from rule to rule as in a form, or it repeats, or is too long for a digit's bar; and
    an upright one is not alone.
    """
    height, width = mask.shape
    (across, level), (down, upright) = _lines(mask), _lines(mask.T)
    repeating = _repeating(level)
    long = level[:, 1] - level[:, 0] > 1.5 * height
    # Upright lines beside each other are a row of ones unless they cross all the rules, and one
    # from edge to edge is a 1 in a tight crop where there are none.
    squared = _repeating(upright) & _crossing(upright, level[repeating]) & repeating.any()
    rules, posts = np.ones(len(level), bool), np.ones(len(upright), bool)
    for _ in range(len(level) + len(upright)):  # a line that ends on what is no rule is none
        rules = repeating | long | _held(level, upright[posts], width)
        posts = squared | _held(upright, level[rules], height) & rules.any()
    found = np.zeros_like(mask)
    for turned, labels, kept, out in (
        (mask, across, rules, found),
        (mask.T, down, posts, found.T),
    ):
        thick = 2 + turned.shape[0] // 150
        out |= np.r_[False, kept][labels] & turned & ~_runs(turned, thick + 3, 0)
    return found


def _lines(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The long straight runs along the rows, numbered from 1, and the place of each, int [n, 4].

    A place is the first column, one past the last, the first row and one past the last.
    """
    length = max(60, mask.shape[1] // 3)
    if mask.shape[1] < 2 * 60:
        return np.zeros(mask.shape, int), np.zeros((0, 4), int)
    # A rule may be a little oblique: let it be found in bands of three rows. It may be faint: a
    # gap of four pixels does not end it.
    banded: Any = ndimage.maximum_filter1d(mask, 3, axis=0)
    wide: Any = ndimage.maximum_filter1d(banded, 5, axis=1)
    bridged: Any = banded | ndimage.minimum_filter1d(wide, 5, axis=1, mode="constant")
    labels, _ = _labelled(_runs(bridged, length, 1))
    # What ends a few pixels short of a rule is bridged to it, but does not end on it.
    solid = np.where(_runs(banded, 9, 1), labels, 0)
    ends = ndimage.find_objects(solid, labels.max())
    found = [end or whole for end, whole in zip(ends, ndimage.find_objects(labels), strict=True)]
    places = [(c.start, c.stop, r.start, r.stop) for r, c in found]
    return labels, np.array(places, int).reshape(-1, 4)


def _repeating(lines: np.ndarray) -> np.ndarray:
    """Which of the lines [n, 4] are of three or more beside each other.

    Nearer than half their length: the bars of two 7s, one under the other, are further apart.
    """
    start, stop, first, last = lines.T
    apart = abs((first + last)[:, None] - (first + last)) / 2
    common = np.minimum(stop[:, None], stop) - np.maximum(start[:, None], start)
    near = (common > 0) & (apart < (stop - start) / 2)
    return (near & (near.sum(axis=0) > 2)).any(axis=1)  # each is one of those near it


def _crossing(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the lines [n, 4] are long enough to reach all of the others."""
    start, stop = lines[:, :2].T[..., None]
    before, after = others[:, 2:].T
    return ((start <= after + 2) & (before - 2 <= stop)).all(axis=1)


def _held(lines: np.ndarray, others: np.ndarray, size: int) -> np.ndarray:
    """Which of the lines [n, 4] end on both sides at the edge of the picture or on the others."""
    start, stop, first, last = lines.T[..., None]
    from_, to, before, after = others.T
    beside = (from_ - 2 <= last) & (first <= to + 2)
    begins = ((before - 1 <= start) & (start <= after + 1) & beside).any(axis=1)
    ends = ((before - 1 <= stop) & (stop <= after + 1) & beside).any(axis=1)
    return (begins | (start[:, 0] == 0)) & (ends | (stop[:, 0] == size))


def _runs(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """What lies in a run of `length` pixels, or of one more if that is even, along an axis."""
    length |= 1
    inside: Any = ndimage.minimum_filter1d(mask, length, axis, mode="constant")
    runs: Any = ndimage.maximum_filter1d(inside, length, axis, mode="constant")
    return runs


def _boxes(mask: np.ndarray) -> list[Box]:
    labels, number = _labelled(mask)
    if not number:
        return []
    height, width = mask.shape
    areas = ndimage.sum_labels(mask, labels, range(1, number + 1))
    parts = [
        ((columns.start, rows.start, columns.stop, rows.stop), area)
        for (rows, columns), area in zip(ndimage.find_objects(labels), areas, strict=True)
        if area >= 6
    ]
    # What touches the edge is a table, a finger or a digit cut off, unless all does, or it stands
    # beside a digit as tall: in a crop without a margin.
    inside = [(b, a) for b, a in parts if min(b[:2]) > 0 and b[2] < width and b[3] < height]
    tallest = max((b - t for (_, t, _, b), _ in inside), default=0)
    if tallest >= 8:
        rows = np.array([(t, b) for (_, t, _, b), _ in inside if b - t >= 0.8 * tallest])
        parts = inside + [
            ((left, top, right, bottom), area)
            for (left, top, right, bottom), area in set(parts) - set(inside)
            if 0.8 * tallest <= bottom - top <= 1.25 * tallest
            and ((2 * rows[:, 0] < top + bottom) & (top + bottom < 2 * rows[:, 1])).any()
        ]
    largest = max((area for _, area in parts), default=0)
    parts = [(area, box) for box, area in parts if area >= 0.06 * largest]
    if len(parts) > MOST:  # texture, or a page of text
        parts = sorted(parts)[-MOST:]
    return _in_order(_digits(_joined([box for _, box in parts])))


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    return found


def _joined(parts: list[Box]) -> list[Box]:
    """Strokes of one digit, like the bar of a 5, put together: close by, one above the other, and
    one of them small or both together no taller than another digit is."""
    parts = sorted(parts, key=lambda box: box[1] - box[3])  # the tallest first
    tallest = max((b - t for _, t, _, b in parts), default=0)
    done: list[Box] = []
    for left, top, right, bottom in parts:
        for at, other in enumerate(done):
            over = min(right, other[2]) - max(left, other[0])
            apart = max(top, other[1]) - min(bottom, other[3])
            tall, small = other[3] - other[1], bottom - top
            inside = over >= 0.5 * min(right - left, other[2] - other[0])
            fits = max(bottom, other[3]) - min(top, other[1]) <= tallest
            if inside and apart < 0.2 * tall and (small < 0.5 * tall or apart < 0 or fits):
                whole = np.array([(left, top, right, bottom), other])
                done[at] = (*whole[:, :2].min(axis=0).tolist(), *whole[:, 2:].max(axis=0).tolist())
                break
        else:
            done.append((left, top, right, bottom))
    return done


def _digits(boxes: list[Box]) -> list[Box]:
    """The boxes whose size a digit may have among the others."""
    tallest = max((b - t for _, t, _, b in boxes), default=0)
    least = max(6, 0.3 * tallest)
    return [box for box in boxes if box[3] - box[1] >= least]


def _in_order(boxes: list[Box]) -> list[Box]:
    """Line by line from the top, each from the left."""
    lines: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        middle = (box[1] + box[3]) / 2
        last = lines[-1] if lines else []
        if last and middle < np.mean([b for _, _, _, b in last]):
            last.append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in sorted(line)]


def prepare(ink: np.ndarray, box: Box) -> np.ndarray:
    """The ink in a box as MNIST has it: uint8 [28, 28], in 20x20, its centre of mass in the middle.

    Strokes thinner than MNIST's are thickened first.
    """
    left, top, right, bottom = box
    size = max(right - left, bottom - top)
    margin = 1 + size // 8
    crop = np.pad(ink[top:bottom, left:right], margin)
    width = 4 * _away(crop > 0.5)[crop > 0.5].mean()  # of a bar, from the mean way to its edge
    wanted = STROKE * size / 20
    if width < wanted:
        crop = np.maximum(crop, np.clip((wanted - width) / 2 + 1 - _away(crop <= 0.5), 0, 1))
    return frame(np.where(crop < 0.1, 0, 255 * crop))


def _away(mask: np.ndarray) -> np.ndarray:
    """How far each pixel of a mask is from its edge."""
    found: Any = ndimage.distance_transform_edt(mask)
    return found


def ways_to_cut(ink: np.ndarray, box: Box) -> list[list[Box]]:
    """A part as one digit, and if it is wide as two, three or more that touch.

    Cut upright, where there is least ink near the places that would make equal pieces.
    """
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    ways = [[box]]
    if width <= 1.1 * height:
        return ways
    columns = ink[top:bottom, left:right].sum(axis=0)
    for pieces in range(2, min(round(2.5 * width / height), 6) + 1):
        near = max(1, width // (4 * pieces))
        cuts = [left]
        for at in (width * piece // pieces for piece in range(1, pieces)):
            cuts.append(left + at - near + int(np.argmin(columns[at - near : at + near])))
        cuts.append(right)
        ways.append([_tight(ink, (a, top, b, bottom)) for a, b in itertools.pairwise(cuts)])
    return ways


def _tight(ink: np.ndarray, box: Box) -> Box:
    """The box of the ink in a box."""
    left, top, right, bottom = box
    inked = ink[top:bottom, left:right] > 0.5
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    if not len(rows):
        return box
    return left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
