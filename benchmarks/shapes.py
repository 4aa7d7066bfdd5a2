"""Looks into a descendant that was trained on shapes: python -m benchmarks.shapes FOLDER

    python -m lenet_jax.train --config experiments/alexnet.py:shapes --workdir FOLDER
    python -m benchmarks.shapes FOLDER

What Zeiler and Fergus (2014, section 4.1) found wrong with AlexNet's first layers is counted in
this network: maps that no picture of the test set excites, and how much of the power of the first
kernels is finer than the steps of their window can carry. Writes results/<name>-shapes.json, from
which FAMILY.md has its row.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import runs
from lenet_jax import commandline
from lenet_jax.errors import UserError

ROOT = Path(__file__).parents[1]


def looked_into(module: Any, params: Any, images: np.ndarray) -> dict[str, Any]:
    """Of each layer with kernels the maps, and those that are never above 0 in the images; of the
    first the steps of its window, and the median share of a kernel's power that is too fine.
    """
    from lenet_jax.inspection import activations, deconvnet, drawings, sampling

    shape = images.shape[1:]
    first, *_ = layers = deconvnet.layers(module, params, shape)
    best = activations.strongest(module, params, images, number=1)
    kernels = drawings.pictured(module, params[first]["kernel"], shape)
    steps = sampling.step(module, params, shape, first)
    return {
        "maps": {name: len(best[name].states) for name in layers},
        "never_above_0": {name: int((best[name].states <= 0).sum()) for name in layers},
        "first_steps": steps,
        "first_too_fine": round(float(np.median(sampling.too_fine(kernels, steps))), 3),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.shapes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a finished run")
    given = parser.parse_args(arguments)

    commandline.set_up_jax()
    from lenet_jax.measurement import counting, records

    trained, data, record = runs.opened(given.folder)
    if data.name != "shapes":
        raise UserError(f"{given.folder} was trained on {data.name}, not on shapes")
    name, layers = record["experiment"], counting.count(trained.module, trained.shape)
    record |= {
        "experiment": name.removesuffix("-shapes"),
        "variant": "shapes",
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds or 0 for layer in layers),
        **looked_into(trained.module, trained.params, data.test.images),
    }
    records.write(ROOT / "results" / f"{name}.json", record)
    print(json.dumps(record["curve"] | {"never_above_0": record["never_above_0"]}))
    return 0


if __name__ == "__main__":
    commandline.run(main)
