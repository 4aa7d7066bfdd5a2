"""Confusions, precision and recall against scikit-learn; labelled pictures; the program itself."""

import json
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reference import TABLE, f
from sklearn import metrics

from benchmarks import reading, rejection
from lenet_jax import pretrained
from lenet_jax.data import dataset
from lenet_jax.experiment import MAP, ML, Data, Experiment, serialization
from lenet_jax.layers.codes import codes
from lenet_jax.measurement import evaluation, records
from lenet_jax.recognition import networks
from lenet_jax.reports import figures


def test_confusions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    predictions = np.where(rng.random(500) < 0.7, labels, rng.integers(0, 10, 500))
    table = evaluation.confusion(labels, predictions, 10)
    np.testing.assert_array_equal(table, metrics.confusion_matrix(labels, predictions))
    precision, recall = evaluation.precision_and_recall(table)
    theirs = metrics.precision_recall_fscore_support(labels, predictions)
    np.testing.assert_allclose(precision, 100 * np.asarray(theirs[0]))
    np.testing.assert_allclose(recall, 100 * np.asarray(theirs[1]))


def test_a_class_without_images_has_no_recall():
    table = evaluation.confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), classes=4)
    precision, recall = evaluation.precision_and_recall(table)
    np.testing.assert_array_equal(precision, [100, 0, 100, np.nan])
    np.testing.assert_array_equal(recall, [50, np.nan, 100, np.nan])


def test_pictures_without_a_single_digit_are_errors(tmp_path, digits):
    rng = np.random.default_rng(1)
    for label in (3, 7):
        (tmp_path / str(label)).mkdir()
        images = digits[0][digits[1] == label]
        picture = reading.scan(images[:1], rng)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / str(label) / "one.png")
    row = reading.scan(digits[0][:3], rng).astype(np.uint8)
    Image.fromarray(row).save(tmp_path / "3" / "three.jpg")
    (tmp_path / "7" / "text.png").write_text("seven")

    def always_seven(images: np.ndarray) -> np.ndarray:
        return np.tile(-np.abs(np.arange(10.0) - 7), (len(images), 1))

    card = {"config": {"loss": {}}, "reject_below": 0.5}
    found = evaluation.of_pictures(always_seven, card, tmp_path)
    assert found.labels.tolist() == [3, 7] and found.predictions.tolist() == [7, 7]
    assert sorted(found.unread) == [str(tmp_path / "3/three.jpg"), str(tmp_path / "7/text.png")]
    assert all(name in why for name, why in found.unread.items())
    record = evaluation.as_json(found, card)
    assert (record["errors"], record["size"]) == (3, 4)
    assert record["wrong"] == [[0, 3, 7]] and record["confusion"][3][7] == 1
    # The two that are unread get no prediction; the others' best scores, 0 and -1, differ by
    # enough, and no threshold parts the one that is wrong from the other.
    assert (record["rejected"], record["errors_not_rejected"]) == (2, 1)
    assert record["rejected_percent_for_half_percent_error"] == 100


@pytest.mark.parametrize(
    "loss, below, rejected, left",
    [
        ({}, 0.0, 0, 2),
        ({}, 4.0, 2, 1),  # the differences are 2, 3, 5 and 8
        ({"j": 6.5}, 0.0, 1, 1),  # the least penalties 1, 7, 2 and 6
        ({"j": 6.5}, 4.0, 3, 0),  # it is the runner-up of three
        ({"j": 6.5}, -1.0, 0, 2),
        ({"j": 1.5}, 9.0, 4, 0),
        ({"j": 6.5}, None, 1, 1),
    ],
)
def test_what_a_networks_own_limits_leave(loss, below, rejected, left):
    scores = np.full((4, 10), -99.0)
    scores[:, 3] = [-1, -7, -2, -6]
    scores[:, 8] = [-3, -10, -7, -14]
    found = evaluation.Evaluation("", np.zeros(0), np.array([3, 8, 3, 5]), scores)
    record = evaluation.as_json(found, {"config": {"loss": loss}, "reject_below": below})
    assert (record["rejected"], record["errors_not_rejected"]) == (rejected, left)
    assert "Infinity" not in json.dumps(record)


