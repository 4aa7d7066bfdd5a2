"""Strings of digits: how they are composed, what is lost on them, and a network over a line."""

import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax
from lenet_jax import pretrained
from lenet_jax.data import dataset, strings
from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    MAP,
    SDLM,
    Data,
    Discriminative,
    Distortion,
    Experiment,
    Muon,
    Strings,
    serialization,
)
from lenet_jax.layers.codes import codes
from lenet_jax.layers.inputs import BACKGROUND
from lenet_jax.measurement import lines as measured
from lenet_jax.models.lenet import LeNet5
from lenet_jax.recognition import networks
from lenet_jax.training import loop, losses, replicas, scoring, step

PLAIN = Distortion()
WIDTHS = np.arange(3, 13)  # of the bar that stands for each label


def bars(examples=40, brightness=100):
    """Bars, each as wide as its label says and as bright as its number does."""
    images = np.zeros((examples, 28, 28), np.uint8)
    labels = np.arange(examples) % 10
    for n, label in enumerate(labels):
        images[n, 4:24, 8 : 8 + WIDTHS[label]] = brightness + n
    return images, labels.astype(np.int32)


def composed(of, ranges=PLAIN, number=200, digits=None, seed=0):
    images, labels = digits or bars()
    keys = jax.random.split(jax.random.key(seed), number)
    first = np.arange(number) % len(labels)
    given = of, ranges, keys, jnp.asarray(images), jnp.asarray(labels), jnp.asarray(first)
    lines, texts = jax.jit(strings.compose, static_argnums=(0, 1))(*given)
    return np.asarray(lines), np.asarray(texts), first


def runs(line):
    """(value, first column, end) of each run of equal columns with ink."""
    found, at = [], 0
    for value, group in itertools.groupby(line[14].tolist()):
        length = len(list(group))
        if value:
            found.append((value, at, at + length))
        at += length
    return found


def test_a_line_has_the_digits_of_its_text_at_the_gaps_asked_for():
    images, labels = bars()
    of = Strings(shortest=2, longest=6, gaps=(2, 5), width=120)
    lines, texts, first = composed(of)
    lengths, gaps = set(), set()
    for line, text, leader in zip(lines, texts, first, strict=True):
        shown = runs(line)
        numbers = [round(value) - 100 for value, *_ in shown]
        digits = text[text >= 0]
        assert numbers[0] == leader and labels[numbers].tolist() == digits.tolist()
        assert [end - start for _, start, end in shown] == WIDTHS[digits].tolist()
        assert (text[len(digits) :] == strings.ABSENT).all()
        gaps |= {b[1] - a[2] for a, b in itertools.pairwise(shown)}
        assert shown[0][1] >= strings.EDGE and shown[-1][2] <= 120 - strings.EDGE
        lengths.add(len(digits))
    assert gaps == {2, 3, 4, 5} and lengths == {2, 3, 4, 5, 6}
    places = {runs(line)[0][1] for line in lines}
    assert len(places) > 20  # a line begins anywhere


def test_what_overlaps_is_as_dark_as_the_darker():
    images, labels = np.zeros((2, 28, 28), np.uint8), np.array([3, 4], np.int32)
    images[0, 4:24, 8:14], images[1, 4:24, 10:18] = 90, 200
    of = Strings(shortest=2, longest=2, gaps=(-3, -3), width=48)
    lines, texts, _ = composed(of, digits=(images, labels))
    for line, text in zip(lines, texts, strict=True):
        widths = [end - start for _, start, end in runs(line)]
        assert widths == {(3, 4): [3, 8], (4, 3): [8, 3], (3, 3): [9], (4, 4): [13]}[tuple(text)]


def test_what_has_no_room_is_left_out():
    lines, texts, _ = composed(Strings(shortest=10, longest=10, gaps=(8, 8), width=64))
    for line, text in zip(lines, texts, strict=True):
        digits = text[text >= 0]
        assert 1 <= len(digits) < 6 and len(runs(line)) == len(digits)
        assert [end - start for _, start, end in runs(line)] == WIDTHS[digits].tolist()


