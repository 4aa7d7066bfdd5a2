"""results/<experiment>[-<variant>].json: what was measured, on what, with what and by whom."""

import datetime
import hashlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import stdtrit

import lenet_jax
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment.serialization import as_json, from_json
from lenet_jax.measurement import rejection, robustness
from lenet_jax.recognition import answers
from lenet_jax.training import feeding, folder, losses, metrics, scoring
from lenet_jax.training.loop import Result

PACKAGES = ("jax", "flax", "optax", "numpy")
REJECTED = tuple(range(0, 501, 10))  # of 10,000, where the rejection curve is written down


def interval(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation of a sample, and half the mean's 95 % interval (Student's t).

    Of fewer than three values the last two are None: of two, t is 12.7, and the interval says
    nothing.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 3:
        return {"mean": mean, "sd": None, "ci95": None}
    sd = float(np.std(values, ddof=1))
    return {"mean": mean, "sd": sd, "ci95": float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)}


def shown(values: list[float], digits: int = 2) -> str:
    """Mean +- half its 95 % interval, or the values themselves where there is no interval."""
    found = interval(values)
    numbers = values if found["ci95"] is None else (found["mean"], found["ci95"])
    between = ", " if found["ci95"] is None else " +- "
    return between.join(f"{number:.{digits}f}" for number in numbers)


def error_rates(record: dict[str, Any]) -> list[float]:
    """The test error of each seed, in percent."""
    return [100 * n / record["test_size"] for n in record["errors"]]


def of(
    runs: list[Result],
    config: dict[str, Any],
    experiment: str,
    variant: str,
    data: Dataset,
    changed: bool,
) -> dict[str, Any]:
    """The record of an experiment from its runs, each of some of its seeds.

    `config` is the resolved configuration with all the seeds. The test set is read here, after the
    last epoch, and every number is of that epoch but the curve's, and, where the experiment reports
    its best epoch on the held-out examples, the `errors`. With `changed` test digits are measured
    too (`robustness`). `wall_seconds` are those of training (`seconds`).
    """
    curve = {
        name: [
            [n for run in runs for n in np.ravel(run.rows[at][name]).tolist()]
            for at in range(len(runs[0].rows))
        ]
        for name in ("test_errors", "train_errors_on_the_fly", "validation_errors")
        if name in runs[0].rows[0]
    }
    scores = np.concatenate([_scores(run, data.test) for run in runs])
    loss = losses.per_example(runs[0].recipe.loss)
    record = of_scores(
        scores,
        data,
        experiment=experiment,
        variant=variant,
        seeds=[seed for run in runs for seed in _seeds(run)],
        epochs=runs[0].record["epochs"],
        train_errors=[n for run in runs for n in np.ravel(run.record["train_errors"]).tolist()],
        wall_seconds=round(sum(map(seconds, runs))),
        config=config,
    )
    if config["reported"] == "best-validation":
        best = best_epochs(curve["validation_errors"])
        errors = [curve["test_errors"][at][seed] for seed, at in enumerate(best)]
        record |= {
            "errors": errors,
            "error_percent": interval([100 * n / len(data.test) for n in errors]),
            "reported_epochs": (best + 1).tolist(),
        }
    labels = jnp.asarray(data.test.labels)
    record["test_loss"] = [float(loss(jnp.asarray(one), labels).mean()) for one in scores]
    record["curve"] = curve
    record["kernels"] = " and ".join(sorted({run.record.get("kernels", "xla") for run in runs}))
    if changed:
        by_level = [robustness.curves(run.recipe, run.params, data.test) for run in runs]
        record["robustness"] = {
            kind: {
                "levels": [level for level, _ in levels],
                "errors": [
                    [n for one in by_level for n in one[kind][at][1]] for at in range(len(levels))
                ],
            }
            for kind, levels in by_level[0].items()
        }
    return record


def best_epochs(validation_errors: Any) -> np.ndarray:
    """The index of each network's epoch with the least errors, [epochs, seeds] to [seeds].

    Of equal ones the last, as in Nielsen's network3.py.
    """
    errors = np.asarray(validation_errors)
    return len(errors) - 1 - errors[::-1].argmin(axis=0)


