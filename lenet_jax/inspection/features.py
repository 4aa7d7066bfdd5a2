"""What the maps of a network look for, from the images that excite them most.

Each function returns a matplotlib Figure, as those of `drawings`. images: uint8 [n, *shape], with
1 or 3 channels where they have some.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from lenet_jax.inspection import activations, deconvnet
from lenet_jax.inspection.activations import Strongest, seen
from lenet_jax.inspection.canvas import INK, centred, mosaic, picture, tiled, titled
from lenet_jax.recognition.networks import TrainedNetwork

MOST = 16  # maps of a layer whose projections are drawn,
FEW = 8  # and whose development
PIXELS = 2**21  # of all that the maps of a layer saw in their nine images
WIDE = 14  # inches
LARGE = 64  # pixels across: of larger fields not fewer stand in a row, but they are drawn smaller
GLARING = 2  # percent of a projection's pixels, beside which the others would be pale
SAME = 0.01  # differences of projections that are one, up to rounding

Fields = tuple[np.ndarray, np.ndarray]


class Units(NamedTuple):
    """One unit in each of n images: arrays [n]."""

    images: np.ndarray
    maps: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Block:
    """Pictures of some maps of a layer, [maps, h, w] or of colours: in `columns`, with a gap.

    `across`: how many would fill the width.
    """

    title: str
    numbers: np.ndarray
    pictures: np.ndarray
    gap: int
    columns: int
    across: int


def top_nine(module: nn.Module, params: Any, images: np.ndarray, caption: str = "") -> Any:
    """For the maps of every layer what they saw in the nine images that excite them most.

    Of each image the receptive field of the map's strongest unit; the strongest image comes first.
    Of a layer with large fields only as many maps as have room, those with the largest states.
    """
    found = activations.strongest(module, params, images)
    fields = activations.receptive_fields(module, params, images.shape[1:])
    blocks = []
    for name, best in found.items():
        numbers = _chosen(best, max(1, PIXELS // (9 * math.prod(_size(fields[name])))))
        gap = _gap(fields[name])
        nines = []
        for number in numbers:
            units = _units(best, number, np.arange(best.images.shape[1]))
            patches = _cut(seen(module, images[units.images]), units, fields[name])
            nines.append(mosaic(patches, 3, gap))
        title = _title(name, best, numbers, fields[name])
        blocks.append(_block(title, numbers, nines, 3 * gap, 20, 12, fields[name]))
    return _drawn(f"The nine of {len(images):,} images that excite each map most", caption, blocks)


def deconvolved(module: nn.Module, params: Any, images: np.ndarray, caption: str = "") -> Any:
    """For maps of each layer with kernels what excites them in nine images, beside the images.

    As Zeiler and Fergus 2014, Fig. 2: of each of the nine images that excite a map most the state
    of its strongest unit projected down to the pixels (`deconvnet.projections`), grey where
    nothing comes down, each in its own scale; to the right what the unit saw. Where no maxima are
    below there are no switches, and every image has the same projection, which is drawn once. Of a
    layer with more maps than MOST those with the largest states.
    Raises UserError for a network that a deconvnet cannot pass, and without a layer with kernels.
    """
    deconvnet.checked(module)
    layers = deconvnet.layers(module, params, images.shape[1:])
    found = activations.strongest(module, params, images)
    fields = activations.receptive_fields(module, params, images.shape[1:])
    blocks = []
    for name in layers:
        best, gap = found[name], _gap(fields[name])
        numbers = _chosen(best, MOST)
        pairs = []
        for number in numbers:
            units = _units(best, number, np.arange(best.images.shape[1]))
            projected = _projected(module, params, images, name, units, fields[name])
            patches = _cut(seen(module, images[units.images]), units, fields[name])
            nine, same = mosaic(patches, 3, gap), np.ptp(projected, axis=0).max() < SAME
            left = _enlarged(projected[0], nine.shape) if same else mosaic(projected, 3, gap)
            pairs.append(mosaic(np.array([left, nine]), 2, 2 * gap))
        title = _title(name, best, numbers, fields[name])
        blocks.append(_block(title, numbers, pairs, 4 * gap, 8, 6, fields[name]))
    heading = f"What excites the maps in the nine of {len(images):,} images that excite them most"
    return _drawn(heading, caption, blocks)


def development(networks: Sequence[TrainedNetwork], images: np.ndarray, caption: str = "") -> Any:
    """What excites maps of each layer with kernels most after each checkpoint of a run.

    As Zeiler and Fergus 2014, Fig. 4: for each network, from left to right, the largest state of a
    map in all images projected down to the pixels, as in `deconvolved`. A leap is another image
    that has taken the lead. Of each layer the maps whose states are the largest in the end.
    Raises UserError as `deconvolved` does.
    """
    last = networks[-1]
    deconvnet.checked(last.module)
    layers = deconvnet.layers(last.module, last.params, images.shape[1:])
    fields = activations.receptive_fields(last.module, last.params, images.shape[1:])
    found = [activations.strongest(n.module, n.params, images, number=1) for n in networks]
    blocks = []
    for name in layers:
        numbers = _chosen(found[-1][name], FEW)
        times = []
        for network, strongest in zip(networks, found, strict=True):
            units = _units(strongest[name], numbers, 0)
            times.append(
                _projected(network.module, network.params, images, name, units, fields[name])
            )
        gap = _gap(fields[name])
        strips = [mosaic(np.array(strip), len(networks), gap) for strip in zip(*times, strict=True)]
        title = _title(name, found[-1][name], numbers, fields[name])
        across = max(1, 24 // len(networks))
        blocks.append(_block(title, numbers, strips, 4 * gap, across, across, fields[name]))
    when = textwrap.fill(", ".join(n.when for n in networks), 120)
    return _drawn(f"What excites the maps most, from left to right after\n{when}", caption, blocks)


def _units(best: Strongest, maps: Any, places: Any) -> Units:
    """The units of maps in the images of places, the strongest of which is 0."""
    at = tuple(np.broadcast_arrays(maps, places))
    return Units(best.images[at], at[0], best.rows[at], best.columns[at])


def _size(fields: Fields) -> tuple[int, int]:
    """Height and width of the largest field: at a border of a padded layer they are smaller."""
    high, wide = (int(np.ptp(ends, axis=1).max()) for ends in fields)
    return high, wide


def _gap(fields: Fields) -> int:
    return max(1, _size(fields)[1] // 10)


def _chosen(best: Strongest, most: int) -> np.ndarray:
    """The numbers of the maps with the largest states, in order."""
    return np.sort(np.argsort(-best.states[:, 0], kind="stable")[:most])


def _cut(pictures: np.ndarray, units: Units, fields: Fields) -> np.ndarray:
    """Of each picture what the unit sees: [n, height, width] or of colours."""
    high, wide = _size(fields)
    parts = []
    for whole, row, column in zip(pictures, units.rows, units.columns, strict=True):
        # A field at a border is smaller: then the part begins further in.
        top = min(fields[0][row, 0], whole.shape[0] - high)
        left = min(fields[1][column, 0], whole.shape[1] - wide)
        parts.append(whole[top : top + high, left : left + wide])
    return np.array(parts)


def _projected(
    module: nn.Module, params: Any, images: np.ndarray, layer: str, units: Units, fields: Fields
) -> np.ndarray:
    """The projection of each unit, as much as it sees, from 0 to 1."""
    shape = activations.shapes(module, params, images.shape[1:])[layer]
    kept = np.zeros((len(units.images), *shape), bool)
    kept[np.arange(len(kept)), units.maps, units.rows, units.columns] = True
    down = deconvnet.projections(module, params, images[units.images], layer, kept)
    parts = _cut(picture(np.asarray(down)), units, fields)
    return np.array([centred(part, GLARING) for part in parts])


def _enlarged(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A picture in the size of a nine, its pixels as they are."""
    rows, columns = (
        np.arange(new) * old // new for new, old in zip(shape[:2], part.shape[:2], strict=True)
    )
    return part[rows][:, columns]


