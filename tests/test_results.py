"""Statistics, rejection, robustness and the page, each against numbers worked out by hand."""

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

import lenet_jax
from lenet_jax import commandline, pretrained, reproduce
from lenet_jax.data import dataset
from lenet_jax.data import digits as embedded
from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    MAP,
    SGD,
    Data,
    Experiment,
    Muon,
    SquaredError,
    serialization,
)
from lenet_jax.experiment import pages as loading
from lenet_jax.layers.convolution import Convolution
from lenet_jax.layers.inputs import normalize
from lenet_jax.measurement import records, rejection, robustness
from lenet_jax.models.connected import FullyConnected
from lenet_jax.models.lenet import TABLE_I, LeNet5
from lenet_jax.native import library
from lenet_jax.recognition import answers, networks
from lenet_jax.recognition.predictor import predictor
from lenet_jax.reports import family, published, results
from lenet_jax.reproduction import sets, systems
from lenet_jax.training import loop, replicas


def test_the_interval_is_that_of_a_t_test():
    values = [0.9, 1.1, 1.0, 0.8]
    found = records.interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.95)
    assert found["sd"] == pytest.approx(math.sqrt(0.05 / 3))
    assert found["ci95"] == pytest.approx((high - low) / 2)


def test_fewer_than_three_values_stand_for_themselves():
    assert records.interval([1.0]) == {"mean": 1.0, "sd": None, "ci95": None}
    assert records.interval([1.0, 2.0]) == {"mean": 1.5, "sd": None, "ci95": None}
    assert records.interval([1.0, 2.0, 3.0])["ci95"] == pytest.approx(4.30265 / math.sqrt(3))
    assert records.shown([0.81]) == "0.81"
    assert records.shown([0.97, 0.81]) == "0.97, 0.81"
    assert records.shown([1.0, 2.0, 3.0]) == "2.00 +- 2.48"
    assert records.shown([1.0, 2.0, 3.0], 4) == "2.0000 +- 2.4841"
    two = {"errors": [97, 81], "test_size": 10_000}
    assert records.error_rates(two) == [0.97, 0.81]


def test_three_networks_alone_averaged_and_voting():
    labels = np.array([0, 1, 2, 0, 2], np.int32)
    scores = np.array(
        [
            [[9, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]],  # errors 1, 3, 4
            [[0, 1, 0], [0, 9, 0], [0, 0, 1], [2, 0, 0], [0, 0, 2]],  # 0
            [[0, 1, 0], [1, 0, 0], [9, 0, 0], [2, 0, 0], [0, 0, 2]],  # 0, 1, 2
        ],
        np.float32,
    )
    images = np.zeros((5, 28, 28), np.uint8)
    nothing = dataset.Images(images[:0], labels[:0])
    data = dataset.Dataset("x", "", "sum", nothing, nothing, dataset.Images(images, labels))
    found = records.of_scores(
        scores,
        data,
        experiment="x",
        variant="",
        seeds=[4, 5, 6],
        epochs=1,
        train_errors=[0, 0, 0],
        wall_seconds=0,
        config={},
    )
    assert found["errors"] == [3, 1, 3]
    assert found["wrong"][0] == [[1, 1, 0], [3, 0, 1], [4, 2, 1]]
    assert found["error_percent"]["mean"] == pytest.approx(100 * 7 / 15)
    # The mean scores error example 2 alone. Of three votes 0 and 1 lose two.
    assert found["ensemble_errors"] == 1 and found["vote_errors"] == 2
    # The first is right by 9 in one place, and four times decided by 1; the second errors one of
    # two where it decides by 1; the third is wrong where it is surest.
    assert found["rejected_percent_for_half_percent_error"] == [80, 40, 100]
    assert found["data_sha256"] == "sum" and found["seeds"] == [4, 5, 6]


def test_a_measurement_says_its_source_command_and_day(tmp_path, monkeypatch):
    def git(*arguments):
        name = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        command = ["git", "-C", tmp_path, *name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "lenet_jax"
    files = {name: package / f"{name}.py" for name in ("__init__", "measurement/records", "train")}
    for file in files.values():
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    kernels = package / "native" / "kernels.cc"
    kernels.parent.mkdir()
    kernels.write_text("")
    monkeypatch.setattr(lenet_jax, "__file__", str(files["__init__"]))
    monkeypatch.setattr(records, "__file__", str(files["measurement/records"]))
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "x", "one two"])
    git("init")
    (tmp_path / "other").write_text("")
    git("add", "other")
    git("commit", "-m", "x")
    assert records.origin()["commit"] is None  # there is a repository, and it is another's
    git("add", ".")
    git("commit", "-m", "x")
    found = records.origin()
    assert found["commit"] == git("rev-parse", "--short=12", "HEAD")
    assert found["command"] == "python -m x 'one two'"
    assert found["date"] in {str(datetime.now(UTC).date() - timedelta(days=n)) for n in (0, 1)}
    (tmp_path / "other").write_text("no source")
    assert records.origin()["commit"] == found["commit"]
    files["train"].write_text("epoch")
    assert records.origin()["commit"] == found["commit"] + "+"
    git("checkout", ".")
    assert records.origin()["commit"] == found["commit"]
    kernels.write_text("// other ones")
    assert records.origin()["commit"] == found["commit"] + "+"


