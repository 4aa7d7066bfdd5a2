"""Trains and measures a set of experiments over many seeds: python -m lenet_jax.reproduce

    python -m lenet_jax.reproduce                   everything that results/ does not hold yet
    python -m lenet_jax.reproduce --only distorted  one experiment of the set
    python -m lenet_jax.reproduce --quick           a minute, three of them on the embedded digits

Stop it at any moment and give the same command again: it goes on from there.
"""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from lenet_jax import commandline
from lenet_jax.errors import UserError
from lenet_jax.training import config

# Of each set its page, the page's title, and its experiments with how many seeds each gets.
SETS = {
    "paper": (
        "RESULTS.md",
        "The paper's numbers, and ours",
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
        },
    )
}
QUICK = ("classic", "classic:30k", "distorted")  # what --quick runs of the set
PRETRAINED = ("classic", "distorted", "best")  # their first seed's network goes into the package


def main(arguments: Sequence[str]) -> int:
    """Runs, or reads, the experiments of a set and writes its page; returns the exit code."""
    given = parse(arguments)
    page, title, seeds = SETS[given.set]
    experiments = {key: prepared(key, n, given) for key, n in seeds.items()}
    commandline.set_up_jax()

    from lenet_jax.analysis import report, results
    from lenet_jax.data import dataset
    from lenet_jax.training import loop

    def record_of(key: str):
        path = given.out / "results" / f"{experiments[key].name}.json"
        return results.read(path, config.as_json(experiments[key])) if path.exists() else None

    wanted = given.only or (QUICK if given.quick else seeds)
    missing = [key for key in wanted if record_of(key) is None]
    if missing:
        data = dataset.load(**vars(experiments[missing[0]].data), say=commandline.say)
        commandline.say(f"to do: {', '.join(missing)}; {data.name}, {data.source}")
    for key in missing:
        try:
            measure(key, experiments[key], given.out, weights=key in PRETRAINED and not given.quick)
        except loop.Interrupted:
            command = shlex.join(["python", "-m", "lenet_jax.reproduce", *arguments])
            commandline.say(f"stopped and saved. To go on, give the same command:\n  {command}")
            return 42
    found = {experiments[key].name: record_of(key) for key in seeds}
    records = {name: record for name, record in found.items() if record is not None}
    report.write(records, title, given.out / page)
    print(f"{given.out / page}: {len(records)} of {len(seeds)} experiments")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; raises UserError for an experiment that is not in the set."""
    parser = commandline.parser("reproduce", __doc__)
    parser.add_argument("--set", choices=SETS, default="paper", help="(default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments of the set")
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N", help="how many seeds, or a list of them"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two passes, two seeds, embedded digits"
    )
    parser.add_argument(
        "--out", type=Path, help="where the page, results/ and runs/ go (default: here; runs/quick)"
    )
    given = parser.parse_args(arguments)
    given.out = given.out or Path("runs/quick" if given.quick else ".")
    known = SETS[given.set][2]
    if unknown := sorted(set(given.only or ()) - set(known)):
        raise UserError(f"--only {unknown[0]}: not in the set {given.set}: {', '.join(known)}")
    return given


def prepared(key: str, seeds: int, given: argparse.Namespace) -> config.Experiment:
    """The experiment of `name[:variant]` with its seeds; for --quick a short one.

    Raises UserError for seeds that are none.
    """
    name, colon, variant = key.partition(":")
    experiment = config.load(f"{Path('experiments') / name}.py{colon}{variant}")
    data = dataclasses.replace(experiment.data, fallback="none")
    experiment = dataclasses.replace(
        experiment, seeds=tuple(given.seeds or (seeds,)), data=data, workdir=None
    )
    if not given.quick:
        return experiment
    limit = data.limit and data.limit // 40  # the embedded set is a fortieth of MNIST
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(data, limit=limit, fallback="uci-digits"),
        seeds=tuple(given.seeds or (2,)),
        passes=2,
    )


def measure(key: str, experiment: config.Experiment, out: Path, weights: bool) -> None:
    """Trains all seeds of an experiment, or goes on with them, and writes its record.

    More seeds than memory holds go one group after the other.
    """
    import jax

    from lenet_jax import pretrained
    from lenet_jax.analysis import figures, results
    from lenet_jax.data import dataset
    from lenet_jax.training import loop

    data = dataset.load(**vars(experiment.data), say=lambda _: None)
    runs = []
    for part in groups(experiment, len(data.train)):
        seeds = ", ".join(map(str, part.all_seeds))
        commandline.say(f"{experiment.name} on {data.name}: seeds {seeds}")
        runs.append(loop.train(part, data, out / "runs" / "reproduce" / part.name, commandline.say))
    name, _, variant = key.partition(":")
    record = results.of(runs, config.as_json(experiment), name, variant, data)
    figures.fig_8(record, data.test.images, runs[0].folder / "missed.png")
    if weights:
        first = jax.tree.map(lambda a: a[0], runs[0].params)
        card = results.card(record, reject_below(experiment, out))
        pretrained.save(f"lenet5-{experiment.name}", first, card)
    results.write(out / "results" / f"{experiment.name}.json", record)


def reject_below(experiment: config.Experiment, out: Path) -> float:
    """The rejection threshold of a recipe, from a network trained with patterns held out."""
    from lenet_jax.analysis import results
    from lenet_jax.data import dataset
    from lenet_jax.training import loop

    part = dataclasses.replace(
        experiment,
        name=f"{experiment.name}-held-out",
        data=dataclasses.replace(experiment.data, validation=10_000),
        seeds=(),
    )
    data = dataset.load(**vars(part.data), say=lambda _: None)
    commandline.say(f"{part.name}: the difference of scores below which answers are rejected")
    run = loop.train(part, data, out / "runs" / "reproduce" / part.name, commandline.say)
    return results.reject_below(run, data.validation)


def groups(experiment: config.Experiment, patterns: int) -> list[config.Experiment]:
    """The experiment in as few runs as memory allows, each with some of its seeds."""
    from lenet_jax.training import loop

    seeds = list(experiment.all_seeds)
    fit = loop.seeds_that_fit(experiment, patterns, len(seeds))
    if fit == len(seeds):
        return [experiment]
    parts = [seeds[at : at + fit] for at in range(0, len(seeds), fit)]
    commandline.say(f"{experiment.name}: memory holds {fit} networks, so {len(parts)} runs")
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
