"""A whole run on examples so few that float64 NumPy follows it, and crashes at every moment."""

import contextlib
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn

from lenet_jax.data.dataset import Dataset, Images
from lenet_jax.errors import UserError
from lenet_jax.experiment import SDLM, SGD, Adam, CrossEntropy, Distortion, Experiment
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.native import library
from lenet_jax.training import feeding, loop, replicas, scoring, step


def examples(number, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (number, 28, 28), np.uint8)
    images[:, 0] = 0  # without ink in any example there is no curvature
    return Images(images, rng.integers(0, 10, number).astype(np.int32))


DATASET = Dataset("noise", "drawn here", "0" * 64, examples(30, 1), examples(7, 2), examples(11, 3))
SDLM = SDLM(mu=0.05, learning_rates=(0.02, 0.005))
LINEAR = Experiment(
    name="linear",
    model=Nielsen(hidden=()),
    loss=CrossEntropy(),
    optimizer=SDLM,
    epochs=3,
    batch_size=30,
)


def by_numpy(epochs):
    """The rows of the linear softmax, weights [10, 785], which takes all examples in one update."""

    def seen(images):
        pixels = images.images.reshape(len(images), 784) / 255
        return np.hstack([pixels, np.ones((len(images), 1))])

    def errors(images):
        return int((np.argmax(seen(images) @ weights.T, axis=1) != images.labels).sum())

    x, targets = seen(DATASET.train), np.eye(10)[DATASET.train.labels]
    weights, h = np.zeros((10, 785)), np.zeros((10, 785))
    for number in range(1, epochs + 1):
        shares = np.exp(x @ weights.T)
        shares /= shares.sum(axis=1, keepdims=True)
        h = np.maximum(h, (shares * (1 - shares)).T @ x**2 / len(x))
        rate = (0.02, 0.005, 0.005)[number - 1]
        row = {
            "epoch": number,
            "step": number,
            "learning_rate": rate,
            "smallest_step_size": rate / (SDLM.mu + h.max()),
            "largest_step_size": rate / (SDLM.mu + h[h > 0].min()),
            "loss": -np.log((shares * targets).sum(axis=1)).mean(),
            "train_errors_on_the_fly": errors(DATASET.train),
        }
        weights -= rate / (SDLM.mu + h) * ((shares - targets).T @ x / len(x))
        yield row | {
            "validation_errors": errors(DATASET.validation),
            "test_errors": errors(DATASET.test),
            "train_errors": errors(DATASET.train),
        }


