"""This project and others side by side: python -m benchmarks.speed

Each side works in a process of its own, on the same cores, one at a time, in turns. The table is
printed and, where all jobs were measured, written into benchmarks/README.md, its numbers to
results/speed.json, with XLA's kernels to results/speed-xla.json. Wants the extra `bench` (torch on
its CPU build, onnxruntime, onnx, OpenCV).
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cold

ROOT = Path(__file__).parents[1]
ROUNDS, COLD_ROUNDS = 5, 3
SECONDS = 1.0  # of measuring, for each side in each round
J, STEP = 5.0, 1e-4  # eq. 9's, and eta/(mu + h), the same for all weights: it costs the same
MANY = 10_000

# job: unit, our setting and theirs, and the ratio to the best peer that is aimed at
JOBS = {
    "training, batch 1": ("updates/s", "train 1", "train 1", 15.0),
    "training, batch 64": ("images/s", "train 64", "train 64", 5.0),
    "training, batch 256": ("images/s", "train 256", "train 256", 5.0),
    "ten replicas, batch 1": ("replica-updates/s", "replicas 10", "train 1", 30.0),
    "inference, 10,000 images": ("images/s", f"infer {MANY}", f"infer {MANY}", 3.0),
    "inference, one image": ("us", "infer 1", "infer 1", 1.0),
}
COLD = "time to 99 %"
PEERS = ("PyTorch eager", "PyTorch compile", "ONNX Runtime", "OpenCV")


def data() -> tuple[np.ndarray, np.ndarray]:
    """10,000 images and labels of MNIST's shapes, at random: speed does not depend on them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (MANY, 28, 28), np.uint8)
    return images, rng.integers(0, 10, MANY).astype(np.int32)


def ours(cores: int) -> Callable[[str], tuple[Callable[[int], Any], int]]:
    """The jobs of this project: from a job's name to (work(n), images in each of the n steps)."""
    from lenet_jax.commandline import set_up_jax

    set_up_jax()
    import jax

    from lenet_jax.experiment import MAP, Experiment
    from lenet_jax.native import library
    from lenet_jax.recognition.predictor import predictor
    from lenet_jax.training import loop, replicas, step

    library.kind(build=True)
    images, labels = data()

    def training(batch_size: int, seeds: int):
        experiment = Experiment(name="speed", loss=MAP(J), batch_size=batch_size, seeds=(seeds,))
        mesh = replicas.mesh(loop.choose_devices(experiment, print), seeds)
        examples = MANY // batch_size * batch_size  # no batch that is not full
        recipe = step.recipe(experiment, examples, mesh)
        state = step.initial_state(recipe, np.arange(seeds, dtype=np.uint32))
        state = step.begin_epoch(recipe, state, 1, images, labels)
        order = step.order_of_epoch(state.key, 1, examples, batch_size, "fixed")
        on_device = replicas.replicated(mesh, (images, labels))
        held = [state]

        def work(steps: int) -> None:
            while steps > 0:
                some = min(steps, order.shape[1])
                held[0] = step.run_steps(recipe, held[0], *on_device, order, 0, some)
                steps -= some
            jax.block_until_ready(held[0])

        return work, batch_size * seeds

    def inference(number: int):
        from lenet_jax.models.lenet import LeNet5

        model = LeNet5()
        params = model.init(jax.random.key(0), np.zeros((1, 32, 32), np.float32))["params"]
        predict = predictor(model, params)

        def work(steps: int) -> None:
            for _ in range(steps):
                predict(images[:number])

        return work, number

    def job(name: str):
        kind, number = name.split()
        if kind == "infer":
            return inference(int(number))
        return training(1, int(number)) if kind == "replicas" else training(int(number), 1)

    return job


def theirs(cores: int, mode: str) -> Callable[[str], tuple[Callable[[int], Any], int] | None]:
    """The same of PyTorch in a mode, or of a runtime ("onnx", "opencv"), which does not train.

    OpenCV works on one image at a time.
    """
    import tempfile

    import torch

    from benchmarks import pytorch

    torch.set_num_threads(cores)
    images, labels = (torch.tensor(a) for a in data())
    labels = labels.long()

    def training(batch_size: int):
        model = pytorch.LeNet5()
        step_sizes = [torch.full_like(p, STEP) for p in model.parameters()]
        update: Any = pytorch.updater(model, step_sizes, mode, J)  # type: ignore[arg-type]
        whole = MANY // batch_size * batch_size
        batches = list(
            zip(images[:whole].split(batch_size), labels[:whole].split(batch_size), strict=True)
        )

        def work(steps: int) -> None:
            for n in range(steps):
                update(*batches[n % len(batches)])

        return work, batch_size

    def inference(number: int):
        model = pytorch.LeNet5()
        if mode == "onnx":
            with tempfile.TemporaryDirectory() as folder:
                session = pytorch.onnx_session(model, Path(folder) / "lenet5.onnx", cores)
            given = {"images": images[:number].numpy()}
            return lambda steps: [session.run(None, given) for _ in range(steps)], number
        if mode == "opencv":
            if number > 1:
                return None
            with tempfile.TemporaryDirectory() as folder:
                network = pytorch.opencv_network(model, Path(folder) / "lenet5.onnx", cores)
            image = images[:1].float().numpy()
            return lambda steps: [_forward(network, image) for _ in range(steps)], 1
        predict = pytorch.predictor(model, mode)  # type: ignore[arg-type]
        return lambda steps: [predict(images[:number]) for _ in range(steps)], number

    def job(name: str):
        kind, number = name.split()
        if kind == "infer":
            return inference(int(number))
        return None if mode in ("onnx", "opencv") else training(int(number))

    return job


