"""How time and memory grow with the batch and the replicas: python -m benchmarks.growth

Our side alone. Writes results/growth.json and benchmarks/growth.png.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import ROOT, conditions, ours, rate

BATCHES = tuple(4**n for n in range(7))  # 1 to 4,096
REPLICAS = tuple(2**n for n in range(7))  # 1 to 64
ROUNDS, SECONDS = 5, 0.7

# What is run for its peak of memory, and the most GiB that it may take.
TRAINING = ["-m", "lenet_jax.train", "--config", "experiments/classic.py", "--batch-size", "256"]
INFERENCE = """
from lenet_jax.commandline import set_up_jax
set_up_jax()
import jax, numpy as np
from lenet_jax.models.lenet import LeNet5
from lenet_jax.recognition.predictor import predictor
model = LeNet5()
params = model.init(jax.random.key(0), np.zeros((1, 32, 32), np.float32))["params"]
predictor(model, params)(np.zeros((10_000, 28, 28), np.uint8))
"""


def times() -> dict[str, list[dict[str, Any]]]:
    """us an image for each batch, and us an update for each number of replicas, in turns."""
    job = ours(len(os.sched_getaffinity(0)))
    curves = {
        "batch": {n: job(f"train {n}") for n in BATCHES},
        "replicas": {n: job(f"replicas {n}") for n in REPLICAS},
    }
    found: dict[str, dict[int, list[float]]] = {
        curve: {n: [] for n in sides} for curve, sides in curves.items()
    }
    for sides in curves.values():
        for work, _ in sides.values():
            work(1)  # compiles
    for _ in range(ROUNDS):
        for curve, sides in curves.items():
            for n, (work, images) in sides.items():
                found[curve][n].append(1e6 / rate(work, images, SECONDS))
    return {
        curve: [
            {curve: n, "us": statistics.median(us), "spread": [min(us), max(us)]}
            for n, us in sides.items()
        ]
        for curve, sides in found.items()
    }


def peak(command: list[str]) -> float:
    """The largest memory, in GiB, that a process of its own held."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)


def plot(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    labels = {"batch": "images in a batch", "replicas": "networks, batch 1"}
    for axes, (curve, label) in zip(
        figure.subplots(1, 2, sharey=True), labels.items(), strict=True
    ):
        n = [point[curve] for point in found[curve]]
        axes.plot(n, [point["us"] for point in found[curve]], "o-", color="black")
        low, high = zip(*(point["spread"] for point in found[curve]), strict=True)
        axes.fill_between(n, low, high, color="black", alpha=0.15, linewidth=0)
        axes.set(xscale="log", ylim=(0, None), xlabel=label)
        axes.set_xticks(n, [f"{x:,}" for x in n])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("us an image, training")
    figure.savefig(path, dpi=150)


def main() -> None:
    argparse.ArgumentParser("python -m benchmarks.growth", description=__doc__).parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        training = [*TRAINING, "--epochs", "1", "--workdir", folder]
        found["peak_memory_gib"] = {
            "training, batch 256": peak(training),
            "inference, 10,000 images": peak(["-c", INFERENCE]),
        }
    # After the peaks: a process begins with the peak of the one that started it.
    found |= times() | conditions()
    (ROOT / "results" / "growth.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(found, ROOT / "benchmarks" / "growth.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