def test_a_text_has_no_hole():
    """Where they overlap by more than their width a later digit may end before an earlier one."""
    of = Strings(shortest=10, longest=10, gaps=(-11, 8), width=64)
    _, texts, _ = composed(of)
    lengths = (texts >= 0).sum(axis=1)
    assert lengths.min() < lengths.max()
    for text, length in zip(texts, lengths, strict=True):
        assert (text[:length] >= 0).all()


def test_a_key_makes_the_same_line_whatever_is_beside_it():
    of = Strings(hand=Distortion(shear=0.3), strokes=0.5, width=96)
    ranges = Distortion(rotation=10.0, elastic=0.5)
    images, labels = bars()
    keys, first = jax.random.split(jax.random.key(1), 6), jnp.arange(6)
    data = jnp.asarray(images), jnp.asarray(labels)
    every, texts = strings.compose(of, ranges, keys, *data, first)
    some, some_texts = strings.compose(of, ranges, keys[3:5], *data, first[3:5])
    np.testing.assert_allclose(some, every[3:5], atol=1e-3)
    np.testing.assert_array_equal(some_texts, texts[3:5])
    assert len({line.tobytes() for line in np.asarray(every)}) == 6


def slants(of, ranges=PLAIN):
    """How the three bars of each line lean, where each stands free."""
    lines, _, _ = composed(of, ranges, number=30)

    def lean(line, start, end):
        rows = np.arange(6, 22)
        part = line[rows, start:end]
        middles = (part @ np.arange(start, end)) / part.sum(axis=1)
        return np.polyfit(rows, middles, 1)[0]

    for line in lines:
        columns = np.flatnonzero(line.max(axis=0) > 1)
        cuts = np.flatnonzero(np.diff(columns) > 1)
        starts, ends = [columns[0], *columns[cuts + 1]], [*columns[cuts] + 1, columns[-1] + 1]
        if len(starts) == 3:
            yield [lean(line, start, end) for start, end in zip(starts, ends, strict=True)]


def test_one_hand_slants_all_digits_of_a_line_alike():
    of = Strings(shortest=3, longest=3, gaps=(6, 6), width=96, hand=Distortion(shear=0.4))
    found = np.array(list(slants(of)))
    assert len(found) > 10 and np.ptp(found.mean(axis=1)) > 0.4
    assert np.ptp(found, axis=1).max() < 0.06


def test_each_digit_of_a_line_is_distorted_by_itself():
    of = Strings(shortest=3, longest=3, gaps=(9, 9), width=96)
    found = np.array(list(slants(of, Distortion(shear=0.4))))
    assert len(found) > 10
    assert np.abs(np.diff(np.sort(found, axis=1), axis=1)).min(axis=1).mean() > 0.05


def test_a_line_may_rise_or_fall():
    images, labels = bars(brightness=200)
    of = Strings(shortest=8, longest=8, gaps=(8, 8), width=160, slope=0.05)
    lines, _, _ = composed(of, digits=(images, labels), number=60)
    falls = []
    for line in lines:
        shown = np.flatnonzero(line.max(axis=0))
        tops = np.where(line[:, shown] > 0, np.arange(28)[:, None], 99).min(axis=0)
        fall, at_the_middle = np.polyfit(shown - shown.mean(), tops, 1)
        falls.append(fall)
        assert abs(at_the_middle - 4) < 1
    assert -0.06 < min(falls) < -0.02 and 0.02 < max(falls) < 0.06


def test_strokes_of_other_lines_reach_in_from_above_and_below():
    plain = Strings(shortest=1, longest=1, width=96)
    with_strokes = Strings(shortest=1, longest=1, width=96, strokes=1.0)
    images, labels = bars()
    for n, image in enumerate(images):  # of different heights
        image[: 4 + n % 7] = image[24 - n % 5 :] = 0
    without, texts, _ = composed(plain, number=50, digits=(images, labels))
    lines, same, _ = composed(with_strokes, number=50, digits=(images, labels))
    np.testing.assert_array_equal(texts, same)
    added = (lines != without).any(axis=(0, 2))
    assert added[: strings.REACH].all() and added[-strings.REACH :].all()
    assert not added[strings.REACH : -strings.REACH].any()


