import errno
import json
import signal
import struct
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from jax.sharding import NamedSharding, PartitionSpec

from lenet_jax.errors import UserError
from lenet_jax.experiment import (
    MAP,
    SGD,
    Adam,
    CrossEntropy,
    Experiment,
    Muon,
    Paper,
    serialization,
)
from lenet_jax.models.lenet import LeNet5
from lenet_jax.models.nielsen import Nielsen
from lenet_jax.training import folder
from lenet_jax.training.checkpoint import Checkpoints, digest
from lenet_jax.training.folder import RunFolder
from lenet_jax.training.metrics import Metrics, read


class State(NamedTuple):
    weights: dict
    key: jax.Array
    step: jax.Array


def state(step):
    rng = np.random.default_rng(step)
    weights = {"a": jnp.asarray(rng.normal(size=(300, 20)), jnp.float32)}
    return State(weights, jax.random.key(step), jnp.asarray(step, jnp.int32))


def saved(into, steps, keep=3):
    checkpoints = Checkpoints(into, keep, print)
    for step in steps:
        checkpoints.save(step, state(step), [{"step": step, "loss": 0.25}], {"seed": 1})


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_keeps_the_newest_and_gives_back_the_same_bits(tmp_path):
    assert Checkpoints(tmp_path / "c", 2, print).restore(state(0)) is None
    saved(tmp_path / "c", (3, 7, 9), keep=2)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["7", "9"]
    back = Checkpoints(tmp_path / "c", 2, print).restore(state(0))
    assert back is not None and digest(back.state) == digest(state(9)) != digest(state(0))
    np.testing.assert_array_equal(
        jax.random.key_data(back.state.key), jax.random.key_data(jax.random.key(9))
    )


def test_what_a_killed_program_had_begun_is_tidied_up_by_the_next_alone(tmp_path):
    saved(tmp_path / "c", (3,))
    begun = tmp_path / "c" / "7.orbax-checkpoint-tmp-1"
    begun.mkdir()
    Checkpoints(tmp_path / "c", None, print).restore(state(0))  # only looks
    assert begun.exists()
    Checkpoints(tmp_path / "c", 2, print).restore(state(0))
    assert not begun.exists() and (tmp_path / "c" / "3").exists()


@pytest.mark.parametrize("there", [1, 4])
def test_each_device_writes_and_reads_the_part_that_it_has(tmp_path, there):
    """A state of four devices, split and whole; nothing is compiled or gathered for that."""
    events = []

    def note(event: str, duration_secs: float, **_: str | int) -> None:
        events.append(event)

    def on(devices, state):
        mesh = jax.make_mesh((devices,), ("seeds",), devices=jax.devices()[:devices])
        split = NamedSharding(mesh, PartitionSpec("seeds"))
        whole = NamedSharding(mesh, PartitionSpec())
        weights = jax.device_put(state.weights, split)
        return State(weights, jax.device_put(state.key, whole), jax.device_put(state.step, whole))

    four = jax.block_until_ready(on(4, state(7)))
    jax.monitoring.register_event_duration_secs_listener(note)
    Checkpoints(tmp_path / "c", 2, print).save(7, four, [], {})
    jax.monitoring.unregister_event_duration_listener(note)
    assert not [name for name in events if "compile" in name]
    store = {"driver": "ocdbt", "base": f"file://{tmp_path}/c/7/state", "path": "weights.a/"}
    written = tensorstore.open({"driver": "zarr", "kvstore": store}).result()
    assert written.shape == (300, 20) and written.chunk_layout.write_chunk.shape == (75, 20)

    like = on(there, state(0))
    back = Checkpoints(tmp_path / "c", 2, print).restore(like)
    assert back is not None and digest(back.state) == digest(state(7))
    assert back.state.weights["a"].sharding == like.weights["a"].sharding
    assert len(back.state.weights["a"].addressable_shards) == there


def test_the_sum_is_over_names_dtypes_shapes_and_bytes():
    """Trees of the same bytes, or all but the same."""
    zeros = jnp.zeros((2, 3), jnp.float32)
    trees = (
        {"a": zeros, "b": zeros},
        {"a": zeros, "c": zeros},
        {"a": {"b": zeros}, "b": zeros},
        {"a": zeros, "b": zeros.astype(jnp.int32)},
        {"a": zeros, "b": zeros.reshape(3, 2)},
        {"a": zeros, "b": zeros.at[1, 2].set(-0.0)},
    )
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest(trees[0]) == digest({"b": np.zeros((2, 3), np.float32), "a": zeros})


