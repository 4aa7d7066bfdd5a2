"""Speed on one accelerator, PyTorch beside it: python -m benchmarks.gpu

Training images/s at batches 64 to 8,192, a whole run of 20 epochs under one jit, replicas at batch
1, and the time to 99 % of a cold process. Images are random where MNIST is not to be had (speed
does not depend on them), and the time to 99 % is then left out. Without torch only our side runs.
Writes results/gpu.json; `--tiny` runs every part for a moment, on any device, to see that it works.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax

from benchmarks import cold
from benchmarks.speed import conditions, rate, row
from lenet_jax.data import dataset
from lenet_jax.errors import UserError
from lenet_jax.experiment import MAP, Experiment
from lenet_jax.training import replicas, step

ROOT = Path(__file__).parents[1]
J = 5.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    batches: tuple[int, ...] = (64, 256, 1024, 4096, 8192)
    replicas: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    whole: tuple[int, ...] = (256, 1024)  # batches of the whole run
    epochs: int = 20
    examples: int = 60_000
    rounds: int = 5
    seconds: float = 1.0
    modes: tuple[str, ...] = ("eager", "compile", "CUDA graph")  # of PyTorch


TINY = Size((8,), (2,), (8,), epochs=2, examples=64, rounds=1, seconds=0.0, modes=("eager",))


def examples(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training examples of MNIST, or as many random ones."""
    try:
        train = dataset.load(fallback="none", log=lambda _: None).train
        return train.images[:number], train.labels[:number]
    except UserError:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (number, 28, 28), np.uint8)
        return images, rng.integers(0, 10, number).astype(np.int32)


def rates(side: Any, size: Size, *job: int) -> list[float]:
    """images/s of a side's training job, a number for each round."""
    work, images = side.training(*job)
    work(1)  # compiles
    return [rate(work, images, size.seconds) for _ in range(size.rounds)]