def test_a_centred_digit_is_in_the_middle_and_has_neighbours():
    images, labels = bars()
    lines, found, first = composed(Strings(examples="centred", gaps=(2, 4)), number=400)
    assert lines.shape == (400, 28, 28)
    blank = found == strings.BLANK
    assert 0.18 < blank.mean() < 0.32
    np.testing.assert_array_equal(found[~blank], labels[first[~blank]])
    for line, is_blank, leader in zip(lines, blank, first, strict=True):
        middle = [run for run in runs(line) if run[1] <= 14 < run[2]]
        numbers = [round(value) - 100 for value, *_ in runs(line)]
        if is_blank:
            assert not any(run[1] < 12 and run[2] > 16 for run in middle)
            assert len(numbers) == 2
        else:
            assert len(numbers) <= 3
            own = [(a, b) for value, a, b in runs(line) if round(value) == 100 + leader]
            assert min(abs((a + b) / 2 - 14) for a, b in own) <= strings.OFF + 0.5


def test_noise_inverts_a_share_of_the_pixels_of_a_line():
    of = Strings(shortest=1, longest=3, width=96)
    clean, _, _ = composed(of, number=20)
    noisy, _, _ = composed(of, Distortion(inverted=0.1), number=20)
    changed = noisy != clean
    assert 0.09 < changed.mean() < 0.11
    np.testing.assert_array_equal(noisy[changed], 255 - clean[changed])


def whole():
    train, test = bars(30, 100), bars(10, 200)
    held_out = Images(*bars(10, 150))
    return Dataset("bars", "made", "0" * 64, Images(*train), held_out, Images(*test))


def test_held_out_strings_are_of_held_out_digits():
    of = Strings(longest=4, width=96, gaps=(2, 4))
    data = strings.of(whole(), of, Distortion(rotation=20.0))
    assert data.train is not None and data.train.images.shape == (30, 28, 28)
    assert data.shape == (28, 96) == of.shape and data.classes == 11
    for part, low in ((data.validation, 150), (data.test, 200)):
        assert part.images.shape == (10, 28, 96) and part.labels.shape == (10, 4)
        values = np.unique(np.asarray(part.images))
        assert set(values) - {0} <= set(range(low, low + 10))  # as they are, none of another part
    again = strings.of(whole(), of, Distortion())
    np.testing.assert_array_equal(again.test.images, data.test.images)


def texts_of(*given, length=4):
    return jnp.array([[*text, *[-1] * (length - len(text))] for text in given], jnp.int32)


def test_the_loss_over_all_paths_is_ctc():
    scores = -jnp.asarray(np.random.default_rng(0).uniform(0, 40, (3, 1, 9, 11)), jnp.float32)
    texts = texts_of((1, 1, 2), (), (7,))
    ends = (texts < 0).astype(np.float32)
    expected = optax.ctc_loss(
        scores[:, 0], np.zeros((3, 9)), np.maximum(texts, 0), ends, blank_id=strings.BLANK
    )
    found = losses.per_example(Discriminative())(scores, texts)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0).all()


def test_the_loss_of_the_best_path_is_nothing_once_that_is_the_right_one():
    best = np.array([[10, 3, 3, 10, 3], [5, 10, 6, 6, 10]])
    scores = np.full((2, 1, 5, 11), -30.0, np.float32)
    np.put_along_axis(scores[:, 0], best[..., None], -1.0, axis=2)
    loss = losses.per_example(Discriminative("best"))
    np.testing.assert_allclose(loss(jnp.asarray(scores), texts_of((3, 3), (5, 6))), 0, atol=1e-4)
    # One digit more has to be paid for where it costs least: a position of -30 in place of -1.
    np.testing.assert_allclose(loss(jnp.asarray(scores), texts_of((3,), (5, 6, 1))), 29, rtol=1e-5)
    of_all = losses.per_example(Discriminative())
    assert (of_all(jnp.asarray(scores), texts_of((3,), (5, 6, 1))) > 28).all()


def test_which_strings_are_right():
    best = jnp.array([[10, 3, 3, 10, 3], [5, 10, 6, 6, 10], [10] * 5, [1, 2, 1, 2, 1]])
    scores = jax.nn.one_hot(best, 11)[:, None]
    given = texts_of((3, 3), (5, 6), (), (1, 2, 1, 2))
    np.testing.assert_array_equal(scoring.right(scores, given), [True, True, True, False])
    wrong = texts_of((3,), (5, 6, 6), (1,), (1, 2, 1))
    assert not scoring.right(scores, wrong).any()
    assert not scoring.right(scores, jnp.full((4, 4), scoring.NEITHER)).any()


