"""Pictures of a run and of results; each is drawn to a PNG."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.pictures import Pictures
from lenet_jax.inspection.canvas import blank
from lenet_jax.measurement.records import error_rates, interval
from lenet_jax.reports.published import (
    FIG_5_TEST,
    FIG_5_TRAIN,
    FIG_6,
    FIG_6_DISTORTED,
    FIG_10,
    TUTORIAL,
    TUTORIAL_TEST,
)


def curve(rows: list[dict[str, Any]], record: dict[str, Any], path: Path) -> None:
    """Draws train and test error against epochs, as in Fig. 5, to a PNG.

    Of several seeds the mean, and a band from the lowest to the highest.

    `rows` are a run's epochs and `record` its result (`training.loop.Result`). The paper's points
    are drawn beside them when the data is MNIST.
    """
    epochs = [row["epoch"] for row in rows]
    lines = {
        "train, on the fly": ("train_errors_on_the_fly", "train_size", "C1", FIG_5_TRAIN),
        "validation": ("validation_errors", "validation_size", "C2", None),
        "test": ("test_errors", "test_size", "C0", FIG_5_TEST),
    }
    figure, axes = _axes()
    for name, (errors, size, colour, points) in lines.items():
        if errors not in rows[0]:
            continue
        percent = np.array([np.ravel(100 * np.array(row[errors]) / record[size]) for row in rows])
        last, total = np.mean(rows[-1][errors]), record[size]
        shown = f"{last:.1f}".removesuffix(".0")
        label = f"{name}: {shown} of {total:,} misclassified in the last epoch"
        if percent.shape[1] > 1:
            label += " on average"
            axes.fill_between(epochs, percent.min(1), percent.max(1), color=colour, alpha=0.15)
        axes.plot(epochs, percent.mean(1), "-o", color=colour, markersize=3, label=label)
        if record["dataset"] == "mnist" and points:
            paper = points[: len(epochs)]
            axes.plot(
                epochs[: len(paper)], paper, "x", color=colour, label=f"{name}, the paper's Fig. 5"
            )
    axes.set_xlabel("epochs")
    axes.locator_params("x", integer=True)
    axes.set_title(f"{record['experiment']} on {record['dataset']}, {seeds_of(record)}")
    _save(figure, path)


def seeds_of(record: dict[str, Any]) -> str:
    """Which seeds a result is of, for a title."""
    if "seed" in record:
        return f"seed {record['seed']}"
    seeds = record["seeds"]
    shown = ", ".join(map(str, seeds if len(seeds) <= 10 else [*seeds[:8], "...", seeds[-1]]))
    return f"{len(seeds)} seeds ({shown})"


def fig_5(record: dict[str, Any], path: Path) -> None:
    """Error against epochs: mean and lowest to highest of the seeds, and the paper's points."""
    size = {"test_errors": "test_size", "train_errors_on_the_fly": "train_size"}
    rows = [
        {"epoch": at + 1} | {name: record["curve"][name][at] for name in size}
        for at in range(record["epochs"])
    ]
    curve(rows, record, path)


def fig_6(records: list[dict[str, Any]], path: Path) -> None:
    """Error against training examples, mean and 95 % interval; the distorted one on its own."""
    figure, axes = _axes()
    series = {
        "undistorted": [r for r in records if r["experiment"] == "classic"],
        "distorted": [r for r in records if r["experiment"] == "distorted"],
    }
    for (name, found), colour, theirs in zip(
        series.items(), ("C0", "C2"), (FIG_6, FIG_6_DISTORTED), strict=True
    ):
        found = sorted(found, key=lambda record: record["train_size"])
        sizes = [record["train_size"] for record in found]
        means = [interval(error_rates(record)) for record in found]
        axes.errorbar(
            sizes,
            [mean["mean"] for mean in means],
            [mean["ci95"] or 0 for mean in means],
            fmt="-o",
            color=colour,
            capsize=3,
            label=f"{name}, mean and 95 % interval",
        )
        if found and found[0]["dataset"] == "mnist":
            label = f"{name}, the paper's Fig. 6"
            axes.plot(list(theirs), list(theirs.values()), "x", color=colour, label=label)
    axes.set_xlabel("training examples")
    axes.set_title(f"Error against training examples, {records[0]['dataset']}")
    _save(figure, path)


LEGIBLE = 26  # classes
MOST = 240  # digits in a picture of those misclassified


