"""Which experiments are measured together, and on which data. Their pages say what is measured."""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lenet_jax.experiment import Baseline, Experiment, pages
from lenet_jax.experiment.reproduced import KINDS, Reproduced


@dataclass(frozen=True)
class Set:
    """The page that shows experiments, written by a module of lenet_jax.reports.

    Where `changed`, changed test digits are measured too.
    """

    page: str
    report: str
    changed: bool


SETS = {
    "paper": Set("RESULTS.md", "results", changed=True),
    "family": Set("FAMILY.md", "family", changed=False),
}


def reproduced() -> dict[str, tuple[Experiment | Baseline, Reproduced]]:
    """Every experiment of the package that is reproduced, by what --config takes; LeNets first."""
    found = {key: (page, page.reproduced) for key, page in pages.every().items()}
    asked = {key: (page, how) for key, (page, how) in found.items() if how}
    return dict(sorted(asked.items(), key=lambda item: KINDS.index(item[1][1].kind)))


def prepared(
    page: Experiment | Baseline, reproduced: Reproduced, given: argparse.Namespace
) -> Experiment | Baseline:
    """An experiment with its seeds; for --quick a short one.

    Raises UserError for seeds that are none.
    """
    data = dataclasses.replace(page.data, fallback="none")
    if given.quick:  # a thousand digits, or as many fewer; the embedded set is a fortieth of MNIST
        data = dataclasses.replace(
            data, limit=(data.limit or 60_000) // 60, validation=data.validation // 40
        )
    if isinstance(page, Baseline):
        return dataclasses.replace(page, data=data)
    seeds = 2 if given.quick else reproduced.seeds
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
