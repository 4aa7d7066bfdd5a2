"""How many pictures are read rightly, all digits in order, by kind.

    python -m benchmarks.reading                                 made ones, 200 of each kind
    python -m benchmarks.reading --pictures LIST --root FOLDER   other people's, or your own

The made ones are of test digits: blown up, put on paper, lit, ruled, photographed. Same seed, same
pictures. Seed 0 made those that `recognition` was developed on, seed 1 makes these. Of the kind "no
digit" those count that are rejected. LIST is a table with tabs: repository, path, digits, kind; the
pictures are FOLDER/repository/path. Writes results/reading[-public].json, and its table into
docs/reading.md; of fewer pictures it prints the table.
"""

import argparse
import csv
import difflib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks import speed
from lenet_jax import commandline, pretrained

ROOT = Path(__file__).parents[1]
NUMBER = 200
NONE, SHEET = "no digit", "sheet of hundreds"
Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """The digit's ink, float32 0 to 1, cut out and `height` pixels tall."""
    rows, columns = np.nonzero(image.max(1))[0], np.nonzero(image.max(0))[0]
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255
    width = max(1, round(height * ink.shape[1] / ink.shape[0]))
    big = Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)
    big = ndimage.gaussian_filter(np.asarray(big), height / 60)
    return np.clip((big - 0.3) / 0.3, 0, 1)  # a pen's edge is sharp


def placed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ink of a page with the digits in a row, each apart from the next."""
    height = int(rng.integers(40, 160))
    digits = [enlarged(image, int(height * rng.uniform(0.85, 1.15))) for image in images]
    gaps = [int(height * rng.uniform(0.2, 0.6)) for _ in digits]
    margin = int(height * rng.uniform(0.4, 1.5)) + 10
    width = sum(d.shape[1] for d in digits) + sum(gaps) + 2 * margin
    page = np.zeros((2 * margin + int(1.4 * height), width), np.float32)
    left = margin
    for digit, gap in zip(digits, gaps, strict=True):
        top = margin + int(rng.uniform(0, 1.4 * height - digit.shape[0] + 1))
        page[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
        left += digit.shape[1] + gap
    return page


def thinned(ink: np.ndarray, pen: float) -> np.ndarray:
    """The middle of the strokes, drawn again with a pen of so many pixels."""
    away: Any = ndimage.distance_transform_edt(~np.pad(skeleton(ink > 0.5), int(pen) + 2))
    return np.clip(pen / 2 + 0.5 - away, 0, 1).astype(np.float32)


def skeleton(mask: np.ndarray) -> np.ndarray:
    """Strokes one pixel wide that hang together as those of the mask do (Zhang and Suen 1984)."""
    mask, before = np.pad(mask, 1), None
    clockwise = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    while before is None or (before != mask).any():
        before = mask
        for sides in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            around = np.stack([np.roll(mask, (-down, -right), (0, 1)) for down, right in clockwise])
            begins = (~around & np.roll(around, -1, axis=0)).sum(axis=0)
            number = around.sum(axis=0)
            gone = (2 <= number) & (number <= 6) & (begins == 1)
            for three in sides:
                gone &= ~around[list(three)].all(axis=0)
            mask = mask & ~gone
    return mask[1:-1, 1:-1]


def scanned(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark ink on light, even paper, from the ink of a page."""
    paper, ink = rng.uniform(215, 255), rng.uniform(0, 90)
    return paper + (ink - paper) * page + rng.normal(0, 2, page.shape)


def scan(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark ink on light, even paper."""
    return scanned(placed(images, rng), rng)


def chalk(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light ink on a dark ground."""
    return 255 - scan(images, rng)


def coloured(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A coloured pen on coloured paper."""
    page = placed(images, rng)[..., None]
    paper = rng.uniform(190, 255, 3)
    pen = np.roll([rng.uniform(0, 60), rng.uniform(0, 60), rng.uniform(60, 200)], rng.integers(3))
    return paper + (pen - paper) * page + rng.normal(0, 2, (*page.shape[:2], 3))


def photo(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light from one side, the shadow of a hand, grain, blur, faint ink."""
    page = placed(images, rng)
    height, width = page.shape
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.2, 0.5) * (rows * np.sin(angle) + columns * np.cos(angle))
    edge = rng.uniform(0.3, 0.7) + rng.uniform(-0.5, 0.5) * rows
    soft = 1 / (1 + np.exp(-(columns - edge) / rng.uniform(0.01, 0.1)))
    light *= 1 - rng.uniform(0.2, 0.5) * soft
    paper, contrast = rng.uniform(150, 200), rng.uniform(0.35, 0.8)
    picture = paper * light / light.max() * (1 - contrast * page) * 1.2
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.5, 1.5))
    return picture + rng.normal(0, rng.uniform(3, 9), page.shape)