def _title(name: str, best: Strongest, numbers: np.ndarray, fields: Fields) -> str:
    every, some, dead = len(best.states), len(numbers), int((best.states[:, 0] <= 0).sum())
    maps = f"{every} maps"
    if some < every:
        maps = f"of {every} maps the {some} with the largest states"
    if dead:
        maps += f" ({dead} never above 0)"
    return f"{name.upper()}: {maps}, a unit sees {'x'.join(map(str, _size(fields)))} pixels"


def _block(
    title: str,
    numbers: np.ndarray,
    pictures: Sequence[np.ndarray],
    gap: int,
    most: int,
    least: int,
    fields: Fields,
) -> Block:
    """At most so many in a row, fewer of large fields; room for at least so many."""
    most = max(1, min(most, 32 * most // min(_size(fields)[1], LARGE)))
    rows = math.ceil(len(numbers) / most)
    columns = math.ceil(len(numbers) / rows)
    across = max(columns, min(least, most))
    return Block(title, numbers, np.array(pictures), gap, columns, across)


def _drawn(heading: str, caption: str, blocks: Sequence[Block]) -> Any:
    heights = []
    for block in blocks:
        rows, (high, wide) = (
            math.ceil(len(block.numbers) / block.columns),
            block.pictures.shape[1:3],
        )
        heights.append(WIDE * rows * high / wide / block.across)
    size = WIDE, 1 + sum(heights) + 0.45 * len(heights)
    figure = titled(size, heading, caption)
    axes = figure.subplots(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, block in zip(axes, blocks, strict=True):
        tiled(ax, mosaic(block.pictures, block.columns, block.gap), INK)
        ax.set_anchor("W")
        _number(ax, block)
        ax.set_title(block.title, loc="left", fontsize=11)
    return figure


def _number(ax: Any, block: Block) -> None:
    """The maps' numbers: along the edges where all are there, else on each."""
    columns, (high, wide) = block.columns, block.pictures.shape[1:3]
    down, right = high + block.gap, wide + block.gap
    rows = math.ceil(len(block.numbers) / columns)
    if (block.numbers == np.arange(len(block.numbers))).all():
        ax.set_xticks(wide / 2 + right * np.arange(columns), range(columns))
        several = np.arange(rows if rows > 1 else 0)
        ax.set_yticks(high / 2 + down * several, columns * several)
        ax.tick_params(length=0, labelsize=8)
        return
    ax.set_xticks([])
    ax.set_yticks([])
    for place, number in enumerate(block.numbers):
        row, column = divmod(place, columns)
        label = ax.text(right * column, down * row, number, fontsize=7, color="C3", va="top")
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
