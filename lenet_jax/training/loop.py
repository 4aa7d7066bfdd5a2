"""A whole run: resume, passes, records, checkpoints, result."""

import json
import os
import platform
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import lenet_jax
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.training import config, step
from lenet_jax.training.checkpoint import Checkpoints
from lenet_jax.training.folder import RunFolder, write_whole
from lenet_jax.training.metrics import Metrics
from lenet_jax.training.progress import Bar

CHUNK_SECONDS = 0.5  # between two looks at signals, finite losses and the progress bar


class Interrupted(Exception):
    """A signal came; everything up to here is saved."""


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: `record` is result.json, `rows` are the passes."""

    record: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path


def train(experiment: config.Experiment, dataset: Dataset, workdir: Path, say) -> Result:
    """Runs an experiment in a folder, from where an earlier program left it.

    On SIGTERM or SIGINT it finishes the chunk of updates it is at, saves and raises Interrupted.
    Raises UserError for a folder of another run, without a valid checkpoint or without room, for
    devices that cannot share the batch, and for a loss that is not finite.
    """
    mesh = step.mesh(choose_devices(experiment, say))
    recipe = step.recipe(experiment, len(dataset.train), mesh)
    about_data = {"dataset": dataset.name, "dataset_sha256": dataset.sha256}
    resolved = config.as_json(experiment) | about_data
    batch_size, patterns = experiment.batch_size, len(dataset.train)

    with RunFolder(workdir, resolved) as folder, Signals() as signals:
        state = step.replicated(mesh, step.initial_state(recipe, experiment.seed))
        checkpoints = Checkpoints(folder.path / "checkpoints", experiment.keep, say)
        restored = checkpoints.restore(state)
        if restored is not None:
            state = restored
            say(f"resuming from step {int(state.step)} in {folder.path}")
        images, labels = step.replicated(mesh, (dataset.train.images, dataset.train.labels))
        done, at = divmod(int(state.step), -(-patterns // batch_size))
        metrics = Metrics(folder.path, done)
        chunk = 64  # updates; the first look comes soon
        with Bar(dataset.name, experiment.passes, patterns, done, at * batch_size) as bar:
            for number in range(done + 1, experiment.passes + 1):
                began, trained = time.monotonic(), patterns - at * batch_size
                if at == 0:
                    state = step.begin_pass(recipe, state, number, images, labels)
                order = step.order_of_pass(
                    state.key, number, patterns, batch_size, experiment.order
                )
                while at < len(order):
                    clock, until = time.monotonic(), min(at + chunk, len(order))
                    state = step.run_steps(recipe, state, images, labels, order, at, until)
                    check_finite(state, number, folder.path)
                    at, seen = until, min(until * batch_size, patterns)
                    bar.show(number, seen, float(state.loss) / seen)
                    if time.monotonic() - clock < CHUNK_SECONDS / 2:
                        chunk *= 2
                    if signals.came and at < len(order):
                        checkpoints.save(int(state.step), state, {"pass": number - 1} | resolved)
                        raise Interrupted
                row = row_of_pass(experiment, recipe, dataset, state, number)
                speed = trained / (time.monotonic() - began)
                metrics.record(row, speed)
                checkpoints.save(int(state.step), state, {"pass": number} | resolved)
                bar.say(_line(row, dataset, experiment.passes, speed))
                at = 0
        record = result(experiment, dataset, recipe, metrics.rows[-1])
        write_whole(folder.path / "result.json", json.dumps(record, indent=2) + "\n")
        return Result(record, metrics.rows, folder.path)


def check_finite(state: step.TrainState, number: int, folder: Path) -> None:
    """Raises UserError, with pass and step, once a loss or a parameter is not finite."""
    broken = int(state.broken)
    if broken < 0:
        if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params)):
            return
        broken = int(state.step) - 1
    raise UserError(
        f"the loss is not finite at pass {number}, step {broken + 1} of the run. Nothing of "
        f"this pass was saved; the last good checkpoint stays in {folder}. Smaller steps help: "
        "--optimizer.learning-rates, or a larger --optimizer.mu; give another --workdir with them"
    )


def row_of_pass(
    experiment: config.Experiment,
    recipe: step.Recipe,
    dataset: Dataset,
    state: step.TrainState,
    number: int,
) -> dict[str, Any]:
    """The line of a pass in metrics.jsonl; misses are counted over all images."""

    def misses(images: Images) -> int:
        blocks = step.blocks(images.images, images.labels, recipe.mesh.size)
        return len(images) - int(step.count_right(recipe, state.params, *blocks))

    sdlm = experiment.optimizer
    rate = sdlm.learning_rates[min(number, len(sdlm.learning_rates)) - 1]
    h = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.curvature)])
    h = h[h > 0]  # the others have no connections
    row = {
        "pass": number,
        "step": int(state.step),
        "learning_rate": rate,
        "smallest_step_size": rate / (sdlm.mu + float(h.max())),
        "largest_step_size": rate / (sdlm.mu + float(h.min())),
        "loss": float(state.loss) / len(dataset.train),
        "train_misses_on_the_fly": int(state.misses),
    }
    if len(dataset.validation):
        row["validation_misses"] = misses(dataset.validation)
    row["test_misses"] = misses(dataset.test)
    if number == experiment.passes:
        row["train_misses"] = misses(dataset.train)
    return row


def result(
    experiment: config.Experiment, dataset: Dataset, recipe: step.Recipe, last: dict[str, Any]
) -> dict[str, Any]:
    """result.json: the counts of the last pass, and what they were counted on."""
    sizes = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        "experiment": experiment.name,
        "seed": experiment.seed,
        "passes": last["pass"],
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        **{f"{split}_size": len(images) for split, images in sizes.items() if len(images)},
        **{name: last[name] for name in last if name.endswith("misses")},
        "test_error_percent": 100 * last["test_misses"] / len(dataset.test),
        "train_error_percent": 100 * last["train_misses"] / len(dataset.train),
        "devices": [str(d.device_kind) for d in recipe.mesh.devices.flat],
        "cores": os.cpu_count(),
        "versions": {
            "lenet_jax": lenet_jax.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
    }


class Signals:
    """Notes SIGTERM and SIGINT while it is open; a second one ends the program at once."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "Signals":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.came:
            os._exit(128 + number)
        self.came = True