class Ours:
    """Training on jax's first device."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def start(self, batch_size: int, seeds: int = 1):
        experiment = Experiment(name="gpu", loss=MAP(J), batch_size=batch_size, seeds=(seeds,))
        mesh = replicas.mesh(jax.devices()[:1], seeds)
        recipe = step.recipe(experiment, len(self.labels), mesh)
        state = step.initial_state(recipe, np.arange(seeds, dtype=np.uint32))
        return recipe, state, replicas.replicated(mesh, (self.images, self.labels))

    def training(self, batch_size: int, seeds: int = 1) -> tuple[Callable[[int], None], int]:
        """work(steps) and the images of a step."""
        recipe, state, data = self.start(batch_size, seeds)
        state = step.begin_epoch(recipe, state, 1, *data)
        order = step.order_of_epoch(state.key, 1, len(self.labels), batch_size, "fixed")
        full = len(self.labels) // batch_size  # the last batch may be short
        held = [state]

        def work(steps: int) -> None:
            while steps > 0:
                some = min(steps, full)
                held[0] = step.run_steps(recipe, held[0], *data, order, 0, some)
                steps -= some
            jax.block_until_ready(held[0])

        return work, batch_size * seeds

    def whole_run(self, batch_size: int, epochs: int) -> Callable[[], step.TrainState]:
        """All epochs, curvature and order too, as one compiled program."""
        recipe, state, data = self.start(batch_size)
        run_steps: Any = step.run_steps
        run_steps = run_steps.__wrapped__  # its options for a CPU go with an outermost jit alone

        @jax.jit
        def run(state: step.TrainState, images: jax.Array, labels: jax.Array):
            def one_epoch(number: Any, state: step.TrainState) -> step.TrainState:
                state = step.begin_epoch(recipe, state, number, images, labels)
                order = step.order_of_epoch(state.key, number, len(labels), batch_size, "fixed")
                steps = order.shape[1]
                return run_steps(recipe, state, images, labels, order, 0, steps)

            return lax.fori_loop(1, epochs + 1, one_epoch, state)

        return lambda: jax.block_until_ready(run(state, *data))


class Theirs:
    """PyTorch's updates, one Python call for each: eager, torch.compile, or a CUDA graph."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mode: str):
        import torch

        self.torch, self.mode = torch, mode
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.images = torch.tensor(images, device=self.device)
        self.labels = torch.tensor(labels, device=self.device).long()

    def training(self, batch_size: int) -> tuple[Callable[[int], None], int]:
        from benchmarks import pytorch

        model = pytorch.LeNet5().to(self.device)
        step_sizes = [self.torch.full_like(p, 1e-4) for p in model.parameters()]
        mode: Any = "eager" if self.mode == "CUDA graph" else self.mode
        update = pytorch.updater(model, step_sizes, mode, J)
        if self.mode == "CUDA graph":
            update = self.captured(update)
        full = len(self.labels) // batch_size * batch_size
        split = self.images[:full].split(batch_size), self.labels[:full].split(batch_size)
        batches = list(zip(*split, strict=True))

        def work(steps: int) -> None:
            for n in range(steps):
                update(*batches[n % len(batches)])
            if self.device == "cuda":
                self.torch.cuda.synchronize()

        return work, batch_size

    def captured(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """`update` as a CUDA graph, recorded at the first call and replayed after."""
        torch = self.torch
        graph = torch.cuda.CUDAGraph()
        held: list[Any] = []  # images, labels and loss, at the addresses that the graph knows

        def record(images: Any, labels: Any) -> None:
            inputs = images.clone(), labels.clone()
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(3):  # the libraries take their memory
                    update(*inputs)
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(graph):
                loss = update(*inputs)
            held.extend([*inputs, loss])

        def replay(images: Any, labels: Any) -> Any:
            if not held:
                record(images, labels)
            held[0].copy_(images)
            held[1].copy_(labels)
            graph.replay()
            return held[2]

        return replay

    def whole_run(self, batch_size: int, epochs: int) -> Callable[[], None]:
        work, _ = self.training(batch_size)
        return partial(work, epochs * (len(self.labels) // batch_size))


def peers(images: np.ndarray, labels: np.ndarray, modes: Sequence[str]) -> dict[str, Theirs]:
    """Those of PyTorch's modes that this machine has; none without torch."""
    try:
        import torch
    except ImportError:
        print("torch is not installed: only our side is measured", file=sys.stderr)
        return {}
    here = [mode for mode in modes if mode != "CUDA graph" or torch.cuda.is_available()]
    return {f"PyTorch {mode}": Theirs(images, labels, mode) for mode in here}


def seconds(run: Callable[[], Any], rounds: int) -> list[float]:
    """How long a run takes, a number for each round; the first, which compiles, is left out."""
    run()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return took


def measure(size: Size) -> dict[str, Any]:
    """Every row, and what they were measured with."""
    images, labels = examples(size.examples)
    mine, others = Ours(images, labels), peers(images, labels, size.modes)
    rows = []

    def add(job: str, unit: str, own: list[float], other: dict[str, list[float]], setting: Any):
        rows.extend(row(job, setting, unit, own, theirs, name) for name, theirs in other.items())
        if not other:
            rows.append(row(job, setting, unit, own))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)

    for batch_size in size.batches:
        own = rates(mine, size, batch_size)
        other = {n: rates(side, size, batch_size) for n, side in others.items()}
        add("training", "images/s", own, other, {"batch": batch_size})
    alone = {name: rates(side, size, 1) for name, side in others.items()}
    for seeds in size.replicas:  # PyTorch trains them one after the other
        own = rates(mine, size, 1, seeds)
        add("replicas, batch 1", "replica-updates/s", own, alone, {"replicas": seeds})
    for batch_size in size.whole:
        own = seconds(mine.whole_run(batch_size, size.epochs), size.rounds)
        other = {
            name: seconds(side.whole_run(batch_size, size.epochs), size.rounds)
            for name, side in others.items()
        }
        setting = {"batch": batch_size, "epochs": size.epochs, "examples": len(labels)}
        add("a whole run", "s", own, other, setting)
    if size is not TINY:
        rows += cold.rows(size.rounds)
    found = {"rows": rows, **conditions()}
    found["hardware"]["device"] = jax.devices()[0].device_kind
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="every part for a moment")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu.json")
    options = parser.parse_args(arguments)
    found = measure(TINY if options.tiny else Size())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
