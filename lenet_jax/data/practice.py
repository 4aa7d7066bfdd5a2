"""What the reader's own network is trained on: digits of MNIST and others, drawn on made pages and
cut out of them as the reader does, and what is cut out beside them that is no digit (section X
trains its rubbish class so).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from lenet_jax import settings
from lenet_jax.data import dataset, digits, handwriting, kept
from lenet_jax.data.handwriting import CELL
from lenet_jax.experiment import Data
from lenet_jax.segmentation import parts, preparation

RECIPE = 2  # to be raised with whatever changes an example, here, in handwriting or segmentation
RUBBISH = 10  # the label of what is no digit
TOUCHING = 11  # several digits: rubbish, but what is cut out of them is not
CELLS = 5, 8  # rows and columns of a page
SEVERAL, NO_DIGITS, OTHER_HANDS = 0.06, 0.24, 0.1  # shares of the cells
CUT = 2  # pieces that are taken of a figure at most
UPRIGHT, THIN = 60, 8  # degrees, and how much longer than broad a stroke is that may be a 1
LIGHT = 0.2  # share of the pages that are light on dark
PARTS = 2  # of the digits, each with a seed of its own
HELD_OUT = 12  # of so many digits the last one is in no picture but those that come last


def find(asked: Data, log: Callable[[str], None]) -> dataset.Dataset:
    """MNIST's training digits, three times the embedded digits and what `examples` makes of both
    MNIST's and, last, of the last 5,000 digits, of which nothing else is here: the last 7,000 are
    what `--data.validation` may hold out. The test digits are MNIST's.

    What was made is kept in the user's cache folder.
    """
    mnist = dataset.of(replace(asked, name="mnist", limit=None, validation=0), log)
    file = settings.cache_folder() / f"practice-{RECIPE}-{mnist.sha256[:16]}.npz"
    images, labels = mnist.train.images, mnist.train.labels
    first = len(labels) - len(labels) // HELD_OUT
    try:
        with np.load(file) as found:
            made, truths = found["images"], found["labels"]
    except kept.DAMAGED:
        log("practice: pages of digits are made, a quarter of an hour, once")
        cuts = *np.array_split(np.arange(first), PARTS), np.arange(first, len(labels))
        with ThreadPoolExecutor(PARTS) as pool:
            pages = list(
                pool.map(
                    lambda cut, seed: examples(images[cut], labels[cut], seed),
                    cuts,
                    range(PARTS + 1),
                )
            )
        held = len(labels) // HELD_OUT * 7 // 5
        pages[-1] = pages[-1][0][:held], pages[-1][1][:held]
        made, truths = (np.concatenate(each) for each in zip(*pages, strict=True))
        kept.write(file, log, images=made, labels=truths)
    others = digits.load()
    whole = {
        "train_images": [images[:first], *[others["train_images"]] * 3, made],
        "train_labels": [labels[:first], *[others["train_labels"]] * 3, truths],
        "test_images": [mnist.test.images],
        "test_labels": [mnist.test.labels],
    }
    arrays = {name: np.concatenate(each) for name, each in whole.items()}
    return dataset.of_arrays("practice", f"made by lenet_jax of {mnist.source}", arrays)


def examples(images: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image uint8 [n, 28, 28] once, others' hands and rubbish, as the reader prepares them:
    uint8 [m, 28, 28] and labels int32 [m] of 0 to 10. What the reader does not find is left out.
    """
    rng = np.random.default_rng(seed)
    order = iter(rng.permutation(len(images)))
    found: list[tuple[np.ndarray, int]] = []
    at: int | None = next(order)
    while at is not None:
        cells, truths = [], []
        for _ in range(CELLS[0] * CELLS[1]):
            kind = rng.random()
            if kind < SEVERAL:
                ink, label = handwriting.several(images, rng), TOUCHING
            elif kind < SEVERAL + NO_DIGITS:
                ink, label = handwriting.no_digit(images, labels, rng), RUBBISH
            elif kind < SEVERAL + NO_DIGITS + OTHER_HANDS or at is None:
                label = int(rng.choice(list(handwriting.HANDS)))
                ink = handwriting.other_hand(label, rng)
            else:
                ink, label = handwriting.written(images[at], rng), int(labels[at])
                at = next(order, None)
            cells.append(ink)
            truths.append(label)
        light = bool(rng.random() < LIGHT)
        found += _cut_out(_page(cells, light, rng), light, truths, rng)
    made, truths = zip(*found, strict=True)
    return np.stack(made), np.array(truths, np.int32)


def _page(cells: list[np.ndarray], light: bool, rng: np.random.Generator) -> np.ndarray:
    """Grey levels of a page with ink in each cell, written, lit and photographed."""
    rows, columns = CELLS
    height, width = rows * CELL + 40, columns * CELL + 40
    ink: Any = np.zeros((height, width), np.float32)
    for each, (row, column) in zip(cells, np.ndindex(rows, columns), strict=True):
        high, wide = each.shape
        top = 20 + row * CELL + int(rng.integers(4, CELL - high - 3))
        left = 20 + column * CELL + int(rng.integers(4, CELL - wide - 3))
        ink[top : top + high, left : left + wide] = each * rng.uniform(0.6, 1)
    ink = ndimage.gaussian_filter(ink, rng.uniform(0.3, 1.2))
    down, right = np.mgrid[:height, :width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    lit = 1 + rng.uniform(0, 0.5) * (down * np.sin(angle) + right * np.cos(angle))
    paper, contrast = rng.uniform(140, 240), rng.uniform(0.4, 0.9)
    grey = paper * lit / lit.max() * (1 - contrast * ink)
    grey = np.clip(grey + rng.normal(0, rng.uniform(0, 7), ink.shape), 0, 255)
    return (255 - grey if light else grey).astype(np.float32)


def _cut_out(
    grey: np.ndarray, light: bool, truths: list[int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int]]:
    """What the reader finds in the cells of a page, and what each is; of a figure that is no digit
    also pieces into which the reader would cut it.
    """
    page = parts.find(grey, light)
    rows, columns = CELLS
    inside: dict[int, list[parts.Part]] = {}
    for part in page.parts:
        left, top, right, bottom = _uncut(part).box
        column, row = (int((m / 2 - 20) // CELL) for m in (left + right, top + bottom))
        if 0 <= row < rows and 0 <= column < columns:
            inside.setdefault(row * columns + column, []).append(part)
    for cell, found in inside.items():
        if len(found) == 1 and (found[0].whole or len(found[0].pieces) == 1):
            pieces = [_uncut(found[0])]  # of more it is not known what each is
            if truths[cell] == RUBBISH:
                cut = [p for ways in found[0].pieces for way in ways[1:] for p in way]
                pieces += [cut[at] for at in rng.permutation(len(cut))[:CUT]]
            for piece in pieces:
                image = preparation.prepare(page.layers[piece.layer], piece.box)
                if truths[cell] < RUBBISH or not may_be_1(image):
                    yield image, min(truths[cell], RUBBISH)


def _uncut(part: parts.Part) -> parts.Piece:
    return part.whole or part.pieces[0][0][0]


def may_be_1(image: np.ndarray) -> bool:
    """Whether what is on an image uint8 [28, 28] is one stroke that is more upright than not:
    letters have such pieces, and no eye would tell them from a 1.
    """
    longer, leaning = preparation.stroke(image)
    return longer > THIN and abs(leaning) < UPRIGHT
