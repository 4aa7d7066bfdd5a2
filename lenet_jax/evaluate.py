"""Counts what a network misses, on MNIST's test digits or on labelled pictures.

    python -m lenet_jax.evaluate                          the best pretrained network
    python -m lenet_jax.evaluate lenet5-classic           another one
    python -m lenet_jax.evaluate runs/classic             the newest checkpoint of a run
    python -m lenet_jax.evaluate --pictures my_digits     folders 0 to 9, a digit in each picture
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_jax import commandline


def main(arguments: Sequence[str]) -> int:
    """Prints and draws what is missed; returns the exit code."""
    given = parse(arguments)
    commandline.set_up_jax()

    from lenet_jax.analysis import evaluation, figures
    from lenet_jax.recognition import labelled, network

    loaded = network.load(given.network)
    if given.pictures:
        found = labelled.evaluate(loaded, given.pictures, commandline.say)
    else:
        found = labelled.evaluate_test_set(loaded, given.manual_dir, commandline.say)
    record = {"network": loaded.name} | evaluation.as_json(found)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "evaluation.json").write_text(json.dumps(record) + "\n")
    figures.evaluation(found, f"{loaded.name} on {found.name}", given.out)
    print_tables(record)
    print(f"In {given.out}: evaluation.json, confusion.png, missed.png, rejection.png")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m lenet_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "network", nargs="?", default="", help="pretrained name or run folder (default: the best)"
    )
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="instead of MNIST")
    parser.add_argument(
        "--manual-dir", type=Path, metavar="FOLDER", help="of the four original MNIST files"
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="(default: %(default)s)")
    return parser.parse_args(arguments)


def print_tables(record: dict[str, Any]) -> None:
    """Misses, precision and recall of each class beside its row of the confusion matrix."""
    from rich.console import Console
    from rich.table import Table

    size, misses = record["size"], record["misses"]
    table = Table(title=f"{record['network']} on {record['data']}")
    for column in ("digit", *map(str, range(10)), "recall", "precision"):
        table.add_column(column, justify="right")
    for digit, row in enumerate(record["confusion"]):
        rates = (record[f"{kind}_percent"][digit] for kind in ("recall", "precision"))
        shown = ("" if rate is None else f"{rate:.1f} %" for rate in rates)
        table.add_row(str(digit), *(str(n or "") for n in row), *shown)
    Console().print(table)
    print(f"{misses:,} of {size:,} missed, {100 * misses / size:.2f} %")
    for name in record["unread"]:
        print(f"no single digit found in {name}")


if __name__ == "__main__":
    commandline.run(main)