def choose_devices(experiment: config.Experiment, say) -> list[Any]:
    """The visible devices that share a batch: as many as asked for, or as many as divide it.

    Raises UserError where more are asked for than there are.
    """
    visible, batch_size = jax.devices(), experiment.batch_size
    if experiment.devices is not None:
        if experiment.devices > len(visible):
            raise UserError(
                f"--devices {experiment.devices}, but jax sees {len(visible)} "
                f"({visible[0].device_kind}). Give at most as many, or leave --devices out"
            )
        return visible[: experiment.devices]
    number = max(n for n in range(1, len(visible) + 1) if batch_size % n == 0)
    if number < len(visible):
        say(f"using {number} of {len(visible)} devices: a batch of {batch_size} divides no further")
    return visible[:number]


def _line(row: dict[str, Any], dataset: Dataset, passes: int, speed: float) -> str:
    def percent(misses: str, images: Images) -> str:
        return f"{100 * row[misses] / len(images):.2f} %"

    return (
        f"{dataset.name}  pass {row['pass']:>2}/{passes}  loss {row['loss']:.4f}  "
        f"train {percent('train_misses_on_the_fly', dataset.train)}  "
        + (
            f"validation {percent('validation_misses', dataset.validation)}  "
            if "validation_misses" in row
            else ""
        )
        + f"test {percent('test_misses', dataset.test)}  {speed:,.0f} images/s"
    )
