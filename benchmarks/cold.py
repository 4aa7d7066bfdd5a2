"""The time to 99 %: from the start of a process to a test error of 1 % told, with MNIST prepared.

Ours is `python -m lenet_jax.train --config experiments/fast.py`, with all it does for a user:
checkpoints, metrics, curves. PyTorch's (pytorch_fast.py) reads arrays and trains, nothing else.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data import dataset
from lenet_jax.errors import UserError
from lenet_jax.experiment import pages

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "experiments" / "fast.py"
TARGET = 2.0  # ratio to the best of PyTorch that is aimed at
MODES = ("eager", "compile")
Run = tuple[float, float]  # seconds, test error in percent


def lines(command: list[str], environment: dict[str, str]) -> Iterator[tuple[float, str]]:
    """What a Python process says, each line with the seconds since its start.

    Raises CalledProcessError if it fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in process.stdout or ():
        yield time.perf_counter() - began, line
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


# What our program says, and how far it then is.
STAGES = {
    "data loaded": r"training examples",
    "first updates": r"epoch 1/\d+ begun",
    "first epoch": r"epoch +1/\d+ .* test",
}


def ours(seed: int, folder: Path) -> tuple[Run, dict[str, float]]:
    """The first line with a test error of at most 1 % (or else the last), and the stages before."""
    arguments = ["--config", str(RECIPE), "--seed", str(seed), "--data.fallback", "none"]
    command = ["-m", "lenet_jax.train", *arguments, "--workdir", tempfile.mkdtemp(dir=folder)]
    told, stages = [], {}
    for at, line in lines(command, {"XDG_CACHE_HOME": str(folder / "cache")}):
        if error := re.search(r"epoch +\d+/\d+ .* test (\d+\.\d+) %", line):
            told.append((at, float(error[1])))
        stages |= {stage: at for stage, said in STAGES.items() if re.search(said, line)}
    return next((run for run in told if run[1] <= 1), told[-1]), stages


def theirs(seed: int, data: Path, recipe: dict[str, Any]) -> Run:
    settings = json.dumps(recipe | {"seed": seed, "threads": len(os.sched_getaffinity(0))})
    *_, (at, line) = lines(["-m", "benchmarks.pytorch_fast", str(data), settings], {})
    return at, json.loads(line)["test_error_percent"]


def rows(rounds: int) -> list[dict[str, Any]]:
    """A row for each of PyTorch's modes, with our recipe; none where there is no MNIST.

    Every round has its seed. All compiled programs are in the caches of both sides, but for
    "first_start": our seconds when nothing is.
    """
    from benchmarks.speed import row

    try:
        found = dataset.load(fallback="none", log=lambda _: None)
    except UserError as error:
        print(f"no time to 99 %: {error}", file=sys.stderr)
        return []
    experiment: Any = pages.load(str(RECIPE))
    recipe = {
        "batch_size": experiment.batch_size,
        "epochs": experiment.epochs,
        "j": experiment.loss.j,
        **vars(experiment.optimizer),
    }
    modes = {f"PyTorch {mode}": recipe | {"compiled": mode == "compile"} for mode in MODES}
    own: list[Run] = []
    stages: list[dict[str, float]] = []
    other: dict[str, list[Run]] = {name: [] for name in modes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "mnist.npz"
        np.savez(
            data,
            images=found.train.images,
            labels=found.train.labels,
            test_images=found.test.images,
            test_labels=found.test.labels,
        )
        (first_start, _), _ = ours(0, folder)
        theirs(0, data, modes["PyTorch compile"] | {"epochs": 1})  # fills the compiler's cache
        for seed in range(rounds):
            run, reached = ours(seed, folder)
            own.append(run)
            stages.append(reached)
            for mode, settings in modes.items():
                other[mode].append(theirs(seed, data, settings))
            print(f"round {seed + 1}/{rounds}: time to 99 %", file=sys.stderr, flush=True)
    result = []
    for mode, runs in other.items():
        seconds = [at for at, _ in own], [at for at, _ in runs]
        made = row("time to 99 %", "cold process", "s", seconds[0], seconds[1], mode, TARGET)
        made["test_error_percent"] = {"ours": [e for _, e in own], "peer": [e for _, e in runs]}
        made["stages"] = {s: statistics.median(each[s] for each in stages) for s in STAGES}
        result.append(made | {"first_start": first_start})
    return result
