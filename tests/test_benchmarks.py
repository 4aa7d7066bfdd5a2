"""What the benchmarks work out, by hand, and that their sides do the work that is timed."""

import json
import time
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from benchmarks import gpu, hosts, pipeline, reader, reading, runs, shapes, speed
from lenet_jax.data import dataset
from lenet_jax.data.dataset import Images
from lenet_jax.experiment import SGD, Data, Experiment, SquaredError
from lenet_jax.layers.contract import shown
from lenet_jax.models.alexnet import AlexNet
from lenet_jax.models.connected import FullyConnected
from lenet_jax.recognition.predictor import predictor
from lenet_jax.training import feeding, loop, replicas, step


def test_a_row_has_medians_and_ratios_of_the_rounds():
    rates = speed.row("x", 8, "images/s", [30.0, 10.0, 20.0], [10.0, 20.0, 5.0], "them", 2.0)
    assert (rates["ours"], rates["peer"], rates["ratio"]) == (20, 10, 3)  # of 3, 0.5 and 4
    assert rates["spread"] == {"ours": [10, 30], "peer": [5, 20]} and rates["rounds"] == 3
    times = speed.row("x", 8, "us", [30.0, 10.0, 20.0], [15.0, 20.0, 10.0], "them", 2.0)
    assert times["ratio"] == 0.5  # of 0.5, 2 and 0.5: above 1 ours takes less time
    alone = speed.row("x", 8, "s", [30.0, 10.0])
    assert (alone["ours"], alone["peer"], alone["ratio"]) == (20, None, None)


def test_a_rate_is_of_steps_that_take_long_enough(monkeypatch):
    clock, asked = [0.0], []

    def work(steps):
        asked.append(steps)
        clock[0] += steps / 16  # seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert speed.rate(work, 8, 1.0) == 8 * 16
    assert asked[0] == 1 and asked[-1] >= 16


def test_an_image_costs_what_its_connections_do():
    # Forward, for the weights, and for all states but the input's: twice 3 x 340,908 - 122,304.
    assert speed.flops_per_image() == 1_800_840


def test_the_baseline_gives_our_scores():
    pytest.importorskip("torch", reason="no torch to be the baseline: pip install torch")
    speed.check_baseline()


