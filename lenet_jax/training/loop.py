"""A whole run: resume, passes, records, checkpoints, result."""

import json
import math
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
    resolved = config.as_json(experiment) | {"dataset": dataset.name, "sha256": dataset.sha256}
    folder = RunFolder(workdir, resolved)
    recipe = step.recipe(experiment, len(dataset.train), mesh)
    fresh = step.replicated(mesh, step.initial_state(recipe, experiment.seed))
    try:
        checkpoints = Checkpoints(folder.path / "checkpoints", experiment.keep, say)
        restored = checkpoints.restore(fresh)
        if restored is not None:
            say(f"resuming from step {int(restored.step)} in {folder.path}")
        with Signals() as signals:
            run = Run(experiment, dataset, recipe, folder.path, checkpoints, signals)
            rows = run.passes(fresh if restored is None else restored)
        record = run.result(rows)
        write_whole(folder.path / "result.json", json.dumps(record, indent=2) + "\n")
        return Result(record, rows, folder.path)
    except OSError as error:
        raise UserError(
            f"--workdir {workdir}: {error.strerror or error}. The last good checkpoint stays; "
            "make room or mend the folder, then give the same command to go on"
        ) from error
    finally:
        folder.close()


@dataclass(frozen=True)
class Run:
    """The parts of a run that its passes work on."""

    experiment: config.Experiment
    dataset: Dataset
    recipe: step.Recipe
    folder: Path
    checkpoints: Checkpoints
    signals: "Signals"

    def passes(self, state: step.TrainState) -> list[dict[str, Any]]:
        """Trains to the end of the last pass; returns the rows of all passes."""
        experiment, recipe, train = self.experiment, self.recipe, self.dataset.train
        steps_per_pass = -(-len(train) // experiment.batch_size)
        done, at = divmod(int(state.step), steps_per_pass)
        images = step.replicated(recipe.mesh, train.images)
        labels = step.replicated(recipe.mesh, train.labels)
        metrics = Metrics(self.folder, done)
        total = experiment.passes * len(train)
        bar = Bar(self.dataset.name, min(int(state.step) * experiment.batch_size, total), total)
        try:
            for number in range(done + 1, experiment.passes + 1):
                began = time.monotonic()
                if at == 0:
                    state = step.begin_pass(recipe, state, number, images, labels)
                order = step.order_of_pass(
                    state.key, number, len(train), experiment.batch_size, experiment.order
                )
                trained = len(train) - at * experiment.batch_size
                state = self._one_pass(state, images, labels, order, at, number, bar)
                speed = trained / (time.monotonic() - began)
                at = 0
                row = self._row(state, number)
                metrics.record(row, speed)
                self._save(state, number)
                bar.say(_line(row, self.dataset, experiment.passes, speed))
        finally:
            bar.close()
            metrics.close()
        return metrics.rows

    def _one_pass(self, state, images, labels, order, at: int, number: int, bar: Bar):
        """The updates of a pass from the one numbered `at`, in chunks of about half a second."""
        batch_size, chunk = self.experiment.batch_size, 64
        order = step.jax.device_put(order)
        while at < len(order):
            began = time.monotonic()
            until = min(at + chunk, len(order))
            state = step.run_steps(self.recipe, state, images, labels, order, at, until)
            seen = min(until * batch_size, len(images))
            mean_loss = float(state.loss) / seen
            self._check_finite(state, number)
            bar.advance(seen - at * batch_size, number, self.experiment.passes, mean_loss)
            if time.monotonic() - began < CHUNK_SECONDS / 2:
                chunk *= 2
            at = until
            if self.signals.came and at < len(order):
                self._save(state, number - 1)
                raise Interrupted
        return state

    def _check_finite(self, state: step.TrainState, number: int) -> None:
        broken = int(state.broken)
        if broken < 0 and math.isfinite(float(state.loss)):
            return
        raise UserError(
            f"the loss is not finite at pass {number}, step {broken + 1} of the run. Nothing of "
            f"this pass was saved; the last good checkpoint stays in {self.folder}. Smaller "
            "steps help: --optimizer.learning-rates, or a larger --optimizer.mu; give another "
            "--workdir with them"
        )

    def _row(self, state: step.TrainState, number: int) -> dict[str, Any]:
        patterns = len(self.dataset.train)
        sdlm = self.experiment.optimizer
        rate = sdlm.learning_rates[min(number, len(sdlm.learning_rates)) - 1]
        h = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.curvature)])
        h = h[h > 0]  # the others have no connections
        row = {
            "pass": number,
            "step": int(state.step),
            "learning_rate": rate,
            "smallest_step_size": rate / (sdlm.mu + float(h.max())),
            "largest_step_size": rate / (sdlm.mu + float(h.min())),
            "loss": float(state.loss) / patterns,
            "train_misses_on_the_fly": int(state.misses),
        }
        if len(self.dataset.validation):
            row["validation_misses"] = self._misses(state, self.dataset.validation)
        row["test_misses"] = self._misses(state, self.dataset.test)
        if number == self.experiment.passes:
            row["train_misses"] = self._misses(state, self.dataset.train)
        return row

    def _misses(self, state: step.TrainState, images: Images) -> int:
        blocks = step.blocks(images.images, images.labels, self.recipe.mesh.size)
        return len(images) - int(step.count_right(self.recipe, state.params, *blocks))

    def _save(self, state: step.TrainState, passes_done: int) -> None:
        meta = {
            "pass": passes_done,
            "step": int(state.step),
            "config": config.as_json(self.experiment),
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.sha256,
        }
        self.checkpoints.save(int(state.step), state, meta)

    def result(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """result.json: counts over all images, and what they were counted on."""
        last, data = rows[-1], self.dataset
        sizes = {"train": data.train, "validation": data.validation, "test": data.test}
        return {
            "experiment": self.experiment.name,
            "seed": self.experiment.seed,
            "passes": last["pass"],
            "dataset": data.name,
            "dataset_sha256": data.sha256,
            **{f"{split}_size": len(images) for split, images in sizes.items() if len(images)},
            **{name: last[name] for name in last if name.endswith("misses")},
            "test_error_percent": 100 * last["test_misses"] / len(data.test),
            "train_error_percent": 100 * last["train_misses"] / len(data.train),
            "devices": [str(d.device_kind) for d in self.recipe.mesh.devices.flat],
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