def test_seconds_are_those_of_all_epochs_and_programs(tmp_path):
    rows = [
        '{"epoch": 1, "images_per_second": 100}',
        '{"epoch": 2, "images_per_second": 9}',  # of a program that was killed then
        '{"epoch": 2, "images_per_second": 50}',
        '{"epoch": 3, "images_per_second": 200}',
    ]
    (tmp_path / "times.jsonl").write_text("\n".join(rows) + "\n")
    record = {"seeds": [0, 1], "train_size": 500}
    run = loop.Result(record, [], tmp_path, None, None)  # type: ignore[arg-type]
    assert records.seconds(run) == 10 + 20 + 5


def test_margins_are_between_the_two_best():
    scores = np.array([[[-3.0, -1.0, -9.0], [5.0, 5.0, 1.0]], [[0.0, -2.0, -0.5], [1.0, 2.0, 4.0]]])
    np.testing.assert_array_equal(answers.margins(scores), [[2, 0], [0.5, 2]])
    np.testing.assert_array_equal(answers.margins(scores, j=0.25), [[-0.75, 0], [0.25, 2]])


def test_confidences_by_hand():
    """Shares of 9, 3 and, for rubbish, 1: odds of 9 to 4, and of their root doubled."""
    scores = np.log([[9.0, 3.0, 1e-30]])
    one = answers.confidences(scores, answers.Limits(j=0.0))
    np.testing.assert_allclose(one, 9 / (9 + 3 + 1))
    two = answers.confidences(scores, answers.Limits(j=0.0, slope=0.5, offset=np.log(2)))
    np.testing.assert_allclose(two, 3 / 4)  # 2 times 3 to 2
    np.testing.assert_allclose(answers.confidences(scores, answers.Limits()), 9 / 12)


def test_errors_left_when_the_closest_calls_are_rejected():
    margins = np.array([4.0, 1.0, 3.0, 2.0])
    wrong = np.array([False, True, False, True])
    left = rejection.error_rates_left(margins, wrong)
    np.testing.assert_allclose(left, [50, 100 / 3, 0, 0])
    assert rejection.needed(margins, wrong, 40.0) == 25.0
    assert rejection.needed(margins, wrong) == 50.0
    assert rejection.needed(margins, ~wrong) == 100.0
    assert rejection.needed(margins, np.zeros(4, bool)) == 0.0


def test_the_threshold_rejects_what_is_needed():
    margins = np.array([4.0, 1.0, 3.0, 2.0])
    wrong = np.array([False, True, False, True])
    assert rejection.threshold(margins, wrong) == 3.0  # 1 and 2 are below it
    assert rejection.threshold(margins, wrong, 40.0) == 2.0
    assert rejection.threshold(margins, np.zeros(4, bool)) == 0.0
    assert rejection.threshold(margins, ~wrong) == math.inf


def test_equal_margins_are_rejected_together():
    margins = np.array([1.0, 1.0, 1.0, 2.0])
    wrong = np.array([True, False, False, False])
    np.testing.assert_allclose(rejection.error_rates_left(margins, wrong), [25, 25, 25, 0])
    assert rejection.needed(margins, wrong, 10.0) == 75.0


def test_changes_go_the_way_their_names_log(digits):
    image = np.array(digits[0][7])
    image[:4] = image[-4:] = image[:, :4] = image[:, -4:] = 0  # nothing leaves the picture

    def changed(kind, level):
        return np.asarray(robustness._changed(kind, np.float32(level), image[None]))[0]

    np.testing.assert_array_equal(changed("rotation", 90), np.rot90(image))
    np.testing.assert_array_equal(changed("shift", 3), np.roll(image, 3, axis=0))
    height, width = (np.ptp(places) + 1 for places in np.nonzero(image > 60))
    for kind, level, rows, columns in (("scale", 0.5, 0.5, 0.5), ("squeeze", 0.5, 2.0, 0.5)):
        found = [np.ptp(places) + 1 for places in np.nonzero(changed(kind, level) > 60)]
        assert found == pytest.approx([min(28, rows * height), columns * width], abs=2.5)


@pytest.mark.parametrize("kind", robustness.LEVELS)
def test_the_levels_of_a_change_are_even_and_hold_none(kind):
    """Evenly apart; squeezed by a factor as by its inverse."""
    levels = np.array(robustness.LEVELS[kind])
    unchanged = 1.0 if kind in ("scale", "squeeze") else 0.0
    assert unchanged in levels and (np.diff(levels) > 0).all()
    if kind == "squeeze":
        np.testing.assert_allclose(levels * levels[::-1], 1, atol=0.01)
    else:
        np.testing.assert_allclose(np.diff(levels), levels[1] - levels[0])


def test_quick_takes_the_embedded_digits_with_mnist_at_hand_too(prepared_mnist, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_mnist))
    for flags, name, size in (["--quick"], "uci-digits", 1000), ([], "mnist", 60_000):
        given = reproduce.parse(flags)
        data = sets.data_of(sets.prepared(*sets.reproduced()["classic"], given), given.quick, print)
        assert (data.name, len(data.train)) == (name, size)


