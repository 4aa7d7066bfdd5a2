"""Confusions, precision and recall against scikit-learn; labelled pictures; the program itself."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from benchmarks import reading
from lenet_jax import pretrained
from lenet_jax.analysis import evaluation
from lenet_jax.data import dataset


def test_confusions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    answers = np.where(rng.random(500) < 0.7, labels, rng.integers(0, 10, 500))
    table = evaluation.confusion(labels, answers)
    np.testing.assert_array_equal(table, metrics.confusion_matrix(labels, answers))
    precision, recall = evaluation.precision_and_recall(table)
    theirs = metrics.precision_recall_fscore_support(labels, answers)
    np.testing.assert_allclose(precision, 100 * np.asarray(theirs[0]))
    np.testing.assert_allclose(recall, 100 * np.asarray(theirs[1]))


def test_a_class_without_images_has_no_recall():
    table = evaluation.confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), classes=4)
    precision, recall = evaluation.precision_and_recall(table)
    np.testing.assert_array_equal(precision, [100, 0, 100, np.nan])
    np.testing.assert_array_equal(recall, [50, np.nan, 100, np.nan])


def test_pictures_without_a_single_digit_are_misses(tmp_path, digits):
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

    card = {"config": {"loss": {}}}
    found = evaluation.of_pictures(always_seven, card, tmp_path)
    assert found.labels.tolist() == [3, 7] and found.answers.tolist() == [7, 7]
    assert sorted(found.unread) == [str(tmp_path / "3/three.jpg"), str(tmp_path / "7/text.png")]
    record = evaluation.as_json(found)
    assert (record["misses"], record["size"]) == (3, 4)
    assert record["wrong"] == [[0, 3, 7]] and record["confusion"][3][7] == 1


def test_the_program_counts_what_scores_say(program, tmp_path):
    done = program("evaluate", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    from lenet_jax.recognition.predictor import predictor

    test = dataset.embedded().test
    answers = predictor(*pretrained.load(record["network"]))(test.images).argmax(1)
    assert record["misses"] == int((answers != test.labels).sum())
    assert f"{record['misses']} of 300 missed" in done.stdout and "uci-digits" in done.stdout
    for name in ("confusion", "missed", "rejection"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.parametrize(
    "flags, said",
    [
        (("lenet6",), "lenet6: no such network"),
        (("experiments",), "no folder of a run"),
        (("--pictures", "experiments"), "no pictures of digits there"),
    ],
)
def test_what_cannot_be_evaluated_is_said(program, flags, said):
    done = program("evaluate", *flags)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in done.stderr