@pytest.mark.parametrize("height, width", [(32, 200), (32, 33), (44, 61)])
def test_over_a_line_it_is_the_network_at_each_place(height, width):
    _, params = pretrained.load("lenet5-best")
    network = LeNet5(classes=11, blank=True)
    rng = np.random.default_rng(0)
    image = np.where(rng.random((1, height, width)) < 0.2, rng.random((1, height, width)), 0)
    image = jnp.asarray(BACKGROUND + 1.2 * image, jnp.float32)
    scores, _ = network.apply({"params": params}, image)
    rows, columns = (height - 32) // 4 + 1, (width - 32) // 4 + 1
    if (rows, columns) == (1, 1):
        scores = scores[:, None, None]
    assert scores.shape == (1, rows, columns, 11)
    places = [(4 * row, 4 * column) for row in range(rows) for column in range(columns)]
    windows = jnp.concatenate([image[:, y : y + 32, x : x + 32] for y, x in places])
    alone, _ = network.apply({"params": params}, windows)
    np.testing.assert_allclose(scores.reshape(-1, 11), alone, rtol=1e-4, atol=1e-3)


def test_the_blank_has_the_code_of_the_space():
    network = LeNet5(classes=11, blank=True)
    table = np.array(network.code_table())
    np.testing.assert_array_equal(table[10], -np.ones(84))
    np.testing.assert_array_equal(table[:10], codes())
    assert LeNet5(classes=11).code_table() is None


def test_each_digit_leads_a_string_of_its_own_in_an_epoch():
    experiment, of = Experiment(**SDNN), SDNN["strings"]
    mesh = replicas.mesh(jax.devices()[:1])
    recipe = step.recipe(experiment, 40, mesh, of.shape)
    images, labels = map(jnp.asarray, bars())
    key, samples = jax.random.key(3), jnp.array([7, 1, 39, step.ABSENT])
    lines, texts = step.composed(recipe, of, key, 1, samples, images, labels)
    np.testing.assert_array_equal(texts[:3, 0], labels[samples[:3]])
    some, _ = step.composed(recipe, of, key, 1, samples[1:2], images, labels)
    np.testing.assert_array_equal(some[0], lines[1])
    others, _ = step.composed(recipe, of, key, 2, samples, images, labels)
    assert (np.asarray(lines != others).any(axis=(1, 2))).all()


SDNN: dict[str, Any] = {
    "name": "lines",
    "model": LeNet5(blank=True),
    "loss": Discriminative(),
    "optimizer": Muon(learning_rate=0.01, adam_learning_rate=0.01),
    "data": Data("uci-digits", validation=100, limit=200),
    "strings": Strings(longest=3, width=72),
    "batch_size": 16,
}


