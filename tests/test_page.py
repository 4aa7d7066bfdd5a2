"""A user's own page: a network, an optimizer and arrays that the package has never seen."""

import json
import signal
import time
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
from conftest import ROOT
from PIL import Image

import lenet_jax
from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    MAP,
    SDLM,
    SGD,
    Adam,
    Arrays,
    Baseline,
    CrossEntropy,
    Data,
    Distortion,
    Experiment,
    Muon,
    pages,
    serialization,
)
from lenet_jax.layers import contract
from lenet_jax.models.lenet import LeNet5

PAGE = ROOT / "tests" / "pages" / "signs.py"
of_the_run = pytest.mark.xdist_group("page")  # one process trains it


def arrays() -> Arrays:
    data = pages.load(str(PAGE)).data
    assert isinstance(data, Arrays)
    return data


@pytest.fixture(scope="module")
def run(program, tmp_path_factory):
    """The page's run: killed after a checkpoint, resumed, and beside it one that never was."""
    folder = tmp_path_factory.mktemp("page")
    killed, whole = folder / "killed", folder / "whole"
    flags = "--config", PAGE, "--keep", "20", "--workdir"
    with program("train", *flags, killed, start=True) as process:
        while not (killed / "checkpoints" / "60").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL and not (killed / "result.json").exists()
    again = program("train", *flags, killed)
    assert again.returncode == 0 and "resuming from step" in again.stderr, again.stderr
    assert program("train", *flags, whole).returncode == 0
    return killed, whole


@of_the_run
def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(run):
    killed, whole = run
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (killed / "result.json").read_bytes() == (whole / "result.json").read_bytes()
    assert json.loads((whole / "result.json").read_text())["test_errors"] <= 2
    assert (whole / "page" / "signs.py").read_text() == PAGE.read_text()


@of_the_run
def test_it_is_evaluated_on_the_arrays_of_its_page(run, program, tmp_path):
    done = program("evaluate", run[1], "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluation.json").read_text())
    result = json.loads((run[1] / "result.json").read_text())
    assert (found["size"], found["errors"]) == (200, result["test_errors"])
    table = np.array(found["confusion"])
    assert table.shape == (12, 12)
    labels = arrays().test[1]
    np.testing.assert_array_equal(table.sum(axis=1), np.bincount(labels, minlength=12))


@of_the_run
def test_it_predicts_what_a_picture_shows(run, program, tmp_path):
    picture = np.full((120, 120), 255, np.uint8)
    picture[30:90, 50:70] = 20
    Image.fromarray(picture).save(tmp_path / "sign.png")
    done = program("predict", "--network", run[1], tmp_path / "sign.png", "--json")
    (digit,) = json.loads(done.stdout)["digits"]
    assert len(digit["penalties"]) == 12 and 0 <= digit["label"] < 12


