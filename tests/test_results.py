"""Statistics, rejection, robustness and the page, each against numbers worked out by hand."""

import json
import math
import signal

import jax
import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from lenet_jax import pretrained, reproduce
from lenet_jax.analysis import rejection, results, robustness
from lenet_jax.data import dataset
from lenet_jax.data import digits as embedded
from lenet_jax.data.normalize import normalize
from lenet_jax.errors import UserError
from lenet_jax.models import layers
from lenet_jax.models.lenet import TABLE_I, LeNet5
from lenet_jax.recognition import network
from lenet_jax.recognition.predictor import predictor
from lenet_jax.training import config, loop


def test_the_interval_is_that_of_a_t_test():
    values = [0.9, 1.1, 1.0, 0.8]
    found = results.interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.95)
    assert found["sd"] == pytest.approx(math.sqrt(0.05 / 3))
    assert found["ci95"] == pytest.approx((high - low) / 2)
    assert results.interval([1.0]) == {"mean": 1.0, "sd": None, "ci95": None}


def test_margins_are_between_the_two_best():
    scores = np.array([[[-3.0, -1.0, -9.0], [5.0, 5.0, 1.0]], [[0.0, -2.0, -0.5], [1.0, 2.0, 4.0]]])
    np.testing.assert_array_equal(rejection.margins(scores), [[2, 0], [0.5, 2]])


def test_errors_left_when_the_closest_calls_are_rejected():
    margins = np.array([4.0, 1.0, 3.0, 2.0])
    wrong = np.array([False, True, False, True])
    left = rejection.errors_left(margins, wrong)
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
    np.testing.assert_allclose(rejection.errors_left(margins, wrong), [25, 25, 25, 0])
    assert rejection.needed(margins, wrong, 10.0) == 75.0


def test_changes_go_the_way_their_names_say(digits):
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


def test_quick_takes_the_embedded_digits_with_mnist_at_hand_too(prepared_mnist, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_mnist))
    for flags, name, size in (["--quick"], "uci-digits", 1497), ([], "mnist", 60_000):
        given = reproduce.parse(flags)
        data = reproduce.data_of(reproduce.prepared("classic", 1, given), given.quick, print)
        assert (data.name, len(data.train)) == (name, size)


once = pytest.mark.xdist_group("quick")  # one process runs the set for all of these


@pytest.fixture(scope="module")
def quick(tmp_path_factory, program):
    """The set on the embedded digits, stopped once on the way."""
    out = tmp_path_factory.mktemp("quick")
    with program("reproduce", "--quick", "--out", out, start=True) as process:
        for line in process.stderr:
            if "pass 1/2 begun" in line:
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


@once
def test_a_record_holds_what_was_measured(quick):
    found = record(quick)
    run = quick / "runs" / "reproduce" / "classic"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert found["dataset"] == "uci-digits" and found["seeds"] == [0, 1] and found["passes"] == 2
    assert found["misses"] == rows[-1]["test_misses"] == found["curve"]["test_misses"][-1]
    assert found["train_misses"] == rows[-1]["train_misses"]
    size = found["test_size"]
    assert found["error_percent"] == results.interval([100 * n / size for n in found["misses"]])
    assert [len(wrong) for wrong in found["wrong"]] == found["misses"]
    labels = embedded.load()["test_labels"]
    for at, truth, answer in found["wrong"][0]:
        assert labels[at] == truth != answer
    # Nothing rejected, and nothing changed, is the test error itself.
    error = [100 * n / size for n in found["misses"]]
    assert found["rejection"]["error_percent"][0] == pytest.approx(error, abs=1e-4)
    unchanged = {"rotation": 0, "scale": 1, "shift": 0, "squeeze": 1, "noise": 0}
    for kind, level in unchanged.items():
        levels = found["robustness"][kind]
        assert levels["misses"][levels["levels"].index(level)] == found["misses"]
        assert max(map(max, levels["misses"])) > max(found["misses"])
    assert found["wall_seconds"] >= 0 and found["hardware"] and found["versions"]["jax"]
    assert found["config"]["batch_size"] == 1 and found["config"]["is"] == "Experiment"
    assert record(quick, "classic-30k")["train_size"] == 750
    assert record(quick, "distorted")["config"]["distortion"]["versions"] == 10


