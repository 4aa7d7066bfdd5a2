"""Which experiments are measured, over how many seeds, and on which data."""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lenet_jax.experiment import Baseline, Experiment, pages


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
# Their first seed's network goes into the package.
PRETRAINED = ("classic", "distorted", "best")


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
