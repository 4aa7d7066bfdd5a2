"""FAMILY.md and its figures: every system's own measured row, from the result files alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.experiment import Baseline, pages, serialization
from lenet_jax.measurement import counting
from lenet_jax.measurement.records import best_epochs, error_rates, shown
from lenet_jax.reports import figures
from lenet_jax.reports.published import (
    BOOSTED_CALLS,
    NIELSEN_DROPOUT_EPOCHS,
    NIELSEN_EPOCHS,
    NIELSEN_VOTE_ERRORS,
    TUTORIAL_LOSS,
)
from lenet_jax.reports.quick import QUICK

Records = dict[str, dict[str, Any]]

# What the committed records cannot say of themselves.
HISTORY = (
    "Settings were chosen on held-out examples, but not all of them before a test error was known. "
    "nielsen-expanded, -wide and -doubled went on from 60 epochs to 120 after their test errors, "
    "and lenet1 from 20 to 60. That of equally good epochs the last counts, as in Nielsen's "
    "network3.py, was settled when nielsen and nielsen-conv had been measured by the first. "
    "Nielsen's dropout was mended, to be network3.py's, when one of its networks had failed to "
    "learn; its masks were then drawn for parts of a batch and are now each example's own, so "
    "that a run of today has others. nin saw pixels from 0 to 1, then of mean 0 and deviation "
    "1, until its training loss had not fallen in 200 updates and in an epoch, and took the 22 "
    "epochs that two cores could do in the time that there was."
)

ON_SHAPES = (
    "| system | parameters | multiply-adds | error in percent | epochs | errors |",
    "|---|---|---|---|---|---|",
)
COMPARED = ("| part | without | | with | |", "|---|---|---|---|---|")
# What is added, to which system, and which one that makes.
PARTS = (
    ("Table I, for every map of S2 to every map of C3", "classic-full-table", "classic"),
    ("RBF units, eq. 9, appendix C, for sums, softmax, Muon", "tutorial-table", "classic"),
    ("tanh, for no activation", "tutorial-linear", "tutorial-linear-tanh"),
    ("ReLU, for no activation", "tutorial-linear", "tutorial-linear-relu"),
    ("ReLU, for sigmoids", "nielsen-two-conv", "nielsen-relu"),
    ("a convolution", "nielsen", "nielsen-conv"),
    ("a second convolution", "nielsen-conv", "nielsen-two-conv"),
    ("a second hidden layer of 100", "fully_connected", "fully_connected-300-100"),
    ("distorted examples", "fully_connected", "fully_connected-300-distorted"),
    ("distorted examples", "classic", "distorted"),
    ("boosting, on distorted examples", "lenet4-17k", "boosted"),
)


@dataclass(frozen=True)
class Row:
    """A system: its cost counted from the model, the published error and ours, in percent."""

    name: str
    kind: str
    parameters: int
    multiply_adds: int
    published: float | None
    error: float
    record: dict[str, Any]

    @property
    def short(self) -> str:
        """Its name where a colour says the kind."""
        if self.kind == "LeNet":  # each experiment is a network of its own
            return self.name
        return self.name.removeprefix(f"{self.record['experiment']}-")


def write(records: Records, path: Path) -> None:
    """Renders records by the names of their files, those of the paper's set that stand beside the
    family among them, to a page; figures go to results/.
    """
    folder = path.parent / "results"
    same = next(iter(records.values()))["dataset"] if records else ""
    rows = [row(found) for found in records.values()]
    text = [
        "# The family, its baselines and its descendants",
        "Written by `python -m lenet_jax.reproduce --set family` from "
        f"`{folder.name}/*.json`, which hold the configuration, versions, hardware and commit of "
        f"each. Data: {same}. Numbers are of the last epoch of a fixed schedule, of Nielsen's "
        "networks of the epoch with the least error on held-out examples. Of fewer than three "
        "seeds each one's value stands in the place of an interval. Parameters are all the "
        "numbers that a system stores, fixed codes aside; multiply-adds are for one digit, biases "
        "not counted.",
        *([HISTORY] if same == "mnist" else []),
        *([QUICK] if same == "uci-digits" else []),
        table(rows),
        "Averaged: the error of the mean of these networks' scores, after the last epoch.",
    ]
    for file, what, words in (
        ("family-parameters.png", "parameters", "parameters"),
        ("family-multiply-adds.png", "multiply_adds", "multiply-adds for a digit"),
    ):
        if rows:
            drawn = [(r.short, r.kind, getattr(r, what), r.error, r.published) for r in rows]
            figures.family(drawn, words, same, folder / file)
            text.append(f"![Error against {words}]({folder.name}/{file})")
    linear = records.get("tutorial-linear")
    if linear and linear["dataset"] == "mnist":
        figures.tutorial(linear, folder / "tutorial-linear.png")
        text.append(f"![The tutorial's curve and ours]({folder.name}/tutorial-linear.png)")
        text.append(
            f"The loss of tutorial-linear on the test set is {shown(linear['test_loss'], 4)} (the "
            f"tutorial: {TUTORIAL_LOSS})."
        )
    text += notes(records)
    drawn = [json.loads(file.read_text()) for file in sorted(folder.glob("*-shapes.json"))]
    if drawn and same == "mnist":
        text += [
            "Not on MNIST but on shapes, coloured pictures of 256x256 that the package draws, "
            "10,000 to train on and 2,000 to test, ten kinds (`python -m benchmarks.shapes`); "
            "multiply-adds are for one picture, what the articles publish is of ImageNet:",
            "\n".join([*ON_SHAPES, *map(on_shapes, drawn)]),
        ]
    if compared := parts(records):
        text += ["What a part buys, in percent of test errors:", "\n".join([*COMPARED, *compared])]
    path.write_text("\n\n".join(text) + "\n")


def row(record: dict[str, Any]) -> Row:
    """The row of a record."""
    page = serialization.from_json(record["config"])
    if isinstance(page, Baseline):
        parameters, multiply_adds = record["parameters"], record["multiply_adds"]
    else:
        layers = counting.count(page.model)
        parameters = sum(layer.parameters for layer in layers)
        multiply_adds = sum(layer.multiply_adds or 0 for layer in layers)
    if "calls" in record:  # three networks, not all of them asked each time
        parameters *= 3
        multiply_adds = round(multiply_adds * float(np.mean(record["calls"])))
    name = figures.name_of(record)
    if isinstance(page, Baseline):
        name = record["variant"] or page.method
    reproduced = pages.load_page(str(pages.folder() / f"{record['experiment']}.py")).reproduced
    return Row(
        name,
        reproduced.kind if reproduced else "",
        parameters,
        multiply_adds,
        page.paper.test_error if page.paper and record["dataset"] == "mnist" else None,
        float(np.mean(error_rates(record))),
        record,
    )


def table(rows: list[Row]) -> str:
    """A line for each system; errors in percent."""
    lines = [
        "| system | parameters | multiply-adds | published | ours, mean and 95 % interval "
        "| averaged | seeds | epochs | errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for at in rows:
        published = "" if at.published is None else f"{at.published:g}"
        record, seeds = at.record, len(at.record["seeds"])
        averaged = f"{100 * record['ensemble_errors'] / record['test_size']:.2f}"
        lines.append(
            f"| {at.name} | {at.parameters:,} | {at.multiply_adds:,} | {published} | "
            f"{shown(error_rates(record))} | {averaged if seeds > 1 else ''} | {seeds} | "
            f"{record['epochs']} | {', '.join(map(str, record['errors']))} |"
        )
    return "\n".join(lines)


def parts(records: Records) -> list[str]:
    """A line for each of `PARTS` whose two systems were measured; errors in percent."""
    return [
        f"| {what} | {without} | {shown(error_rates(records[without]))} | {made} | "
        f"{shown(error_rates(records[made]))} |"
        for what, without, made in PARTS
        if without in records and made in records
    ]


def on_shapes(record: dict[str, Any]) -> str:
    """The line of a descendant that was trained on shapes."""
    return (
        f"| {record['experiment']} | {record['parameters']:,} | {record['multiply_adds']:,} | "
        f"{shown(error_rates(record))} | {record['epochs']} | "
        f"{', '.join(map(str, record['errors']))} |"
    )


def notes(records: Records) -> list[str]:
    """What a row cannot hold: the networks that boosting called, and the vote of five."""
    text = []
    if boosted := records.get("boosted"):
        calls, each = (np.mean(boosted[name], axis=0) for name in ("calls", "errors_of_each"))
        text.append(
            f"Boosted LeNet-4 calls {calls:.2f} networks for a digit on average (the paper "
            f"{BOOSTED_CALLS}). Alone its three misclassify {', '.join(f'{n:.0f}' for n in each)} "
            "digits; when their outputs are always added, "
            f"{np.mean(boosted['errors_always_added']):.0f}."
        )
    if dropout := records.get("nielsen-dropout"):
        text.append(
            f"A plurality vote of the {len(dropout['seeds'])} networks of nielsen-dropout, as the "
            f"last epoch leaves them, misclassifies {dropout['vote_errors']} of "
            f"{dropout['test_size']:,} digits (the book: {NIELSEN_VOTE_ERRORS})."
        )
    ladder = {name: found for name, found in records.items() if found["experiment"] == "nielsen"}
    if len(ladder) > 1:
        epochs = min(found["epochs"] for found in ladder.values())
        within = [f"{name} {shown(best_within(r, epochs))}" for name, r in ladder.items()]
        text.append(
            f"The book's rungs take {NIELSEN_EPOCHS} epochs, nielsen-dropout "
            f"{NIELSEN_DROPOUT_EPOCHS}, and from nielsen-expanded on an epoch of the book is five "
            f"of ours. At {epochs} epochs of as many examples as the training set has, the test "
            f"errors are, in percent: {'; '.join(within)}."
        )
    return text


def best_within(record: dict[str, Any], epochs: int) -> list[float]:
    """Test errors, in percent, of each network's best epoch on held-out examples among the first
    so many.
    """
    held_out, test = (
        np.array(record["curve"][name][:epochs]) for name in ("validation_errors", "test_errors")
    )
    chosen = np.take_along_axis(test, best_epochs(held_out)[None], axis=0)
    return (100 * chosen[0] / record["test_size"]).tolist()
