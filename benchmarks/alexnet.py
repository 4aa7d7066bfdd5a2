"""AlexNet and PyTorch side by side: python -m benchmarks.alexnet

An update, forward, backward and momentum, from 32 pictures of 227x227, in turns, each side in a
process of its own with all cores, and the most memory that it held. Ours is the training's own
program. Writes results/alexnet-speed.json. Wants torch.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.speed import ROOT, conditions

BATCH, ROUNDS = 32, 9
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
RATIO, GIB = 0.7, 12  # of PyTorch's speed at least, and of memory at most


def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (BATCH, 227, 227, 3), np.uint8), np.arange(BATCH)


def ours() -> Callable[[], Any]:
    """An update of the experiment, its batch shared by the cores as in a run."""
    from lenet_jax.commandline import set_up_jax

    set_up_jax()
    import jax

    from lenet_jax.experiment import SGD, CrossEntropy, Experiment
    from lenet_jax.models.alexnet import AlexNet
    from lenet_jax.training import loop, replicas, step

    images, labels = pictures()
    model, descent = AlexNet(classes=1000), SGD(RATE, MOMENTUM, DECAY)
    experiment = Experiment("alexnet", model, CrossEntropy(), descent, batch_size=BATCH)
    mesh = replicas.mesh(loop.choose_devices(experiment, print))
    recipe = step.recipe(experiment, BATCH, mesh, images.shape[1:])
    held = [step.initial_state(recipe, np.zeros(1, np.uint32))]
    order = step.order_of_epoch(held[0].key, 1, BATCH, BATCH, "fixed")
    examples = replicas.replicated(mesh, (images, labels.astype(np.int32)))

    def update() -> None:
        held[0] = step.run_steps(recipe, held[0], *examples, order, 0, 1)
        jax.block_until_ready(held[0])

    return update


def theirs() -> Callable[[], Any]:
    """The same in PyTorch, whose response normalization divides alpha by the size."""
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)

    model = nn.Sequential(
        *(nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, 1, 1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
        *(nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)),
    )
    images, labels = (torch.tensor(a) for a in pictures())
    inputs = images.permute(0, 3, 1, 2).float() - 110

    descent = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)

    def update() -> None:
        descent.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        descent.step()

    return update


def side(make: Callable[[], Callable[[], Any]], connection: Connection) -> None:
    """One side in its process: a time for each word, and at the end its memory in GiB."""
    work = make()
    work()  # compiles
    connection.send("ready")
    while connection.recv() == "go":
        began = time.perf_counter()
        work()
        connection.send(time.perf_counter() - began)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def measure() -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name, make in (("lenet_jax", ours), ("PyTorch eager", theirs)):
        ends[name], there = context.Pipe()
        processes.append(context.Process(target=side, args=(make, there)))
        processes[-1].start()
        ends[name].recv()
    seconds: dict[str, list[float]] = {name: [] for name in ends}
    for _ in range(ROUNDS):
        for name, end in ends.items():
            end.send("go")
            seconds[name].append(end.recv())
    memory = {}
    for name, end in ends.items():
        end.send("stop")
        memory[name] = end.recv()
    for process in processes:
        process.join()
    mine, peer = seconds.values()
    return {
        "batch": BATCH,
        "seconds": seconds,
        "gib": memory,
        "ratio": statistics.median(p / m for m, p in zip(mine, peer, strict=True)),
        "aims": {"ratio": RATIO, "gib": GIB},
    }


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("python -m benchmarks.alexnet", description=__doc__).parse_args(
        arguments
    )
    found = conditions() | measure()
    (ROOT / "results" / "alexnet-speed.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, seconds in found["seconds"].items():
        print(f"{name}: {statistics.median(seconds):.2f} s, {found['gib'][name]:.1f} GiB")
    print(f"ratio {found['ratio']:.2f}, aimed at {RATIO}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