def _forward(network: Any, image: np.ndarray) -> np.ndarray:
    network.setInput(image)
    return network.forward()


def matrix_product() -> float:
    """FLOP/s of a 2048 x 2048 float32 product with numpy's BLAS, the best of five."""
    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        took.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(took)


def serve(side: str, cores: int, pipe) -> None:
    """A side's process: for each job asked for, images/s over SECONDS, or None."""
    make = {
        "ours": lambda: ours(cores),
        "PyTorch eager": lambda: theirs(cores, "eager"),
        "PyTorch compile": lambda: theirs(cores, "compile"),
        "ONNX Runtime": lambda: theirs(cores, "onnx"),
        "OpenCV": lambda: theirs(cores, "opencv"),
    }[side]()
    ready: dict[str, Any] = {}
    while name := pipe.recv():
        if name not in ready:
            ready[name] = made = make(name)
            if made is not None:
                made[0](1)  # compiles
        if ready[name] is None:
            pipe.send(None)
            continue
        pipe.send(rate(*ready[name], SECONDS))


def rate(work: Callable[[int], Any], images: int, seconds: float) -> float:
    """Images/s of work(steps), with `images` in a step, over at least so many seconds."""
    steps, took = 1, 0.0
    while not took or took < seconds:
        steps = max(2 * steps, int(1.2 * steps * seconds / took)) if took else steps
        began = time.perf_counter()
        work(steps)
        took = time.perf_counter() - began
    return steps * images / took


def flops_per_image() -> float:
    """Multiplications and additions of one update's weighted sums, for one image.

    Counted on the live network: forward, for the weights, and for the states of all but C1.
    """
    from lenet_jax.measurement import counting
    from lenet_jax.models.lenet import LeNet5

    connections = {layer.name: layer.connections for layer in counting.count(LeNet5())}
    return 2 * (3 * sum(connections.values()) - connections["c1"])


def check_baseline() -> None:
    """Raises AssertionError unless the baseline, with our weights, gives our scores."""
    import jax
    import torch

    from benchmarks import pytorch
    from lenet_jax.models.lenet import LeNet5
    from lenet_jax.recognition.predictor import predictor

    images = data()[0][:8]
    model = LeNet5()
    params = model.init(jax.random.key(0), np.zeros((1, 32, 32), np.float32))["params"]
    own = predictor(model, params)(images)
    other = pytorch.predictor(pytorch.from_params(params), "eager")(torch.tensor(images))
    np.testing.assert_allclose(other.numpy(), own, rtol=1e-5)


def measure(rounds: int, only: str | None = None) -> dict[str, Any]:
    """The rows of all jobs, or of one."""
    from lenet_jax.native import library

    check_baseline()
    jobs = {job: each for job, each in JOBS.items() if only in (None, job)}
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    sides = {}
    for side in ("ours", *PEERS):
        here, there = context.Pipe()
        context.Process(target=serve, args=(side, cores, there), daemon=True).start()
        sides[side] = here
    found: dict[tuple[str, str], list[float]] = {}
    products = [matrix_product()]
    for number in range(rounds):
        for job, (_, own, peer, _) in jobs.items():
            for side, pipe in sides.items():
                pipe.send(own if side == "ours" else peer)
                if (rate := pipe.recv()) is not None:
                    found.setdefault((job, side), []).append(rate)
            print(f"round {number + 1}/{rounds}: {job}", file=sys.stderr, flush=True)
        products.append(matrix_product())
    for pipe in sides.values():
        pipe.send("")
    rows = []
    for job, (unit, setting, _, target) in jobs.items():
        for peer in PEERS:
            if (job, peer) in found:
                own, other = (
                    [1e6 / rate if unit == "us" else rate for rate in found[job, side]]
                    for side in ("ours", peer)
                )
                rows.append(row(job, setting, unit, own, other, peer, target))
    if only in (None, COLD):
        rows += cold.rows(COLD_ROUNDS)
    product = statistics.median(products)
    flops = flops_per_image()
    return {
        "rows": rows,
        "matrix_product_flops": product,
        "flops_per_image_trained": flops,
        "share_of_limit": {
            job: statistics.median(found[job, "ours"]) * flops / product
            for job in jobs
            if job.startswith("training") or job.startswith("ten")
        },
        "kernels": library.kind(),
        **conditions(),
    }


