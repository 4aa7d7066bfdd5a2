"""How each kind of system is measured: networks, boosted ones, and the classical baselines.

`given` is the command line of `reproduce`: its `out` and `quick`, the `log`, and `stopping`, which
says whether a signal came.
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lenet_jax.experiment import Baseline, Experiment, serialization
from lenet_jax.reproduction.sets import data_of


def measure(
    key: str, page: Experiment | Baseline, given: argparse.Namespace, changed: bool
) -> dict[str, Any]:
    """The record of an experiment: of all its seeds, trained or gone on with, or of a baseline."""
    data = data_of(page, given.quick, lambda _: None)
    if isinstance(page, Baseline):
        return measure_baseline(key, page, data)
    if key == "boosted":
        return measure_boosted(page, data, given)
    return measure_networks(key, page, data, given, changed)


def measure_networks(
    key: str, experiment: Experiment, data: Any, given: argparse.Namespace, changed: bool
) -> dict[str, Any]:
    """One network for each seed; more seeds than memory holds go one group after the other."""
    import jax

    from lenet_jax import pretrained
    from lenet_jax.measurement import records
    from lenet_jax.reports import figures
    from lenet_jax.training import loop

    runs = []
    for part in groups(experiment, data, given.log):
        log_seeds(experiment, data, part.all_seeds, given.log)
        folder = given.out / "runs" / "reproduce" / part.name
        runs.append(loop.train(part, data, folder, given.log, given.stopping))
    name, _, variant = key.partition(":")
    record = records.of(runs, serialization.as_json(experiment), name, variant, data, changed)
    figures.fig_8(record, data.test.images, runs[0].folder / "misclassified.png")
    if experiment.reproduced and experiment.reproduced.pretrained and not given.quick:
        first = jax.tree.map(lambda a: a[0], runs[0].params)
        card = records.card(record, reject_below(experiment, given))
        # Beside results that are none of the package's the package's networks stay as they are.
        folder = pretrained.FOLDER if given.out == Path() else given.out / "pretrained"
        pretrained.save(f"lenet5-{experiment.name}", first, card, folder)
    return record


def measure_boosted(experiment: Experiment, data: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Three networks for each seed, one seed after the other: each has examples of its own."""
    import numpy as np

    from lenet_jax.baselines import boosting
    from lenet_jax.measurement import records

    found = []
    for seed in experiment.all_seeds:
        log_seeds(experiment, data, [seed], given.log)
        one = dataclasses.replace(experiment, seed=seed, seeds=())
        folder = given.out / "runs" / "reproduce" / f"{experiment.name}-{seed}"
        found.append(boosting.train(one, data, folder, given.log, given.stopping))
    return records.of_scores(
        np.stack([boosted.predictions() for boosted in found]),
        data,
        experiment=experiment.name,
        variant="",
        seeds=list(experiment.all_seeds),
        epochs=experiment.epochs,
        train_errors=[boosted.train_errors for boosted in found],
        wall_seconds=round(sum(boosted.seconds for boosted in found)),
        config=serialization.as_json(experiment),
    ) | {
        "calls": [round(boosted.calls(), 4) for boosted in found],
        # Infinite where the first network is never sure; JSON has no word for it.
        "unsure_below": [b.unsure_below if math.isfinite(b.unsure_below) else None for b in found],
        "drawn": [list(boosted.drawn) for boosted in found],
        "errors_always_added": [boosted.errors(data.test.labels)[-1] for boosted in found],
        "errors_of_each": [boosted.errors(data.test.labels)[:3] for boosted in found],
    }


def measure_baseline(key: str, baseline: Baseline, data: Any) -> dict[str, Any]:
    """A classical method, trained once: nothing in it is left to chance."""
    from rich.console import Console

    from lenet_jax.baselines import classical
    from lenet_jax.measurement import records

    with Console(stderr=True).status(f"{baseline.name} on {data.name}"):
        fitted = classical.fit(baseline, data.train.images, data.train.labels)
        name, _, variant = key.partition(":")
        scores = fitted.scores(data.test.images)
        trained = fitted.scores(data.train.images).argmax(1)
    return records.of_scores(
        scores[None],
        data,
        experiment=name,
        variant=variant,
        seeds=[0],
        epochs=1,
        train_errors=[int((trained != data.train.labels).sum())],
        wall_seconds=round(fitted.seconds),
        config=serialization.as_json(baseline),
    ) | {"parameters": fitted.parameters, "multiply_adds": fitted.multiply_adds}


def log_seeds(
    experiment: Experiment, data: Any, seeds: Sequence[int], log: Callable[[str], None]
) -> None:
    log(f"{experiment.name} on {data.name}: seeds {', '.join(map(str, seeds))}")


def reject_below(experiment: Experiment, given: argparse.Namespace) -> float:
    """The rejection threshold of a recipe, from a network trained with examples held out."""
    from lenet_jax.data import dataset
    from lenet_jax.measurement import records
    from lenet_jax.training import loop

    part = dataclasses.replace(
        experiment,
        name=f"{experiment.name}-held-out",
        data=dataclasses.replace(experiment.data, validation=10_000),
        seeds=(),
    )
    data = dataset.of(part.data, log=lambda _: None)
    given.log(f"{part.name}: the difference of scores below which predictions are rejected")
    folder = given.out / "runs" / "reproduce" / part.name
    run = loop.train(part, data, folder, given.log, given.stopping)
    return records.reject_below(run, data.validation)


def groups(experiment: Experiment, data: Any, log: Callable[[str], None]) -> list[Experiment]:
    """The experiment in as few runs as memory allows, each with some of its seeds."""
    from lenet_jax.training import loop

    seeds = list(experiment.all_seeds)
    fit = loop.seeds_that_fit(experiment, data, len(seeds))
    if fit == len(seeds):
        return [experiment]
    parts = [seeds[at : at + fit] for at in range(0, len(seeds), fit)]
    log(f"{experiment.name}: memory holds {fit} networks, so {len(parts)} runs")
    return [
        dataclasses.replace(
            experiment,
            name=f"{experiment.name}-{part[0]}",
            seed=part[0],
            seeds=tuple(part) if len(part) > 1 else (),
        )
        for part in parts
    ]
