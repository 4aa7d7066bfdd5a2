"""Whatever is given: an answer or a UserError, and never another exception."""

import contextlib
import io
import json
import random
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lenet_jax import commandline
from lenet_jax.data import idx
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment import CrossEntropy, Data, Experiment
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.recognition import decoding, networks
from lenet_jax.training import loop

ROOT = Path(__file__).parents[1]
OFTEN = settings(
    max_examples=150,
    deadline=20_000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def mutated(content: bytes, seed: int) -> bytes:
    """Some bytes changed, a piece gone or doubled, or the end cut off."""
    rng = random.Random(seed)
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.randrange(1, 9)
        match rng.randrange(5):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + length] = rng.randbytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                del changed[at:]
    return bytes(changed)


@pytest.fixture(scope="module")
def pictures():
    """One picture of a digit in each format that Pillow writes and we read."""
    image = Image.new("L", (60, 60), 255)
    image.paste(20, (25, 10, 32, 50))
    found = {}
    for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"):
        file = io.BytesIO()
        with contextlib.suppress(KeyError, OSError):  # this Pillow does not write it
            image.save(file, name)
            found[name] = file.getvalue()
    assert {"PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"} <= found.keys()
    return found


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"])
def test_pictures(pictures, name, tmp_path):
    """From a file and from bytes."""
    if name not in pictures:
        pytest.skip(f"this Pillow does not write {name}")
    read = 0
    for seed in range(250):
        content = mutated(pictures[name], seed)
        file = tmp_path / f"picture.{name.lower()}"
        file.write_bytes(content)
        for source in (content, file):
            with contextlib.suppress(UserError):
                pixels = decoding.read(source)
                assert pixels.ndim == 2 and 0 <= pixels.min() <= pixels.max() <= 255
                read += 1
    assert 0 < read < 500  # else nothing was tried, or nothing damaged


def test_idx_files(tmp_path):
    rng = np.random.default_rng(0)
    whole = {}
    for split, number in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (number, 28, 28), np.uint8)
        labels = np.arange(number, dtype=np.uint8) % 3
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(
                side.to_bytes(4, "big") for side in array.shape
            )
            whole[f"{split}-{kind}-ubyte"] = head + array.tobytes()
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    asked = Data(name="idx", manual_dir=tmp_path)
    assert idx.find(asked, print).classes == 3
    told = 0
    for name, content in whole.items():
        for seed in range(100):
            (tmp_path / name).write_bytes(mutated(content, seed))
            try:
                found = idx.find(asked, print)
                assert 0 <= found.train.labels.min() <= found.train.labels.max() < found.classes
            except UserError:
                told += 1
        (tmp_path / name).write_bytes(content)
    assert 100 < told < 400


FLAGS = (
    *("epochs", "batch-size", "seed", "seeds", "devices", "keep", "order", "precision", "workdir"),
    *("optimizer", "optimizer.mu", "optimizer.learning-rates", "optimizer.samples", "loss.j"),
    *("data.limit", "data.validation", "data.name", "distortion.rotation", "distortion.versions"),
    *("distributed.coordinator", "distributed.processes", "distributed.process", "model.head"),
)
VALUES = st.one_of(
    st.text(max_size=6),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["adam", "None", "True", "[]", "1 2", "10**20", "1e999", "-", "--", "=", "\0"]),
)


@OFTEN
@given(st.lists(st.tuples(st.sampled_from(FLAGS), VALUES), min_size=1, max_size=3))
def test_flags(flags):
    arguments = ["--config", str(ROOT / "experiments" / "classic.py")]
    for name, value in flags:
        arguments += [f"--{name}", value]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            commandline.experiment("train", "", arguments)
        except SystemExit as end:
            assert end.code in (0, 2)
        except UserError:
            pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch, and what its config.json says."""
    folder = tmp_path_factory.mktemp("fuzz") / "run"
    rng = np.random.default_rng(0)
    images = Images(
        rng.integers(0, 256, (12, 28, 28), np.uint8), np.arange(12, dtype=np.int32) % 10
    )
    dataset = Dataset("noise", "drawn here", "0" * 64, images, images, images)
    experiment = Experiment("linear", Nielsen(hidden=()), CrossEntropy(), epochs=1, batch_size=4)
    loop.train(experiment, dataset, folder, print)
    return folder, json.loads((folder / "config.json").read_text())


def places(tree, prefix=()):
    yield prefix
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from places(value, (*prefix, name))


def put(tree, place, value):
    if not place:
        return value
    return tree | {place[0]: put(tree[place[0]], place[1:], value)}


@OFTEN
@given(st.data())
def test_configurations_of_runs(run, data):
    """Any value in any place: the folder is read or refused, and nothing in it is executed."""
    folder, config = run
    place = data.draw(st.sampled_from(sorted(places(config))))
    changed = put(config, place, data.draw(JSON))
    (folder / "config.json").write_text(json.dumps(changed))
    with contextlib.suppress(UserError):
        params = networks.load(str(folder), lambda line: None).params
        assert jax.tree.leaves(params)


def test_files_of_runs(run):
    folder, config = run
    whole = json.dumps(config).encode()
    for seed in range(300):
        (folder / "config.json").write_bytes(mutated(whole, seed))
        with contextlib.suppress(UserError):
            networks.load(str(folder), lambda line: None)
