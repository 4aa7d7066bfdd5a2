"""RESULTS.md and its figures, from the result files alone."""

from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.measurement.records import error_rates, interval, shown
from lenet_jax.reports import figures
from lenet_jax.reports.quick import QUICK

Records = dict[str, dict[str, Any]]

# Row, result file, the number in it, the paper's number with its place, our aim; in percent.
ROWS = (
    ("classic", "classic", "error", "0.95 (section III-B)", "0.95"),
    ("15,000 examples", "classic-15k", "error", "1.68 (Fig. 6)", "1.68"),
    ("30,000 examples", "classic-30k", "error", "1.14 (Fig. 6)", "1.14"),
    ("distorted", "distorted", "error", "0.8 (section III-B)", "0.80"),
    ("noise", "noise", "error", "", ""),
    ("best, one network", "best", "error", "", "0.42"),
    ("best, ensemble of all", "best", "ensemble", "", "0.32"),
    ("fast, two epochs", "fast", "error", "", ""),
    (
        *("distorted, rejected for 0.5 %, found on the test digits", "distorted", "rejected"),
        *("1.8 (Fig. 10, LeNet-4)", "1.0"),
    ),
)
ABLATED = "classic", "distorted"  # their variants are compared with them


def write(records: Records, path: Path) -> None:
    """Renders a set's records, by the names of their files, to a page; figures go to results/."""
    pictures = path.parent / "results"
    drawn = draw(records, pictures)
    datasets = sorted({record["dataset"] for record in records.values()})
    text = [
        "# The paper's numbers, and ours",
        f"Written by `python -m lenet_jax.reproduce` from `{pictures.name}/*.json`, which hold the "
        f"configuration, versions, hardware and commit of each. Data: {', '.join(datasets)}. Every "
        "number is of the last epoch of a fixed schedule. Settings were chosen on training "
        "examples held out; test errors of earlier forms were seen on the way. One number is "
        "chosen on the test set, as in the paper: the share that must be rejected for an error of "
        "0.5 %. Of fewer than three seeds each one's value stands in the place of an interval.",
        *([QUICK] if "uci-digits" in datasets else []),
        table(records),
        *(f"![{alt}]({pictures.name}/{file})" for file, alt in drawn.items()),
    ]
    if any(record["variant"] for record in variants(records)):
        text += ["## One thing changed", ablations(records)]
    text += ["## Digits misclassified", misclassified(records)] if records else []
    path.write_text("\n\n".join(text) + "\n")


def draw(records: Records, folder: Path) -> dict[str, str]:
    """The figures that these records are enough for, PNGs in a folder, with what each shows."""
    drawn = {}
    curves = [
        records[name] for name in ("classic", "distorted", "noise", "best") if name in records
    ]
    if "classic" in records:
        figures.fig_5(records["classic"], folder / "fig5.png")
        drawn["fig5.png"] = "Error against epochs, as in Fig. 5"
    sizes = [records[n] for n in records if n in ("classic", "classic-15k", "classic-30k")]
    if len(sizes) > 1:
        with_distorted = [*sizes, *(records[n] for n in ("distorted",) if n in records)]
        figures.fig_6(with_distorted, folder / "fig6.png")
        drawn["fig6.png"] = "Error against training examples, as in Fig. 6"
    if curves:
        figures.fig_10(curves, folder / "fig10.png")
        drawn["fig10.png"] = "Error of what is left after rejection, after Fig. 10"
        figures.fig_13(curves, folder / "fig13.png")
        drawn["fig13.png"] = "Error on rotated, scaled, shifted, squeezed, noisy digits (Fig. 13)"
    return drawn


def table(records: Records) -> str:
    """Each row that has a record, beside the paper and what we aimed at; percent."""
    lines = [
        "| | the paper | aim | ours, mean and 95 % interval | sd | seeds | errors, or values |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, file, what, *wanted in ROWS:
        if file not in records:
            continue
        record = records[file]
        paper, aim = wanted if record["dataset"] == "mnist" else ("", "")
        seeds = str(len(record["seeds"]))
        if what == "error":
            found, values = error_rates(record), listed(record["errors"])
        elif what == "ensemble":
            errors = record["ensemble_errors"]
            found, values = [100 * errors / record["test_size"]], str(errors)
            seeds = f"{seeds} together"
        else:
            found = record["rejected_percent_for_half_percent_error"]
            values = listed([round(share, 2) for share in found])
        lines.append(
            f"| {name} | {paper} | {aim} | {shown(found)} | {sd(found)} | {seeds} | {values} |"
        )
    return "\n".join(lines)


def variants(records: Records) -> list[dict[str, Any]]:
    return [r for name in ABLATED for r in records.values() if r["experiment"] == name]


def ablations(records: Records) -> str:
    """Experiments and their variants: test and training error, percent."""
    lines = [
        "| experiment | test error | sd | training error | seeds | errors |",
        "|---|---|---|---|---|---|",
    ]
    for record in variants(records):
        found, train = (
            error_rates(record),
            100 * np.mean(record["train_errors"]) / record["train_size"],
        )
        lines.append(
            f"| {figures.name_of(record)} | {shown(found)} | {sd(found)} | {train:.2f} | "
            f"{len(record['seeds'])} | {listed(record['errors'])} |"
        )
    return "\n".join(lines)


def misclassified(records: Records) -> str:
    """Fig. 8 in words: the errors of the first seed, with number, true and predicted label."""
    record = records.get("distorted") or next(iter(records.values()))
    pairs = ", ".join(f"{at}: {true}-{prediction}" for at, true, prediction in record["wrong"][0])
    return (
        f"{figures.name_of(record)}, seed {record['seeds'][0]}, {len(record['wrong'][0])} of "
        f"{record['test_size']:,} (number in the test set: true-predicted, "
        f"as in Fig. 8):\n\n{pairs}"
    )


def sd(values: list[float]) -> str:
    found = interval(values)["sd"]
    return "" if found is None else f"{found:.2f}"


def listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))
