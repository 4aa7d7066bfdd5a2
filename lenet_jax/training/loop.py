"""A whole run: resume, epochs, records, checkpoints, result."""

import contextlib
import json
import os
import platform
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import lenet_jax
from lenet_jax.data import strings
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment import MAP, SDLM, Experiment, Optimizer, serialization
from lenet_jax.layers import contract
from lenet_jax.native import library
from lenet_jax.training import feeding, hosts, optimizers, replicas, scoring, step
from lenet_jax.training.checkpoint import Checkpoints
from lenet_jax.training.folder import RunFolder, computed, write_whole
from lenet_jax.training.metrics import Metrics
from lenet_jax.training.progress import Bar

LEAST_SHARE = 16  # images for a core; smaller shares were not tried
KEPT = 10  # about so many checkpoints stay from all over a run, beside the newest
CHUNK_SECONDS = 0.5  # between two looks at signals, finite losses and the progress bar


class Interrupted(Exception):
    """A signal came; everything up to here is saved."""


@dataclass(frozen=True)
class Result:
    """What a finished run leaves: `record` is result.json, `rows` are the epochs.

    `params` are the networks, stacked, for `recipe`.
    """

    record: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path
    recipe: step.Recipe
    params: step.Params


def train(
    experiment: Experiment,
    dataset: Dataset,
    workdir: Path,
    log: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    quiet: bool = False,
) -> Result:
    """Runs an experiment in a folder, from where an earlier program left it.

    All seeds go through the epochs together.

    Once `stopping` (a program's `Signals`) says so it finishes the chunk of updates it is at, and
    the epoch if that was its last, saves and raises Interrupted; so that whoever trains one run
    after the other stops too, also in the last epoch. `on_epoch` gets the row of each epoch.
    `quiet`: no progress on the terminal.
    Raises UserError for a folder of another run, without a valid checkpoint or without room, for
    devices that cannot share the batch, for more seeds than memory, for examples of no class
    where the loss has none for them, and for a loss that is not finite.
    """
    if experiment.strings is not None:
        dataset = strings.of(dataset, experiment.strings, experiment.distortion)
    experiment = experiment.fitted(dataset.shape, dataset.classes, len(dataset.train))
    seeds = np.asarray(experiment.all_seeds, np.uint32)
    mesh = replicas.mesh(choose_devices(experiment, log), len(seeds))
    of_lines = dataset.test.labels.ndim > 1
    contract.check(experiment.model, dataset.shape, dataset.classes, of_lines)
    if dataset.train.labels.max() >= dataset.classes and not isinstance(experiment.loss, MAP):
        raise UserError(
            f"{dataset.name} has examples of no class, for the rubbish class of eq. 9, and the "
            f"loss is {type(experiment.loss).__name__}. Take MAP (loss:map)"
        )
    recipe = step.recipe(experiment, len(dataset.train), mesh, dataset.shape)
    kernels = _kernels(mesh)
    resolved = resolved_of(experiment, dataset) | {"kernels": kernels}
    batch_size, examples = experiment.batch_size, len(dataset.train)
    versions = experiment.distortion.versions or 1

    check_memory(recipe, len(seeds), len(dataset.train))

    about = computed(resolved) | {"kernels": kernels}
    hosts.require_same("the experiment, data or kernels", json.dumps(about, sort_keys=True))
    writes = hosts.first()
    with RunFolder(workdir, resolved, writes) as folder:
        if folder.remark:
            log(folder.remark)
        folder.keep_page(experiment.page)
        state = step.initial_state(recipe, seeds)
        every = -(-examples // batch_size) * max(1, experiment.epochs // KEPT)
        checkpoints = Checkpoints(folder.path / "checkpoints", experiment.keep, log, every)
        restored = checkpoints.restore(state)
        rows: list[dict[str, Any]] = []
        if restored is not None:
            state, rows = restored
        feed = feeding.feed(mesh, dataset.train, batch_size, len(seeds), experiment.strings)
        held_out = feeding.counted(mesh, dataset.validation)
        test = feeding.counted(mesh, dataset.test)
        steps = -(-examples // batch_size)
        done, at = divmod(int(hosts.whole(state.step)[0]), steps)
        if restored is not None:
            over = done == experiment.epochs
            how = "finished already" if over else f"resuming from step {done * steps + at}"
            log(f"{how} in {folder.path}")
            if not over and (begun := folder.begun.get("kernels", "xla")) != kernels:
                log(f"it was begun with {begun} kernels: with {kernels} ones the last bits differ")
        metrics = Metrics(folder.path, rows, writes)
        chunk = feeding.at_first(len(seeds))  # updates; the first look comes soon
        progress = dataset.name, experiment.epochs, examples, done, at * batch_size
        with Bar(*progress, quiet or not writes) as bar, contextlib.closing(metrics):
            for number in range(done + 1, experiment.epochs + 1):
                began, trained = time.monotonic(), examples - at * batch_size
                if at == 0:
                    samples = step.curvature_samples(recipe, state.key, number)
                    state = step.begin_epoch(recipe, state, number, *feed.of_samples(samples))
                order = step.order_of_epoch(
                    state.key, number, examples, batch_size, experiment.order, versions
                )
                while at < steps:
                    clock = time.monotonic()
                    taken, until = feed.of_steps(order, at, min(at + chunk, steps))
                    state = step.run_steps(recipe, state, *taken, order, at, until)
                    check_finite(state, experiment.all_seeds, number, folder.path)
                    at, seen = until, min(until * batch_size, examples)
                    bar.show(number, seen, hosts.whole(state.loss).mean() / seen)
                    # Signals and clocks are each process's own, and all have to do the same.
                    seconds = time.monotonic() - clock
                    seen_by_each = hosts.gathered([stopping(), seconds >= CHUNK_SECONDS / 2])
                    stop, slow = np.any(seen_by_each, axis=0)
                    if not slow:
                        chunk *= 2
                    if stop and at < steps:
                        _save(checkpoints, state, metrics, resolved)
                        raise Interrupted
                speed = len(seeds) * trained / (time.monotonic() - began)
                row = row_of_epoch(experiment, recipe, dataset, held_out, test, state, number)
                bar.log(_line(row, dataset, experiment.epochs, speed))
                if number == experiment.epochs:
                    shown = dataset.train
                    if experiment.strings is not None:
                        shown = strings.fixed(experiment.strings, experiment.distortion, shown)
                    pieces = feeding.counted(mesh, shown)
                    row["train_errors"] = errors(recipe, state, len(dataset.train), pieces)
                metrics.record(row, speed)
                _save(checkpoints, state, metrics, resolved)
                on_epoch(row)
                if hosts.gathered(stopping()).any():
                    raise Interrupted
                at = 0
        record = result(experiment, dataset, recipe, metrics.rows[-1])
        if writes:
            write_whole(folder.path / "result.json", json.dumps(record, indent=2) + "\n")
        return Result(record, metrics.rows, folder.path, recipe, state.params)


def _save(
    checkpoints: Checkpoints, state: step.TrainState, metrics: Metrics, resolved: dict[str, Any]
) -> None:
    about = {"epoch": len(metrics.rows)} | resolved
    checkpoints.save(int(hosts.whole(state.step)[0]), state, metrics.rows, about)


def resolved_of(experiment: Experiment, dataset: Dataset) -> dict[str, Any]:
    """config.json: the experiment, the data and the page that it was read from."""
    page = experiment.page
    return {
        **serialization.as_json(experiment),
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "dataset_shape": list(dataset.shape),
        "dataset_classes": dataset.classes,
        **({"dataset_names": list(dataset.names)} if dataset.names else {}),
        **(
            {"page": {"path": str(page.path), "variant": page.variant, "sha256": page.sha256}}
            if page
            else {}
        ),
    }


def check_finite(state: step.TrainState, seeds: Sequence[int], number: int, folder: Path) -> None:
    """Raises UserError, with seed, epoch and step, once a loss or a parameter is not finite."""
    lost = hosts.whole(state.broken)
    broken = np.where(lost >= 0, lost, hosts.whole(state.step) - 1)
    fine = hosts.whole(step.finite(state.params)) & (lost < 0)
    for seed, step_, good in zip(seeds, broken, fine, strict=True):
        if not good:
            raise UserError(
                f"the loss is not finite at epoch {number}, step {step_ + 1} of the run, seed "
                f"{seed}. Nothing of this epoch was saved; the last good checkpoint stays in "
                f"{folder}. Smaller steps help: --optimizer.learning-rates, or a larger "
                "--optimizer.mu; give another --workdir with them"
            )


def check_memory(recipe: step.Recipe, seeds: int, examples: int) -> None:
    """Raises UserError, with the numbers, for more seeds than the devices' memory can hold."""
    fit, each, memory = _room(recipe, seeds, examples)
    if seeds > fit:
        raise UserError(
            f"{seeds:,} seeds need about {seeds * each / 2**30:,.1f} GiB "
            f"({each / 2**20:.1f} MiB each) of {memory / 2**30:,.1f} GiB: at most "
            f"{fit:,} fit. Give fewer --seeds, and the others to another run"
        )


def seeds_that_fit(experiment: Experiment, dataset: Dataset, wanted: int) -> int:
    """How many of the wanted seeds one run can hold, at least 1."""
    examples = len(dataset.train)
    experiment = experiment.fitted(dataset.shape, dataset.classes, examples)
    mesh = replicas.mesh(choose_devices(experiment, lambda _: None), wanted)
    fit, _, _ = _room(step.recipe(experiment, examples, mesh, dataset.shape), wanted, examples)
    return max(1, min(fit, wanted))


def _room(recipe: step.Recipe, seeds: int, examples: int) -> tuple[int, float, float]:
    """How many seeds fit, the bytes of each, and the bytes there are."""
    state = jax.eval_shape(lambda: step.initial_state(recipe, np.zeros(1, np.uint32)))
    numbers = jax.tree.leaves((state.params, state.curvature, state.opt_state))
    # Held twice while an epoch runs, with the gradients and the order of the examples.
    each = 3 * sum(4 * leaf.size for leaf in numbers)
    each += 8 * examples * (recipe.distortion.versions or 1)
    memory = replicas.memory_of(recipe.mesh)
    rows = recipe.mesh.shape["seeds"]
    if seeds % rows:  # then every device holds them all
        each *= rows
    # The cores of a host share theirs.
    memory *= jax.process_count() if replicas.on_cores(recipe.mesh) else rows
    return int(memory / each), each, memory


def row_of_epoch(
    experiment: Experiment,
    recipe: step.Recipe,
    dataset: Dataset,
    held_out: Iterable[feeding.Examples],
    test: Iterable[feeding.Examples],
    state: step.TrainState,
    number: int,
) -> dict[str, Any]:
    """The line of an epoch in metrics.jsonl; errors are counted over all images.

    `held_out` and `test` are the validation and the test images on the devices.
    Numbers that differ between seeds are lists when there are several.
    """
    row = {
        "epoch": number,
        "step": int(hosts.whole(state.step)[0]),
        **step_sizes(experiment, state, number),
        "loss": each(hosts.whole(state.loss).astype(np.float64) / len(dataset.train)),
        "train_errors_on_the_fly": each(state.errors),
    }
    if len(dataset.validation):
        row["validation_errors"] = errors(recipe, state, len(dataset.validation), held_out)
    row["test_errors"] = errors(recipe, state, len(dataset.test), test)
    return row


def errors(
    recipe: step.Recipe, state: step.TrainState, number: int, pieces: Iterable[feeding.Examples]
) -> Any:
    """How many of `number` images, in pieces, each network takes for another class."""
    count = partial(scoring.count_right, recipe.model, recipe.mesh, state.params)
    return each(number - sum(hosts.whole(count(*piece)) for piece in pieces))


def step_sizes(experiment: Experiment, state: step.TrainState, number: int) -> dict[str, Any]:
    """The learning rate of an epoch, and for SDLM the smallest and largest of its eta/(mu + h)."""
    optimizer = experiment.optimizer
    if not isinstance(optimizer, Optimizer):
        return {}  # a page's own: it may have no single rate
    if not isinstance(optimizer, SDLM):
        steps = int(hosts.whole(state.step)[0]) // number
        schedule = optimizers.schedule(optimizer, experiment.epochs, steps)
        return {"learning_rate": float(schedule(number * steps - 1))}
    rate = optimizer.learning_rates[min(number, len(optimizer.learning_rates)) - 1]
    leaves = map(hosts.whole, jax.tree.leaves(state.curvature))
    h = np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)
    h = h.astype(np.float64)
    lowest = np.where(h > 0, h, np.inf).min(axis=1)  # 0 has no connections
    return {
        "learning_rate": rate,
        "smallest_step_size": each(rate / (optimizer.mu + h.max(axis=1))),
        "largest_step_size": each(rate / (optimizer.mu + lowest)),
    }


def each(values: Any) -> Any:
    """A number for each seed in JSON's types: a list, or the number if there is one."""
    values = hosts.whole(values).tolist()
    return values if len(values) > 1 else values[0]


def result(
    experiment: Experiment, dataset: Dataset, recipe: step.Recipe, last: dict[str, Any]
) -> dict[str, Any]:
    """result.json: the counts of the last epoch, and what they were counted on.

    For several seeds the counts and errors are lists in their order, and mean and standard
    deviation (of a sample, n - 1) of the errors stand beside them.
    """
    sizes = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    seeds = list(experiment.all_seeds)
    errors: dict[str, Any] = {}
    for split in ("test", "train"):
        name = f"{split}_error_percent"
        percent = 100 * np.asarray(last[f"{split}_errors"]) / len(sizes[split])
        errors[name] = percent.tolist()
        if len(seeds) > 1:
            errors[f"{name}_mean"] = float(percent.mean())
            errors[f"{name}_std"] = float(percent.std(ddof=1))
    return {
        "experiment": experiment.name,
        **({"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}),
        "epochs": last["epoch"],
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        **{f"{split}_size": len(images) for split, images in sizes.items() if len(images)},
        **{name: last[name] for name in last if name.endswith("errors")},
        **errors,
        "devices": [str(d.device_kind) for d in recipe.mesh.devices.flat],
        "cores": os.cpu_count(),
        "kernels": _kernels(recipe.mesh),
        "versions": {
            "lenet_jax": lenet_jax.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
    }


def _kernels(mesh: Mesh) -> str:
    return library.kind(build=True) if replicas.on_cores(mesh) else "xla"


class Signals:
    """Notes SIGTERM and SIGINT while it is open; a second one ends the program at once.

    Called, it says whether one came. For programs: only a main thread may set it up.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "Signals":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.came

    def _note(self, number: int, frame: object) -> None:
        if self.came:
            os._exit(128 + number)
        self.came = True


def choose_devices(experiment: Experiment, log) -> list[Any]:
    """The visible devices for a run: as many as asked for, or as many as it can use.

    Several seeds are spread over the devices. One network's batches are shared by as many as
    divide them; the cores of a CPU (which jax shows as devices) take at least LEAST_SHARE images
    each. Each process gives as many. Raises UserError where more are asked for than there are, and
    where there is nothing for some of the processes.
    """
    visible, batch_size = jax.devices(), experiment.batch_size
    processes = jax.process_count()
    if experiment.devices is not None:
        if experiment.devices > len(visible):
            raise UserError(
                f"--devices {experiment.devices}, but jax sees {len(visible)} "
                f"({visible[0].device_kind}). Give at most as many, or leave --devices out"
            )
        if experiment.devices % processes:
            raise UserError(
                f"--devices {experiment.devices} are not the same for {processes} processes. Give "
                f"a multiple of {processes}, or leave --devices out"
            )
        return _of_each(visible, experiment.devices // processes)
    if (seeds := len(experiment.all_seeds)) > 1:
        if seeds < processes:
            raise UserError(
                f"{seeds} seeds are too few for {processes} processes: each trains networks of its "
                f"own. Give at least {processes} --seeds, or start {seeds} processes"
            )
        most = max(n for n in range(1, len(visible) + 1) if n * (processes - 1) < seeds)
        return _of_each(visible, most)
    if batch_size % processes:
        raise UserError(
            f"--batch-size {batch_size} cannot be shared by {processes} processes. Give a multiple "
            f"of {processes}, or several --seeds, which need no sharing"
        )
    cores = visible[0].platform == "cpu"
    number = max(
        n
        for n in range(processes, len(visible) + 1, processes)
        if batch_size % n == 0 and (n == processes or not cores or batch_size // n >= LEAST_SHARE)
    )
    if number < len(visible) and not cores:
        log(f"using {number} of {len(visible)} devices: a batch of {batch_size} divides no further")
    return _of_each(visible, number // processes)


def _of_each(devices: Sequence[Any], number: int) -> list[Any]:
    """The first so many devices of each process, or all that it has."""
    places: Counter[int] = Counter()
    chosen = []
    for device in devices:
        places[device.process_index] += 1
        if places[device.process_index] <= number:
            chosen.append(device)
    return chosen


def _line(row: dict[str, Any], dataset: Dataset, epochs: int, speed: float) -> str:
    def percent(errors: str, images: Images) -> str:
        return f"{100 * np.mean(row[errors]) / len(images):.2f} %"

    return (
        f"{dataset.name}  epoch {row['epoch']:>2}/{epochs}  loss {np.mean(row['loss']):.4f}  "
        f"train {percent('train_errors_on_the_fly', dataset.train)}  "
        + (
            f"validation {percent('validation_errors', dataset.validation)}  "
            if "validation_errors" in row
            else ""
        )
        + f"test {percent('test_errors', dataset.test)}  {speed:,.0f} images/s"
    )
