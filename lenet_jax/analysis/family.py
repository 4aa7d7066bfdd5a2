"""FAMILY.md and its figures: every system's own measured row, from the result files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.analysis import counting, figures
from lenet_jax.analysis.results import best_passes, interval, read_any
from lenet_jax.training import config

Records = dict[str, dict[str, Any]]

# Kinds of systems, each with its pages and a colour of its own; other pages are kinds themselves.
KINDS = {
    "LeNet": ("lenet1", "lenet4", "boosted", "classic", "distorted", "best"),
    "tutorials": ("tutorial",),
    "Nielsen": ("nielsen",),
    "fully connected": ("fully_connected",),
    "classical": ("rivals",),
}
ALSO = ("classic", "distorted", "best")  # of the paper's set, shown beside the family

COMPARED = ("| part | without | | with | |", "|---|---|---|---|---|")
# What is added, to which system, and which one that makes.
PARTS = (
    ("Table I, for every map of S2 to every map of C3", "classic-full-table", "classic"),
    ("RBF units, eq. 9, appendix C, for sums, softmax, Muon", "tutorial-table", "classic"),
    ("tanh, for nothing squashed", "tutorial-linear", "tutorial-linear-tanh"),
    ("ReLU, for nothing squashed", "tutorial-linear", "tutorial-linear-relu"),
    ("ReLU, for sigmoids", "nielsen-two-conv", "nielsen-relu"),
    ("a convolution", "nielsen", "nielsen-conv"),
    ("a second convolution", "nielsen-conv", "nielsen-two-conv"),
    ("a second hidden layer of 100", "fully_connected", "fully_connected-300-100"),
    ("distorted patterns", "fully_connected", "fully_connected-300-distorted"),
    ("distorted patterns", "classic", "distorted"),
    ("boosting, on distorted patterns", "lenet4-17k", "boosted"),
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
    """Renders the family's records, by the names of their files, to a page; figures to results/."""
    folder = path.parent / "results"
    same = next(iter(records.values()))["dataset"] if records else ""
    ours = {name: read_any(folder / f"{name}.json") for name in (*ALSO, "classic-full-table")}
    everything = {
        name: found
        for name, found in (records | ours).items()
        if found and found["dataset"] == same
    }
    rows = [row(found) for name, found in everything.items() if name in records or name in ALSO]
    text = [
        "# The family, its rivals and its descendants",
        "Written by `python -m lenet_jax.reproduce --set family` from "
        f"`{folder.name}/*.json`, which hold the configuration, versions, hardware and commit of "
        f"each. Data: {same}. The test set chose nothing: numbers are of the last pass of a fixed "
        "schedule, of Nielsen's networks of the pass with the least error on held-out patterns. "
        "Parameters are the numbers that a system keeps, fixed codes aside; multiply-adds are for "
        "one digit, biases not counted. Times are of all seeds, on machines with other work.",
        table(rows),
        "Averaged: the error of the mean of these networks' scores, after the last pass.",
    ]
    for file, what, words in (
        ("family-parameters.png", "parameters", "numbers kept"),
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
        loss = interval(linear["test_loss"])
        text.append(
            f"The loss of tutorial-linear on the test set is {loss['mean']:.4f} +- "
            f"{loss['ci95']:.4f} (the tutorial: 0.0744)."
        )
    text += notes(records)
    if compared := parts(everything):
        text += ["What a part buys, in percent of test errors:", "\n".join([*COMPARED, *compared])]
    path.write_text("\n\n".join(text) + "\n")


def row(record: dict[str, Any]) -> Row:
    """The row of a record."""
    page = config.from_json(record["config"])
    if isinstance(page, config.Rival):
        parameters, multiply_adds = record["parameters"], record["multiply_adds"]
    else:
        layers = counting.count(page.model.module())
        parameters = sum(layer.parameters for layer in layers)
        multiply_adds = sum(layer.multiply_adds for layer in layers)
    if "calls" in record:  # three networks, not all of them asked each time
        parameters *= 3
        multiply_adds = round(multiply_adds * float(np.mean(record["calls"])))
    name = figures.name_of(record)
    if isinstance(page, config.Rival):
        name = record["variant"] or page.method
    own = record["experiment"]
    kind = next((kind for kind, names in KINDS.items() if own in names), own)
    return Row(
        name,
        kind,
        parameters,
        multiply_adds,
        page.paper.test_error if page.paper and record["dataset"] == "mnist" else None,
        record["error_percent"]["mean"],
        record,
    )


def table(rows: list[Row]) -> str:
    """A line for each system; errors in percent, time of training all seeds."""
    lines = [
        "| system | parameters | multiply-adds | published | ours, mean and 95 % interval "
        "| averaged | seeds | passes | misses | trained in |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for at in rows:
        published = "" if at.published is None else f"{at.published:g}"
        averaged = 100 * at.record["ensemble_misses"] / at.record["test_size"]
        seconds, cores = at.record["wall_seconds"], at.record["hardware"].split(", ")[-1]
        time = f"{seconds // 60}:{seconds % 60:02}, {cores}"
        lines.append(
            f"| {at.name} | {at.parameters:,} | {at.multiply_adds:,} | {published} | "
            f"{error(at.record)} | {f'{averaged:.2f}' if len(at.record['seeds']) > 1 else ''} | "
            f"{len(at.record['seeds'])} | {at.record['passes']} | "
            f"{', '.join(map(str, at.record['misses']))} | {time} |"
        )
    return "\n".join(lines)


def error(record: dict[str, Any]) -> str:
    """The mean test error in percent, with the interval of several seeds."""
    found = record["error_percent"]
    return f"{found['mean']:.2f}" + ("" if found["ci95"] is None else f" +- {found['ci95']:.2f}")


def parts(records: Records) -> list[str]:
    """A line for each of `PARTS` whose two systems were measured; errors in percent."""
    return [
        f"| {what} | {without} | {error(records[without])} | {made} | {error(records[made])} |"
        for what, without, made in PARTS
        if without in records and made in records
    ]


def notes(records: Records) -> list[str]:
    """What a row cannot hold: the networks that boosting called, and the vote of five."""
    text = []
    if boosted := records.get("boosted"):
        calls, each = interval(boosted["calls"]), np.mean(boosted["misses_of_each"], axis=0)
        text.append(
            f"Boosted LeNet-4 calls {calls['mean']:.2f} networks for a digit on average (the paper "
            f"1.75). Alone its three miss {', '.join(f'{n:.0f}' for n in each)} digits; when their "
            f"outputs are always added, {np.mean(boosted['misses_always_added']):.0f}."
        )
    if dropout := records.get("nielsen-dropout"):
        text.append(
            f"A plurality vote of the {len(dropout['seeds'])} networks of nielsen-dropout, as the "
            f"last pass leaves them, misses {dropout['vote_misses']} of {dropout['test_size']:,} "
            "digits (the book: 33)."
        )
    ladder = {name: found for name, found in records.items() if found["experiment"] == "nielsen"}
    if len(ladder) > 1:
        passes = min(found["passes"] for found in ladder.values())
        errors = [f"{name} {best_within(found, passes):.2f}" for name, found in ladder.items()]
        text.append(
            "The book's rungs take 60 passes, nielsen-dropout 40, and from nielsen-expanded on a "
            f"pass of the book is five of ours. At equal passes, {passes} through as many patterns "
            f"as the training set has, the test errors are, in percent: {', '.join(errors)}."
        )
    return text


def best_within(record: dict[str, Any], passes: int) -> float:
    """Mean test error, in percent, of each network's best pass on held-out patterns among the
    first so many.
    """
    held_out, test = (
        np.array(record["curve"][name][:passes]) for name in ("validation_misses", "test_misses")
    )
    chosen = np.take_along_axis(test, best_passes(held_out)[None], axis=0)
    return 100 * float(chosen.mean()) / record["test_size"]
