"""Where an update's time goes on a CPU: python -m benchmarks.profile

The operations of XLA's profile, grouped by layer and kind, for batches of 1, 64 and 256. One core;
operations that overlap count twice, and watching them costs time, so only the shares are of use.
Writes results/profile.json and the tables in benchmarks/README.md.
"""

import argparse
import collections
import glob
import gzip
import json
import os
import re
import tempfile
from typing import Any

os.environ["JAX_NUM_CPU_DEVICES"] = "1"

from benchmarks.speed import ROOT, conditions, data, in_place

BATCHES = (1, 64, 256)


def profile(batch_size: int) -> dict[str, float]:
    """us an image of each layer's and kind's operations."""
    import jax
    import numpy as np

    from lenet_jax.experiment import MAP, Experiment
    from lenet_jax.training import replicas, step

    images, labels = data()
    experiment = Experiment(name="profile", loss=MAP(5.0), batch_size=batch_size)
    mesh = replicas.mesh(jax.devices()[:1])
    recipe = step.recipe(experiment, len(labels), mesh)
    state = step.initial_state(recipe, np.zeros(1, np.uint32))
    state = step.begin_epoch(recipe, state, 1, images, labels)
    order = step.order_of_epoch(state.key, 1, len(labels), batch_size, "fixed")
    arguments = (*replicas.replicated(mesh, (images, labels)), order)
    steps = max(10, 500 // batch_size)
    program = step.run_steps.lower(recipe, state, *arguments, 0, steps).compile().as_text()
    state = jax.block_until_ready(step.run_steps(recipe, state, *arguments, 0, steps))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            jax.block_until_ready(step.run_steps(recipe, state, *arguments, 0, steps))
        (trace,) = glob.glob(f"{folder}/**/perfetto_trace.json.gz", recursive=True)
        with gzip.open(trace) as file:
            events = json.load(file)["traceEvents"]
    shares: Any = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and (kind := kind_of(event["name"], program)):
            shares[kind] += event["dur"] / steps / batch_size
    return dict(shares.most_common())


def kind_of(name: str, program: str) -> str | None:
    """A layer and what is done there, from the operation's place in our code."""
    found = re.search(rf"%{re.escape(name)} = .*", program)
    if not found or name.startswith(("while", "call")):
        return None
    line = found[0]
    place = re.search(r'op_name="([^"]*)"', line)
    path = place[1] if place else ""
    layer = re.search(r"/(c1|s2|c3|s4|c5|f6|output)/", path)
    back = "backward " if "transpose(" in path else ""
    where = layer[1].upper() if layer else "elsewhere"
    if "ffi_call" in name:
        return f"{where}, {back}native kernel"
    product = "dot" in name or "ynn" in name
    return f"{where}, {back}{'products' if product else 'patches and elementwise'}"


def main() -> None:
    argparse.ArgumentParser("python -m benchmarks.profile", description=__doc__).parse_args()

    from lenet_jax.native import library

    kernels = library.kind(build=True)
    found: dict[str, Any] = {f"batch {n}": profile(n) for n in BATCHES}
    (ROOT / "results" / "profile.json").write_text(
        json.dumps({"us_an_image": found, "kernels": kernels, **conditions()}, indent=2) + "\n"
    )
    totals = {batch: sum(shares.values()) for batch, shares in found.items()}
    kinds = sorted(
        {kind for shares in found.values() for kind in shares},
        key=lambda kind: -sum(s.get(kind, 0) / totals[b] for b, s in found.items()),
    )
    text = [f"| share of an update | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for kind in kinds[:14]:
        shares = (f"{100 * s.get(kind, 0) / totals[b]:.0f} %" for b, s in found.items())
        text.append(f"| {kind} | {' | '.join(shares)} |")
    in_place("profile", "\n".join(text))


if __name__ == "__main__":
    main()