@of_the_run
def test_its_onnx_gives_its_predictions(run, program, tmp_path):
    done = program("export", "--network", run[1], "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    formats = {file.name for file in tmp_path.iterdir()}
    assert formats == {"signs.onnx", "signs.stablehlo", "signs.safetensors"}
    images, labels = arrays().test
    session = onnxruntime.InferenceSession(tmp_path / "signs.onnx")
    scores: Any = session.run(None, {"images": images})[0]
    predicted = lenet_jax.load(run[1]).predict(images)
    np.testing.assert_array_equal(scores.argmax(axis=1), predicted)
    assert (predicted != labels).sum() <= 2


@of_the_run
def test_its_pictures_are_those_that_apply(run, program, tmp_path):
    done = program("visualize", "--network", run[1], "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = {file.stem for file in tmp_path.iterdir()}
    assert drawn == {"occlusion", "saliency"}
    asked = program("visualize", "table", "--network", run[1], "--out", tmp_path)
    assert asked.returncode == 2 and "of a LeNet5" in asked.stderr
    assert "left out: maps, top-nine, training. Residual returns no maps" in done.stderr
    asked = program("visualize", "deconvnet", "--network", run[1], "--out", tmp_path)
    assert asked.returncode == 2 and "has no layer with kernels among its maps" in asked.stderr


def test_a_summary_counts_the_parameters_of_layers_it_does_not_know(program):
    done = program("summary", "--config", PAGE)
    kernels = 5 * 5 * 1 * 8 + 2 * (3 * 3 * 8 * 8) + 7 * 7 * 8 * 12
    assert f"{kernels + 8 + 2 * 8 + 2 * 8 + 12:,}" in done.stdout, done.stdout


@of_the_run
def test_a_page_that_is_another_is_executed_only_if_asked(run, program, tmp_path):
    """Of a run from elsewhere, whose page is not here; and never one that was changed since."""
    there = tmp_path / "run"
    there.mkdir()
    for part in run[1].iterdir():
        (there / part.name).symlink_to(part)
    config = json.loads((run[1] / "config.json").read_text())
    config["page"]["path"] = str(tmp_path / "elsewhere" / "signs.py")
    (there / "config.json").unlink()
    (there / "config.json").write_text(json.dumps(config))
    refused = program("evaluate", there, "--out", tmp_path / "out")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "--trust-page executes it" in refused.stderr
    assert program("evaluate", there, "--trust-page", "--out", tmp_path / "out").returncode == 0
    (there / "page").unlink()
    gone = program("evaluate", there, "--trust-page", "--out", tmp_path / "out")
    assert gone.returncode == 2 and "the run's page is gone" in gone.stderr
    (there / "page").mkdir()
    (there / "page" / "signs.py").write_text(PAGE.read_text() + "\n# another\n")
    changed = program("evaluate", there, "--trust-page", "--out", tmp_path / "out")
    assert changed.returncode == 2 and "the run's page is changed" in changed.stderr


@of_the_run
def test_another_page_is_another_run(run, program, tmp_path):
    other = tmp_path / "signs.py"
    other.write_text(PAGE.read_text().replace("optax.lion(1e-3)", "optax.lion(2e-3)"))
    done = program("train", "--config", other, "--workdir", run[1])
    assert done.returncode == 2 and "page.sha256" in done.stderr


def test_what_json_says_of_a_page_is_made_again_by_it():
    experiment = pages.load(str(PAGE))
    wider = Experiment(
        "signs", experiment.model.clone(channels=16), CrossEntropy(), experiment.optimizer,
        Arrays("signs", 12, arrays().train, arrays().test, limit=50),
    )  # fmt: skip
    written = json.loads(json.dumps(serialization.as_json(wider)))
    assert serialization.needs_page(written)
    found = serialization.from_json(written, experiment)
    assert found.model == experiment.model.clone(channels=16)
    assert found.optimizer is experiment.optimizer and found.data == wider.data
    with pytest.raises(UserError, match="page is not there"):
        serialization.from_json(written)


class Returns(nn.Module):
    """What a network may return by mistake."""

    what: str

    @nn.compact
    def __call__(self, images):
        x = nn.Dense(12)(images.reshape(len(images), -1))
        match self.what:
            case "labels":
                return x.argmax(axis=1)
            case "nothing":
                return None
            case "too few":
                return x[:, :10]
            case "statistics":
                return nn.BatchNorm(use_running_average=False)(x)
            case "an error":
                return x @ jnp.zeros((3, 3))


@pytest.mark.parametrize(
    "what, said",
    [
        ("labels", r"returns \[2\] for two images of 28x28, expected are scores \[2, 12\]"),
        ("nothing", "returns NoneType"),
        ("too few", r"returns \[2, 10\]"),
        ("statistics", "keeps batch_stats beside its parameters"),
        ("an error", r"Returns fails on images of 28x28 \(TypeError"),
    ],
)
def test_a_network_that_gives_no_scores_is_refused(what, said):
    with pytest.raises(UserError, match=said):
        contract.check(Returns(what), (28, 28), 12)


class Scores(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"model": None}, "model is None, allowed is a flax.linen module"),
        ({"model": "LeNet5"}, "allowed is a flax.linen module"),
        ({"optimizer": SDLM()}, "SDLM does not go with Scores"),
        ({"optimizer": 0.1}, "optimizer is 0.1, allowed are SDLM"),
        ({"optimizer": optax.lion}, "allowed are SDLM"),
        ({"epochs": 2.5}, "Experiment: epochs is 2.5, allowed is int"),
        ({"epochs": np.int64(2)}, r"epochs is np.int64\(2\), allowed is int"),
        ({"epochs": 10**20}, "--epochs is 10{20}, allowed is 1 to 1,000,000"),
        ({"name": None}, "name is None, allowed is str"),
        ({"order": "random"}, r"order is 'random', allowed is Literal\['fixed', 'reshuffled'\]"),
        ({"seeds": [1, 2]}, r"seeds is \[1, 2\], allowed is tuple\[int, ...\]"),
    ],
)
def test_an_experiment_says_what_a_part_must_be(fields, said):
    given = {"name": "x", "model": Scores(), "loss": CrossEntropy(), "optimizer": optax.sgd(0.1)}
    with pytest.raises(UserError, match=said):
        Experiment(**given | fields)