def row(
    job: str,
    setting: Any,
    unit: str,
    own: list[float],
    other: list[float] | None = None,
    name: str | None = None,
    target: float | None = None,
) -> dict[str, Any]:
    """A row of a result file: medians of the rounds. A ratio above 1 says that ours is faster."""
    times = unit in ("s", "us")
    ratios = [b / a if times else a / b for a, b in zip(own, other or [], strict=bool(other))]
    return {
        "job": job,
        "setting": setting,
        "ours": statistics.median(own),
        "peer": statistics.median(other) if other else None,
        "peer_name": name,
        "unit": unit,
        "ratio": statistics.median(ratios) if ratios else None,
        "target": target,
        "rounds": len(own),
        "spread": {
            "ours": [min(own), max(own)],
            "peer": [min(other), max(other)] if other else None,
        },
    }


def conditions() -> dict[str, Any]:
    """What the numbers were measured with: machine, versions, commit, command and day."""
    from lenet_jax.measurement import records

    versions = {"python": platform.python_version()}
    for name in ("jax", "torch", "onnxruntime", "opencv-python-headless"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    cores = len(os.sched_getaffinity(0))
    hardware = {"processor": processor(), "cores": cores}
    return {"hardware": hardware, "versions": versions, **records.origin()}


def processor() -> str:
    try:
        return re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def table(found: dict[str, Any]) -> str:
    """The measured rows as Markdown."""

    def shown(value: float, spread: list[float], unit: str) -> str:
        digits = 1 if unit == "s" else 0
        low, high = spread
        return f"{value:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"

    lines = ["| job | unit | ours | peer | | ratio | target |", "|---|---|---|---|---|---|---|"]
    for row in found["rows"]:
        own = shown(row["ours"], row["spread"]["ours"], row["unit"])
        peer = shown(row["peer"], row["spread"]["peer"], row["unit"])
        lines.append(
            f"| {row['job']} | {row['unit']} | {own} | {peer} | {row['peer_name']} "
            f"| {row['ratio']:.2f} | {row['target']:.2g} |"
        )
    hardware, versions = found["hardware"], found["versions"]
    lines += [
        "",
        f"Medians of {found['rows'][0]['rounds']} rounds ({COLD_ROUNDS} for the time to 99 %), "
        "lowest to highest in brackets; "
        f"{hardware['processor']}, {hardware['cores']} cores; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; {found['kernels']} kernels; commit {found['commit'] or 'not recorded'}. "
        f"A 2048 x 2048 float32 product reached {found['matrix_product_flops'] / 1e9:,.0f} "
        "GFLOP/s in the same run.",
    ]
    if found["share_of_limit"]:
        lines[-1] += (
            f" An image trained takes {found['flops_per_image_trained'] / 1e6:.2f} MFLOP, so of "
            "that limit we reach "
            + ", ".join(f"{100 * s:.0f} % ({job})" for job, s in found["share_of_limit"].items())
            + "."
        )
    cold_rows = [row for row in found["rows"] if "stages" in row]
    for row in cold_rows[:1]:
        errors = {"ours": row["test_error_percent"]["ours"]}
        errors |= {other["peer_name"]: other["test_error_percent"]["peer"] for other in cold_rows}
        lines.append(
            "\nTime to 99 %, test errors in percent, a seed for each run: "
            + "; ".join(f"{side} {', '.join(map(str, runs))}" for side, runs in errors.items())
            + ". Where an error is above 1 the time is that of the end. Of ours, "
            + ", ".join(f"{stage} after {at:.1f} s" for stage, at in row["stages"].items())
            + f"; {row['first_start']:.1f} s in all at the very first start, which compiles."
        )
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser("python -m benchmarks.speed", description=__doc__)
    jobs = [*JOBS, COLD]
    one = f"one job, printed and not stored: {'; '.join(jobs)}"
    arguments.add_argument("--only", choices=jobs, metavar="JOB", help=one.replace("%", "%%"))
    arguments.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    given = arguments.parse_args()
    if given.rounds < 1:
        arguments.error(f"--rounds is {given.rounds}, allowed is 1 or more")
    found = measure(0 if given.only == COLD else given.rounds, given.only)
    if given.only:
        return print(table(found))
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    name = "speed" if found["kernels"] == "native" else "speed-xla"
    (results / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    in_place(name, table(found))


def in_place(mark: str, text: str, page: Path = ROOT / "benchmarks" / "README.md") -> None:
    """Prints a text and puts it in its place in a page; raises ValueError where it has none."""
    before, rest = page.read_text().split(f"<!-- {mark} -->")
    _, after = rest.split(f"<!-- /{mark} -->")
    page.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- /{mark} -->{after}")
    print(text)


if __name__ == "__main__":
    main()
