"""How fast pictures come, beside how fast AlexNet trains on them: python -m benchmarks.pipeline

Pictures of 256x256 as a run asks for them where a set has no room on the devices: the shapes, made
one by one, and JPEG files of 500x375, decoded and scaled; the stream alone, and updates of AlexNet
(batch 32, crops and flips) with it and with pictures that lie on the devices. Writes
results/pipeline.json.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from benchmarks.speed import ROOT, conditions
from lenet_jax.commandline import set_up_jax
from lenet_jax.data import dataset, shapes
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.experiment import SGD, CrossEntropy, Distortion, Experiment
from lenet_jax.models.alexnet import AlexNet
from lenet_jax.training import feeding, loop, replicas, step

SIDE, BATCH = 256, 32
PHOTO = 375, 500  # height and width of a file, and JPEG's quality
QUALITY = 90


@contextmanager
def jpegs(number: int) -> Iterator[Path]:
    """A folder of so many files in two classes: shapes with the noise of a photo."""
    with tempfile.TemporaryDirectory() as folder:
        for at in range(number):
            drawn = shapes.picture(0, at, PHOTO[1])[: PHOTO[0]]
            file = Path(folder) / f"{at % 2}" / f"{at:05}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(file, quality=QUALITY)
        yield Path(folder)


def of_stream(mesh: Mesh, images: Images, updates: int) -> float:
    """Pictures a second that reach the devices, nothing else being done."""
    order = (np.arange(updates * BATCH) % len(images)).reshape(1, updates, BATCH)
    feed = feeding.Streamed(mesh, images, 1)
    began, at = time.perf_counter(), 0
    while at < updates:
        taken, at = feed.of_steps(order, at, updates)
        jax.block_until_ready(taken)
    return updates * BATCH / (time.perf_counter() - began)


def of_training(mesh: Mesh, experiment: Experiment, data: Dataset, resident: bool, updates: int):
    """Pictures a second of a run's updates, the first of them, which compiles, left out."""
    train = data.train
    experiment = experiment.fitted(data.shape, data.classes, len(train))
    recipe = step.recipe(experiment, len(train), mesh, data.shape)
    state = step.initial_state(recipe, np.zeros(1, np.uint32))
    feed = feeding.Resident(mesh, train) if resident else feeding.Streamed(mesh, train, 1)
    order = step.order_of_epoch(state.key, 1, len(train), BATCH, "reshuffled")
    began = 0.0
    for at in range(updates + 1):
        taken, until = feed.of_steps(order, at, at + 1)
        state = jax.block_until_ready(step.run_steps(recipe, state, *taken, order, at, until))
        began = began or time.perf_counter()
    return updates * BATCH / (time.perf_counter() - began)


def measure(updates: int, model: Any) -> dict[str, Any]:
    """Pictures a second, of `updates` batches each; of the stream alone four times as many."""
    descent, views = SGD(0.01, 0.9, 5e-4), Distortion(crops=True, flips=True)
    loss = CrossEntropy()
    experiment = Experiment("pipeline", model, loss, descent, distortion=views, batch_size=BATCH)
    mesh = replicas.mesh(loop.choose_devices(experiment, print))
    number = (updates + 1) * BATCH
    made = dataset.load(name="shapes", size=SIDE, limit=number, log=lambda _: None)
    with jpegs(number * 2) as folder, tempfile.TemporaryDirectory() as kept:
        files = dataset.load(Path(kept), folder, name="folder", size=SIDE, log=lambda _: None)
        bytes_each = np.mean([file.stat().st_size for file in folder.rglob("*.jpg")])
        rows = {
            "stream, made": of_stream(mesh, made.train, 4 * updates),
            "stream, files": of_stream(mesh, files.train, 4 * updates),
            "training, files": of_training(mesh, experiment, files, False, updates),
            "training, resident": of_training(mesh, experiment, files, True, updates),
        }
    return {"batch": BATCH, "side": SIDE, "kilobytes": bytes_each / 1000, "pictures/s": rows}


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("python -m benchmarks.pipeline", description=__doc__).parse_args(
        arguments
    )
    set_up_jax()
    found = conditions() | measure(10, AlexNet())
    (ROOT / "results" / "pipeline.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, rate in found["pictures/s"].items():
        print(f"{name}: {rate:,.1f} pictures/s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
