"""Trains and measures a set of experiments over many seeds: python -m lenet_jax.reproduce

    python -m lenet_jax.reproduce                   everything that results/ does not hold yet
    python -m lenet_jax.reproduce --set family      the LeNets, their baselines and descendants
    python -m lenet_jax.reproduce --only distorted  one experiment of the set
    python -m lenet_jax.reproduce --quick           a minute or so, a few on the embedded digits

Stop it at any moment and give the same command again: it goes on from there.
"""

import argparse
import dataclasses
import importlib
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_jax import commandline
from lenet_jax.errors import UserError
from lenet_jax.experiment import Baseline, Experiment, pages, serialization


@dataclass(frozen=True)
class Set:
    """Experiments, each with how many seeds it gets, and the page that shows them.

    `report` is the module of lenet_jax.reports that writes the `page`; `quick` are those that
    --quick runs. Where `changed`, changed test digits are measured too. `beside` are experiments
    of the paper's set that the page shows as well, where they have been measured.
    """

    page: str
    report: str
    experiments: dict[str, int]
    quick: tuple[str, ...]
    changed: bool
    beside: tuple[str, ...] = ()


SETS = {
    "paper": Set(
        "RESULTS.md",
        "results",
        {
            "classic": 10,
            "distorted": 10,
            "best": 10,
            "classic:15k": 10,
            "classic:30k": 10,
            "noise": 5,
            "classic:eq8": 5,
            "classic:j30": 5,
            "classic:printed": 5,
            "classic:full-table": 5,
            "classic:reshuffled": 5,
            "distorted:fresh": 5,
            "fast": 3,
        },
        quick=("classic", "classic:30k"),
        changed=True,
    ),
    "family": Set(
        "FAMILY.md",
        "family",
        {
            "lenet1": 5,
            "lenet4": 5,
            "lenet4:17k": 5,
            "boosted": 5,
            "tutorial": 5,
            "tutorial:table": 5,
            "tutorial:linear": 5,
            "tutorial:linear-tanh": 5,
            "tutorial:linear-relu": 5,
            "tutorial:gaussian": 5,
            "tutorial:log-gaussian": 5,
            "nielsen": 5,
            "nielsen:conv": 2,
            "nielsen:two-conv": 2,
            "nielsen:relu": 2,
            "nielsen:expanded": 2,
            "nielsen:wide": 2,
            "nielsen:doubled": 2,
            "nielsen:dropout": 5,
            "fully_connected": 5,
            "fully_connected:1000": 5,
            "fully_connected:300-100": 5,
            "fully_connected:500-150": 5,
            "fully_connected:1000-150": 5,
            "fully_connected:300-distorted": 5,
            "fully_connected:1000-distorted": 5,
            "fully_connected:300-100-distorted": 5,
            "fully_connected:500-150-distorted": 5,
            "fully_connected:1000-150-distorted": 5,
            "baselines": 1,
            "baselines:linear-deslanted": 1,
            "baselines:pairwise": 1,
            "baselines:neighbours": 1,
            "baselines:neighbours-deslanted": 1,
            "baselines:quadratic": 1,
            "baselines:rbf": 1,
            "baselines:svm": 1,
            "baselines:virtual-svm": 1,
        },
        quick=("nielsen", "boosted", "baselines", "baselines:virtual-svm"),
        changed=False,
        beside=("classic", "distorted", "best", "classic:full-table"),
    ),
}
PRETRAINED = ("classic", "distorted", "best")  # their first seed's network goes into the package