def test_the_variance_of_mnist_in_the_frame_is_what_paper_md_says(prepared_mnist):
    data = dataset.load(prepared_mnist, fallback="none", log=lambda _: None)
    shown = np.asarray(normalize(jnp.asarray(data.train.images[::20])), np.float64)
    assert shown.var() == pytest.approx(0.12, abs=0.005)


def numbers(tree):
    """Every number of a tree in JSON's types, in its order."""
    if isinstance(tree, dict | list):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [number for part in parts for number in numbers(part)]
    return [tree] if isinstance(tree, int | float) and not isinstance(tree, bool) else []


def test_new_words_left_the_numbers_alone():
    """Records and cards have the numbers that those of version 0.1.0 had.

    Less the paper's error in six of one thing changed, which it never measured. A file that is
    measured again leaves the list.
    """
    listed = json.loads((ROOT / "tests" / "numbers_0_1_0.json").read_text())
    for name, sha256 in listed.items():
        (file,) = [
            f for f in ROOT.glob(f"*/**/{name}") if f.parent.name in ("results", "pretrained")
        ]
        found = json.dumps(numbers(json.loads(file.read_text()))).encode()
        assert hashlib.sha256(found).hexdigest() == sha256, name


once = pytest.mark.xdist_group("quick")  # one process runs the set for all of these


