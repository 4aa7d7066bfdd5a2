"""An empty figure to draw on."""

from typing import Any


def blank(figsize: tuple[float, float]) -> Any:
    """A figure that needs no display, of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
