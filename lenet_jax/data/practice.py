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

RECIPE = 1  # to be raised with whatever changes an example, here, in handwriting or segmentation
RUBBISH = 10  # the label of what is no digit
CELLS = 5, 8  # rows and columns of a page
NO_DIGITS, OTHER_HANDS = 0.3, 0.1  # shares of the cells
LIGHT = 0.2  # share of the pages that are light on dark
PARTS = 2  # of MNIST's training digits, each with a seed of its own


def find(asked: Data, log: Callable[[str], None]) -> dataset.Dataset:
    """MNIST's training digits, what `examples` makes of them, and three times the embedded digits;
    MNIST's test digits. What was made is kept in the user's cache folder.
    """
    mnist = dataset.of(replace(asked, name="mnist", limit=None, validation=0), log)
    file = settings.cache_folder() / f"practice-{RECIPE}-{mnist.sha256[:16]}.npz"
    try:
        with np.load(file) as found:
            images, labels = found["images"], found["labels"]
    except kept.DAMAGED:
        log("practice: pages of digits are made, a quarter of an hour, once")
        images, labels = mnist.train.images, mnist.train.labels
        cuts = np.array_split(images, PARTS), np.array_split(labels, PARTS), range(PARTS)
        with ThreadPoolExecutor(PARTS) as pool:
            made = list(pool.map(examples, *cuts))
        images, labels = (np.concatenate(each) for each in zip(*made, strict=True))
        kept.write(file, log, images=images, labels=labels)
    others = digits.load()
    whole = {
        "train_images": [mnist.train.images, images, *[others["train_images"]] * 3],
        "train_labels": [mnist.train.labels, labels, *[others["train_labels"]] * 3],
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
            if kind < NO_DIGITS:
                ink, label = handwriting.no_digit(images, labels, rng), RUBBISH
            elif kind < NO_DIGITS + OTHER_HANDS or at is None:
                label = int(rng.choice(list(handwriting.HANDS)))
                ink = handwriting.other_hand(label, rng)
            else:
                ink, label = handwriting.written(images[at], rng), int(labels[at])
                at = next(order, None)
            cells.append(ink)
            truths.append(label)
        light = bool(rng.random() < LIGHT)
        found += _cut_out(_page(cells, light, rng), light, truths)
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


def _cut_out(grey: np.ndarray, light: bool, truths: list[int]) -> Iterator[tuple[np.ndarray, int]]:
    """What the reader finds in the cells of a page, and what each is."""
    page = parts.find(grey, light)
    rows, columns = CELLS
    inside: dict[int, list[parts.Piece]] = {}
    for piece in (p for part in page.parts for p in _uncut(part)):
        left, top, right, bottom = piece.box
        column, row = (int((m / 2 - 20) // CELL) for m in (left + right, top + bottom))
        if 0 <= row < rows and 0 <= column < columns:
            inside.setdefault(row * columns + column, []).append(piece)
    for cell, pieces in inside.items():
        if len(pieces) == 1:  # else it is not known what each is
            yield preparation.prepare(page.layers[pieces[0].layer], pieces[0].box), truths[cell]


def _uncut(part: parts.Part) -> list[parts.Piece]:
    return [part.whole] if part.whole else [ways[0][0] for ways in part.pieces]