def fig_8(record: dict[str, Any], images: np.ndarray | Pictures, path: Path) -> None:
    """The test digits that the first seed's network misclassifies, true->predicted."""
    title = f"{record['experiment']} on {record['dataset']}, seed {record['seeds'][0]}"
    misclassified(images, record["wrong"][0], title, path)


def misclassified(
    images: np.ndarray | Pictures, wrong: list[list[int]], title: str, path: Path
) -> None:
    """Misclassified images [n, *shape]; `wrong` has number, true and predicted label.

    The first `MOST` of them, for a network that has learned nothing misclassifies thousands.
    """
    columns, rows = 12, -(-max(min(len(wrong), MOST), 1) // 12)
    height, width, *channels = images.shape[1:]
    high, wide = height + 12, width + 8  # of an image's place, its words above it
    paper = 255 if channels else 0  # grey is drawn as ink
    sheet = np.full((rows * high, columns * wide, *channels), paper, np.uint8)
    figure, axes = _axes(figsize=(9, 0.6 + 0.9 * rows))
    axes.axis("off")
    for place, (at, true, prediction) in enumerate(wrong[:MOST]):
        top, left = place // columns * high, place % columns * wide
        sheet[top + 12 : top + high, left + 4 : left + 4 + width] = images[at]
        axes.text(left + wide // 2, top + 10, f"{true}->{prediction}", fontsize=8, ha="center")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    figure.suptitle(f"{title}: {len(wrong)} misclassified")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def confusion(table: list[list[int]], title: str, path: Path) -> None:
    """How often each true label (row) was predicted as each (column); right ones are pale.

    Of many classes without the numbers, which nobody could read.
    """
    counts = np.array(table)
    legible = len(counts) <= LEGIBLE
    figure, axes = _axes(figsize=(6, 5.6))
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    axes.imshow(wrong, cmap="Reds", vmax=2 * max(wrong.max(), 1))  # so that numbers are legible
    for (row, column), count in np.ndenumerate(counts):
        if count and legible:
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8)
    if legible:
        axes.set_xticks(range(len(counts)))
        axes.set_yticks(range(len(counts)))
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def rejection(left: np.ndarray, title: str, path: Path) -> None:
    """The error in percent that is left when k of n predictions are rejected, left [n]."""
    figure, axes = _axes()
    axes.plot(100 * np.arange(len(left)) / len(left), left)
    axes.axhline(0.5, color="gray", linewidth=0.8, label="0.5 %")
    axes.set_xlim(0, 10)
    axes.set_xlabel("rejected (%, smallest top-two difference first)")
    axes.set_title(title, fontsize=10)
    _save(figure, path)


def reliability(rows: list[list[float]], title: str, path: Path) -> None:
    """Of predictions of like confidence the share that is right; rows of (from, number, mean
    confidence, share)."""
    figure, axes = _axes()
    _, numbers, confidences, shares = np.array(rows).T
    axes.plot([0, 100], [0, 100], color="gray", linewidth=0.8)
    axes.plot(100 * confidences, 100 * shares, marker="o")
    for x, y, number in zip(confidences, shares, numbers, strict=True):
        place = dict(textcoords="offset points", xytext=(7, -11), fontsize=7, color="gray")
        axes.annotate(f"{number:,.0f}", (100 * x, 100 * y), **place)
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("right (%)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def fig_10(records: list[dict[str, Any]], path: Path) -> None:
    """The error that is left against the share rejected, mean and lowest to highest."""
    figure, axes = _axes()
    for place, record in enumerate(records):
        rejected = record["rejection"]["rejected_percent"]
        percent = np.array(record["rejection"]["error_percent"])
        axes.plot(rejected, percent.mean(1), color=f"C{place}", label=name_of(record))
        axes.fill_between(rejected, percent.min(1), percent.max(1), color=f"C{place}", alpha=0.15)
    if records[0]["dataset"] == "mnist":
        for (name, share), marker in zip(FIG_10.items(), "xs", strict=True):
            axes.plot(share, 0.5, marker, color="black", label=f"the paper's Fig. 10, {name}")
    axes.axhline(0.5, color="gray", linewidth=0.8)
    axes.set_xlabel("rejected (% of the test digits, smallest top-two difference first)")
    axes.set_title(f"Error of what is left, {records[0]['dataset']}")
    _save(figure, path)


def fig_13(records: list[dict[str, Any]], path: Path) -> None:
    """The error against what is done to the test digits, a panel for each kind."""
    labels = {
        "rotation": "rotation (degrees)",
        "scale": "scale (factor)",
        "shift": "vertical shift (pixels)",
        "squeeze": "squeeze (factor of the width)",
        "noise": "pixels inverted (probability)",
    }
    figure, axes = _axes(2, 3, figsize=(11, 6.5))
    for ax, (kind, label) in zip(axes.flat, labels.items(), strict=False):
        for place, record in enumerate(records):
            found = record["robustness"][kind]
            percent = 100 * np.array(found["errors"]) / record["test_size"]
            levels = found["levels"]
            ax.plot(levels, percent.mean(1), color=f"C{place}", label=name_of(record))
            ax.fill_between(levels, percent.min(1), percent.max(1), color=f"C{place}", alpha=0.15)
        ax.set_xlabel(label)
        ax.set_ylabel("error (%)")
        ax.set_ylim(0, 100)
        ax.grid(alpha=0.3)
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.suptitle(f"Error on changed test digits, {records[0]['dataset']}")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def family(
    systems: list[tuple[str, str, int, float, float | None]], cost: str, data: str, path: Path
) -> None:
    """Error against a cost: name, kind, cost, our error and the published one of each system."""
    figure, axes = _axes(figsize=(11, 8))
    colours = {kind: f"C{n}" for n, kind in enumerate(dict.fromkeys(s[1] for s in systems))}
    for _, kind, at, error, published in systems:
        axes.plot(at, error, "o", color=colours[kind], markersize=5)
        if published:
            axes.plot([at, at], [error, published], color=colours[kind], alpha=0.25, linewidth=1)
            axes.plot(at, published, "x", color=colours[kind], alpha=0.5, markersize=4)
    for kind, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=kind)
    if data == "mnist":
        axes.plot([], [], "x", color="gray", label="published")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.1)  # for the names
    axes.set_xlabel(cost)
    axes.set_ylabel("error (%)")
    axes.set_title(f"Error against {cost}, {data}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    first = sorted(systems, key=lambda system: system[1] != systems[0][1])  # our own kind
    _name_points(axes, [(name, at, error, colours[kind]) for name, kind, at, error, _ in first])
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _name_points(axes: Any, points: list[tuple[str, float, float, str]]) -> None:
    """Writes each name beside its point, as near as the points and the names before leave room."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # only then do the axes have their size
    places = axes.transData.transform([(x, y) for _, x, y, _ in points])
    half = 4 * axes.figure.dpi / 72
    taken = [Bbox([place - half, place + half]) for place in places]
    for name, x, y, colour in points:
        text = axes.annotate(
            name, (x, y), (0, 0), textcoords="offset points", fontsize=7, va="center", color=colour
        )
        box = text.get_window_extent()
        for up, side in itertools.product(sorted(range(-48, 49, 6), key=abs), (1, -1)):
            text.set(position=(5 * side, up), ha="left" if side > 0 else "right")
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        beside = text.get_position()
        if beside[1]:
            line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (x, y), beside, textcoords="offset points", arrowprops=line)


def tutorial(record: dict[str, Any], path: Path) -> None:
    """Error against epochs of the linear network, and what its tutorial prints."""
    figure, axes = _axes()
    epochs = range(1, record["epochs"] + 1)
    for name, label, size, colour in (
        ("train_errors_on_the_fly", "train, on the fly", record["train_size"], "C1"),
        ("test_errors", "test", record["test_size"], "C0"),
    ):
        percent = 100 * np.array(record["curve"][name]) / size
        axes.plot(epochs, percent.mean(1), color=colour, label=f"{label}, ours")
        axes.fill_between(epochs, percent.min(1), percent.max(1), color=colour, alpha=0.15)
    theirs = [100 - accuracy for accuracy in TUTORIAL.values()]
    axes.plot(list(TUTORIAL), theirs, "x", color="C1", label="train, the tutorial's")
    axes.plot(record["epochs"], 100 - TUTORIAL_TEST, "x", color="C0", label="test, the tutorial's")
    axes.set_xlabel("epochs")
    axes.set_title(f"Nothing but maxima, {record['dataset']}, {seeds_of(record)}")
    _save(figure, path)


def name_of(record: dict[str, Any]) -> str:
    """experiment or experiment-variant."""
    return "-".join(filter(None, (record["experiment"], record["variant"])))


def _axes(rows: int = 1, columns: int = 1, figsize: tuple[float, float] = (7, 4.5)) -> Any:
    figure = blank(figsize)
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: Path) -> None:
    axes = figure.axes[0]
    axes.set_ylabel("error (%)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
