"""Several processes on this machine, each with devices of its own, that train one run together."""

import json
import signal
import socket
import time

import numpy as np
import pytest
from conftest import ROOT

from lenet_jax.errors import UserError
from lenet_jax.experiment import Distributed, Experiment
from lenet_jax.recognition import networks
from lenet_jax.training import hosts

CLASSIC = "--config", ROOT / "experiments" / "classic.py", "--data.limit", 100
SEEDS = *CLASSIC, "--seeds", 5, "--epochs", 3
BATCH = *CLASSIC, "--optimizer", "sgd", "--optimizer.learning-rate", 0.001, "--batch-size", 64
BATCH = *BATCH, "--epochs", 2


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(program):
    """Starts the processes of a run; `own` are more flags of each, `named` variables of each."""
    started = []

    def start(number, *flags, own=(), named=()):
        port = free_port()
        for process in range(number):
            where = "--distributed.coordinator", f"127.0.0.1:{port}", "--distributed.processes"
            where = *where, number, "--distributed.process", process
            several = {"JAX_NUM_CPU_DEVICES": "2"} | (named[process](port) if named else {})
            more = own[process] if own else ()
            all_flags = *flags, *more, *(() if named else where)
            started.append(program("train", *all_flags, start=True, **several))
        return started[-number:]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(processes):
    """The exit code of each, and what it said."""
    said = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], said


def left(folder):
    """The bytes of the records, and the sum of the last state."""
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    meta = json.loads((newest / "meta" / "metadata").read_text())
    rows = (folder / "metrics.jsonl").read_text()
    return rows, (folder / "result.json").read_text(), meta["sha256"], newest.name


def until_begun(process):
    while "begun" not in (line := process.stderr.readline()):
        assert line, process.communicate()


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory):
    """The run of five seeds by one process with four devices."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = program("train", *SEEDS, "--workdir", folder, JAX_NUM_CPU_DEVICES="4")
    assert done.returncode == 0, done.stderr
    return folder


def same_but_devices(run, other):
    """Whether two runs left the same; their results name the devices of each."""
    (rows, result, *state), (its_rows, its_result, *its_state) = left(run), left(other)
    result, its_result = json.loads(result), json.loads(its_result)
    for record in (result, its_result):
        del record["devices"]
    return (rows, result, state) == (its_rows, its_result, its_state)


@pytest.mark.xdist_group("hosts")
def test_seeds_on_four_processes_are_those_of_one_bit_for_bit(start, whole, tmp_path):
    codes, said = ended(start(4, *SEEDS, "--workdir", tmp_path / "run"))
    assert codes == [0] * 4, said
    assert "4 processes with 8 devices" in said[0]
    for others in said[1:]:  # process 0 speaks for all
        assert "epoch" not in others and "uci-digits" not in others
    assert same_but_devices(tmp_path / "run", whole)


@pytest.mark.xdist_group("hosts")
def test_a_signal_to_one_stops_all_and_a_kill_of_one_ends_all_and_they_go_on(
    start, whole, program, tmp_path
):
    flags = *SEEDS, "--workdir", tmp_path / "run"
    two = start(2, *flags)
    until_begun(two[0])
    two[1].send_signal(signal.SIGTERM)
    codes, said = ended(two)
    assert codes == [42, 42] and "give the same command" in said[0], said

    for lost in (1, 0):  # process 0 is the one that the others find each other by
        two = start(2, *flags)
        until_begun(two[0])
        two[lost].kill()
        killed = time.monotonic()
        codes, said = ended(two)
        assert time.monotonic() - killed < 60
        assert (codes[lost], codes[1 - lost]) == (-signal.SIGKILL, hosts.LOST), said
        last = said[1 - lost].strip().splitlines()[-1]
        assert f"process {1 - lost} of 2 has lost another one" in last and "same command" in last

    done = program("train", *flags, JAX_NUM_CPU_DEVICES="4")  # one process goes on alone
    assert done.returncode == 0 and "resuming from step" in done.stderr, done.stderr
    assert same_but_devices(tmp_path / "run", whole)


@pytest.mark.xdist_group("hosts")
def test_a_batch_on_two_hosts_of_slurm_is_that_of_one_process(start, program, tmp_path):
    alone = program("train", *BATCH, "--workdir", tmp_path / "one", JAX_NUM_CPU_DEVICES="4")
    assert alone.returncode == 0, alone.stderr

    def srun(process):
        return lambda port: {
            "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(process), "SLURM_LOCALID": "0", "JAX_COORDINATOR_PORT": str(port),
        }  # fmt: skip

    flags = *BATCH, "--workdir", tmp_path / "two"
    codes, said = ended(start(2, *flags, named=(srun(0), srun(1))))
    assert codes == [0, 0] and "2 processes with 4 devices" in said[0], said
    rows, its_rows = (
        [json.loads(row) for row in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    assert [row["step"] for row in its_rows] == [2, 4]
    for row, other in zip(rows, its_rows, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-5)
    params, its = (networks.load(str(tmp_path / run)).params for run in ("one", "two"))
    for layer, weights in params.items():
        for name, values in weights.items():
            np.testing.assert_allclose(its[layer][name], values, atol=1e-5, err_msg=layer)


@pytest.mark.xdist_group("hosts")
def test_processes_that_do_not_fit_together_are_told(start, tmp_path):
    at = "--workdir", tmp_path / "run"
    codes, said = ended(start(2, *BATCH, *at, own=((), ("--seed", 1))))
    assert codes == [2, 2]
    for each in said:
        assert "the experiment, data or kernels of process 1 is not that of process 0" in each
    assert not (tmp_path / "run").exists()

    few = *CLASSIC, "--workdir", tmp_path / "few"
    codes, said = ended(start(2, *few))
    assert codes[0] == 2 and codes[1] in (2, hosts.LOST)  # gone before the other could say it
    assert "--batch-size 1 cannot be shared by 2 processes. Give a multiple of 2" in said[0]

    (alone, other) = start(2, *BATCH, "--distributed.wait", 3, "--workdir", tmp_path / "alone")
    other.kill()
    codes, said = ended([alone])
    assert codes == [hosts.LOST] and "not all processes came to 127.0.0.1" in said[0], said


@pytest.mark.parametrize(
    "given, told",
    [
        ({"coordinator": "a:1"}, "give all three"),
        ({"coordinator": "a", "processes": 2, "process": 0}, "HOST:PORT of process 0"),
        ({"coordinator": ":80", "processes": 2, "process": 0}, "HOST:PORT of process 0"),
        ({"coordinator": "a:70000", "processes": 2, "process": 0}, "HOST:PORT of process 0"),
        ({"coordinator": "a:1", "processes": 0, "process": 0}, "--distributed.processes is 0"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "allowed is 0 to 1"),
        ({"wait": 0}, "--distributed.wait is 0"),
    ],
)
def test_flags_that_say_no_processes(given, told):
    with pytest.raises(UserError, match=told):
        Experiment(name="x", distributed=Distributed(**given))


@pytest.mark.parametrize(
    "variables, cluster",
    [
        ({}, ""),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ""),  # a batch script, which is no step
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}, ""),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}, "Slurm"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, "Open MPI"),
        ({"KUBERNETES_SERVICE_HOST": "a", "JOB_COMPLETION_INDEX": "3"}, ""),  # one of a sweep
        ({"TPU_WORKER_HOSTNAMES": "a"}, ""),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "a TPU"),
    ],
)
def test_what_has_started_several_processes(variables, cluster, monkeypatch):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.found() == cluster