def of_scores(
    scores: np.ndarray,
    data: Dataset,
    *,
    experiment: str,
    variant: str,
    seeds: list[int],
    epochs: int,
    train_errors: list[int],
    wall_seconds: int,
    config: dict[str, Any],
) -> dict[str, Any]:
    """What the test scores [seeds, n, classes] of trained systems say, with where they are from."""
    labels, images = data.test.labels, len(data.test)
    predictions = scores.argmax(-1)
    wrong = predictions != labels
    margins = answers.margins(scores)
    errors = wrong.sum(axis=1).tolist()
    left = [rejection.error_rates_left(*pair) for pair in zip(margins, wrong, strict=True)]
    votes = (predictions[..., None] == np.arange(scores.shape[-1])).sum(axis=0)
    return {
        "experiment": experiment,
        "variant": variant,
        "dataset": data.name,
        "data_sha256": data.sha256,
        "seeds": seeds,
        "epochs": epochs,
        "train_size": len(data.train),
        "test_size": images,
        "errors": errors,
        "train_errors": train_errors,
        "error_percent": interval([100 * n / images for n in errors]),
        "ensemble_errors": int((scores.mean(axis=0).argmax(-1) != labels).sum()),
        "vote_errors": int((votes.argmax(-1) != labels).sum()),
        "rejected_percent_for_half_percent_error": [
            rejection.needed(*pair) for pair in zip(margins, wrong, strict=True)
        ],
        "rejection": {
            "rejected_percent": [n / 100 for n in REJECTED],
            "error_percent": [
                [round(float(e[n * images // 10_000]), 4) for e in left] for n in REJECTED
            ],
        },
        "wrong": [
            [
                [int(at), int(labels[at]), int(prediction[at])]
                for at in np.flatnonzero(misclassified)
            ]
            for prediction, misclassified in zip(predictions, wrong, strict=True)
        ],
        "wall_seconds": wall_seconds,
        **conditions(),
        "config": config,
    }


def reject_below(run: Result, held_out: Images) -> float:
    """The threshold for an error of 0.5 % on examples that the run's one network has not seen.

    Of the predictions that the rubbish class does not beat, which are rejected in any case.
    """
    (scores,) = _scores(run, held_out)
    return rejection.reject_below(scores, held_out.labels, getattr(run.recipe.loss, "j", math.inf))


def card(record: dict[str, Any], reject_below: float) -> dict[str, Any]:
    """The model card of the first seed's network.

    A threshold is infinite where none suffices. The card then has null, and nothing is rejected by
    the difference of scores.
    """
    same = ("experiment", "variant", "dataset", "data_sha256", "epochs", "train_size", "test_size")
    first = ("errors", "train_errors")
    return {
        **{name: record[name] for name in same},
        "seed": record["seeds"][0],
        **{name: record[name][0] for name in first},
        "reject_below": reject_below if math.isfinite(reject_below) else None,
        **{name: record[name] for name in ("commit", "versions", "hardware", "config")},
    }


def _seeds(run: Result) -> list[int]:
    return run.record["seeds"] if "seeds" in run.record else [run.record["seed"]]


def _scores(run: Result, shown: Images) -> np.ndarray:
    recipe = run.recipe
    pieces = [
        np.asarray(scoring.scores_of(recipe.model, recipe.mesh, run.params, images))[
            :, np.ravel(labels) >= 0
        ]
        for images, labels in feeding.counted(recipe.mesh, shown)
    ]
    return np.concatenate(pieces, axis=1)


def seconds(run: Result) -> float:
    """In training, from the speeds of all epochs, also those of programs that were killed.

    What is counted on the test set, and saved, after an epoch is not in it.
    """
    examples = len(_seeds(run)) * run.record["train_size"]
    times = {row["epoch"]: row for row in metrics.read(run.folder / "times.jsonl")}
    return sum(examples / row["images_per_second"] for row in times.values())


def hardware() -> str:
    """The processor or accelerators that jax uses, in words."""
    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    model = platform.processor() or platform.machine()
    if (about := Path("/proc/cpuinfo")).exists():
        named = [line for line in about.read_text().splitlines() if "model name" in line]
        model = named[0].split(":")[1].strip() if named else model
    used = min(jax.device_count(), os.cpu_count() or 1)  # jax sees each core as a device
    return f"{model}, {used} core{'s' * (used > 1)}"


def conditions() -> dict[str, Any]:
    """The machine, the versions of what runs on it, and `origin`."""
    versions = {"lenet_jax": lenet_jax.__version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    return {"hardware": hardware(), "versions": versions, **origin()}


def origin() -> dict[str, Any]:
    """The source that measures, the command that was given, and the day.

    Of absolute paths the name alone: where a folder lies on one machine says nothing on another.
    """
    given = [Path(a).name if Path(a).is_absolute() else a for a in sys.orig_argv[1:]]
    return {
        "commit": commit(),
        "command": shlex.join(["python", *given]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def commit() -> str | None:
    """The commit of the source, with a + where files differ from it; None where it is no clone."""
    root = Path(lenet_jax.__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    if not git("ls-files", "--", __file__):  # installed somewhere in another project's clone
        return None
    found = git("rev-parse", "--short=12", "HEAD")
    sources = "lenet_jax/*.py", "lenet_jax/*.cc", "experiments/*.py", "benchmarks/*.py"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *sources)
    return found + ("+" if changed else "")


def read(path: Path, config: dict[str, Any], dataset: str) -> dict[str, Any]:
    """The record in a file, for the resolved configuration and the data that it should be of.

    A field that came later than the file had its default there. Raises UserError for a file that
    is damaged or of another configuration or data set.
    """
    way_out = "Move it away to measure again"
    try:
        record = json.loads(path.read_text())
        if record.pop("sha256") != _sum(record):
            raise ValueError("it does not match its SHA-256")
        there = as_json(from_json(record["config"])) | {"dataset": record["dataset"]}
        differ = folder.differences(there, config | {"dataset": dataset})
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"{path} is damaged ({error}). {way_out}") from error
    if differ:
        raise UserError(
            f"{path} does not match its experiment:\n  " + "\n  ".join(differ) + f"\n{way_out}"
        )
    return record


def write(path: Path, record: dict[str, Any]) -> None:
    """One line for each list of numbers, so that a difference can be read, and its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.write_whole(path, _text(record | {"sha256": _sum(record)}) + "\n")


def _sum(record: dict[str, Any]) -> str:
    as_read = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def _text(value: Any, indent: str = "") -> str:
    if isinstance(value, dict) and value:
        inner = indent + "  "
        items = [f"{inner}{json.dumps(k)}: {_text(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return json.dumps(value)
