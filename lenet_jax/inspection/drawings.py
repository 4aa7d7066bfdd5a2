"""Pictures of what is inside a network; each function returns a matplotlib Figure.

A notebook shows them after `%matplotlib inline`. `params` are a trained network's
(`pretrained.load`), an image is uint8 [28, 28], and `caption` stands below the picture: which
network, which data. Images, states and scores are grey as in the paper's figures: the higher, the
darker, as ink is.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lenet_jax.errors import UserError
from lenet_jax.inspection import activations
from lenet_jax.inspection.canvas import blank
from lenet_jax.inspection.occlusion import covered
from lenet_jax.inspection.saliency import gradient
from lenet_jax.layers.codes import codes as bitmaps
from lenet_jax.layers.inputs import BACKGROUND, FOREGROUND, normalize
from lenet_jax.layers.network import Network
from lenet_jax.models.lenet import TABLES, LeNet5
from lenet_jax.recognition.networks import TrainedNetwork

INK = {"cmap": "gray_r", "vmin": BACKGROUND, "vmax": FOREGROUND}
BITS = {"cmap": "gray_r", "vmin": -1, "vmax": 1}
GROUND = "#d5e3f0"  # between pictures, so that the white of one has an edge
TALL = 1.7  # height to width of a layer's maps together; 84 units of F6 become 7x12

Limits = dict[str, tuple[float, float]]  # of each layer the states that are white and black


def kernels(module: LeNet5, params: Any, caption: str = "") -> Any:
    """The 5x5 kernels of C1."""
    del module
    weights, biases = np.reshape(params["c1"]["kernel"], (-1, 5, 5)), params["c1"]["bias"]
    figure = _figure((10, 2.6), f"The {len(weights)} kernels of C1", caption)
    axes = figure.subplots(1, len(weights))
    for number, ax in enumerate(axes):
        ax.imshow(weights[number], **_signed(weights, "gray_r"))
        _bare(ax, f"map {number}", f"bias {biases[number]:.2f}")
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.8, label="weight of ink")
    return figure


def table(module: LeNet5, params: Any, caption: str = "") -> Any:
    """Table I, which maps of S2 each map of C3 reads, with the 5x5 kernel of each connection."""
    weights = np.reshape(params["c3"]["kernel"], (16, -1, 5, 5)).swapaxes(0, 1)
    inputs, maps = weights.shape[:2]
    reads = TABLES[module.table] or (tuple(range(inputs)),) * maps
    connected = np.array([[i in row for row in reads] for i in range(inputs)])
    weights = np.where(connected[:, :, None, None], weights, np.nan)
    figure = _figure(
        (10, 4.6), f"What C3 reads of S2 (Table I): {connected.sum()} kernels of 5x5", caption
    )
    ax = figure.subplots()
    shown = _tiled(ax, mosaic(weights.reshape(-1, 5, 5), maps, 1), _signed(weights, "gray_r"))
    ax.set_xticks(2 + 6 * np.arange(maps), range(maps))
    ax.set_yticks(2 + 6 * np.arange(inputs), range(inputs))
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("map of C3")
    ax.set_ylabel("map of S2")
    figure.colorbar(shown, ax=ax, shrink=0.8, label="weight")
    return figure


def codes(module: LeNet5, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """F6 as a 7x12 picture beside the codes of the ten classes (Fig. 3), with their penalties.

    Black is +1 or more and white -1 or less. A penalty is the squared distance from F6 to a code
    (eq. 7). Raises UserError for a network without codes.
    """
    if module.head != "rbf":
        raise UserError(
            f"codes: this network's head is {module.head!r}, only 'rbf' has codes. Leave them out"
        )
    targets = params["output"]["codes"] if module.adaptive else bitmaps()
    scores, maps = activations.states(module, params, image[None])
    prediction = int(scores[0].argmax())
    figure = _figure(
        (10, 5.2),
        f"{_reads(module, prediction)}: the code nearest to F6 has the prediction",
        caption,
    )
    grid = figure.add_gridspec(2, 7, width_ratios=(1.2, 0.2, 1, 1, 1, 1, 1))
    for place, title, shown, grey in (
        (grid[0, 0], "input", _input(image), INK),
        (grid[1, 0], "F6", np.reshape(maps["f6"][0], (12, 7)), BITS),
    ):
        ax = figure.add_subplot(place)
        ax.imshow(shown, **grey)
        _bare(ax, title)
    for label, target in enumerate(targets):
        ax = figure.add_subplot(grid[label // 5, 2 + label % 5])
        ax.imshow(np.reshape(target, (12, 7)), **BITS)
        _bare(ax, f"code of {label}", f"penalty {-scores[0, label]:.1f}", bold=label == prediction)
    return figure


def maps(module: Network, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """Every map of every layer for one image, from the input to the scores (Fig. 2, Fig. 13)."""
    _, states = activations.states(module, params, image[None])
    return _maps(module, params, image, caption, "", _limits([states]))


def training(
    networks: Sequence[TrainedNetwork], image: np.ndarray, caption: str = ""
) -> Iterator[Any]:
    """The maps of one image in each network of a run, a figure for each, in the same greys."""
    limits = _limits([activations.states(n.module, n.params, image[None])[1] for n in networks])
    for network in networks:
        when = f"After {network.when}: "
        yield _maps(network.module, network.params, image, caption, when, limits)


def _limits(of: Sequence[activations.Maps]) -> Limits:
    return {
        name: (min(float(m[name].min()) for m in of), max(float(m[name].max()) for m in of))
        for name in of[0]
    }


def _maps(
    module: nn.Module, params: Any, image: np.ndarray, caption: str, when: str, limits: Limits
) -> Any:
    found, states = activations.states(module, params, image[None])
    scores, shown = np.asarray(found[0]), _input(image)
    layers = {name: _layer(np.asarray(state[0])) for name, state in states.items()}
    ratios = [1.0, *(layer.shape[1] / layer.shape[0] for layer in layers.values()), 0.2]
    figure = _figure(
        (14, 1.5 + 12.6 / sum(ratios)), when + _reads(module, int(scores.argmax())), caption
    )
    axes = figure.subplots(1, len(ratios), width_ratios=ratios)
    axes[0].imshow(shown, **INK)
    _bare(axes[0], "input", f"{shown.shape[0]}x{shown.shape[1]}")
    for ax, (name, layer) in zip(axes[1:-1], layers.items(), strict=True):
        low, high = limits[name]
        _tiled(ax, layer, {"cmap": "gray_r", "vmin": low, "vmax": high})
        _, number, height, width = states[name].shape
        _bare(ax, name.upper(), f"{number} @ {height}x{width}\n{low:.1f} to {high:.1f}")
    axes[-1].imshow(scores[:, None], cmap="gray_r", aspect=0.5)
    _bare(axes[-1], "scores")
    axes[-1].set_yticks(range(len(scores)), range(len(scores)))
    for label, score in enumerate(scores):
        weight = "bold" if label == scores.argmax() else "normal"
        axes[-1].text(0.7, label, f"{score:.1f}", va="center", fontsize=9, fontweight=weight)
    return figure


def _layer(states: np.ndarray) -> np.ndarray:
    """The maps of a layer, [maps, h, w], side by side, in as many columns as make it TALL."""
    number, height, width = states.shape

    def unlike(columns: int) -> float:  # the shape wanted, and without a gap in the last row
        rows = math.ceil(number / columns)
        return abs(math.log(rows * height / (columns * width * TALL))) + 5 * (
            rows * columns / number - 1
        )

    times = math.ceil(16 / height)  # so that the space between maps of one unit is narrow
    large = states.repeat(times, axis=1).repeat(times, axis=2)
    return mosaic(large, min(range(1, number + 1), key=unlike), large.shape[1] // 12)


def top_nine(module: Network, params: Any, images: np.ndarray, caption: str = "") -> Any:
    """For every map of every layer what it saw in the nine images that excite it most.

    images: uint8 [n, 28, 28]. Of each image the receptive field of the map's strongest unit; the
    strongest image comes first.
    """
    found = activations.strongest(module, params, images)
    fields = activations.receptive_fields(module, params)
    seen = {name: _seen(found[name], *fields[name], images) for name in found}
    rows = {name: math.ceil(len(maps) / 20) for name, maps in seen.items()}
    columns = {name: math.ceil(len(maps) / rows[name]) for name, maps in seen.items()}
    heights = [14 * rows[name] / max(columns[name], 12) for name in seen]
    figure = _figure(
        (14, 1 + sum(heights) + 0.45 * len(heights)),
        f"The nine of {len(images):,} images that excite each map most",
        caption,
    )
    axes = figure.subplots(len(seen), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (name, maps) in zip(axes, seen.items(), strict=True):
        number, _, height, width = maps.shape
        gap = max(1, width // 10)
        nines = np.array([mosaic(map_, 3, gap) for map_ in maps])
        _tiled(ax, mosaic(nines, columns[name], 3 * gap), INK)
        ax.set_anchor("W")
        _, high, wide = nines.shape
        ax.set_xticks(wide / 2 + (wide + 3 * gap) * np.arange(columns[name]), range(columns[name]))
        several = np.arange(rows[name] if rows[name] > 1 else 0)
        ax.set_yticks(high / 2 + (high + 3 * gap) * several, columns[name] * several)
        ax.tick_params(length=0, labelsize=8)
        units = f"{number} maps, a unit sees {height}x{width} pixels"
        ax.set_title(f"{name.upper()}: {units}", loc="left", fontsize=11)
    return figure


def _seen(
    strongest: activations.Strongest, rows: np.ndarray, columns: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """The receptive fields of the strongest units, float32 [maps, number, height, width]."""
    inputs = _inputs(images[strongest.images.ravel()])
    windows = np.lib.stride_tricks.sliding_window_view(
        inputs, [int(np.ptp(ends, axis=1).max()) for ends in (rows, columns)], axis=(1, 2)
    )
    # At a border of a padded layer a field is smaller: then the window begins further in.
    top, left = (
        np.minimum(ends[places.ravel(), 0], last - 1)
        for ends, places, last in (
            (rows, strongest.rows, windows.shape[1]),
            (columns, strongest.columns, windows.shape[2]),
        )
    )
    cut = windows[np.arange(len(inputs)), top, left]
    return cut.reshape(*strongest.images.shape, *cut.shape[1:])


def occlusion(module: Network, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """What a 5x5 square of paper, laid on each pixel in turn, does to score and prediction."""
    scores = np.asarray(activations.states(module, params, image[None])[0][0])
    prediction = int(scores.argmax())
    under = covered(module, params, image)
    fall, predictions = scores[prediction] - under[..., prediction], under.argmax(axis=2)
    figure = _figure(
        (10, 4.4), f"{_reads(module, prediction)}: occlusion by a 5x5 square of paper", caption
    )
    axes = figure.subplots(1, 3)
    axes[0].imshow(image, cmap="gray_r", vmin=0, vmax=255)
    _bare(axes[0], "image", f"score of {prediction}: {scores[prediction]:.1f}")
    shown = axes[1].imshow(fall, **_signed(fall, "RdBu_r"))
    _bare(axes[1], f"by how much the score of {prediction} falls")
    figure.colorbar(shown, ax=axes[1], location="bottom", shrink=0.8)
    axes[2].imshow(np.zeros_like(image), cmap="gray_r")
    changed = np.argwhere(predictions != prediction)
    _bare(
        axes[2],
        "where the prediction becomes another",
        f"{len(changed)} of {predictions.size} places",
    )
    for row, column in changed:
        axes[2].text(
            column, row, predictions[row, column], ha="center", va="center", fontsize=7, color="C3"
        )
    for ax in axes[1:]:
        _outline(ax, image)
    return figure


def saliency(module: Network, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """The gradient of the winning score with respect to the input, signed and its size."""
    slopes = np.asarray(gradient(module, params, image))
    prediction = int(activations.states(module, params, image[None])[0][0].argmax())
    figure = _figure((10, 4.2), f"{_reads(module, prediction)}: saliency", caption)
    axes = figure.subplots(1, 3)
    axes[0].imshow(_input(image), **INK)
    _bare(axes[0], "input")
    for ax, shown, colours, title in (
        (
            axes[1],
            slopes,
            _signed(slopes, "RdBu_r"),
            f"red: more ink raises the score of {prediction}",
        ),
        (axes[2], np.abs(slopes), {"cmap": "gray_r", "vmin": 0}, "size of the gradient"),
    ):
        drawn = ax.imshow(shown, **colours)
        _outline(ax, _input(image))
        _bare(ax, title)
        figure.colorbar(drawn, ax=ax, location="bottom", shrink=0.8)
    return figure


def save_gif(drawn: Iterable[Any], path: Path) -> None:
    """Writes figures as the frames of a GIF, each shown for 0.7 seconds, the last for 2."""
    from PIL import Image

    frames = []
    for figure in drawn:
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("L"))
    times = [700] * (len(frames) - 1) + [2000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)


def mosaic(pictures: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Pictures [n, h, w] in rows of so many, with NaN between them and where none is left."""
    number, height, width = pictures.shape
    rows = math.ceil(number / columns)
    cells = np.full((rows * columns, height + gap, width + gap), np.nan)
    cells[:number, :height, :width] = pictures
    grid = cells.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    return grid.reshape(rows * (height + gap), -1)[:-gap, :-gap]


