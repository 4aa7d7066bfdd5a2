"""Finished runs that a benchmark measures."""

import json
from pathlib import Path
from typing import Any

from lenet_jax import commandline


def opened(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """The network of a finished run, its data, and a record of it, of its last epoch.

    Raises UserError as `recognition.networks.load` does.
    """
    from lenet_jax.data import dataset
    from lenet_jax.experiment.serialization import from_json
    from lenet_jax.measurement import records
    from lenet_jax.recognition import networks
    from lenet_jax.training import metrics

    trained = networks.load(str(folder))
    config = trained.card["config"] | {"workdir": None}
    result = json.loads((folder / "result.json").read_text())
    rows = metrics.read(folder / "metrics.jsonl")
    same = ("experiment", "epochs", "dataset", "train_size", "test_size", "kernels")
    record = {
        **{name: result[name] for name in same},
        "variant": "",
        "data_sha256": result["dataset_sha256"],
        "seeds": [result["seed"]],
        "errors": [result["test_errors"]],
        "train_errors": [result["train_errors"]],
        "curve": {"test_errors": [row["test_errors"] for row in rows]},
        **records.conditions(),
        "config": config,
    }
    return trained, dataset.of(from_json(config).data, commandline.log), record