@pytest.fixture(scope="module")
def quick(tmp_path_factory, program):
    """The set on the embedded digits, stopped once on the way."""
    out = tmp_path_factory.mktemp("quick")
    with program("reproduce", "--quick", "--out", out, start=True) as process:
        for line in process.stderr:
            if "epoch 1/2 begun" in line:
                process.send_signal(signal.SIGTERM)
                break
        told = process.stderr.read()
        assert process.wait() == 42 and "give the same command" in told, told
    assert not (out / "results").exists()
    done = program("reproduce", "--quick", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def record(out, name="classic"):
    return json.loads((out / "results" / f"{name}.json").read_text())


@pytest.fixture
def here(monkeypatch):
    """The command in this process, whose jax has been set up."""
    monkeypatch.setattr(commandline, "set_up_jax", lambda: None)
    return reproduce.main


@once
def test_a_record_holds_what_was_measured(quick):
    found = record(quick)
    run = quick / "runs" / "reproduce" / "classic"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert found["dataset"] == "uci-digits" and found["seeds"] == [0, 1] and found["epochs"] == 2
    assert found["errors"] == rows[-1]["test_errors"] == found["curve"]["test_errors"][-1]
    assert found["train_errors"] == rows[-1]["train_errors"]
    size = found["test_size"]
    mean = sum(found["errors"]) / 6  # of two seeds and 300 digits, in percent
    assert found["error_percent"] == {"mean": pytest.approx(mean), "sd": None, "ci95": None}
    assert [len(wrong) for wrong in found["wrong"]] == found["errors"]
    labels = embedded.load()["test_labels"]
    for at, true, prediction in found["wrong"][0]:
        assert labels[at] == true != prediction
    # Nothing rejected, and nothing changed, is the test error itself.
    error = [100 * n / size for n in found["errors"]]
    assert found["rejection"]["error_percent"][0] == pytest.approx(error, abs=1e-4)
    unchanged = {"rotation": 0, "scale": 1, "shift": 0, "squeeze": 1, "noise": 0}
    for kind, level in unchanged.items():
        levels = found["robustness"][kind]
        assert levels["errors"][levels["levels"].index(level)] == found["errors"]
        assert max(map(max, levels["errors"])) > max(found["errors"])
    times = [json.loads(line) for line in (run / "times.jsonl").read_text().splitlines()]
    seconds = sum(2 * 1000 / row["images_per_second"] for row in times)
    assert found["wall_seconds"] == round(seconds)
    assert found["kernels"] == library.kind()
    assert found["hardware"] and found["versions"]["jax"] == jax.__version__
    assert (
        found["command"] == f"python -m lenet_jax.reproduce --quick --out {quick.name}"
    )  # of a path the name
    assert found["config"]["batch_size"] == 1 and found["config"]["is"] == "Experiment"
    assert record(quick, "classic-30k")["train_size"] == 500


def cells(page, heading):
    """The rows of the table under a line that begins so, by their first cell."""
    table = page[page.index(heading) :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {first: rest for first, *rest in rows}


def by_scipy(values):
    """Mean and half its 95 % interval, and the deviation; of fewer than three the values."""
    if len(values) < 3:
        return ", ".join(f"{value:.2f}" for value in values), ""
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return f"{np.mean(values):.2f} +- {(high - low) / 2:.2f}", f"{stats.tstd(values):.2f}"


# Percent, of the paper: in the text, Fig. 6 and Fig. 10.
PUBLISHED = {
    "classic": "0.95 (section III-B)",
    "15,000 examples": "1.68 (Fig. 6)",
    "30,000 examples": "1.14 (Fig. 6)",
    "distorted": "0.8 (section III-B)",
    "distorted, rejected for 0.5 %, found on the test digits": "1.8 (Fig. 10, LeNet-4)",
}


def check_page(page, records, published):
    """Every number of RESULTS.md, from the counts in the records."""
    rows = cells(page, "| | the paper")
    for name, file, what, *_ in results.ROWS:
        if file not in records:
            assert name not in rows
            continue
        paper, _, ours, sd, seeds, values = rows[name]
        found = records[file]
        assert paper == (PUBLISHED.get(name, "") if published else "")
        if what == "ensemble":
            one = 100 * found["ensemble_errors"] / found["test_size"]
            assert (ours, sd, seeds) == (f"{one:.2f}", "", f"{len(found['seeds'])} together")
            assert values == str(found["ensemble_errors"])
            continue
        if what == "rejected":
            each = found["rejected_percent_for_half_percent_error"]
            assert values == ", ".join(str(round(one, 2)) for one in each)
        else:
            each = [100 * n / found["test_size"] for n in found["errors"]]
            assert values == ", ".join(map(str, found["errors"]))
        assert ((ours, sd), seeds) == (by_scipy(each), str(len(found["seeds"])))
    rows = cells(page, "| experiment | test error")
    assert set(rows) == {n for n in records if n.partition("-")[0] in ("classic", "distorted")}
    for name, (ours, sd, train, seeds, values) in rows.items():
        found = records[name]
        each = [100 * n / found["test_size"] for n in found["errors"]]
        assert ((ours, sd), seeds) == (by_scipy(each), str(len(found["seeds"])))
        wrong = sum(found["train_errors"]) / len(found["seeds"]) / found["train_size"]
        assert train == f"{100 * wrong:.2f}"
        assert values == ", ".join(map(str, found["errors"]))


@once
def test_the_page_shows_the_records_and_no_paper_beside_other_data(quick):
    page = (quick / "RESULTS.md").read_text()
    names = "classic", "classic-30k"
    check_page(page, {name: record(quick, name) for name in names}, published=False)
    assert "uci-digits" in page and "mnist" not in page and "0.95" not in page
    for name in ("fig5", "fig6", "fig10", "fig13"):
        assert f"results/{name}.png" in page
        assert (quick / "results" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_committed_page_is_of_the_committed_records():
    names = [page.name for page, how in sets.reproduced().values() if how.set == "paper"]
    records = {name: record(ROOT, name) for name in names}
    check_page((ROOT / "RESULTS.md").read_text(), records, published=True)
    written = f"{results.table(records)}\n\n{results.ablations(records)}\n\n"
    check_page(written, records, published=True)


@once
def test_results_are_read_and_not_measured_again(quick, here, capsys):
    file = quick / "results" / "classic.json"
    before = file.stat().st_mtime_ns
    assert here(["--quick", "--out", str(quick)]) == 0
    told = capsys.readouterr()
    assert "to do" not in told.err and "2 of 13 experiments" in told.out
    assert file.stat().st_mtime_ns == before


@once
def test_a_record_of_another_configuration_or_other_data_is_refused(quick, here):
    with pytest.raises(UserError, match="classic.json does not match its experiment") as refused:
        here(["--quick", "--out", str(quick), "--seeds", "3"])
    assert "seeds: [2] there, [3] here" in str(refused.value)
    config_there = record(quick)["config"]
    with pytest.raises(UserError, match="dataset: 'uci-digits' there, 'mnist' here"):
        records.read(quick / "results" / "classic.json", config_there, "mnist")


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--only", "clasic"), "--only clasic: not in the set paper: best, classic,"),
        (("--quick", "--seeds", 4, 4), "4 once"),
        (("--quick", "--seeds", 0), "1 or more"),
        (("--only", "classic"), "no MNIST"),
    ],
)
def test_what_cannot_be_reproduced_is_said_at_once(program, tmp_path, flags, said):
    done = program("reproduce", *flags, "--out", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_more_seeds_than_memory_go_in_groups(monkeypatch, capsys):
    given = reproduce.parse(["--quick", "--seeds", "7", "3", "5"])
    experiment = sets.prepared(*sets.reproduced()["classic"], given)
    assert isinstance(experiment, Experiment)
    data = sets.data_of(experiment, True, print)
    assert systems.groups(experiment, data, print) == [experiment]
    monkeypatch.setattr(replicas, "memory_of", lambda _: 3.0 * 2**20)  # a network takes 1.4 MiB
    parts = systems.groups(experiment, data, print)
    assert [list(part.all_seeds) for part in parts] == [[7, 3], [5]]
    assert len({part.name for part in parts}) == 2
    assert "memory holds 2 networks, so 2 runs" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo (Linux)")
def test_the_hardware_is_named_by_its_processor_and_the_cores_in_use():
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if not models:
        pytest.skip("/proc/cpuinfo names no model (arm64)")
    used = min(4, os.cpu_count() or 1)  # of four devices here
    assert records.hardware() == f"{models[0]}, {used} core{'s' if used > 1 else ''}"


def test_a_damaged_record_is_refused_by_name(tmp_path):
    """Cut, changed in one number anywhere, or with anything gone."""
    file = tmp_path / "x.json"
    whole = json.loads((ROOT / "results" / "classic.json").read_text())
    config = serialization.as_json(serialization.from_json(whole["config"]))
    text = json.dumps(whole)
    damaged = ['{"config": ', "", "[]", "3", text[: len(text) // 2]]
    numbers = [found.span() for found in re.finditer(r"(?<![\w.-])\d+(?![\w.])", text)]
    assert len(numbers) > 1000
    for start, end in numbers[::50]:
        damaged.append(f"{text[:start]}{int(text[start:end]) + 1}{text[end:]}")
    for name in whole:
        damaged.append(json.dumps({key: value for key, value in whole.items() if key != name}))
    for content in damaged:
        file.write_text(content)
        with pytest.raises(UserError, match=re.escape(f"{file} is damaged")):
            records.read(file, config, "mnist")
    del whole["sha256"]
    records.write(file, whole)
    assert records.read(file, config, "mnist") == whole


# What the paper's figures show, in percent.
FIG_5 = """
    4.89/2.65 3.05/2.24 1.77/1.48 1.48/1.43 1.22/1.43 0.91/1.09 0.78/1.04 0.70/1.06 0.57/0.99
    0.49/0.96 0.47/0.96 0.44/0.99 0.41/0.96 0.39/0.96 0.39/0.96 0.39/0.96 0.39/0.96 0.36/0.96
    0.36/0.96 0.36/0.96
"""
# Test errors in percent: sections III-B and III-C, Fig. 9, and Nielsen's book, 100 - accuracy.
PUBLISHED_ERRORS = {
    **{"classic": 0.95, "classic:15k": 1.68, "classic:30k": 1.14, "distorted": 0.8},
    **{"lenet1": 1.7, "lenet4": 1.1, "lenet4:17k": 1.1, "boosted": 0.7},
    **{"fully_connected": 4.7, "fully_connected:300-distorted": 3.6},
    **{"fully_connected:1000": 4.5, "fully_connected:1000-distorted": 3.8},
    **{"fully_connected:300-100": 3.05, "fully_connected:300-100-distorted": 2.5},
    **{"fully_connected:500-150": 2.95, "fully_connected:500-150-distorted": 2.45},
    **{"fully_connected:1000-150": 2.95, "fully_connected:1000-150-distorted": 2.45},
    **{"baselines": 12.0, "baselines:linear-deslanted": 8.4, "baselines:pairwise": 7.6},
    **{
        "baselines:neighbours": 5.0,
        "baselines:neighbours-deslanted": 2.4,
        "baselines:quadratic": 3.3,
    },
    **{"baselines:rbf": 3.6, "baselines:svm": 1.1, "baselines:virtual-svm": 0.8},
    **{"nielsen": 2.20, "nielsen:conv": 1.22, "nielsen:two-conv": 0.94, "nielsen:relu": 0.77},
    **{"nielsen:expanded": 0.63, "nielsen:wide": 0.57, "nielsen:doubled": 0.57},
    **{"nielsen:dropout": 0.40, "nin": 0.47},
}
SAYS_NOTHING = {"classic:eq8", "classic:j30", "classic:printed", "classic:full-table"}
SAYS_NOTHING |= {"classic:reshuffled", "distorted:fresh"}  # one thing changed


def pages(chosen):
    given = reproduce.parse(["--set", chosen])
    for key, (page, how) in sets.reproduced().items():
        if how.set == chosen:
            yield key, sets.prepared(page, how, given)


SEEDS = {
    10: "best classic classic:15k classic:30k distorted",
    5: "classic:eq8 classic:j30 classic:printed classic:full-table classic:reshuffled "
    "distorted:fresh noise",
    3: "fast",
}
FAMILY_SEEDS = {
    5: "boosted lenet1 lenet4 lenet4:17k tutorial tutorial:table tutorial:linear "
    "tutorial:linear-tanh tutorial:linear-relu tutorial:gaussian tutorial:log-gaussian nielsen "
    "nielsen:dropout fully_connected fully_connected:300-distorted fully_connected:1000 "
    "fully_connected:1000-distorted fully_connected:300-100 fully_connected:300-100-distorted "
    "fully_connected:500-150 fully_connected:500-150-distorted fully_connected:1000-150 "
    "fully_connected:1000-150-distorted",
    2: "nielsen:conv nielsen:two-conv nielsen:relu nielsen:expanded nielsen:wide nielsen:doubled",
    1: "baselines baselines:linear-deslanted baselines:pairwise baselines:neighbours "
    "baselines:neighbours-deslanted baselines:quadratic baselines:rbf baselines:svm "
    "baselines:virtual-svm nin",
}


def test_every_page_of_the_package_says_its_set_and_its_seeds():
    found = sets.reproduced()
    others = {key for key in loading.every() if {key, key.split(":")[0]} & NOT_MNIST}
    assert set(found) == set(loading.every()) - others
    for chosen, seeds in ("paper", SEEDS), ("family", FAMILY_SEEDS):
        expected = {key: number for number, keys in seeds.items() for key in keys.split()}
        assert {k: how.seeds for k, (_, how) in found.items() if how.set == chosen} == expected
    quick = {key for key, (_, how) in found.items() if how.quick}
    assert quick == {
        *("classic", "classic:30k", "nielsen", "boosted", "baselines", "baselines:virtual-svm"),
    }
    shown = {key for key, (_, how) in found.items() if how.in_family}
    assert shown == {"best", "classic", "classic:full-table", "distorted"}
    kinds = list(dict.fromkeys(how.kind for _, how in found.values()))
    assert kinds == ["LeNet", "tutorials", "Nielsen", "fully connected", "descendants", "classical"]


def test_what_is_reproduced_is_the_packages_own(tmp_path, monkeypatch):
    """Also where a file of that name lies in the folder one is in."""
    (tmp_path / "classic").write_text("no page")
    monkeypatch.chdir(tmp_path)
    experiment, _ = sets.reproduced()["classic"]
    assert isinstance(experiment, Experiment) and experiment.page
    assert experiment.page.path == (ROOT / "experiments" / "classic.py").resolve()
    assert family.row(record(ROOT, "classic")).kind == "LeNet"


def test_a_variant_has_only_the_published_number_that_it_says():
    base = loading.load("classic")
    other = loading.variant(base, {"a": {"epochs": 3}, "b": {"paper": base.paper}}, "a")
    assert (other.name, other.epochs, other.paper, other.reproduced) == ("classic-a", 3, None, None)
    with_number = loading.variant(base, {"b": {"paper": base.paper}}, "b")
    assert with_number.paper == base.paper and with_number.reproduced is None


def test_what_was_published_is_what_stands_beside_ours():
    points = [point.split("/") for point in FIG_5.split()]
    assert published.FIG_5_TRAIN == tuple(float(train) for train, _ in points)
    assert published.FIG_5_TEST == tuple(float(test) for _, test in points)
    assert published.FIG_6 == {15_000: 1.68, 30_000: 1.14, 60_000: 0.94}
    assert published.FIG_6_DISTORTED == {60_000: 0.82}
    assert published.FIG_10 == {"LeNet-4": 1.8, "boosted LeNet-4": 0.5}
    found = {
        key: page.paper.test_error
        for chosen in sets.SETS
        for key, page in pages(chosen)
        if page.paper
    }
    tutorials = {key for key in found if key.startswith("tutorial")}
    assert {key: error for key, error in found.items() if key not in tutorials} == PUBLISHED_ERRORS
    trained = {key: page.paper.train_error for key, page in pages("paper") if page.paper}
    assert (trained["classic"], trained["classic:15k"], trained["classic:30k"]) == (
        0.35,
        0.05,
        0.31,
    )


@pytest.mark.parametrize("chosen", sets.SETS)
def test_pages_of_experiments_say_what_their_records_do(chosen):
    """In the page's own words or, of one thing changed, in PAPER.md's table."""
    beside = (ROOT / "PAPER.md").read_text()
    for key, page in pages(chosen):
        found = record(ROOT, page.name)
        each = [100 * n / found["test_size"] for n in found["errors"]]
        own = (ROOT / "experiments" / f"{key.partition(':')[0]}.py").read_text()
        if key == "classic:printed":
            *first, last = (f"{error:.0f}" for error in sorted(each))
            said = f"{', '.join(first)} and {last} %"
        elif found["experiment"] == "nielsen":
            said, _ = by_scipy([100 - error for error in each])
        else:
            said, _ = by_scipy(each)
        assert said in (own + beside if key in SAYS_NOTHING else own), key


def test_the_first_page_says_what_the_records_do():
    page = (ROOT / "README.md").read_text()
    for name, row in (
        ("classic", "this, mean of ten seeds"),
        ("distorted", "this, mean of ten seeds"),
        ("best", "the same network"),
    ):
        found = record(ROOT, name)
        said, _ = by_scipy([100 * n / found["test_size"] for n in found["errors"]])
        (line,) = [line for line in page.splitlines() if f"**{said} %**" in line and row in line]
        assert f"({min(found['errors'])} to {max(found['errors'])}" in line
        train = 100 * sum(found["train_errors"]) / len(found["seeds"]) / found["train_size"]
        assert f"{train:.2f} %" in line.split("|")[3]
        minutes, seconds = divmod(found["wall_seconds"], 60)
        assert f"{minutes} min {seconds} s" in page
    best = record(ROOT, "best")
    assert f"**{best['ensemble_errors'] / 100:.2f} %** ({best['ensemble_errors']})" in page
    shares = [f"{n / 100:.2f}" for n in record(ROOT, "fast")["errors"]]
    assert f"{shares[0]}, {shares[1]} and {shares[2]} %" in page


# By the programs of benchmarks/.
MEASURED_ALONE = {"speed", "growth", "profile", "reading", "reading-public", "rejection", "mutants"}
MEASURED_ALONE |= {"alexnet-speed", "pipeline", "speed-xla", "reader"}
MEASURED_ALONE |= {"alexnet-shapes", "zfnet-shapes", "classic-one", "hosts", "faults", "longrun"}
PROGRAMS = {"classic-one": "lenet_jax.reproduce --only classic --seeds 1", "faults": "tests.faults"}
PROGRAMS |= dict.fromkeys(("alexnet-shapes", "zfnet-shapes"), "benchmarks.shapes")
NOT_YET = {"gpu"}
NOT_MNIST = {
    "sdnn",  # strings of MNIST's digits
    "alexnet",
    "zfnet",
    "nin:cifar10",
    "nin:cifar100",
    "reader",
}  # which the sets measure alone


def test_every_experiment_has_its_record_and_no_other_lies_there():
    """Also those that were measured before the configuration got its newest fields."""
    expected = set()
    for chosen in sets.SETS:
        for _, page in pages(chosen):
            file = ROOT / "results" / f"{page.name}.json"
            found = records.read(file, serialization.as_json(page), "mnist")
            assert found["test_size"] == 10_000 and found["commit"] and found["hardware"]
            seeds = getattr(page, "all_seeds", [0])
            assert found["seeds"] == list(seeds) and len(found["errors"]) == len(seeds)
            if found["config"].get("reported") != "best-validation" and "wrong" in found:
                assert found["errors"] == [len(wrong) for wrong in found["wrong"]]
            expected.add(page.name)
    there = {file.stem for file in (ROOT / "results").glob("*.json")}
    assert len(expected) == 52 and not expected & (MEASURED_ALONE | NOT_YET)
    assert expected | MEASURED_ALONE <= there <= expected | MEASURED_ALONE | NOT_YET
    for name in there - expected:  # where no commit was recorded the file says so
        found = json.loads((ROOT / "results" / f"{name}.json").read_text())
        program = PROGRAMS.get(name, f"benchmarks.{name.split('-')[0]}")
        assert found["hardware"] and program in found["command"]
        assert found["commit"] or "recorded" in found["note"]


def test_the_seconds_of_one_network_are_its_records():
    found = json.loads((ROOT / "results" / "classic-one.json").read_text())
    assert found["config"]["name"] == "classic" and found["seeds"] == [0] and found["epochs"] == 20
    assert found["kernels"] == "native" and found["train_size"] == 60_000
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"alone takes {found['wall_seconds']} s with them, `results/classic-one.json`" in readme


def test_what_is_said_of_the_descendants_on_shapes_is_their_records():
    found = {
        name: json.loads((ROOT / "results" / f"{name}-shapes.json").read_text())
        for name in ("alexnet", "zfnet")
    }
    text = " ".join((ROOT / "docs" / "inside.md").read_text().split())
    (alex, theirs), (steps, fewer) = (
        [record[key] for record in found.values()] for key in ("errors", "first_steps")
    )
    epochs = [record["epochs"] for record in found.values()]
    assert epochs == [6, 3]
    assert f"misclassifies {alex[0]} of 2,000 test pictures after six epochs, ZFNet" in text
    assert f"ZFNet {theirs[0]} after three" in text
    dead = [record["never_above_0"] for record in found.values()]
    assert [each["conv1"] for each in dead] == [0, 0]  # "No map of conv1 is dead"
    assert f"all but {dead[0]['conv5']} of AlexNet's {found['alexnet']['maps']['conv5']}" in text
    assert f"all but {dead[1]['conv5']} of ZFNet's" in text
    fine = [f"{100 * record['first_too_fine']:.0f} %" for record in found.values()]
    white = [f"{100 * (1 - 1 / n**2):.0f} %" for n in (steps, fewer)]
    assert (
        f"AlexNet's {fine[0]} of the power is too fine for steps of {steps}, where white noise has "
        f"{white[0]}, of ZFNet's {fine[1]} for steps of {fewer}, of {white[1]}" in text
    )
    rates = [100 * record["errors"][0] / record["test_size"] for record in found.values()]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"misclassify {rates[0]:.2f} and {rates[1]:.2f} % (one seed, six and three" in readme
    page = (ROOT / "FAMILY.md").read_text()
    for name, record in found.items():
        assert record["dataset"] == "shapes" and record["test_size"] == 2_000
        assert (ROOT / "experiments" / f"{name}.py").read_text().count(
            f"{record['errors'][0]} of 2,000 test pictures wrong"
        ) == 1
        counts = f"{record['parameters']:,} | {record['multiply_adds']:,}"
        assert (
            f"| {name} | {counts} | {100 * record['errors'][0] / 2_000:.2f} | "
            f"{record['epochs']} | {record['errors'][0]} |" in page
        )
    assert found["alexnet"]["parameters"] == 60_965_224 - 990 * 4_097
    assert found["zfnet"]["parameters"] == 62_357_608 - 990 * 4_097


def test_the_networks_that_reproduce_saves(tmp_path, monkeypatch):
    """Trained, saved and their threshold found for real; on embedded digits, and with --out away
    from the package.

    The threshold is asked for of digits held out, and of no others.
    """
    asked: dict[str, Any] = {}
    real = records.reject_below

    def reject_below(run, held_out):
        asked.update(run=run, images=held_out, below=real(run, held_out))
        return asked["below"]

    def of(asked, log, real=dataset.of):
        return real(Data("uci-digits", limit=200, validation=300 if asked.validation else 0))

    monkeypatch.setattr(records, "reject_below", reject_below)
    monkeypatch.setattr(dataset, "of", of)
    given = reproduce.parse(["--out", str(tmp_path), "--seeds", "2"])
    experiment = sets.prepared(*sets.reproduced()["classic"], given)
    assert isinstance(experiment, Experiment)
    experiment = dataclasses.replace(  # a small one, soon compiled
        experiment,
        model=FullyConnected(hidden=(10,)),
        loss=SquaredError(),
        optimizer=SGD(0.02),
        batch_size=10,
        epochs=1,
    )
    found = systems.measure("classic", experiment, given, False)

    assert pretrained.names(tmp_path / "pretrained") == ["lenet5-classic"]
    card = pretrained.card("lenet5-classic", tmp_path / "pretrained")
    data = embedded.load()
    scores = predictor(*pretrained.load("lenet5-classic", tmp_path / "pretrained"))
    errors = int((scores(data["test_images"]).argmax(1) != data["test_labels"]).sum())
    assert found["errors"][0] != found["errors"][1]  # or another seed's could not be told
    assert found["train_errors"][0] != found["train_errors"][1]
    assert (card["errors"], card["seed"]) == (errors, 0) == (found["errors"][0], found["seeds"][0])
    assert card["train_errors"] == found["train_errors"][0] and card["epochs"] == 1

    held_out = tmp_path / "runs" / "reproduce" / "classic-held-out"
    written = json.loads((held_out / "config.json").read_text())
    assert written["data"]["validation"] == 10_000 and written["seeds"] == []
    assert asked["run"].folder == held_out.absolute()
    np.testing.assert_array_equal(asked["images"].images, data["train_images"][-300:])
    np.testing.assert_array_equal(asked["images"].labels, data["train_labels"][-300:])
    assert card["reject_below"] == asked["below"]


def test_the_package_has_the_networks_that_reproduce_saves():
    saved = {key for key, (_, how) in sets.reproduced().items() if how.pretrained}
    assert saved == {"classic", "distorted", "best"}
    assert pretrained.names() == sorted(f"lenet5-{name}" for name in saved | {"reader"})


@pytest.mark.parametrize("name", pretrained.names())
def test_pretrained_networks_error_what_their_cards_log(name, prepared_mnist):
    card = pretrained.card(name)
    data = dataset.load(prepared_mnist, fallback="none", log=lambda _: None)
    assert data.sha256 == card["data_sha256"] or card["dataset"] == "practice"
    scores = predictor(*pretrained.load(name))(np.asarray(data.test.images))
    assert int((scores.argmax(1) != data.test.labels).sum()) == card["errors"]
    result = json.loads((ROOT / "results" / f"{name.removeprefix('lenet5-')}.json").read_text())
    assert result["errors"][0] == card["errors"] and result["seeds"][0] == card["seed"]


def test_a_saved_network_loads_as_it_was(tmp_path, digits):
    module = LeNet5(table="full")
    images = normalize(digits[0][:3])
    params = jax.jit(module.init)(jax.random.key(0), images)["params"]
    card = {
        "experiment": "x",
        "config": {"model": {"is": "lenet_jax.models.lenet:LeNet5", "table": "full"}},
    }
    pretrained.save("x", params, card, tmp_path)
    assert pretrained.names(tmp_path) == ["x"]
    loaded, back = pretrained.load("x", tmp_path)
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, back, params)
    with pytest.raises(UserError, match="no pretrained network 'y'. There are: x"):
        pretrained.load("y", tmp_path)


def test_a_damaged_network_is_not_loaded(tmp_path):
    """Flipped in 100 places, cut, emptied, deleted: each file of a network, and their sums."""
    for file in pretrained.FOLDER.glob("lenet5-classic.*"):
        shutil.copy(file, tmp_path)
    shutil.copy(pretrained.FOLDER / pretrained.SUMS, tmp_path)
    card = pretrained.card("lenet5-classic", tmp_path)
    _, params = pretrained.load("lenet5-classic", tmp_path)
    rng, refused = np.random.default_rng(0), 0
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        flipped = []
        for place in rng.integers(0, len(whole), 100):
            flipped.append(bytearray(whole))
            flipped[-1][place] ^= 1 << int(rng.integers(8))
        for content in (*flipped, whole[: len(whole) // 2], b"", None):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            try:
                assert pretrained.card("lenet5-classic", tmp_path) == card
                _, found = pretrained.load("lenet5-classic", tmp_path)
                jax.tree.map(np.testing.assert_array_equal, found, params)
            except UserError as error:
                refused += 1
                assert "lenet5-classic" in str(error)
            file.write_bytes(whole)
    # All of the network's own two files, and of the sums what is in its two lines.
    assert 2 * 103 <= refused <= 3 * 103


def test_what_is_saved_and_loaded_is_zero_outside_the_table(tmp_path, digits):
    """Muon moves weights that are no connections; in training they weigh nothing."""
    outside = Convolution(16, table=TABLE_I).mask(6) == 0
    experiment = Experiment(name="muon", loss=MAP(), optimizer=Muon(), epochs=1, batch_size=50)
    data = dataset.embedded(limit=100)
    run = loop.train(experiment, data, tmp_path / "run", lambda _: None)
    trained = jax.tree.map(lambda a: np.asarray(a[0]), run.params)
    assert (trained["c3"]["kernel"][outside] != 0).all()
    card = {"experiment": "muon", "config": serialization.as_json(experiment)}
    pretrained.save("muon", trained, card, tmp_path / "saved")
    of_run = networks.load(str(tmp_path / "run"))
    saved = pretrained.load("muon", tmp_path / "saved")
    for module, params in (saved, (of_run.module, of_run.params)):
        assert (params["c3"]["kernel"][outside] == 0).all()
        images = digits[0][:100]
        np.testing.assert_array_equal(
            predictor(module, params)(images), predictor(module, trained)(images)
        )