def speckled(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan with specks: some pixels of a hundred black or white."""
    picture = scan(images, rng)
    specks = rng.random(picture.shape)
    picture[specks < 0.01], picture[specks > 0.99] = 0, 255
    return picture


def ruled(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paper with rules, which may run through the digits."""
    picture = scan(images, rng)
    apart, thick = int(rng.uniform(35, 70)), int(rng.integers(1, 3))
    for top in range(int(rng.integers(apart)), picture.shape[0] - thick, apart):
        rows = picture[top : top + thick]
        np.minimum(rows, rng.uniform(120, 190), out=rows)
    return picture


def thin(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A row written with a pen of 2 to 5 % of the digits' height."""
    height = int(rng.integers(60, 160))
    digits = [thinned(enlarged(i, height), height * rng.uniform(0.02, 0.05)) for i in images]
    return scanned(row(digits, height // 2, (0.2, 0.6), rng), rng)


def tight(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A row cropped without a margin, a thin pen."""
    height = int(rng.integers(50, 120))
    digits = [thinned(enlarged(i, height), height * rng.uniform(0.03, 0.08)) for i in images]
    return scanned(row(digits, 2, (0.1, 0.4), rng), rng)


def row(
    digits: list[np.ndarray], margin: int, gaps: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Ink of digits that stand on a line, gaps in shares of the tallest."""
    tall = max(digit.shape[0] for digit in digits)
    apart = [int(tall * rng.uniform(*gaps)) for _ in digits]
    width = sum(d.shape[1] for d in digits) + sum(apart[:-1]) + 2 * margin
    page = np.zeros((tall + 2 * margin, width), np.float32)
    left = margin
    for digit, gap in zip(digits, apart, strict=True):
        top = margin + tall - digit.shape[0]
        page[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
        left += digit.shape[1] + gap
    return page


def at_edges(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo with vignetting, its row from side to side."""
    height = int(rng.integers(60, 140))
    page = row([enlarged(i, height) for i in images], 6, (0.3, 0.6), rng)
    page = np.pad(page, ((height, 2 * height), (4, 4)))
    rows, columns = np.mgrid[-1 : 1 : page.shape[0] * 1j, -1 : 1 : page.shape[1] * 1j]
    light = 200 - rng.uniform(60, 120) * (np.hypot(rows, columns) / 2**0.5) ** 2
    picture = light * (1 - rng.uniform(0.4, 0.8) * page)
    return ndimage.gaussian_filter(picture, 1) + rng.normal(0, 3, page.shape)


def barred(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A portrait picture made square by black bars, or a sheet on a dark table."""
    picture = scan(images, rng)
    bar = rng.uniform(0, 40)
    wide = rng.integers(10, 1 + max(picture.shape) // 3, 2)
    around = (wide[0], wide[0]), (wide[1], wide[1]) if rng.random() < 0.5 else (0, 0)
    return np.pad(picture, around if rng.random() < 0.5 else around[::-1], constant_values=bar)


def comb(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A form with a box for each digit."""
    height = int(rng.integers(40, 100))
    side, line = int(1.6 * height), int(rng.integers(1, 4))
    page = np.zeros((side + 40, side * len(images) + 40), np.float32)
    for at, image in enumerate(images):
        digit = enlarged(image, height)[:, : side - 8]
        top = 20 + int(rng.integers(6, side - height - 5))
        left = 20 + at * side + int(rng.integers(4, max(5, side - digit.shape[1] - 3)))
        page[top : top + height, left : left + digit.shape[1]] = digit
    for at in range(len(images) + 1):
        page[20 : 20 + side, 20 + at * side : 20 + at * side + line] = 0.8
    page[20 : 20 + line, 20:-20] = page[20 + side : 20 + side + line, 20 : -20 + line] = 0.8
    return scanned(page, rng)


def rising(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two lines that rise or fall by up to 15 degrees."""
    height = int(rng.integers(50, 90))
    half = -(-len(images) // 2)
    lines = [
        row([enlarged(i, height) for i in part], height, (0.3, 0.6), rng)
        for part in (images[:half], images[half:])
        if len(part)
    ]
    wide = max(line.shape[1] for line in lines)
    page = np.concatenate([np.pad(line, ((0, 0), (0, wide - line.shape[1]))) for line in lines])
    return scanned(ndimage.rotate(page, rng.uniform(-15, 15), order=1).clip(0, 1), rng)


def turned(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page on its side or upside down; upright where there are too few digits to tell."""
    page = row([enlarged(i, 80) for i in images], 60, (0.2, 0.6), rng)
    return np.rot90(scanned(page, rng), rng.integers(1, 4) * (len(images) > 4)).copy()


def small(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan of one digit in 28x28 pixels, of a pen that runs dry."""
    digit = thinned(enlarged(images[0], 200), rng.uniform(8, 24))
    side = int(max(digit.shape) * rng.uniform(1.2, 1.5))
    before = [(side - n) // 2 for n in digit.shape]
    page = np.pad(digit, [(n, side - own - n) for n, own in zip(before, digit.shape, strict=True)])
    ink = np.asarray(Image.fromarray(page).resize((28, 28), Image.Resampling.BOX))
    return 240 - ink * rng.uniform(100, 220, ink.shape) + rng.normal(0, 2, ink.shape)


def sheet(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hundreds of small digits, photographed in 12 megapixels."""
    side = int(rng.integers(70, 110))
    page = np.zeros((3000, 4000), np.float32)
    each = [enlarged(image, int(0.6 * side)) for image in images]
    columns = (4000 - 200) // side
    for at, digit in enumerate(each):
        top, left = 100 + at // columns * 2 * side, 100 + at % columns * side
        digit = digit[:, : side - 8]
        page[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return scanned(page, rng)


def no_digit(_: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A letter, a star, a cross, an arrow, a scribble, a blot."""
    from matplotlib.textpath import TextPath

    signs = "AEFHKMNRTVWXYadfhkmnrtwxy#%&@★→ω"
    height, pen = int(rng.integers(60, 160)), rng.uniform(0.03, 0.12)
    image = Image.new("L", (3 * height, 3 * height))
    draw, kind = ImageDraw.Draw(image), rng.integers(4)
    width = max(1, round(pen * height))
    if kind < 2:
        path = TextPath((0, 0), signs[rng.integers(len(signs))], size=height)
        for corners in path.to_polygons():
            points = [(height + x, 2 * height - y) for x, y in corners]
            draw.line(points, 255, width, "curve")
    elif kind == 2:
        points = rng.uniform(height, 2 * height, (rng.integers(5, 14), 2))
        draw.line([tuple(p) for p in points.tolist()], 255, width, "curve")
    else:
        for angle in rng.uniform(0, np.pi) + np.arange(rng.integers(2, 5)) * np.pi / 4:
            x, y = height / 2 * np.cos(angle), height / 2 * np.sin(angle)
            ends = [(1.5 * height - x, 1.5 * height - y), (1.5 * height + x, 1.5 * height + y)]
            draw.line(ends, 255, width)
    page = ndimage.gaussian_filter(np.asarray(image, np.float32) / 255, 1)
    return scanned(ndimage.rotate(page, rng.uniform(-10, 10), order=1, reshape=False), rng)


KINDS: dict[str, tuple[Make, int]] = {  # how a picture is made, and of how many digits at most
    "scan": (scan, 1),
    "light on dark": (chalk, 1),
    "coloured": (coloured, 1),
    "photo": (photo, 1),
    "specks": (speckled, 1),
    "ruled paper": (ruled, 1),
    "row of up to ten": (scan, 10),
    "photo of a row": (photo, 10),
    "row from edge to edge": (at_edges, 8),
    "black bars": (barred, 3),
    "boxes of a form": (comb, 8),
    "thin pen": (thin, 6),
    "tight crop": (tight, 6),
    "two lines, oblique": (rising, 12),
    "turned page": (turned, 10),
    "28x28 pixels": (small, 1),
    SHEET: (sheet, 400),
    NONE: (no_digit, 1),
}


def make(
    kind: str, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[int]]:
    """A picture of a kind, uint8 [h, w] or [h, w, 3], and the digits that it shows in order."""
    draw, most = KINDS[kind]
    chosen = rng.choice(len(labels), int(rng.integers(1, most + 1)), replace=False)
    picture = draw(images[chosen], rng)
    return np.clip(picture, 0, 255).astype(np.uint8), labels[chosen].tolist()


def made(number: int, only: str | None = None) -> dict[str, Any]:
    """How many of `number` pictures of each kind are read, all digits in order.

    Of a sheet of hundreds each digit counts. Raises UserError where there is no MNIST.
    """
    import lenet_jax
    from lenet_jax.data import dataset

    data = dataset.load(fallback="none", log=commandline.log)
    found = {"pictures": {}, "read": {}, "right digits": {}, "of them rejected": {}}
    for kind in [only] if only else KINDS:
        rng = np.random.default_rng(1)
        counts = np.zeros(4, int)
        for _ in range(-(-number // 10) if kind == SHEET else number):
            picture, true = make(kind, data.test.images, data.test.labels, rng)
            counts += counted(kind, lenet_jax.recognize(picture), true)
        for name, count in zip(found, counts.tolist(), strict=True):
            found[name][kind] = count
        commandline.log(f"{kind}: {counts[1]} of {counts[0]}")
    return {"dataset": data.name, **found}


def counted(kind: str, digits: Sequence[Any], true: Sequence[int]) -> tuple[int, int, int, int]:
    """Of a picture: 1, and 1 if it is read; its digits that are right, and those of them that are
    rejected. Of a sheet: its digits, and those that are right where the two texts are laid side by
    side, so that a digit too many costs one and not all behind it.
    """
    if kind == NONE:
        return 1, int(all(digit.rejected for digit in digits)), 0, 0
    if kind == SHEET:
        beside = difflib.SequenceMatcher(None, [d.label for d in digits], true, autojunk=False)
        right = [d for at, _, n in beside.get_matching_blocks() for d in digits[at : at + n]]
        return len(true), len(right), len(right), sum(digit.rejected for digit in right)
    if len(digits) != len(true):
        return 1, 0, 0, 0
    right = [digit for digit, label in zip(digits, true, strict=True) if digit.label == label]
    rejected = sum(digit.rejected for digit in right)
    return 1, int(len(right) == len(true)), len(right), rejected


def public(folder: Path, listed: Path) -> dict[str, Any]:
    """The same of pictures in a folder, by the kinds that a list of them gives."""
    import lenet_jax

    with listed.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = "pictures", "read", "right digits", "of them rejected"
    found = {name: dict.fromkeys((row["kind"] for row in rows), 0) for name in names}
    for row in rows:
        digits = lenet_jax.recognize(folder / row["repository"] / row["path"])
        counts = counted(row["kind"], digits, [int(label) for label in row["digits"]])
        for name, count in zip(names, counts, strict=True):
            found[name][row["kind"]] += count
    read, number = (sum(found[name].values()) for name in ("read", "pictures"))
    commandline.log(f"public pictures: {read} of {number}")
    return {"list_sha256": hashlib.sha256(listed.read_bytes()).hexdigest()} | found


def table(found: dict[str, Any]) -> str:
    """The share of each kind, as Markdown."""
    lines = ["| picture | number | read |", "|---|---|---|"]
    for kind, read in found["read"].items():
        number = found["pictures"][kind]
        lines.append(f"| {kind} | {number} | {100 * read / number:.1f} % |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.reading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "number", nargs="?", type=int, default=NUMBER, help="of each kind (default: %(default)s)"
    )
    parser.add_argument("--only", choices=KINDS, metavar="KIND", help="one kind, printed alone")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="LIST",
        help="the pictures of a list instead",
    )
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="where they are")
    given = parser.parse_args(arguments)
    if (given.pictures is None) != (given.root is None):
        parser.error("--pictures and --root go together")

    commandline.set_up_jax()
    from lenet_jax.measurement import records

    listed = given.pictures
    found = public(given.root, listed) if listed else made(given.number, given.only)
    if given.number < NUMBER or given.only:
        print(table(found))
        return 0
    name = "reading-public" if listed else "reading"
    speed.in_place(name, table(found), ROOT / "docs" / "reading.md")
    record = {"network": pretrained.READER, **found, **speed.conditions()}
    records.write(ROOT / "results" / f"{name}.json", record)
    return 0


if __name__ == "__main__":
    commandline.run(main)
