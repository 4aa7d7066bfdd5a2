"""Pictures of a run."""

from pathlib import Path
from typing import Any

import numpy as np

# Fig. 5 of the paper, read from its vector points (+-0.02): the error in percent on the training
# set, on the fly, and on the test set after passes 1 to 20.
FIG_5_TRAIN = (
    *(4.89, 3.05, 1.77, 1.48, 1.22, 0.91, 0.78, 0.70, 0.57, 0.49),
    *(0.47, 0.44, 0.41, 0.39, 0.39, 0.39, 0.39, 0.36, 0.36, 0.36),
)
FIG_5_TEST = (
    *(2.65, 2.24, 1.48, 1.43, 1.43, 1.09, 1.04, 1.06, 0.99, 0.96),
    *(0.96, 0.99, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96, 0.96),
)


def curve(rows: list[dict[str, Any]], record: dict[str, Any], path: Path) -> None:
    """Draws train and test error against passes, as in Fig. 5, to a PNG.

    Of several seeds the mean, and a band from the lowest to the highest.

    `rows` are a run's passes and `record` its result (`training.loop.Result`). The paper's points
    are drawn beside them when the data is MNIST.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    passes = [row["pass"] for row in rows]
    lines = {
        "train, on the fly": ("train_misses_on_the_fly", "train_size", "C1", FIG_5_TRAIN),
        "validation": ("validation_misses", "validation_size", "C2", None),
        "test": ("test_misses", "test_size", "C0", FIG_5_TEST),
    }
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, (misses, size, colour, points) in lines.items():
        if misses not in rows[0]:
            continue
        errors = np.array([np.ravel(100 * np.array(row[misses]) / record[size]) for row in rows])
        last, total = np.mean(rows[-1][misses]), record[size]
        shown = f"{last:.1f}".removesuffix(".0")
        label = f"{name}: {shown} of {total:,} missed in the last pass"
        if errors.shape[1] > 1:
            label += " on average"
            axes.fill_between(passes, errors.min(1), errors.max(1), color=colour, alpha=0.15)
        axes.plot(passes, errors.mean(1), "-o", color=colour, markersize=3, label=label)
        if record["dataset"] == "mnist" and points:
            paper = points[: len(passes)]
            axes.plot(
                passes[: len(paper)], paper, "x", color=colour, label=f"{name}, the paper's Fig. 5"
            )
    axes.set_xlabel("passes through the training set")
    axes.set_ylabel("error (%)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(f"{record['experiment']} on {record['dataset']}, {seeds_of(record)}")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def seeds_of(record: dict[str, Any]) -> str:
    """Which seeds a result is of, for a title."""
    if "seed" in record:
        return f"seed {record['seed']}"
    seeds = record["seeds"]
    shown = ", ".join(map(str, seeds if len(seeds) <= 10 else [*seeds[:8], "...", seeds[-1]]))
    return f"{len(seeds)} seeds ({shown})"
