"""A figure, and how pictures, states and images stand on it."""

import math
from typing import Any

import numpy as np

INK = {"cmap": "gray_r", "vmin": 0, "vmax": 1}  # colours are drawn as they are
GROUND = "#d5e3f0"  # between pictures, so that the white of one has an edge


def blank(figsize: tuple[float, float]) -> Any:
    """A figure that needs no display, of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def titled(figsize: tuple[float, float], heading: str, caption: str) -> Any:
    """A `blank` figure with a heading above and a caption below."""
    figure: Any = blank(figsize)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    figure.suptitle(heading, fontsize=14)
    figure.supxlabel(caption, fontsize=9, color="0.3")
    return figure


def bare(ax: Any, title: str, below: str = "", bold: bool = False) -> None:
    """Axes without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    weight = "bold" if bold else "normal"
    ax.set_title(title, fontsize=10, fontweight=weight)
    ax.set_xlabel(below, fontsize=9, fontweight=weight)


def tiled(ax: Any, pictures: np.ndarray, grey: dict[str, Any]) -> Any:
    """Draws a `mosaic` on the ground."""
    from matplotlib.colors import to_rgb

    ax.set_facecolor(GROUND)
    ax.spines[:].set_visible(False)
    if pictures.ndim == 3:  # of colours matplotlib leaves no hole
        pictures = np.where(np.isnan(pictures), np.array(to_rgb(GROUND), np.float32), pictures)
    return ax.imshow(pictures, **grey)


def mosaic(pictures: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Pictures [n, h, w] or [n, h, w, 3] in rows of so many, with NaN between them and where none
    is left.
    """
    number, height, width, *colours = pictures.shape
    rows, high, wide = math.ceil(number / columns), height + gap, width + gap
    cells = np.full((rows * columns, high, wide, *colours), np.nan, pictures.dtype)
    cells[:number, :height, :width] = pictures
    grid = cells.reshape(rows, columns, high, wide, *colours).swapaxes(1, 2)
    return grid.reshape(rows * high, columns * wide, *colours)[:-gap, :-gap]


def signed(values: np.ndarray, cmap: str) -> dict[str, Any]:
    """Colours with zero in the middle."""
    largest = np.nanmax(np.abs(values))
    return {"cmap": cmap, "vmin": -largest, "vmax": largest}


def centred(values: np.ndarray, strongest: float = 0) -> np.ndarray:
    """Values of both signs from 0 to 1, zero in the middle; as colours and as ink.

    The `strongest` percent of those that are not 0 are drawn like the least of them.
    """
    sizes = np.abs(values[values != 0])
    most = np.percentile(sizes, 100 - strongest) if len(sizes) else 1
    return 0.5 + np.clip(values / most, -1, 1) / 2


def picture(values: np.ndarray) -> np.ndarray:
    """[..., height, width, 1] -> [..., height, width]; colours stay."""
    return values[..., 0] if values.ndim > 2 and values.shape[-1] == 1 else values
