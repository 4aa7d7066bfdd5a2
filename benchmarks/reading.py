"""How many pictures are read rightly, all digits in order, by kind.

    python -m benchmarks.reading                        made ones, 200 of each kind
    python -m benchmarks.reading --public FOLDER TSV    other people's, listed in TSV

The made ones are of test digits: blown up, put on paper, lit, ruled, photographed. Same seed, same
pictures. Seed 0 made those that `recognition` was developed on, seed 1 makes these. Writes
results/reading[-public].json, and its table into docs/reading.md; of fewer pictures it prints the
table.
"""

import argparse
import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks import speed
from lenet_jax import commandline, pretrained

ROOT = Path(__file__).parents[1]
NUMBER = 200
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


def scan(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark ink on light, even paper."""
    paper, ink = rng.uniform(215, 255), rng.uniform(0, 90)
    page = placed(images, rng)
    return paper + (ink - paper) * page + rng.normal(0, 2, page.shape)


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


KINDS: dict[str, tuple[Make, int]] = {  # how a picture is made, and of how many digits at most
    "scan": (scan, 1),
    "light on dark": (chalk, 1),
    "coloured": (coloured, 1),
    "photo": (photo, 1),
    "specks": (speckled, 1),
    "ruled paper": (ruled, 1),
    "row of up to ten": (scan, 10),
    "photo of a row": (photo, 10),
}


def make(
    kind: str, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[int]]:
    """A picture of a kind, uint8 [h, w] or [h, w, 3], and the digits that it shows in order."""
    draw, most = KINDS[kind]
    chosen = rng.choice(len(labels), int(rng.integers(1, most + 1)), replace=False)
    picture = draw(images[chosen], rng)
    return np.clip(picture, 0, 255).astype(np.uint8), labels[chosen].tolist()


def made(number: int) -> dict[str, Any]:
    """How many of `number` pictures of each kind are read, all digits in order.

    Raises UserError where there is no MNIST.
    """
    import lenet_jax
    from lenet_jax.data import dataset

    data = dataset.load(fallback="none", log=commandline.log)
    read = {}
    for kind in KINDS:
        rng = np.random.default_rng(1)
        pages = (make(kind, data.test.images, data.test.labels, rng) for _ in range(number))
        read[kind] = sum(
            [digit.label for digit in lenet_jax.recognize(picture)] == true
            for picture, true in pages
        )
        commandline.log(f"{kind}: {read[kind]} of {number}")
    return {"dataset": data.name, "pictures": dict.fromkeys(KINDS, number), "read": read}


def public(folder: Path, listed: Path) -> dict[str, Any]:
    """The same of pictures in a folder, by the kinds that a list of them gives."""
    import lenet_jax

    with listed.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    read = dict.fromkeys((row["kind"] for row in rows), 0)
    for row in rows:
        digits = lenet_jax.recognize(folder / row["repository"] / row["path"])
        read[row["kind"]] += "".join(str(digit.label) for digit in digits) == row["digits"]
    commandline.log(f"public pictures: {sum(read.values())} of {len(rows)}")
    pictures = Counter(row["kind"] for row in rows)
    return {"list_sha256": hashlib.sha256(listed.read_bytes()).hexdigest()} | {
        "pictures": {kind: pictures[kind] for kind in read},
        "read": read,
    }


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
    parser.add_argument(
        "--public",
        nargs=2,
        type=Path,
        metavar=("FOLDER", "TSV"),
        help="other people's pictures instead, FOLDER/<repository>/<path>, and the list of them: "
        "repository, path, digits, kind",
    )
    given = parser.parse_args(arguments)

    commandline.set_up_jax()
    from lenet_jax.measurement import records

    found = public(*given.public) if given.public else made(given.number)
    if given.number < NUMBER:
        print(table(found))
        return 0
    name = "reading-public" if given.public else "reading"
    speed.in_place(name, table(found), ROOT / "docs" / "reading.md")
    record = {"network": pretrained.DEFAULT, **found, **speed.conditions()}
    records.write(ROOT / "results" / f"{name}.json", record)
    return 0


if __name__ == "__main__":
    commandline.run(main)