def flip_a_bit(folder):
    file = largest_file(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[:100])


def lose_the_sum(folder):
    for file in (folder / "meta").iterdir():
        file.unlink()


def change_a_row(folder):
    file = folder / "meta" / "metadata"
    assert "0.25" in (text := file.read_text())
    file.write_text(text.replace("0.25", "0.35"))


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, lose_the_sum, change_a_row])
def test_goes_back_past_a_damaged_one_and_says_so(tmp_path, damage):
    saved(tmp_path / "c", (1, 2, 3))
    damage(tmp_path / "c" / "3")
    said = []
    checkpoints = Checkpoints(tmp_path / "c", 3, said.append)
    back = checkpoints.restore(state(0))
    assert back is not None and digest(back.state) == digest(state(2))
    assert back.rows == [{"step": 2, "loss": 0.25}]
    assert len(said) == 1 and "checkpoint 3 is damaged" in said[0]
    assert (tmp_path / "damaged" / "3").is_dir()
    checkpoints.save(3, state(3), [], {})  # the step can be written again
    back = Checkpoints(tmp_path / "c", 3, said.append).restore(state(0))
    assert back is not None and digest(back.state) == digest(state(3)) and len(said) == 1


def test_none_valid_is_an_error_and_changes_nothing(tmp_path):
    saved(tmp_path / "c", (1, 2))
    flip_a_bit(tmp_path / "c" / "1")
    truncate(tmp_path / "c" / "2")
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UserError, match="no checkpoint .* can be used"):
        Checkpoints(tmp_path / "c", 3, print).restore(state(0))
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_another_dtype_is_refused(tmp_path):
    saved(tmp_path / "c", (1,))
    other = state(0)._replace(weights={"a": jnp.zeros((300, 20), jnp.bfloat16)})
    with pytest.raises(UserError, match="SHA-256"):
        Checkpoints(tmp_path / "c", 3, print).restore(other)


def events(folder):
    """What TensorBoard is told: (name, epoch, value), and the epochs that a restart takes back."""
    from tensorboardX.proto import event_pb2

    messages: Any = event_pb2
    scalars, purged = [], []
    for file in sorted(folder.glob("events.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):  # length, its checksum, an event, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = messages.Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            if event.session_log.status == messages.SessionLog.START:
                purged.append(event.step)
    return scalars, purged


def test_tensorboard_is_told_of_each_seed_and_of_their_mean(tmp_path):
    metrics = Metrics(tmp_path, [])
    metrics.record({"epoch": 1, "loss": [2.0, 4.0, 9.0], "learning_rate": 0.5}, 123.4)
    metrics.close()
    told, purged = events(tmp_path)
    assert sorted(told) == [
        ("images_per_second", 1, 123), ("learning_rate", 1, 0.5), ("loss", 1, 5.0),
        ("loss/0", 1, 2.0), ("loss/1", 1, 4.0), ("loss/2", 1, 9.0),
    ]  # fmt: skip
    assert purged == [1]
    Metrics(
        tmp_path, [{"epoch": n} for n in (1, 2, 3, 4)]
    ).close()  # the fifth epoch is trained again
    assert events(tmp_path)[1][-1] == 5


def test_metrics_begin_with_the_rows_of_the_checkpoint(tmp_path):
    """Whatever a crash, or someone, left in the file."""
    rows = [{"epoch": number, "loss": 1 / number} for number in (1, 2)]
    metrics = Metrics(tmp_path, [])
    for row in (*rows, {"epoch": 3, "loss": 1 / 3}):
        metrics.record(row, 1000.0)
    metrics.close()
    file = tmp_path / "metrics.jsonl"
    with open(file, "a") as end:
        end.write('{"epoch": 4, "lo')  # killed while it wrote
    assert [row["epoch"] for row in read(file)] == [1, 2, 3]
    whole = file.read_text()
    for there in (whole, whole.replace("0.5", "0.6"), whole[20:], "", None):
        file.unlink()
        if there is not None:
            file.write_text(there)
        metrics = Metrics(tmp_path, rows)  # the checkpoint of epoch 3 never came to be
        metrics.record({"epoch": 3, "loss": 0.25}, 1000.0)
        metrics.close()
        expected = [*rows, {"epoch": 3, "loss": 0.25}]
        assert [json.loads(line) for line in file.read_text().splitlines()] == expected
        assert metrics.rows == expected and len(rows) == 2


def test_rows_outlive_a_resume_that_finds_no_room(tmp_path):
    metrics = Metrics(tmp_path, [])
    for number in (1, 2, 3):
        metrics.record({"epoch": number, "loss": 1 / number}, 1000.0)
    metrics.close()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    resume = (
        "import resource, sys; from pathlib import Path\n"
        "from lenet_jax.training.metrics import Metrics\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "Metrics(Path(sys.argv[1]), [{'epoch': 1}])"
    )
    done = subprocess.run([sys.executable, "-c", resume, tmp_path], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_first_start_that_was_killed_is_begun_again(tmp_path):
    """Killed when the configuration is written and does not have its name yet."""
    start = (
        "import os, signal, sys; from pathlib import Path\n"
        "from lenet_jax.training.folder import RunFolder\n"
        "def kill(event, _): event == 'os.rename' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(kill)\n"
        "RunFolder(Path(sys.argv[1]), {'seed': 1})"
    )
    killed = subprocess.run([sys.executable, "-c", start, tmp_path / "run"])
    assert killed.returncode == -signal.SIGKILL
    assert "config.json.tmp" in {file.name for file in (tmp_path / "run").iterdir()}
    with RunFolder(tmp_path / "run", {"seed": 2}):
        assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 2}


def test_a_folder_belongs_to_one_run_and_one_program(tmp_path):
    config = {"seed": 1, "optimizer": {"mu": 0.02}, "workdir": "here"}
    with RunFolder(tmp_path / "run", config):
        with pytest.raises(UserError, match="in use by process"):
            RunFolder(tmp_path / "run", config)
    with pytest.raises(UserError, match="No space left.*last good checkpoint stays"):
        with RunFolder(tmp_path / "run", config | {"workdir": "there"}):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match=r"(?s)optimizer.mu: 0.02 there, 0.1 here.*seed: 1 .*2"):
        RunFolder(tmp_path / "run", {"seed": 2, "optimizer": {"mu": 0.1}})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"thesis.tex but no config.json"):
        RunFolder(tmp_path / "mine", config)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        RunFolder(tmp_path / "file" / "run", config)


