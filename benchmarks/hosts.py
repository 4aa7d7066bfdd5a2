"""What several hosts exchange, and what that costs: python -m benchmarks.hosts

Bytes are counted in the compiled programs for virtual devices. Speeds are those of whole runs on
MNIST by one process and by two on this machine, which speak over the loopback as hosts do over a
network, each process with one core as its device. Writes results/hosts.json and the tables of
docs/hosts.md.
"""

import argparse
import json
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import ROOT, conditions, in_place

COUNTED = 2, 4, 8  # virtual devices
ROUNDS, EPOCHS = 3, 3
SHARE = 64  # images of a batch for each device
RUN = "--config", "experiments/classic.py", "--data.limit", "20000", "--data.fallback", "none"
SHARED = *RUN, "--optimizer", "sgd", "--optimizer.learning-rate", "0.001"
# What is assumed of a network between hosts: bytes a second, and seconds for a message.
NETWORKS = {"Ethernet of 10 Gbit/s": (1.25e9, 50e-6), "InfiniBand of 200 Gbit/s": (25e9, 5e-6)}
SIZES = tuple(4**n for n in range(6))  # devices of the model, 1 to 1,024

COLLECTIVE = re.compile(r"= (\(.*?\)|\S+) (?:all-|collective-|reduce-scatter)[a-z-]*\(")
WIDTH = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1, "u8": 1}


def exchanged(compiled: str) -> int:
    """The bytes that each device puts into an update's collectives, from a program's HLO."""
    total = 0
    for shapes in COLLECTIVE.findall(compiled):
        for kind, sides in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes):
            total += WIDTH[kind] * math.prod(int(n) for n in sides.split(",") if n)
    return total


def program(devices: int, seeds: int) -> str:
    """The HLO of a run's updates on so many devices."""
    import jax
    import numpy as np

    from lenet_jax.experiment import SGD, Experiment
    from lenet_jax.training import replicas, step

    batch = 1 if seeds > 1 else SHARE * devices
    experiment = Experiment("hosts", optimizer=SGD(), batch_size=batch)
    mesh = replicas.mesh(jax.devices()[:devices], seeds)
    recipe = step.recipe(experiment, batch, mesh)
    state = step.initial_state(recipe, np.arange(seeds, dtype=np.uint32))
    order = step.order_of_epoch(state.key, 1, batch, batch, "fixed")
    images, labels = np.zeros((batch, 28, 28), np.uint8), np.zeros(batch, np.int32)
    examples = replicas.replicated(mesh, (images, labels))
    return str(step.run_steps.lower(recipe, state, *examples, order, 0, 1).compile().as_text())


def rate(processes: int, cores: int, flags: tuple[str, ...]) -> float:
    """Images a second of a run, of all its networks, with so many devices for each process."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        common = *flags, "--epochs", str(EPOCHS), "--workdir", folder
        started = []
        for process in range(processes):
            command = [sys.executable, "-m", "lenet_jax.train", *common]
            if processes > 1:
                command += ["--distributed.coordinator", at]
                command += ["--distributed.processes", str(processes)]
                command += ["--distributed.process", str(process)]
            started.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=os.environ | {"JAX_NUM_CPU_DEVICES": str(cores)},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        for each in started:
            _, said = each.communicate()
            if each.returncode:
                raise RuntimeError(said)
        lines = (Path(folder) / "times.jsonl").read_text().splitlines()
    # The first epoch has compiled.
    return max(json.loads(line)["images_per_second"] for line in lines[1:])


def measure() -> dict[str, Any]:
    devices = {n: exchanged(program(n, 1)) for n in COUNTED}
    networks = {n: exchanged(program(n, n)) for n in COUNTED}
    jobs = {
        "one core": (1, 1, (*SHARED, "--batch-size", str(SHARE))),
        "two cores, one process": (1, 2, (*SHARED, "--batch-size", str(2 * SHARE))),
        "two processes of a core": (2, 1, (*SHARED, "--batch-size", str(2 * SHARE))),
        "two networks, one process": (1, 2, (*RUN, "--seeds", "2")),
        "two networks, two processes": (2, 1, (*RUN, "--seeds", "2")),
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            rates[name].append(rate(*job))
    speeds = {name: statistics.median(found) for name, found in rates.items()}
    update = SHARE / speeds["one core"]  # seconds
    return {
        "bytes_of_an_update": {"a batch": devices, "a network each": networks},
        "images_per_second": rates,
        "seconds_of_an_update": update,
        "efficiency": {
            name: {str(n): update / (update + sum_seconds(n, devices[2], *about)) for n in SIZES}
            for name, about in NETWORKS.items()
        },
    }


def sum_seconds(devices: int, size: int, bandwidth: float, latency: float) -> float:
    """A sum of `size` bytes over a tree, there and back: each level is a message."""
    return 2 * math.ceil(math.log2(devices)) * (latency + size / bandwidth)


def tables(found: dict[str, Any]) -> tuple[str, str]:
    """The measured speeds, and the model, as Markdown."""
    measured = ["| | images/s | of one process |", "|---|---|---|"]
    rates = {name: statistics.median(each) for name, each in found["images_per_second"].items()}
    for name, speed in rates.items():
        two = name.startswith("two networks")
        alone = rates["two networks, one process" if two else "two cores, one process"]
        spread = sorted(found["images_per_second"][name])
        shown = f"{speed:,.0f} ({spread[0]:,.0f} to {spread[-1]:,.0f})"
        measured.append(f"| {name} | {shown} | {100 * speed / alone:.0f} % |")
    model = [
        "| devices | " + " | ".join(found["efficiency"]) + " |",
        "|---|" + "---|" * len(found["efficiency"]),
    ]
    for size in SIZES:
        shares = [shares[str(size)] for shares in found["efficiency"].values()]
        model.append(f"| {size:,} | " + " | ".join(f"{100 * s:.0f} %" for s in shares) + " |")
    return "\n".join(measured), "\n".join(model)


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("python -m benchmarks.hosts", description=__doc__).parse_args(arguments)
    os.environ["JAX_NUM_CPU_DEVICES"] = str(max(COUNTED))
    from lenet_jax.commandline import set_up_jax

    set_up_jax()
    import jax

    assert len(jax.devices()) == max(COUNTED)
    del os.environ["JAX_NUM_CPU_DEVICES"]  # the runs count their own cores
    found = conditions() | measure()
    (ROOT / "results" / "hosts.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, text in zip(("measured", "model"), tables(found), strict=True):
        in_place(name, text, ROOT / "docs" / "hosts.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