def main(arguments: Sequence[str]) -> int:
    """Runs, or reads, the experiments of a set and writes its page; returns the exit code."""
    given = parse(arguments)
    chosen = SETS[given.set]
    seeds = chosen.experiments | {key: SETS["paper"].experiments[key] for key in chosen.beside}
    commandline.set_up_jax()
    experiments = {key: prepared(key, n, given) for key, n in seeds.items()}
    dataset = "uci-digits" if given.quick else "mnist"

    from lenet_jax.measurement import records
    from lenet_jax.reports.quick import QUICK
    from lenet_jax.training import loop

    def record_of(key: str):
        page = experiments[key]
        path = given.out / "results" / f"{page.name}.json"
        return records.read(path, serialization.as_json(page), dataset) if path.exists() else None

    wanted = given.only or (chosen.quick if given.quick else chosen.experiments)
    missing = [key for key in wanted if record_of(key) is None]
    if missing:
        data = data_of(experiments[missing[0]], given.quick, commandline.log)
        commandline.log(f"to do: {', '.join(missing)}; {data.name}, {data.source}")
    for key in missing:
        try:
            with loop.Signals() as given.stopping:
                record = measure(key, experiments[key], given, chosen.changed)
        except loop.Interrupted:
            command = f"{commandline.called('reproduce')} {shlex.join(arguments)}"
            commandline.log(f"stopped and saved. To go on, give the same command:\n  {command}")
            return 42
        records.write(given.out / "results" / f"{experiments[key].name}.json", record)
    found = {experiments[key].name: record_of(key) for key in seeds}
    there = {name: record for name, record in found.items() if record is not None}
    page = given.out / chosen.page
    importlib.import_module(f"lenet_jax.reports.{chosen.report}").write(there, page)
    own = [key for key in chosen.experiments if experiments[key].name in there]
    print(f"{page}: {len(own)} of {len(chosen.experiments)} experiments")
    if given.quick:
        print(QUICK)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; raises UserError for an experiment that is not in the set."""
    parser = commandline.parser("reproduce", __doc__)
    parser.add_argument("--set", choices=SETS, default="paper", help="(default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments of the set")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="N",
        help="how many seeds, counted from --seed, or a list of two or more",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the first of them (default: %(default)s); --seed 7 --seeds 1 is seed 7 alone",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two epochs, two seeds, embedded digits"
    )
    parser.add_argument(
        "--out", type=Path, help="where the page, results/ and runs/ go (default: here; runs/quick)"
    )
    given = parser.parse_args(arguments)
    given.out = given.out or Path("runs/quick" if given.quick else ".")
    known = SETS[given.set].experiments
    if unknown := sorted(set(given.only or ()) - set(known)):
        raise UserError(f"--only {unknown[0]}: not in the set {given.set}: {', '.join(known)}")
    return given


def prepared(key: str, seeds: int, given: argparse.Namespace) -> Experiment | Baseline:
    """The experiment of `name[:variant]` with its seeds; for --quick a short one.

    Raises UserError for seeds that are none.
    """
    name, colon, variant = key.partition(":")
    page = pages.load_page(f"{name}{colon}{variant}")
    data = dataclasses.replace(page.data, fallback="none")
    if given.quick:  # a thousand digits, or as many fewer; the embedded set is a fortieth of MNIST
        data = dataclasses.replace(
            data, limit=(data.limit or 60_000) // 60, validation=data.validation // 40
        )
    if isinstance(page, Baseline):
        return dataclasses.replace(page, data=data)
    seeds = 2 if given.quick else seeds
    return dataclasses.replace(
        page,
        data=data,
        seed=given.seed,
        seeds=tuple(given.seeds or (seeds,)),
        epochs=2 if given.quick else page.epochs,
        workdir=None,
    )


def data_of(page: Experiment | Baseline, quick: bool, log: Callable[[str], None]) -> Any:
    """The data of an experiment, MNIST; the embedded digits for --quick, MNIST at hand or not."""
    from lenet_jax.data import dataset

    if quick:
        return dataset.embedded(page.data.limit, page.data.validation)
    return dataset.of(page.data, log=log)


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
    for part in groups(experiment, len(data.train)):
        log_seeds(experiment, data, part.all_seeds)
        folder = given.out / "runs" / "reproduce" / part.name
        runs.append(loop.train(part, data, folder, commandline.log, given.stopping))
    name, _, variant = key.partition(":")
    record = records.of(runs, serialization.as_json(experiment), name, variant, data, changed)
    figures.fig_8(record, data.test.images, runs[0].folder / "misclassified.png")
    if key in PRETRAINED and not given.quick:
        first = jax.tree.map(lambda a: a[0], runs[0].params)
        card = records.card(record, reject_below(experiment, given))
        pretrained.save(f"lenet5-{experiment.name}", first, card)
    return record


def measure_boosted(experiment: Experiment, data: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Three networks for each seed, one seed after the other: each has examples of its own."""
    import numpy as np

    from lenet_jax.baselines import boosting
    from lenet_jax.measurement import records

    found = []
    for seed in experiment.all_seeds:
        log_seeds(experiment, data, [seed])
        one = dataclasses.replace(experiment, seed=seed, seeds=())
        folder = given.out / "runs" / "reproduce" / f"{experiment.name}-{seed}"
        found.append(boosting.train(one, data, folder, commandline.log, given.stopping))
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


def log_seeds(experiment: Experiment, data: Any, seeds: Sequence[int]) -> None:
    commandline.log(f"{experiment.name} on {data.name}: seeds {', '.join(map(str, seeds))}")


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
    commandline.log(f"{part.name}: the difference of scores below which predictions are rejected")
    folder = given.out / "runs" / "reproduce" / part.name
    run = loop.train(part, data, folder, commandline.log, given.stopping)
    return records.reject_below(run, data.validation)


def groups(experiment: Experiment, examples: int) -> list[Experiment]:
    """The experiment in as few runs as memory allows, each with some of its seeds."""
    from lenet_jax.training import loop

    seeds = list(experiment.all_seeds)
    fit = loop.seeds_that_fit(experiment, examples, len(seeds))
    if fit == len(seeds):
        return [experiment]
    parts = [seeds[at : at + fit] for at in range(0, len(seeds), fit)]
    commandline.log(f"{experiment.name}: memory holds {fit} networks, so {len(parts)} runs")
    return [
        dataclasses.replace(
            experiment,
            name=f"{experiment.name}-{part[0]}",
            seed=part[0],
            seeds=tuple(part) if len(part) > 1 else (),
        )
        for part in parts
    ]


if __name__ == "__main__":
    commandline.run(main)
