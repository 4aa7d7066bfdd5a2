"""Pictures of what is inside a network; each function returns a matplotlib Figure.

A notebook shows them after `%matplotlib inline`. `params` are a trained network's
(`pretrained.load`), an image is uint8, [height, width] or with 3 channels, and `caption` stands
below the picture: which network, which data. Grey images, states and scores are grey as in the
paper's figures: the higher, the darker, as ink is. `features` has the pictures of many images.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from lenet_jax.data.frames import SHAPE
from lenet_jax.errors import UserError
from lenet_jax.inspection import activations, deconvnet, sampling
from lenet_jax.inspection.activations import seen
from lenet_jax.inspection.canvas import INK, bare, centred, mosaic, picture, signed, tiled, titled
from lenet_jax.inspection.occlusion import covered
from lenet_jax.inspection.saliency import gradient
from lenet_jax.layers.codes import codes as bitmaps
from lenet_jax.layers.contract import Shape
from lenet_jax.layers.network import Network
from lenet_jax.models.lenet import TABLES, LeNet5
from lenet_jax.recognition.networks import TrainedNetwork

BITS = {"cmap": "gray_r", "vmin": -1, "vmax": 1}
TALL = 1.7  # height to width of a layer's maps together; 84 units of F6 become 7x12

Limits = dict[str, tuple[float, float]]  # of each layer the states that are white and black


def kernels(module: nn.Module, params: Any, shape: Shape = SHAPE, caption: str = "") -> Any:
    """The kernels of the first layer, for images of a shape; of LeNet-5 those of C1, 5x5.

    Where its window moves by more than a pixel the median of `sampling.too_fine` is told.
    Raises UserError for a network without maps of a layer with kernels.
    """
    name, *_ = deconvnet.layers(module, params, shape)
    weights = pictured(module, params[name]["kernel"], shape)
    heading = f"The {len(weights)} kernels of {name.upper()}"
    if (step := sampling.step(module, params, shape, name)) > 1:
        share = float(np.median(sampling.too_fine(weights, step)))
        heading += f"; {share:.0%} of the power of half of them is too fine for steps of {step}"
    if weights.ndim == 4 or len(weights) > 12:
        columns = math.ceil(math.sqrt(2 * len(weights)))
        shown = mosaic(weights, columns, 1)
        figure = titled((10, 1 + 10 * shown.shape[0] / shown.shape[1]), heading, caption)
        ax = figure.subplots()
        if weights.ndim == 4:
            tiled(ax, mosaic(centred(weights), columns, 1), {})
        else:
            drawn = tiled(ax, shown, signed(weights, "gray_r"))
            figure.colorbar(drawn, ax=ax, shrink=0.8, label="weight of ink")
        bare(ax, "")
        return figure
    figure = titled((10, 2.6), heading, caption)
    axes = figure.subplots(1, len(weights), squeeze=False)[0]
    for number, ax in enumerate(axes):
        ax.imshow(weights[number], **signed(weights, "gray_r"))
        bare(ax, f"map {number}", f"bias {params[name]['bias'][number]:.2f}")
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.8, label="weight of ink")
    return figure


def table(module: LeNet5, params: Any, caption: str = "") -> Any:
    """Table I, which maps of S2 each map of C3 reads, with the 5x5 kernel of each connection."""
    weights = np.reshape(params["c3"]["kernel"], (16, -1, 5, 5)).swapaxes(0, 1)
    inputs, maps = weights.shape[:2]
    reads = TABLES[module.table] or (tuple(range(inputs)),) * maps
    connected = np.array([[i in row for row in reads] for i in range(inputs)])
    weights = np.where(connected[:, :, None, None], weights, np.nan)
    figure = titled(
        (10, 4.6), f"What C3 reads of S2 (Table I): {connected.sum()} kernels of 5x5", caption
    )
    ax = figure.subplots()
    shown = tiled(ax, mosaic(weights.reshape(-1, 5, 5), maps, 1), signed(weights, "gray_r"))
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
    require_codes(module)
    targets = params["output"]["codes"] if module.adaptive else bitmaps()
    scores, maps = activations.states(module, params, image[None])
    prediction = int(scores[0].argmax())
    figure = titled(
        (10, 5.2),
        f"{_reads(module, prediction, image)}: the code nearest to F6 has the prediction",
        caption,
    )
    grid = figure.add_gridspec(2, 7, width_ratios=(1.2, 0.2, 1, 1, 1, 1, 1))
    for place, title, shown, grey in (
        (grid[0, 0], "input", seen(module, image[None])[0], INK),
        (grid[1, 0], "F6", np.reshape(maps["f6"][0], (12, 7)), BITS),
    ):
        ax = figure.add_subplot(place)
        ax.imshow(shown, **grey)
        bare(ax, title)
    for label, target in enumerate(targets):
        ax = figure.add_subplot(grid[label // 5, 2 + label % 5])
        ax.imshow(np.reshape(target, (12, 7)), **BITS)
        bare(ax, f"code of {label}", f"penalty {-scores[0, label]:.1f}", bold=label == prediction)
    return figure


def require_codes(module: Any) -> None:
    """Raises UserError for a network without codes."""
    if module.head != "rbf":
        raise UserError(
            f"this network's head is {module.head!r}, only 'rbf' has codes. Leave them out"
        )


def maps(module: nn.Module, params: Any, image: np.ndarray, caption: str = "") -> Any:
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
    scores, shown = np.asarray(found[0]), seen(module, image[None])[0]
    layers = {name: _layer(np.asarray(state[0])) for name, state in states.items()}
    ratios = [1.0, *(layer.shape[1] / layer.shape[0] for layer in layers.values()), 0.2]
    wide = max(14, 2.3 * len(layers))
    figure = titled(
        (wide, 1.5 + 0.9 * wide / sum(ratios)),
        when + _reads(module, int(scores.argmax()), image),
        caption,
    )
    axes = figure.subplots(1, len(ratios), width_ratios=ratios)
    axes[0].imshow(shown, **INK)
    bare(axes[0], "input", f"{shown.shape[0]}x{shown.shape[1]}")
    for ax, (name, layer) in zip(axes[1:-1], layers.items(), strict=True):
        low, high = limits[name]
        tiled(ax, layer, {"cmap": "gray_r", "vmin": low, "vmax": high})
        _, number, height, width = states[name].shape
        bare(ax, name.upper(), f"{number} @ {height}x{width}\n{low:.1f} to {high:.1f}")
    best = range(len(scores)) if len(scores) <= 20 else np.argsort(-scores)[:10]
    axes[-1].imshow(scores[best, None], cmap="gray_r", aspect=0.5)
    bare(axes[-1], "scores")
    axes[-1].set_yticks(range(len(best)), best)
    for place, label in enumerate(best):
        weight = "bold" if label == scores.argmax() else "normal"
        axes[-1].text(
            0.7, place, f"{scores[label]:.1f}", va="center", fontsize=9, fontweight=weight
        )
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


def occlusion(module: nn.Module, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """What a square laid on the places of an image does to the score and to the prediction.

    The square is 5x5 on a digit and grows with the image; it is of paper, or of grey on colours.
    Where the network has layers with kernels also the map with the largest state in the last of
    them (`deconvnet.top`), by place of the square, and, of a network of the package, what excites
    that unit, projected down to the pixels (Zeiler and Fergus 2014, Fig. 7).
    """
    found, states = activations.states(module, params, image[None])
    scores = np.asarray(found[0])
    prediction = int(scores.argmax())
    step = max(1, min(image.shape[:2]) // 28)
    size = 5 * step // 2 * 2 + 1
    under, totals = covered(module, params, image, size, step)
    fall, predictions = scores[prediction] - under[..., prediction], under.argmax(axis=2)
    layer = deconvnet.top(module, params, image.shape)
    panels = 3 + (2 if isinstance(module, Network) else 1) * (layer is not None)
    square = f"{size}x{size} square of {'grey' if image.shape[2:] == (3,) else 'paper'}"
    heading = f"{_reads(module, prediction, image)}: occlusion by a {square}"
    figure = titled((10 * panels / 3, 4.4), heading, caption)
    axes = figure.subplots(1, panels)
    axes[0].imshow(picture(image), cmap="gray_r", vmin=0, vmax=255)
    bare(axes[0], "image", f"score of {prediction}: {scores[prediction]:.1f}")
    rows, columns = predictions.shape
    places = {"extent": (-0.5, columns * step - 0.5, rows * step - 0.5, -0.5)}
    shown = axes[1].imshow(fall, **signed(fall, "RdBu_r"), **places)
    bare(axes[1], f"by how much the score of {prediction} falls")
    figure.colorbar(shown, ax=axes[1], location="bottom", shrink=0.8)
    axes[2].imshow(np.zeros_like(fall), cmap="gray_r", **places)
    changed = np.argwhere(predictions != prediction)
    bare(
        axes[2],
        "where the prediction becomes another",
        f"{len(changed)} of {predictions.size} places",
    )
    for row, column in changed:
        place = step * column + step // 2, step * row + step // 2
        colour = {"fontsize": 7, "color": "C3"}
        axes[2].text(*place, predictions[row, column], ha="center", va="center", **colour)
    if layer is not None:
        state = np.asarray(states[layer])
        unit = np.unravel_index(state.argmax(), state.shape)
        name = f"map {unit[1]} of {layer.upper()}"
        shown = axes[3].imshow(totals[layer][..., unit[1]], cmap="gray_r", **places)
        bare(axes[3], f"the sum of {name}, the strongest")
        figure.colorbar(shown, ax=axes[3], location="bottom", shrink=0.8)
        if isinstance(module, Network):
            kept = np.zeros(state.shape, bool)
            kept[unit] = True
            down = deconvnet.projections(module, params, image[None], layer, kept)
            axes[4].imshow(centred(picture(np.asarray(down[0]))), **INK)
            bare(axes[4], f"what excites {name} most")
            _outline(axes[4], seen(module, image[None])[0])
    for ax in axes[1:4]:
        _outline(ax, picture(image))
    return figure


def saliency(module: nn.Module, params: Any, image: np.ndarray, caption: str = "") -> Any:
    """The gradient of the winning score with respect to the input, signed and its size.

    Of colours the size alone, the largest of the three.
    """
    slopes = picture(np.asarray(gradient(module, params, image)))
    shown = seen(module, image[None])[0]
    prediction = int(activations.states(module, params, image[None])[0][0].argmax())
    ink = {
        f"red: more ink raises the score of {prediction}": (slopes, signed(slopes, "RdBu_r")),
    }
    sizes = np.abs(slopes) if slopes.ndim == 2 else np.abs(slopes).max(axis=2)
    panels = (ink if slopes.ndim == 2 else {}) | {
        "size of the gradient": (sizes, {"cmap": "gray_r", "vmin": 0})
    }
    figure = titled((10, 4.2), f"{_reads(module, prediction, image)}: saliency", caption)
    axes = figure.subplots(1, 1 + len(panels))
    axes[0].imshow(shown, **INK)
    bare(axes[0], "input")
    for ax, (title, (values, colours)) in zip(axes[1:], panels.items(), strict=True):
        drawn = ax.imshow(values, **colours)
        _outline(ax, shown)
        bare(ax, title)
        figure.colorbar(drawn, ax=ax, location="bottom", shrink=0.8)
    return figure


def save_gif(drawn: Iterable[Any], path: Path) -> None:
    """Writes figures as the frames of a GIF, each shown for 0.7 seconds, the last for 2."""
    from PIL import Image

    frames = []
    for figure in drawn:
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        coloured = (pixels.min(axis=2) < pixels.max(axis=2)).any()
        frames.append(Image.fromarray(pixels if coloured else pixels[..., 0]))
    times = [700] * (len(frames) - 1) + [2000]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)


def _outline(ax: Any, image: np.ndarray) -> None:
    if image.ndim == 2:
        ax.contour(image, [(image.min() + image.max()) / 2], colors="black", linewidths=0.8)


def pictured(module: nn.Module, kernel: Any, shape: Shape) -> np.ndarray:
    """The kernels of a first layer, [maps, h, w] or of colours [maps, h, w, 3]."""
    weights = np.asarray(kernel)
    if weights.ndim == 4:  # linen's
        weights = np.moveaxis(weights, 3, 0)
    elif weights.ndim == 2 and isinstance(module, Network):
        channels = (*shape, 1)[2]
        size = math.isqrt(weights.shape[1] // channels)
        weights = np.moveaxis(weights.reshape(len(weights), channels, size, size), 1, 3)
    if weights.ndim != 4 or weights.shape[3] not in (1, 3):
        raise UserError(
            f"the kernels of {type(module).__name__}'s first layer are {list(np.shape(kernel))}, "
            "no pictures in grey or in three colours. Leave them out"
        )
    return picture(weights)


def _reads(module: nn.Module, prediction: int, image: np.ndarray) -> str:
    name = type(module).__name__.replace("LeNet", "LeNet-")
    if image.shape != SHAPE:
        return f"{name} predicts class {prediction}"
    return f"{name} reads {'an' if prediction == 8 else 'a'} {prediction}"
