"""Trains and measures a set of experiments over many seeds: python -m lenet_jax.reproduce

    python -m lenet_jax.reproduce                   everything that results/ does not hold yet
    python -m lenet_jax.reproduce --set family      the LeNets, their baselines and descendants
    python -m lenet_jax.reproduce --only distorted  one experiment of the set
    python -m lenet_jax.reproduce --quick           a minute or so, a few on the embedded digits

Stop it at any moment and give the same command again: it goes on from there.
"""

import argparse
import importlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from lenet_jax import commandline
from lenet_jax.errors import UserError
from lenet_jax.experiment import serialization
from lenet_jax.reproduction import sets, systems


def main(arguments: Sequence[str]) -> int:
    """Runs, or reads, the experiments of a set and writes its page; returns the exit code."""
    given = parse(arguments)
    commandline.set_up_jax()
    chosen = sets.SETS[given.set]
    known = sets.reproduced()
    own = [key for key, (_, how) in known.items() if how.set == given.set]
    if unknown := sorted(set(given.only or ()) - set(own)):
        raise UserError(f"--only {unknown[0]}: not in the set {given.set}: {', '.join(own)}")
    experiments = {
        key: sets.prepared(page, how, given)
        for key, (page, how) in known.items()
        if key in own or given.set == "family" and how.in_family
    }
    dataset = "uci-digits" if given.quick else "mnist"

    from lenet_jax.measurement import records
    from lenet_jax.reports.quick import QUICK
    from lenet_jax.training import loop

    def record_of(key: str):
        page = experiments[key]
        path = given.out / "results" / f"{page.name}.json"
        return records.read(path, serialization.as_json(page), dataset) if path.exists() else None

    wanted = given.only or [key for key in own if known[key][1].quick or not given.quick]
    missing = [key for key in wanted if record_of(key) is None]
    if missing:
        data = sets.data_of(experiments[missing[0]], given.quick, commandline.log)
        commandline.log(f"to do: {', '.join(missing)}; {data.name}, {data.source}")
    for key in missing:
        try:
            with loop.Signals() as given.stopping:
                record = systems.measure(key, experiments[key], given, chosen.changed)
        except loop.Interrupted:
            command = f"{commandline.called('reproduce')} {shlex.join(arguments)}"
            commandline.log(f"stopped and saved. To go on, give the same command:\n  {command}")
            return 42
        records.write(given.out / "results" / f"{experiments[key].name}.json", record)
    found = {experiments[key].name: record_of(key) for key in experiments}
    there = {name: record for name, record in found.items() if record is not None}
    page = given.out / chosen.page
    importlib.import_module(f"lenet_jax.reports.{chosen.report}").write(there, page)
    print(f"{page}: {sum(experiments[key].name in there for key in own)} of {len(own)} experiments")
    if given.quick:
        print(QUICK)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = commandline.parser("reproduce", __doc__)
    parser.add_argument("--set", choices=sets.SETS, default="paper", help="(default: %(default)s)")
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
        "--out",
        type=Path,
        help="where the page, results/, runs/ and pretrained/ go (default: here, but networks into "
        "the package; runs/quick)",
    )
    given = parser.parse_args(arguments)
    given.log, given.stopping = commandline.log, lambda: False
    given.out = given.out or Path("runs/quick" if given.quick else ".")
    return given


if __name__ == "__main__":
    commandline.run(main)