def _figure(size: tuple[float, float], heading: str, caption: str) -> Any:
    figure = blank(size)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    figure.suptitle(heading, fontsize=14)
    figure.supxlabel(caption, fontsize=9, color="0.3")
    return figure


def _bare(ax: Any, title: str, below: str = "", bold: bool = False) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    weight = "bold" if bold else "normal"
    ax.set_title(title, fontsize=10, fontweight=weight)
    ax.set_xlabel(below, fontsize=9, fontweight=weight)


def _tiled(ax: Any, pictures: np.ndarray, grey: dict[str, Any]) -> Any:
    ax.set_facecolor(GROUND)
    ax.spines[:].set_visible(False)
    return ax.imshow(pictures, **grey)


def _outline(ax: Any, image: np.ndarray) -> None:
    ax.contour(image, [(image.min() + image.max()) / 2], colors="black", linewidths=0.8)


def _signed(values: np.ndarray, cmap: str) -> dict[str, Any]:
    """Colours with zero in the middle."""
    largest = np.nanmax(np.abs(values))
    return {"cmap": cmap, "vmin": -largest, "vmax": largest}


def _inputs(images: np.ndarray) -> np.ndarray:
    return np.asarray(normalize(jnp.asarray(images)))


def _input(image: np.ndarray) -> np.ndarray:
    return _inputs(image[None])[0]


def _reads(module: nn.Module, prediction: int) -> str:
    name = type(module).__name__.replace("LeNet", "LeNet-")
    return f"{name} reads {'an' if prediction == 8 else 'a'} {prediction}"
