"""Trains the network of an experiment: python -m lenet_jax.train --config experiments/classic.py"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from lenet_jax import commandline
from lenet_jax.experiment import Experiment


def main(arguments: Sequence[str]) -> int:
    """One run, new or resumed; returns the exit code: 0 finished, 42 interrupted and saved."""
    experiment = commandline.experiment("train", __doc__ or "", arguments)

    from lenet_jax.training import hosts

    with hosts.joined(experiment.distributed, commandline.log):
        return train(experiment, arguments)


def train(experiment: Experiment, arguments: Sequence[str]) -> int:
    """The same, once all processes of the run are there; process 0 alone says what is done."""
    import jax

    from lenet_jax.data import dataset
    from lenet_jax.native import library
    from lenet_jax.training import hosts

    def log(line: str) -> None:
        if hosts.first():
            commandline.log(line)

    workdir = experiment.workdir or Path("runs") / experiment.name
    on_cpu = jax.default_backend() == "cpu"
    if on_cpu:
        library.begin()
    data = dataset.of(experiment.data, log=log)

    from lenet_jax.reports import figures
    from lenet_jax.training import loop

    several = f"{n:,} networks, " if (n := len(experiment.all_seeds)) > 1 else ""
    examples = f"{len(data.train):,} training examples"
    log(f"{experiment.name} on {data.name}: {several}{examples}, {data.source}")
    if on_cpu and (remark := library.remark()):
        log(remark)
    try:
        with loop.Signals() as stopping:
            result = loop.train(experiment, data, workdir, log, stopping)
    except loop.Interrupted:
        command = f"{commandline.called('train')} {shlex.join(arguments)}"
        log(f"stopped and saved in {workdir}. To go on, give the same command:\n  {command}")
        return 42
    if hosts.first():
        figures.curve(result.rows, result.record, result.folder / "curve.png")
        print_result(experiment, result)
    return 0


def print_result(experiment: Experiment, result) -> None:
    """The final table, with the paper's numbers beside ours where the data is the paper's.

    Of several seeds the mean, and the standard deviation of the error.
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from lenet_jax.reports import figures

    record = result.record
    paper = experiment.paper if record["dataset"] == "mnist" else None
    seeds = figures.seeds_of(record)
    table = Table(title=f"{record['experiment']} on {record['dataset']}, {seeds}")
    for column in ("", "errors", "of", "error", *(["paper"] if paper else [])):
        table.add_column(column, justify="right" if column else "left")
    for split in ("train", "validation", "test"):
        if f"{split}_errors" not in record:
            continue
        errors, size = np.atleast_1d(record[f"{split}_errors"]), record[f"{split}_size"]
        cells = [split, f"{errors[0]:,}", f"{size:,}", f"{100 * errors[0] / size:.2f} %"]
        if len(errors) > 1:
            error, deviation = 100 * errors.mean() / size, 100 * errors.std(ddof=1) / size
            cells[1], cells[3] = f"{errors.mean():,.1f}", f"{error:.2f} +- {deviation:.2f} %"
        if paper:
            theirs = {"train": paper.train_error, "test": paper.test_error}.get(split)
            cells.append("" if theirs is None else f"{theirs:.2f} %")
        table.add_row(*cells)
    Console().print(table)
    if paper:
        print(f"The paper's numbers: {paper.source}.")
    print(f"In {result.folder}: result.json, metrics.jsonl, curve.png, checkpoints")


if __name__ == "__main__":
    commandline.run(main)