@pytest.mark.parametrize(
    "part, fields, said",
    [
        (SDLM, {"mu": float("inf")}, "mu is inf, allowed are finite numbers"),
        (SDLM, {"mu": 1e30}, "--optimizer.mu is 1e.30, allowed is a positive number up to 1,000"),
        (SDLM, {"learning_rates": (0.1, float("nan"))}, "learning_rates is .*nan"),
        (SDLM, {"learning_rates": (1e30,)}, "learning-rates is .1e.30"),
        (Adam, {"learning_rate": "0.1"}, "learning_rate is '0.1', allowed is float"),
        (Muon, {"adam_learning_rate": 0.0}, "--optimizer.adam-learning-rate is 0.0"),
        (SGD, {"falls": (1, 2.5)}, "falls is .1, 2.5., allowed is tuple"),
        (MAP, {"j": float("-inf")}, "j is -inf"),
        (Data, {"name": 3}, "Data: name is 3, allowed is str"),
        (Distortion, {"rotation": float("nan")}, "Distortion: rotation is nan"),
        (Baseline, {"name": "x", "method": "tree"}, "method is 'tree', allowed is Literal"),
    ],
)
def test_a_part_says_what_its_fields_must_be(part, fields, said):
    with pytest.raises(UserError, match=said):
        part(**fields)


IMAGES = np.zeros((4, 28, 28), np.uint8)
LABELS = np.array([0, 1, 2, 11])


@pytest.mark.parametrize(
    "images, labels, said",
    [
        (IMAGES.astype(np.int32), LABELS, "images are int32, allowed are uint8"),
        (IMAGES[0], LABELS, r"images are uint8 \[28, 28\], expected are \[n, height, width\]"),
        (IMAGES / 1.0 + 255, LABELS, "floats are from 255 to 255, allowed are 0 to 1"),
        (IMAGES / 1.0 + np.nan, LABELS, "floats are from nan to nan"),
        (IMAGES, LABELS[:3], r"labels are int64 \[3\], expected are integers \[4\]"),
        (IMAGES, LABELS / 1.0, r"labels are float64 \[4\]"),
        (IMAGES, LABELS + 1, "labels are from 1 to 12, allowed are 0 to 11"),
        (IMAGES, LABELS - 1, "labels are from -1 to 10"),
        (IMAGES[:0], LABELS[:0], r"images are uint8 \[0, 28, 28\]"),
    ],
)
def test_arrays_of_another_kind_are_refused(images, labels, said):
    for train, test in (((images, labels), (IMAGES, LABELS)), ((IMAGES, LABELS), (images, labels))):
        with pytest.raises(UserError, match=said):
            Arrays("mine", 12, train, test)


def test_floats_become_the_bytes_that_they_stand_for():
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    whole = Arrays("mine", 12, (levels, LABELS), (levels, LABELS))
    floats = Arrays("mine", 12, (levels / 255, LABELS), (np.float32(levels / 255), LABELS))
    np.testing.assert_array_equal(floats.train[0], levels)
    assert floats == whole and hash(floats) == hash(whole)
    other = Arrays("mine", 12, (levels, LABELS), (levels[::-1], LABELS))
    assert other != whole and other.sha256 != whole.sha256


def test_the_network_has_as_many_classes_as_the_data():
    data = Arrays("mine", 12, (IMAGES, LABELS), (IMAGES, LABELS))
    experiment = Experiment("x", data=data).fitted(data.shape, data.classes, 4)
    assert experiment.model == LeNet5(classes=12)
    contract.check(experiment.model, data.shape, data.classes)
    with pytest.raises(UserError, match="--batch-size 5 is more than the 4 training examples"):
        Experiment("x", data=data, batch_size=5).fitted(data.shape, 12, 4)


def test_files_beside_a_page_are_kept_with_it(tmp_path):
    (tmp_path / "base.py").write_text("NAME = 'x'\n")
    (tmp_path / "unread.py").write_text("")
    (tmp_path / "mine.py").write_text(
        "import base\nfrom lenet_jax.experiment import Experiment\n"
        "def get_config():\n    return Experiment(base.NAME)\n"
    )
    page = pages.load(str(tmp_path / "mine.py")).page
    assert page and set(page.texts) == {"base.py", "mine.py"} and page.path == tmp_path / "mine.py"
    before = page.sha256
    (tmp_path / "base.py").write_text("NAME = 'y'\n")
    assert (again := pages.load(str(tmp_path / "mine.py")).page) and again.sha256 != before