def test_rows_and_result_are_what_numpy_finds(tmp_path):
    found = loop.train(LINEAR, DATASET, tmp_path / "run", print)
    expected = list(by_numpy(3))
    last = expected[-1]
    assert len({last[f"{split}_errors"] for split in ("validation", "test", "train")}) == 3
    for row in expected[:-1]:
        del row["train_errors"]  # counted after the last epoch
    for ours, theirs in zip(found.rows, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    times = (tmp_path / "run" / "times.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in times] == [1, 2, 3]
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["test_error_percent"] == pytest.approx(100 * last["test_errors"] / 11)
    assert record["train_error_percent"] == pytest.approx(100 * last["train_errors"] / 30)


def test_a_run_resumed_with_other_kernels_says_so(tmp_path):
    looks = iter([False, True])
    with pytest.raises(loop.Interrupted):
        loop.train(LINEAR, DATASET, tmp_path, print, stopping=lambda: next(looks))
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    own = library.kind()
    other = {"native": "xla", "xla": "native"}[own]
    assert config["kernels"] == own
    file.write_text(json.dumps(config | {"kernels": other}))
    said = []
    loop.train(LINEAR, DATASET, tmp_path, said.append)
    words = f"it was begun with {other} kernels: with {own} ones the last bits differ"
    assert said.index(words) == 1 and said[0].startswith("resuming from step")
    assert json.loads((tmp_path / "result.json").read_text())["kernels"] == own


@pytest.mark.parametrize(
    "optimizer, rates",
    [
        # Four updates an epoch, of which the fourth, eighth and twelfth are the last: the rate
        # rises for three and falls for nine.
        (Adam(learning_rate=0.9, warmup=0.25), [0.9, 0.5, 0.1]),
        (SGD(learning_rate=0.3), [0.3, 0.3, 0.3]),
    ],
    ids=["Adam", "SGD"],
)
def test_a_rows_learning_rate_is_that_of_the_passs_last_update(tmp_path, optimizer, rates):
    experiment = dataclasses.replace(LINEAR, optimizer=optimizer, batch_size=8)
    rows = loop.train(experiment, DATASET, tmp_path, print).rows
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert [row["step"] for row in rows] == [4, 8, 12]


class Linear(nn.Module):
    classes: int = 10

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.classes)(images.reshape(len(images), -1))


def test_what_fits_depends_on_the_images(monkeypatch):
    """Four times the pixels are four times the weights."""
    monkeypatch.setattr(replicas, "memory_of", lambda _: 2.0**24)
    experiment = Experiment("x", Linear(), CrossEntropy(), SGD(), batch_size=1, devices=1)
    fit = []
    for side in (40, 80):
        part = Images(np.zeros((10, side, side), np.uint8), np.zeros(10, np.int32))
        fit.append(loop.seeds_that_fit(experiment, Dataset("x", "", "", part, part, part), 10**6))
    assert fit[0] / fit[1] == pytest.approx(4, rel=0.05)


def test_as_many_seeds_are_taken_as_fit(monkeypatch):
    """A network needs two to three times what it holds, and its order of the examples twice."""
    examples, seeds = 10_000, 10**6
    experiment = dataclasses.replace(LINEAR, distortion=Distortion(shear=0.1, versions=3))

    def recipe(devices):
        return step.recipe(experiment, examples, replicas.mesh(jax.devices()[:devices], seeds))

    def fit(recipe, seeds, memory):
        monkeypatch.setattr(replicas, "memory_of", lambda _: memory)
        with pytest.raises(UserError) as error:
            loop.check_memory(recipe, seeds, examples)
        (number,) = re.findall(r"at most ([\d,]+) fit", str(error.value))
        return int(number.replace(",", ""))

    state = step.initial_state(recipe(1), np.zeros(1, np.uint32))
    held = jax.tree.leaves((state.params, state.curvature, state.opt_state))
    held, order = sum(leaf.nbytes for leaf in held), 2 * 4 * 3 * examples
    number = fit(recipe(1), seeds, 2**30)
    assert 2 * held + order <= 2**30 / number <= 3 * held + 1.01 * order
    loop.check_memory(recipe(1), number, examples)
    assert fit(recipe(1), number + 1, 2**30) == number

    # Four devices of a CPU share its memory; what they cannot share evenly each of them holds.
    of_twenty = 20.5 * 2**30 / number
    assert fit(recipe(4), 24, of_twenty) == 20 and fit(recipe(4), 9, of_twenty) == 5
    loop.check_memory(recipe(4), 20, examples)


def test_four_devices_train_as_one_does(tmp_path):
    """Up to the order of the sums."""
    experiment = dataclasses.replace(LINEAR, batch_size=12)
    runs = [
        loop.train(dataclasses.replace(experiment, devices=n), DATASET, tmp_path / str(n), print)
        for n in (1, 4)
    ]
    assert [len(run.record["devices"]) for run in runs] == [1, 4]
    for one, four in zip(*(run.rows for run in runs), strict=True):
        assert one == pytest.approx(four, rel=1e-5)


def test_a_number_for_each_seed_is_a_list_unless_there_is_one():
    assert [loop.each(np.arange(3, 3 + n)) for n in (1, 2, 3)] == [3, [3, 4], [3, 4, 5]]


def test_images_that_are_counted_go_to_the_devices_once(tmp_path, monkeypatch):
    sent = []

    def blocks(images, *more, original=scoring.blocks):
        sent.append(len(images))
        return original(images, *more)

    monkeypatch.setattr(scoring, "blocks", blocks)
    loop.train(LINEAR, DATASET, tmp_path, print)
    assert sent == [7, 11, 30]  # held-out and test images, and the training images at the end


def test_a_network_with_one_number_that_is_not_finite_is_found():
    params = {"c1": {"kernel": np.ones((3, 2, 4)), "bias": np.ones((3, 5))}}
    assert step.finite(params).tolist() == [True] * 3
    params["c1"]["kernel"][2, 1, 3] = np.inf
    assert step.finite(params).tolist() == [True, True, False]
    params["c1"]["bias"][0, 0] = np.nan
    assert step.finite(params).tolist() == [False, True, False]


def test_a_signal_in_the_last_epoch_stops_whoever_trains_run_after_run(tmp_path, monkeypatch):
    """The run is whole: given again, it only says so."""

    def log(_, line):
        if "epoch  3/3" in line:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Bar, "log", log)
        with pytest.raises(loop.Interrupted), loop.Signals() as stopping:
            loop.train(LINEAR, DATASET, tmp_path / "run", print, stopping)
    said = []
    again = loop.train(LINEAR, DATASET, tmp_path / "run", said.append)
    whole = loop.train(LINEAR, DATASET, tmp_path / "whole", print)
    assert "finished already" in said[-1] and again.record == whole.record


