"""The digits and non-digits that the reader's own network practises on."""

import numpy as np
import pytest

from lenet_jax import settings
from lenet_jax.data import dataset, handwriting, practice
from lenet_jax.data.digits import load
from lenet_jax.errors import UserError
from lenet_jax.experiment import ML, Data, Experiment
from lenet_jax.segmentation.ink import labelled
from lenet_jax.training import loop


@pytest.fixture(scope="module")
def made(digits):
    """Of 120 digits; other hands write ones only, so that each other digit is one of these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handwriting, "HANDS", {1: handwriting.HANDS[1]})
        return practice.examples(digits[0][:120], digits[1][:120], 3)


def test_each_digit_is_cut_out_at_most_once_and_most_are(digits, made):
    images, labels = made
    assert images.dtype == np.uint8 and images.shape == (len(labels), 28, 28)
    found = np.bincount(labels, minlength=11)
    assert len(found) == 11 and found[practice.RUBBISH] > 20
    given = np.bincount(digits[1][:120], minlength=10)
    others = [label for label in range(10) if label != 1]
    assert (found[others] <= given[others]).all()
    assert found[others].sum() > 0.8 * given[others].sum()
    assert (images.reshape(len(images), -1).max(axis=1) > 150).all()


def test_what_is_held_out_is_in_no_other_example(tmp_path, monkeypatch):
    """Of 60 digits the last five are on the last pages alone, and not among the digits as they
    are; the last seven examples are of them."""
    few = dataset.embedded(limit=60)
    monkeypatch.setattr(dataset, "of", lambda asked, log: few)
    monkeypatch.setattr(settings, "cache_folder", lambda: tmp_path / "cache")
    given, made = [], {}

    def watched(images, labels, seed, examples=practice.examples):
        given.append((images, seed))
        made[seed] = examples(images, labels, seed)
        return made[seed]

    monkeypatch.setattr(practice, "examples", watched)
    train, uci = practice.find(Data("practice"), print).train, load()
    by_seed = dict((seed, images) for images, seed in given)
    assert sorted(by_seed) == [0, 1, 2]
    np.testing.assert_array_equal(by_seed[2], few.train.images[55:])
    drawn = np.concatenate([by_seed[0], by_seed[1]])
    np.testing.assert_array_equal(drawn, few.train.images[:55])
    np.testing.assert_array_equal(train.images[:55], few.train.images[:55])
    last = made[2][0][:7]
    np.testing.assert_array_equal(train.images[len(train) - len(last) :], last)
    pages = len(made[0][1]) + len(made[1][1])
    assert len(train) == 55 + 3 * len(uci["train_labels"]) + pages + len(last)


def test_figures_are_cut_as_the_reader_cuts_them(digits):
    """A broad figure that is no digit gives pieces too; digits that touch are whole alone."""
    rng = np.random.default_rng(0)
    ink = np.zeros((5 * 96 + 40, 8 * 96 + 40), np.float32)
    ink[40:50, 30:100] = ink[40:80, 60:70] = 1  # a broad T
    for truth, least in ((practice.RUBBISH, 2), (practice.TOUCHING, 1)):
        cut = list(practice._cut_out(230 - 200 * ink, False, [truth] * 40, rng))
        assert len(cut) >= least and {label for _, label in cut} == {practice.RUBBISH}
        assert len(cut) == 1 or truth == practice.RUBBISH


def test_the_same_seed_makes_the_same(digits, made):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handwriting, "HANDS", {1: handwriting.HANDS[1]})
        again = practice.examples(digits[0][:120], digits[1][:120], 3)
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other, _ = practice.examples(digits[0][:120], digits[1][:120], 4)
    assert len(other) != len(made[0]) or (other != made[0]).any()


@pytest.mark.parametrize("label", handwriting.HANDS)
def test_other_hands_mostly_hang_together(label):
    """A 4 and a 7 may be of two strokes, and the thinnest pens leave gaps."""
    rng = np.random.default_rng(label)
    pieces = [labelled(handwriting.other_hand(label, rng))[1] for _ in range(40)]
    assert np.mean([n <= 2 for n in pieces]) > 0.8 and np.mean([n == 1 for n in pieces]) > 0.4


def test_a_loss_without_a_rubbish_class_is_refused(tmp_path):
    data = dataset.embedded(limit=40)
    data.train.labels[::5] = 10
    with pytest.raises(UserError, match="rubbish class of eq. 9, and the loss is ML"):
        loop.train(Experiment("x", loss=ML()), data, tmp_path / "run", print)


def test_what_was_made_is_kept_whole_or_made_again(digits, tmp_path, monkeypatch):
    """Made, found, and after damage made anew; where it cannot be kept that is said."""
    few = dataset.embedded(limit=60)
    monkeypatch.setattr(dataset, "of", lambda asked, log: few)
    monkeypatch.setattr(settings, "cache_folder", lambda: tmp_path / "cache")
    said = []
    made = practice.find(Data("practice"), said.append)
    (file,) = (tmp_path / "cache").iterdir()
    assert len(said) == 1 and "once" in said[0]
    assert made.test is not None and made.train.labels.max() == practice.RUBBISH
    assert practice.find(Data("practice"), said.append).sha256 == made.sha256 and len(said) == 1
    file.write_bytes(file.read_bytes()[:1000])
    assert practice.find(Data("practice"), said.append).sha256 == made.sha256 and len(said) == 2
    monkeypatch.setattr(settings, "cache_folder", lambda: file)
    assert practice.find(Data("practice"), said.append).sha256 == made.sha256
    assert said[3].startswith("cannot keep ") and len(said) == 4
