"""What is ink in a picture."""

from typing import Any

import numpy as np
from scipy import ndimage

COARSE = 24  # longest side of the picture in which light on dark is told from dark on light


def resized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image with as many rows and columns as `shape` says, areas averaged."""
    from PIL import Image

    resized = Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


def find_ink(grey: np.ndarray) -> np.ndarray:
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
    coarse = resized(grey, shape)
    differs: Any = coarse - ndimage.median_filter(coarse, max(shape) // 4, mode="nearest")
    return float((differs * np.abs(differs)).sum()) > 0


def labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    found: Any = ndimage.label(mask, np.ones((3, 3)))
    return found