def test_a_file_system_without_locks_is_worked_on_with_a_remark(tmp_path, monkeypatch):
    """As some network file systems are; none is at hand, so the lock says what they say."""

    def no_locks(_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder, "_hold", no_locks)
    with RunFolder(tmp_path / "run", {"seed": 1}) as run:
        assert "no locks: see to it that no other program" in run.remark
        with RunFolder(tmp_path / "run", {"seed": 1}):
            pass
    with pytest.raises(UserError, match="another run"):
        RunFolder(tmp_path / "run", {"seed": 2})
    monkeypatch.setattr(folder, "_hold", lambda _: None)
    with RunFolder(tmp_path / "run", {"seed": 1}) as run:
        assert not run.remark


# What a run may be resumed with: where and on what it works, not what it computes.
FREE = {"workdir", "devices", "keep", "data.data_dir", "data.manual_dir", "data.fallback"}


@pytest.mark.parametrize(
    "parts",
    [
        {"paper": Paper(0.95, None, "Fig. 5"), "loss": MAP(j=10.0)},
        {"optimizer": Adam()},
        {"optimizer": Muon(), "model": LeNet5(adaptive=True)},
        {
            "optimizer": SGD(),
            "model": Nielsen(),
            "loss": CrossEntropy(),
        },
    ],
    ids=["SDLM", "Adam", "Muon", "SGD"],
)
def test_each_field_of_a_configuration_makes_another_run_but_the_free_ones(tmp_path, parts):
    """Whatever is changed, a folder is either refused with the field's name or it is resumed."""
    resolved = serialization.as_json(Experiment(name="x", **parts)) | {"dataset": "mnist"}
    with RunFolder(tmp_path, resolved):
        pass
    seen = set()

    def change_each(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                change_each(value, f"{prefix}{name}.")
                continue
            tree[name] = "another"
            if prefix + name in FREE:
                with RunFolder(tmp_path, resolved):
                    pass
            else:
                with pytest.raises(UserError, match=f"another run:\n  {prefix}{name}: .*'another'"):
                    RunFolder(tmp_path, resolved)
            tree[name] = value
            seen.add(prefix + name)

    change_each(resolved)
    assert FREE | {"name", "epochs", "batch_size", "order", "seed", "seeds", "dataset"} <= seen
