"""What is ink in a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

COARSE = 24  # longest side of the picture in which light on dark is told from dark on light
SMOOTH = 1024  # longest side of the picture in which the paper is told from the strokes
ENOUGH = 2**20  # pixels, to know the usual one of all
DARKEST = 32  # of paper, 0 to 255
PALE = np.float32(0.49)
NEAR = 3  # pixels from a stroke, where there is paper and nothing else
ALIKE = 0.35  # of what is around a hole: other digits of a row are less
FAINT = 0.5  # of what is ink beyond doubt: it is ink too where it goes on from that


def resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image with as many rows and columns as `shape` says, areas averaged."""
    from PIL import Image

    resized = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


def find_ink(grey: np.ndarray, light: bool) -> np.ndarray:
    """float32 of 0 (paper) to 1 (ink), all 0 where nothing stands out; 0.5 and more are ink, PALE
    is as dark as the palest of it, but alone.

    `light` says that the ink is lighter than the paper.
    """
    if light:
        grey = 255 - grey
    if min(grey.shape) >= 100:  # grain; a smaller picture has no pixel to spare
        grey = ndimage.gaussian_filter(_without_specks(grey), 1)
    # In the shade strokes are as much darker. The middle of a stroke too broad to be filled is dark
    # paper, and ink by this least brightness; so is a black table, of which the levels are not.
    paper = np.maximum(_paper(grey), DARKEST)
    depth = np.subtract(255, np.divide(255 * grey, paper, out=paper), out=paper)
    beside = _surroundings(depth > 128)
    if beside.all():
        return np.zeros_like(grey)
    depth[beside] = 0
    some = depth[~beside]
    some = some[:: 1 + len(some) // ENOUGH]
    usual = np.median(some)
    noise = 1.48 * np.median(np.abs(some - usual))
    least = max(16, usual + 5 * noise)
    depth[_surroundings(depth > least)] = 0
    standing_out = depth[depth > least]
    if not len(standing_out):
        return np.zeros_like(grey)
    half = max(12, usual + 3 * noise, 0.5 * np.percentile(standing_out, 75))
    faint = max(12, usual + 3 * noise, FAINT * half)
    # A stroke that pales is ink as far as it goes on.
    labels, number = labelled(depth > faint)
    reaching = np.zeros(number + 1, bool)
    reaching[labels[depth > half]] = True
    reaching[0] = False
    grain = min(usual + 2 * noise, faint / 2)
    ink = np.clip((depth - grain) * (0.5 / (faint - grain)), 0, 1)
    return np.where(reaching[labels], ink, np.minimum(ink, PALE)).astype(np.float32)


def _without_specks(grey: np.ndarray) -> np.ndarray:
    """No pixel differs from all but one of its neighbours: the thinnest stroke has two of its own.

    What was made smaller, or has more pixels than a scan of specks, is as it was.
    """
    if max(grey.shape) > SMOOTH:
        return grey
    low, high = (ndimage.rank_filter(grey, rank, 3) for rank in (2, -3))
    return np.clip(grey, low, high)


def _paper(grey: np.ndarray) -> np.ndarray:
    """The brightness of the paper [h, w]: what is left when all that is darker, and narrower than
    any stroke, is filled up. The edges of shadows stay where they are, and so are no ink.
    """
    scale = max(grey.shape) / SMOOTH
    small = (
        grey if scale <= 1 else resized(grey, tuple(max(8, round(n / scale)) for n in grey.shape))
    )
    widest = max(5, min(3 * min(small.shape) // 4, max(small.shape) // 5))
    # A slope of the light goes on beyond the edges (odd reflection), or they would be ink. But the
    # strokes beside an edge are filled first: their reflection would be bright paper.
    stroke = max(3, widest // 4)
    filled: Any = ndimage.grey_closing(small, (stroke, stroke), mode="nearest")
    wide = np.pad(filled, widest, mode="reflect", reflect_type="odd")
    closed: Any = ndimage.grey_closing(wide, (widest, widest))
    paper = closed[widest:-widest, widest:-widest]
    if scale <= 1:
        return paper
    from PIL import Image

    size = grey.shape[::-1]
    return np.asarray(Image.fromarray(paper).resize(size, Image.Resampling.BILINEAR))


def _surroundings(mask: np.ndarray) -> np.ndarray:
    """What is beside the paper: thick, and along half of an edge: a table, the bars of a frame."""
    edges = np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]
    if not any(mask[edge].mean() > 0.5 for edge in edges):
        return np.zeros_like(mask)
    labels, number = labelled(mask)
    found = np.zeros(number + 1, bool)
    for edge in edges:
        counts = np.bincount(labels[edge], minlength=number + 1)
        found |= counts > counts.sum() / 2
    found[0] = False
    if not found.any():
        return np.zeros_like(mask)
    inside: Any = ndimage.distance_transform_edt(found[labels])
    thick = np.zeros(number + 1)
    np.maximum.at(thick, labels.ravel(), inside.ravel())
    around = (found & (thick > 0.03 * min(mask.shape)))[labels]
    return ndimage.binary_dilation(around, iterations=2)


def ink_of_one(grey: np.ndarray) -> np.ndarray:
    """The ink of a small picture of one digit, on paper as its border is."""
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    differs = grey - np.median(border)
    depth = differs if (differs * np.abs(differs)).sum() > 0 else -differs
    full = np.percentile(depth[depth > 0], 90) if (depth > 0).any() else 0
    return np.clip(depth / max(full, 16), 0, 1).astype(np.float32)


def light_on_dark(grey: np.ndarray) -> bool:
    """Whether what differs from most of its surroundings, the ink, is lighter than they are."""
    shape = tuple(max(1, round(n * min(1.0, COARSE / max(grey.shape)))) for n in grey.shape)
    coarse = resized(grey, shape)
    differs: Any = coarse - ndimage.median_filter(coarse, max(1, max(shape) // 4), mode="nearest")
    return float((differs * np.abs(differs)).sum()) > 0


def are_holes(
    grey: np.ndarray, ink: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]
) -> list[bool]:
    """Of boxes (left, top, right, bottom) of ink, whether what is half the height around has
    the brightness of the ink, and not that of what touches it: a hole in a figure of strokes.
    """
    found = []
    for left, top, right, bottom in boxes:
        margin = (bottom - top) // 2 + NEAR
        first, start = max(0, top - margin), max(0, left - margin)
        window = np.s_[first : bottom + margin, start : right + margin]
        levels = grey[window]
        inside, outside = np.zeros(levels.shape, bool), np.ones(levels.shape, bool)
        box = np.s_[top - first : bottom - first, left - start : right - start]
        inside[box] = ink[top:bottom, left:right] >= 0.5
        outside[box] = False
        away: Any = ndimage.distance_transform_edt(~inside)
        near = (away > 1) & (away <= NEAR)
        if not (near.any() and outside.any()):
            found.append(False)
            continue
        level, paper = np.median(levels[inside]), np.median(levels[near])
        alike = np.abs(levels - level) < np.abs(levels - paper)
        found.append(bool(alike[outside].mean() > ALIKE))
    return found


def labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    return found