@once
def test_the_page_shows_the_records_and_no_paper_beside_other_data(quick):
    page = (quick / "RESULTS.md").read_text()
    found = record(quick)["error_percent"]
    assert f"{found['mean']:.2f} +- {found['ci95']:.2f}" in page
    assert "uci-digits" in page and "mnist" not in page and "0.95" not in page
    for name in ("fig5", "fig6", "fig10", "fig13"):
        assert f"results/{name}.png" in page
        assert (quick / "results" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@once
def test_results_are_read_and_not_measured_again(quick, program):
    file = quick / "results" / "classic.json"
    before = file.stat().st_mtime_ns
    done = program("reproduce", "--quick", "--out", quick)
    assert done.returncode == 0 and "to do" not in done.stderr
    assert file.stat().st_mtime_ns == before


@once
def test_a_record_of_another_configuration_is_refused(quick, program):
    done = program("reproduce", "--quick", "--out", quick, "--seeds", 3)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "classic.json does not match its experiment" in done.stderr
    assert "seeds: [2] there, [3] here" in done.stderr


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--only", "clasic"), "--only clasic: not in the set paper: classic,"),
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
    experiment = reproduce.prepared("classic", 3, given)
    assert isinstance(experiment, config.Experiment)
    assert reproduce.groups(experiment, 1500) == [experiment]
    monkeypatch.setattr(loop, "_bytes_of", lambda _: 3.0 * 2**20)  # a network takes 1.4 MiB
    parts = reproduce.groups(experiment, 1500)
    assert [list(part.all_seeds) for part in parts] == [[7, 3], [5]]
    assert len({part.name for part in parts}) == 2
    assert "memory holds 2 networks, so 2 runs" in capsys.readouterr().err


def test_a_damaged_record_is_refused_by_name(tmp_path):
    (tmp_path / "x.json").write_text('{"config": ')
    with pytest.raises(UserError, match="x.json is damaged"):
        results.read(tmp_path / "x.json", {})


def test_the_package_has_the_networks_that_reproduce_saves():
    assert pretrained.names() == sorted(f"lenet5-{name}" for name in reproduce.PRETRAINED)


@pytest.mark.parametrize("name", pretrained.names())
def test_pretrained_networks_miss_what_their_cards_say(name, prepared_mnist):
    card = pretrained.card(name)
    data = dataset.load(prepared_mnist, fallback="none", say=lambda _: None)
    assert data.sha256 == card["data_sha256"]
    scores = predictor(*pretrained.load(name))(data.test.images)
    assert int((scores.argmax(1) != data.test.labels).sum()) == card["misses"]
    result = json.loads((ROOT / "results" / f"{name.removeprefix('lenet5-')}.json").read_text())
    assert result["misses"][0] == card["misses"] and result["seeds"][0] == card["seed"]


def test_a_saved_network_loads_as_it_was(tmp_path, digits):
    module = LeNet5(table="full")
    images = normalize(digits[0][:3])
    params = module.init(jax.random.key(0), images)["params"]
    card = {"experiment": "x", "config": {"model": {"is": "LeNet5", "table": "full"}}}
    pretrained.save("x", params, card, tmp_path)
    assert pretrained.names(tmp_path) == ["x"]
    loaded, back = pretrained.load("x", tmp_path)
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, back, params)
    with pytest.raises(UserError, match="no pretrained network 'y'. There are: x"):
        pretrained.load("y", tmp_path)


def test_what_is_saved_and_loaded_is_zero_outside_the_table(tmp_path, digits):
    """Muon moves weights that are no connections; in training they weigh nothing."""
    outside = layers.Convolution(16, table=TABLE_I).mask(6) == 0
    experiment = config.Experiment(
        name="muon", loss=config.MAP(), optimizer=config.Muon(), passes=1, batch_size=50
    )
    data = dataset.embedded(limit=100)
    run = loop.train(experiment, data, tmp_path / "run", lambda _: None)
    trained = jax.tree.map(lambda a: np.asarray(a[0]), run.params)
    assert (trained["c3"]["kernel"][outside] != 0).all()
    card = {"experiment": "muon", "config": config.as_json(experiment)}
    pretrained.save("muon", trained, card, tmp_path / "saved")
    of_run = network.load(str(tmp_path / "run"))
    saved = pretrained.load("muon", tmp_path / "saved")
    for module, params in (saved, (of_run.module, of_run.params)):
        assert (params["c3"]["kernel"][outside] == 0).all()
        images = digits[0][:100]
        np.testing.assert_array_equal(
            predictor(module, params)(images), predictor(module, trained)(images)
        )