def test_a_network_is_trained_on_strings_and_goes_on_where_it_was(tmp_path):
    experiment = Experiment(epochs=3, **SDNN)
    data = dataset.of(experiment.data)
    run = loop.train(experiment, data, tmp_path / "whole", lambda _: None, quiet=True)
    assert [row["epoch"] for row in run.rows] == [1, 2, 3]
    assert run.rows[2]["loss"] < 0.5 * run.rows[0]["loss"]
    assert run.record["test_size"] == len(data.test) and run.record["validation_size"] == 100
    assert serialization.from_json(serialization.as_json(experiment)) == experiment
    shown = strings.fixed(SDNN["strings"], PLAIN, data.train)
    network = networks.load(str(tmp_path / "whole"))
    read = measured.read(network, np.asarray(shown.images))
    wrong = measured.as_json("", shown, read)["errors"]
    assert run.record["train_errors"] == wrong and 0 < wrong < len(shown) == 200

    asked = itertools.count()
    with pytest.raises(loop.Interrupted):
        loop.train(
            experiment, data, tmp_path / "cut", lambda _: None, lambda: next(asked) > 1, quiet=True
        )
    again = loop.train(experiment, data, tmp_path / "cut", lambda _: None, quiet=True)
    for one, other in zip(*map(jax.tree.leaves, (run.params, again.params)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.rows == run.rows


def test_every_epoch_has_strings_of_its_own(tmp_path):
    still: dict[str, Any] = {"optimizer": Muon(learning_rate=1e-9, adam_learning_rate=1e-9)}
    experiment = Experiment(epochs=2, **(SDNN | still))
    run = loop.train(experiment, dataset.of(experiment.data), tmp_path, lambda _: None, quiet=True)
    first, second = (row["loss"] for row in run.rows)
    assert abs(first - second) > 1e-3 * first


def test_centred_examples_are_trained_on_as_any(tmp_path):
    more = {"strings": Strings(examples="centred"), "loss": MAP(), "name": "centred"}
    experiment = Experiment(epochs=1, **(SDNN | more))
    run = loop.train(experiment, dataset.of(experiment.data), tmp_path, lambda _: None, quiet=True)
    assert run.rows[0]["test_errors"] <= run.record["test_size"]


@pytest.mark.parametrize(
    "more, said",
    [
        ({"loss": MAP()}, "Discriminative is for whole strings"),
        ({"strings": None}, "Discriminative is for whole strings"),
        ({"model": LeNet5()}, r"LeNet5\(blank=True\)"),
        ({"data": Data("shapes")}, "made of digits alone"),
        ({"distortion": Distortion(versions=3)}, "versions and shifted out"),
        ({"optimizer": SDLM()}, "SDLM does not go with strings"),
    ],
)
def test_what_does_not_go_with_strings(more, said):
    with pytest.raises(UserError, match=said):
        Experiment(**(SDNN | more))


@pytest.mark.parametrize(
    "more, said",
    [
        ({"longest": 41}, "strings.longest is 41, allowed is 1 to 40"),
        ({"shortest": 11}, "strings.shortest is 11, allowed is 1 to 10"),
        ({"gaps": (4, -1)}, "strings.gaps is 4 -1"),
        ({"width": 50}, "strings.width is 50, allowed is a multiple of 4"),
        ({"slope": 1.0}, "strings.slope is 1.0"),
        ({"strokes": 2.0}, "strings.strokes is 2.0"),
        ({"examples": "half"}, "examples is 'half'"),
    ],
)
def test_numbers_of_strings_that_are_not_allowed(more, said):
    with pytest.raises(UserError, match=said):
        Strings(**more)


# ---- the programs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strings") / "run"
    experiment = Experiment(epochs=2, **SDNN)
    loop.train(experiment, dataset.of(experiment.data), folder, lambda _: None, quiet=True)
    return folder


def test_evaluate_counts_strings_by_their_length(run, tmp_path, program):
    done = program("evaluate", run, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "evaluation.json").read_text())
    rows = record["by_length"]
    assert [row["length"] for row in rows] == [1, 2, 3]
    assert sum(row["size"] for row in rows) == record["size"] > 100
    assert sum(row["errors"] for row in rows) == record["errors"] == len(record["wrong"])
    assert f"{record['errors']:,} of {record['size']:,} strings misread" in done.stdout
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["errors"] == row["test_errors"]  # the same strings, read the same way
    for _, right, read in record["wrong"]:
        assert right != read and 1 <= len(right) <= 3


def test_python_gives_its_scores_and_refuses_the_rest(run):
    found = lenet_jax.load(run)
    lines = np.zeros((130, *found.shape), np.uint8)  # more than a block
    assert found.scores(lines).shape == (130, 1, (72 + 4 - 32) // 4 + 1, 11)
    for refused in (
        lambda: found.predict(lines),
        lambda: found.evaluate(lines, np.zeros(130, int)),
        lambda: found.recognize(lines[0]),
        lambda: found.classify(lines[0]),
        lambda: lenet_jax.recognize(lines[0], str(run)),
    ):
        with pytest.raises(UserError, match="was trained on strings of digits"):
            refused()


@pytest.mark.parametrize("verb", ["predict", "visualize", "export", "serve", "evaluate"])
def test_verbs_of_single_digits_refuse_it(run, verb, before_jax, tmp_path):
    given = {
        "predict": [tmp_path / "a.png", "--network", run],
        "evaluate": [run, "--pictures", tmp_path],
    }.get(verb, ["--network", run])
    (tmp_path / "a.png").write_bytes(b"")
    done = before_jax(verb, *given)
    assert done.returncode == 2 and "was trained on strings of digits" in done.stderr