def test_a_second_signal_ends_the_program_at_once():
    program = """if True:
        import signal
        from lenet_jax.training.loop import Signals

        with Signals() as came:
            signal.raise_signal(signal.SIGINT)
            print("noted" if came() else "missed", flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("went on", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(), done.returncode) == (["noted"], 128 + signal.SIGTERM)


def test_about_ten_checkpoints_stay_from_all_over_a_run(tmp_path):
    """And the two newest: here of 21 epochs of 4 updates, the last of them short."""
    experiment = dataclasses.replace(LINEAR, batch_size=8, epochs=21)
    loop.train(experiment, DATASET, tmp_path, print)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [*range(8, 81, 8), 84]


def test_a_run_that_goes_on_begins_where_it_was_cut(tmp_path, monkeypatch):
    """Both for the bar, which counts images, and for the updates."""
    experiment = dataclasses.replace(LINEAR, batch_size=4)  # 8 updates
    whole = loop.train(experiment, DATASET, tmp_path / "whole", print)
    begun = []

    class Bar(loop.Bar):
        def __init__(self, name, epochs, examples, done, seen, quiet):
            begun.append((epochs, examples, done, seen))
            super().__init__(name, epochs, examples, done, seen, quiet)

    def three(self, order, first, last, of_steps=feeding.Resident.of_steps):
        return of_steps(self, order, first, min(last, first + 3))

    monkeypatch.setattr(loop, "Bar", Bar)
    monkeypatch.setattr(feeding.Resident, "of_steps", three)
    with pytest.raises(loop.Interrupted):
        loop.train(experiment, DATASET, tmp_path / "cut", print, lambda: True)
    again = loop.train(experiment, DATASET, tmp_path / "cut", print)
    assert begun == [(3, 30, 0, 0), (3, 30, 0, 12)] and again.rows == whole.rows


class Crashes:
    """What a kill at any moment of a run leaves of its folder: different copies, in order of time.

    One is made before each operation on a file, and one more for a file that is opened to be
    written anew: there it is empty. Of a checkpoint's own files only before Orbax publishes them.
    """

    def __init__(self, folder: Path, into: Path) -> None:
        self.folder, self.into = folder, into
        self.copies: list[Path] = []
        self._seen: set[frozenset] = set()
        self._on, self._turn = False, threading.Lock()
        self._copying: int | None = None  # the thread that copies, and opens files as well
        sys.addaudithook(self._before)  # stays until the process ends

    def __enter__(self) -> "Crashes":
        self._on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False

    def _before(self, event: str, arguments: tuple) -> None:
        here = threading.get_ident()
        if not self._on or here == self._copying:
            return
        if event not in ("open", "os.mkdir", "os.rename", "os.remove"):
            return
        path = Path(str(arguments[0]))
        if path.parent in (self.folder, self.folder / "checkpoints"):
            with self._turn:  # the others wait before their operation
                self._copying = here
                self._copy()
                if event == "open" and arguments[1] == "w":
                    self._copy(emptied=path.name)
                self._copying = None

    def _copy(self, emptied: str = "") -> None:
        here = self.into / str(len(self.copies))
        with contextlib.suppress(shutil.Error):  # a thread of Orbax may be removing a leftover
            shutil.copytree(self.folder, here)
        if emptied:
            (here / emptied).write_text("")
        files = (file for file in here.rglob("*") if file.is_file())
        state = frozenset(
            (file.relative_to(here), file.read_text() if ".json" in file.name else "")
            for file in files
        )
        if state in self._seen:
            shutil.rmtree(here)
        else:
            self._seen.add(state)
            self.copies.append(here)


def test_wherever_a_run_is_killed_it_ends_as_if_it_had_not_been(tmp_path):
    experiment = dataclasses.replace(LINEAR, epochs=2)

    def end(folder):
        loop.train(experiment, DATASET, folder, print)
        newest = json.loads((folder / "checkpoints" / "2" / "meta" / "metadata").read_text())
        files = [(folder / name).read_text() for name in ("metrics.jsonl", "result.json")]
        return *files, newest["sha256"]

    whole = end(tmp_path / "whole")
    assert [json.loads(row)["epoch"] for row in whole[0].splitlines()] == [1, 2]
    with Crashes(tmp_path / "run", tmp_path / "first") as first:
        assert end(tmp_path / "run") == whole
    # What was killed after its second row goes on, and is killed at any moment again.
    second_row = [
        copy
        for copy in first.copies
        if (copy / "checkpoints" / "1").exists() and not (copy / "checkpoints" / "2").exists()
    ][-1]
    with Crashes(second_row, tmp_path / "second") as second:
        assert end(second_row) == whole
    first.copies.remove(second_row)
    for copy in first.copies + second.copies:
        assert end(copy) == whole, sorted(str(p.relative_to(copy)) for p in copy.rglob("*"))