def test_the_committed_table_is_of_the_committed_numbers():
    found = json.loads((ROOT / "results" / "speed.json").read_text())
    page = (ROOT / "benchmarks" / "README.md").read_text()
    shown = page.partition("<!-- speed -->")[2].partition("<!-- /speed -->")[0]
    lines = [line.split(" | ") for line in shown.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(found["rows"])
    for line, row in zip(lines, found["rows"], strict=True):
        ours, peer = (line[at].partition(" (")[0].replace(",", "") for at in (2, 3))
        digits = 1 if row["unit"] == "s" else 0
        assert (ours, peer) == (f"{row['ours']:.{digits}f}", f"{row['peer']:.{digits}f}")
        assert (line[4], line[5]) == (row["peer_name"], f"{row['ratio']:.2f}")
    assert speed.table(found).strip() == shown.strip()


def test_a_calibration_finds_the_odds_that_were_drawn():
    """Predictions are right with the odds exp(0.5 x + 0.4), x their log odds by the scores."""
    rng = np.random.default_rng(0)
    odds = rng.uniform(-8, 8, 20_000)
    scores = np.stack([odds, np.full(len(odds), -60.0)], axis=1)  # rubbish has 0
    right = rng.random(len(odds)) < 1 / (1 + np.exp(-0.5 * odds - 0.4))
    found = reader.calibrated(scores, np.where(right, 0, 2), j=0.0)
    np.testing.assert_allclose(found["calibration"], [0.5, 0.4], atol=0.06)
    assert found["right"] == right.sum() and found["no_digits"] == (~right).sum()
    assert found["right_rejected"] == pytest.approx(0.02 * right.sum(), abs=6)
    below = odds < found["reject_below"]
    assert found["no_digits_rejected"] == (~right & below).sum()
    assert found["wrong_digits"] == 0 and found["calibration_error"] < 0.02
    for low, number, confidence, share in found["reliability"]:
        assert low <= confidence <= low + 0.1
        assert share == pytest.approx(confidence, abs=4 * (0.25 / number) ** 0.5)


def test_maps_without_a_state_and_power_too_fine_are_counted():
    """Two maps are silenced; the first kernels are waves of two pixels, and then constant."""
    model = AlexNet(maps=(6, 8, 6, 4, 4), hidden=(9, 7), classes=5)
    images = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    params: Any = jax.jit(model.init)(jax.random.key(0), shown(model, images[:1]))["params"]
    waves = np.cos(np.pi * np.arange(11))[:, None] * np.ones((11, 3))  # periods of two pixels
    kernel = np.broadcast_to(
        np.moveaxis(waves.reshape(11, 1, 3) * np.ones((11, 11, 1)), 2, 0), (6, 3, 11, 11)
    )
    params["conv1"]["kernel"] = jax.numpy.asarray(kernel.reshape(params["conv1"]["kernel"].shape))
    params["conv1"]["bias"] = jax.numpy.zeros(6).at[jax.numpy.array([2, 5])].set(-1e6)
    found = shapes.looked_into(model, params, images)
    assert found["maps"]["conv1"] == 6 and found["never_above_0"]["conv1"] == 2
    assert found["first_steps"] == 4 and found["first_too_fine"] > 0.9
    params["conv1"]["kernel"] = jax.numpy.ones_like(params["conv1"]["kernel"])
    assert shapes.looked_into(model, params, images)["first_too_fine"] < 0.3


def test_a_finished_run_has_its_record(tmp_path):
    experiment = Experiment(
        name="small",
        model=FullyConnected(hidden=(10,)),
        loss=SquaredError(),
        optimizer=SGD(0.02),
        data=Data("uci-digits", limit=100),
        batch_size=10,
        epochs=2,
        workdir=tmp_path,
    )
    run = loop.train(experiment, dataset.of(experiment.data, print), tmp_path, lambda _: None)
    trained, data, record = runs.opened(tmp_path)
    scores = predictor(trained.module, trained.params)(np.asarray(data.test.images))
    wrong = int((scores.argmax(1) != data.test.labels).sum())
    assert record["errors"] == [wrong] == [record["curve"]["test_errors"][-1]]
    assert record["train_errors"] == [run.record["train_errors"]] and record["epochs"] == 2
    assert (record["train_size"], record["seeds"]) == (100, [0])
    assert record["config"]["workdir"] is None and str(tmp_path) not in json.dumps(record)


def test_a_digit_too_many_costs_one_of_a_sheet():
    def digit(label, rejected=False):
        return SimpleNamespace(label=label, rejected=rejected)

    true = [4, 0, 7, 2, 9]
    found = [digit(n) for n in (4, 1, 0, 7)] + [digit(2, True), digit(3)]
    assert reading.counted(reading.SHEET, found, true) == (5, 4, 4, 1)
    assert reading.counted("scan", found, true) == (1, 0, 0, 0)
    assert reading.counted(reading.SHEET, [], true) == (5, 0, 0, 0)


def test_alexnets_committed_lines_are_of_the_committed_numbers():
    found = json.loads((ROOT / "results" / "alexnet-speed.json").read_text())
    page = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
    ours, theirs = (np.array(seconds) for seconds in found["seconds"].values())
    ratios, (held, there) = theirs / ours, found["gib"].values()
    assert found["ratio"] == pytest.approx(np.median(ratios))
    for words in (
        f"{np.median(ours):.2f} s here and {np.median(theirs):.2f} s there",
        f"a ratio of {found['ratio']:.2f} (median of the rounds, {ratios.min():.2f} to "
        f"{ratios.max():.2f}; aimed at {found['aims']['ratio']})",
        f"{held:.1f} and {there:.1f} GiB",
    ):
        assert words in page
    assert f"conv1 alone take {4 * 32 * 363 * 55**2 / 1e6:.0f} MB" in page


def test_the_committed_rates_of_pictures_are_those_of_the_page():
    found = json.loads((ROOT / "results" / "pipeline.json").read_text())
    page = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
    made, files, streamed, resident = found["pictures/s"].values()
    for words in (
        f"made one by one, {made:.0f} a second",
        f"({found['kilobytes']:.0f} kB) {files:.0f}, with nothing else to do",
        f"AlexNet trains on {streamed:.1f} a second of the files, and on {resident:.1f} that lie",
    ):
        assert words in page


def test_the_benchmark_of_pictures_asks_for_so_many(monkeypatch):
    monkeypatch.setattr(pipeline, "BATCH", 2)
    seen = []
    images = Images(np.zeros((5, 4, 4, 3), np.uint8), np.zeros(5, np.int32))
    monkeypatch.setattr(
        feeding.Streamed, "_sent", lambda self, samples, layout: seen.append(samples) or (samples,)
    )
    assert pipeline.of_stream(replicas.mesh(jax.devices()[:1]), images, 3) > 0
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), [[[0, 1], [2, 3], [4, 0]]])
    with pipeline.jpegs(2) as folder:
        (first, second) = sorted(folder.rglob("*.jpg"))
        assert (first.parent.name, second.parent.name) == ("0", "1")
        with Image.open(first) as image:
            assert image.size == pipeline.PHOTO[::-1]


