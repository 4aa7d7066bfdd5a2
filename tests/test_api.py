"""What a notebook calls: training, loading and reading from Python."""

import asyncio
import json
import subprocess
import sys
import threading

import flax.linen as nn
import numpy as np
import optax
import pytest
from conftest import ROOT

import lenet_jax
from lenet_jax import CrossEntropy, Data, Experiment, UserError
from lenet_jax.data import digits as embedded

SMALL = Experiment("api", data=Data(name="uci-digits", limit=60), epochs=2, seeds=(2,))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds, what it printed, and the rows that its callback got."""
    rows = []
    run = lenet_jax.train(SMALL, str(tmp_path_factory.mktemp("api") / "run"), on_epoch=rows.append)
    return run, rows


@pytest.fixture(scope="module")
def test_set():
    arrays = embedded.load()
    return arrays["test_images"], arrays["test_labels"]


def test_training_says_nothing_and_calls_back_after_each_epoch(trained, capfd, tmp_path):
    run, rows = trained
    lenet_jax.train(SMALL, tmp_path / "silent")
    assert capfd.readouterr() == ("", "")
    assert [row["epoch"] for row in rows] == [1, 2] and rows == run.epochs
    assert run.record == json.loads((run.folder / "result.json").read_text())
    said = []
    lenet_jax.train(SMALL, run.folder, log=said.append)
    assert said == [f"finished already in {run.folder}"]


def test_a_run_has_every_seed_and_their_ensemble(trained, test_set):
    run, _ = trained
    images, labels = test_set
    each = [int((one.predict(images) != labels).sum()) for one in run.seeds]
    assert each == run.record["test_errors"] and len(each) == 2 and each[0] != each[1]
    assert int((run.predict(images) != labels).sum()) == each[0]
    mean = np.mean([one.scores(images) for one in run.seeds], axis=0)
    np.testing.assert_allclose(run.ensemble.scores(images), mean, rtol=1e-6)
    found = run.ensemble.evaluate(images, labels)
    assert (
        found["errors"]
        == (mean.argmax(axis=1) != labels).sum()
        == 300 - np.trace(found["confusion"])
    )
    assert found["error_percent"] == pytest.approx(found["errors"] / 3)
    again = lenet_jax.load(str(run.folder))
    np.testing.assert_array_equal(again.scores(images), run.scores(images))
    assert [row["epoch"] for row in again.epochs] == [1, 2] and again.record == run.record


def test_a_pretrained_network_by_name(test_set):
    images, labels = test_set
    network = lenet_jax.load("lenet5-best")
    assert network.evaluate(images, labels)["errors"] < 30
    np.testing.assert_array_equal(network.predict(images / 255), network.predict(images))
    maps = network.maps(images[:2])
    assert list(maps) == ["c1", "s2", "c3", "s4", "c5", "f6"] and maps["c3"].shape == (
        2,
        16,
        10,
        10,
    )
    assert [d.label for d in network.recognize(ROOT / "docs" / "photo.jpg")] == [
        d.label for d in lenet_jax.recognize(ROOT / "docs" / "photo.jpg", "lenet5-best")
    ]


@pytest.mark.parametrize(
    "images, said",
    [
        (np.zeros((2, 28, 28)) + 2, r"images are float64 \[2, 28, 28\], allowed are uint8"),
        (np.zeros((2, 32, 32), np.uint8), r"uint8 \[2, 32, 32\]"),
        (np.zeros((28, 28), np.uint8), r"uint8 \[28, 28\]"),
        (np.zeros((2, 28, 28), np.int32), "images are int32"),
    ],
)
def test_images_of_another_kind_are_refused(images, said):
    with pytest.raises(UserError, match=said):
        lenet_jax.load("lenet5-best").predict(images)


def test_an_unknown_network_and_labels_of_another_number_are_refused(test_set):
    with pytest.raises(UserError, match="nowhere: no such network"):
        lenet_jax.load("nowhere")
    with pytest.raises(UserError, match=r"labels are uint8 \[299\], expected are integers \[300\]"):
        lenet_jax.load("lenet5-best").evaluate(test_set[0], test_set[1][:-1])


@pytest.mark.parametrize("where", ["a running event loop", "a thread"])
def test_it_works_in(where, trained, tmp_path):
    found = []

    def work():
        found.append(lenet_jax.train(SMALL, tmp_path / "run").record)

    async def main():
        work()

    if where == "a thread":
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        asyncio.run(main())
    assert found == [trained[0].record]


class Dense(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(images.shape[0], -1))


def test_a_network_that_a_program_made_is_loaded_with_its_experiment(tmp_path, test_set):
    experiment = Experiment(
        "dense", Dense(), CrossEntropy(), optax.adam(1e-2), Data(name="uci-digits"), batch_size=50
    )
    run = lenet_jax.train(experiment, tmp_path)
    assert run.record and run.evaluate(*test_set)["errors"] == run.record["test_errors"] < 60
    with pytest.raises(UserError, match="was made in a program, not in a page"):
        lenet_jax.load(tmp_path)
    again = lenet_jax.load(tmp_path, experiment)
    np.testing.assert_array_equal(again.predict(test_set[0]), run.predict(test_set[0]))


def test_names_come_when_they_are_asked_for():
    """Each of them, and jax only with those that need it."""
    light = "Experiment", "Data", "Arrays", "Distortion", "SDLM", "Adam", "MAP", "UserError"
    program = (
        "import sys, lenet_jax\n"
        f"for name in {light}: getattr(lenet_jax, name)\n"
        "assert 'jax' not in sys.modules\n"
        "for name in lenet_jax.__all__: assert getattr(lenet_jax, name).__doc__, name\n"
        "assert callable(lenet_jax.train)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lenet_jax.nothing  # noqa: B018