@pytest.mark.parametrize(
    "loss, expected",
    [
        (MAP(j=3.5), 2.5),  # of penalties 1, 2, 3 the one of 2 is wrong, 1.5 ahead of rubbish
        (MAP(j=5.0), 4.0),  # the one of 4, too, 1 ahead of it
        (MAP(j=9.0), 6.0),  # and the one of 6, but that of 3 is the furthest ahead
        (ML(), None),
        (MAP(j=1.5), 0.0),
    ],
)
def test_the_threshold_is_chosen_among_what_is_no_rubbish(monkeypatch, loss, expected):
    scores = np.full((1, 5, 10), -99.0)
    scores[0, :, 2] = [-1, -2, -3, -4, -6]
    scores[0, :, 7] = scores[0, :, 2] - [4, 3, 9, 8, 12]
    monkeypatch.setattr(records, "_scores", lambda run, shown: scores)
    held_out = dataset.Images(np.zeros((5, 28, 28), np.uint8), np.array([2, 7, 2, 7, 7], np.int32))
    run: Any = SimpleNamespace(recipe=SimpleNamespace(loss=loss))
    found = records.reject_below(run, held_out)
    card = records.card(defaultdict(lambda: [0]), found)
    assert card["reject_below"] == expected and "Infinity" not in json.dumps(card)


def test_rejection_of_all_leaves_no_error(monkeypatch, tmp_path):
    """A rubbish class that beats everything: no threshold, and no rest whose error it would be."""
    monkeypatch.delenv("LENET_JAX_MNIST", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    module, params = pretrained.load("lenet5-best")
    experiment = Experiment(name="x", loss=MAP(j=0.001), data=Data(validation=30))
    card = {"updates": 1, "config": serialization.as_json(experiment)}
    trained = networks.TrainedNetwork(module, params, card)
    monkeypatch.setattr(networks, "load", lambda source: trained)
    found = rejection.measured(tmp_path)
    assert found["dataset"] == "uci-digits"
    assert (found["held_out"], found["rejected"], found["errors_not_rejected"]) == (30, 30, 0)
    assert found["reject_below"] is None and found["error_percent_of_the_rest"] is None
    json.dumps(found, allow_nan=False)


def penalties(params: Any, images: np.ndarray) -> np.ndarray:
    """Eq. 7 of LeNet-5 in float64 NumPy, from the paper: uint8 [n, 28, 28] to [n, 10]."""
    p = {n: {k: np.asarray(v, np.float64) for k, v in some.items()} for n, some in params.items()}
    table = np.array([[i in TABLE[o] for i in range(6)] for o in range(16)])[..., None, None]

    def convolved(x, layer, size, mask: Any = 1.0):
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
        kernels = layer["kernel"].reshape(-1, x.shape[1], size, size) * mask
        return f(np.einsum("nihwrc,oirc->nohw", windows, kernels, optimize=True) + column(layer))

    def column(layer, name="bias"):
        return layer[name][:, None, None]

    def subsampled(x, layer):
        added = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
        return f(added * column(layer, "coefficient") + column(layer))

    x = np.pad(images / 255 * 1.275 - 0.1, ((0, 0), (2, 2), (2, 2)), constant_values=-0.1)[:, None]
    x = subsampled(convolved(x, p["c1"], 5), p["s2"])
    x = subsampled(convolved(x, p["c3"], 5, table), p["s4"])
    x = convolved(convolved(x, p["c5"], 5), p["f6"], 1)[:, :, 0, 0]
    return ((x[:, None] - np.asarray(codes(), np.float64)) ** 2).sum(axis=2)


def test_the_program_counts_what_the_papers_formulas_log(program, tmp_path):
    done = program("evaluate", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    test = dataset.embedded().test
    found = penalties(pretrained.load(record["network"])[1], np.asarray(test.images))
    wrong = np.flatnonzero(found.argmin(1) != test.labels)
    assert record["wrong"] == [[n, test.labels[n], found[n].argmin()] for n in wrong]
    assert f"{len(wrong)} of 300 misclassified" in done.stdout and "uci-digits" in done.stdout
    card = pretrained.card(record["network"])
    best, second = np.sort(found, axis=1)[:, :2].T
    silent = (best > card["config"]["loss"]["j"]) | (second - best < card["reject_below"])
    assert 0 < silent.sum() == record["rejected"]
    assert record["errors_not_rejected"] == (~silent[wrong]).sum()
    assert f"{silent.sum()} rejected, {(~silent[wrong]).sum()} of the other" in done.stdout
    for name in ("confusion", "misclassified", "rejection"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.parametrize(
    "flags, said",
    [
        (("lenet6",), "lenet6: no such network"),
        (("experiments",), "no folder of a run"),
        (("--pictures", "experiments"), "no pictures of digits there"),
        (("--pictures", "experiments", "--ten-views"), "not allowed with argument --pictures"),
        (("--ten-views",), "--ten-views is for networks that see a window of a picture"),
    ],
)
def test_what_cannot_be_evaluated_is_said(program, flags, said):
    done = program("evaluate", *flags)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("channels", [(), (3,)])
def test_images_of_any_size_are_drawn_on_white(tmp_path, channels):
    """With their labels above them, which black would hide."""
    images = np.full((2, 20, 24, *channels), 90, np.uint8)
    figures.misclassified(images, [[0, 11, 7], [1, 3, 4]], "x", tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert (drawn > 250).mean() > 0.6 and (drawn < 200).any()