def test_every_part_of_the_gpu_benchmark_runs_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("LENET_JAX_MNIST", raising=False)
    monkeypatch.setenv("LENET_JAX_OFFLINE", "1")
    out = tmp_path / "new" / "gpu.json"
    assert gpu.main(["--tiny", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = found["rows"]
    settings = {row["job"]: row["setting"] for row in rows}
    assert settings == {
        "training": {"batch": 8},
        "replicas, batch 1": {"replicas": 2},
        "a whole run": {"batch": 8, "epochs": 2, "examples": 64},
    }
    for row in rows:
        assert row["ours"] > 0 and row["rounds"] == 1
        if row["peer_name"] is not None:
            more, less = ("peer", "ours") if row["unit"] == "s" else ("ours", "peer")
            assert row["ratio"] == pytest.approx(row[more] / row[less])
    assert found["hardware"]["device"] == jax.devices()[0].device_kind
    assert {"commit", "command", "date", "versions"} <= found.keys()


def test_the_work_that_is_timed_is_training():
    """As many updates as are asked for; a run in one program ends where one epoch by epoch does."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 28, 28), np.uint8)
    labels = rng.integers(0, 10, 64).astype(np.int32)
    ours = gpu.Ours(images, labels)
    recipe, state, data = ours.start(8)
    for number in (1, 2):
        state = step.begin_epoch(recipe, state, number, *data)
        order = step.order_of_epoch(state.key, number, 64, 8, "fixed")
        state = step.run_steps(recipe, state, *data, order, 0, 8)
    whole = ours.whole_run(8, 2)()
    assert int(whole.step[0]) == int(state.step[0]) == 16
    for one, other in zip(
        jax.tree.leaves(whole.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_the_tables_of_hosts_are_their_record():
    found = json.loads((ROOT / "results" / "hosts.json").read_text())
    page = (ROOT / "docs" / "hosts.md").read_text()
    for name, table in zip(("measured", "model"), hosts.tables(found), strict=True):
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in page
    assert set(found["bytes_of_an_update"]["a batch"].values()) == {243_612}
    assert set(found["bytes_of_an_update"]["a network each"].values()) == {0}
    assert "243,612 bytes" in page and "60,900 numbers" in page
    # The kernels of C3 that the table leaves out are sent too; loss, errors and images are.
    assert 4 * (60_000 + (6 * 16 - 60) * 25 + 3) == 243_612


def test_bytes_are_counted_in_every_collective_of_a_program():
    compiled = """
  %a = f32[6,25]{1,0} all-reduce(%x), channel_id=1
  %b = (f32[3]{0}, /*index=1*/bf16[2,2]{1,0}, s32[]) all-gather-start(%y, %z), channel_id=2
  %c = f32[6] get-tuple-element(%all-reduce.1), index=0
  %d = f32[7]{0} add(%e, %f)
"""
    assert hosts.exchanged(compiled) == 4 * 150 + 4 * 3 + 2 * 4 + 4
