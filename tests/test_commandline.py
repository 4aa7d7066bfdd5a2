"""The programs as a user meets them: real processes, really killed."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
import tomllib

import pytest
from conftest import ROOT

from lenet_jax import commandline
from lenet_jax.data import dataset

CLASSIC = ("--config", ROOT / "experiments" / "classic.py")
SHORT = (*CLASSIC, "--data.limit", 150, "--epochs", 3)


def refused(done, *reasons):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    told = " ".join(done.stderr.split())
    for reason in reasons:
        assert reason in told, told


def final_state(folder):
    """Everything that may not depend on what happened on the way."""
    newest = max((folder / "checkpoints").iterdir(), key=lambda p: int(p.name))
    meta = json.loads((newest / "meta" / "metadata").read_text())
    about_data = json.loads((folder / "result.json").read_text())["dataset_sha256"]
    assert meta["dataset_sha256"] == about_data != meta["sha256"]
    files = [(folder / name).read_text() for name in ("metrics.jsonl", "result.json")]
    return newest.name, meta["sha256"], *files


def test_help_shows_the_files_own_values(program):
    done = program("train", *CLASSIC, "--help")
    assert done.returncode == 0
    assert "--optimizer.mu" in done.stdout and "default: 0.02" in done.stdout


VERBS = [
    file.stem
    for file in sorted((ROOT / "lenet_jax").glob("[a-z]*.py"))
    if "commandline.run(main)" in file.read_text()
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_complaints_come_before_jax(before_jax, verb):
    done = before_jax(verb, "--help")
    assert done.returncode == 0 and f"usage: python -m lenet_jax.{verb}" in done.stdout
    refused(before_jax(verb, "--nonsense", "7"))
    assert len(VERBS) == 8


@pytest.mark.parametrize(
    "flags, reasons",
    [
        ((), ["no --config given", "experiments/classic.py"]),
        (("--config",), ["expected one argument"]),
        (
            ("--config", "nowhere.py"),
            ["nowhere.py: no such file", "which are: alexnet, "],
        ),
        ((*CLASSIC, "--epocs", 3), ["--epocs", "--epochs"]),
        ((*CLASSIC, "--epochs", "many"), ["--epochs", "many"]),
        ((*CLASSIC, "--model.table", "holes"), ["--model.table", "paper", "full"]),
        ((*CLASSIC, "--optimizer.mu", -1), ["--optimizer.mu", "-1", "positive"]),
        ((*CLASSIC, "--optimizer.mu", "inf"), ["mu is inf", "finite numbers"]),
        ((*CLASSIC, "--epochs", 10**20), ["--epochs is 1", "1 to 1,000,000"]),
        (
            (*CLASSIC, "--devices", 4, "--batch-size", 6),
            ["--devices 4", "--batch-size 6", "multiple of 4"],
        ),
        ((*CLASSIC, "--seeds", 1, 2, 2), ["--seeds is 1 2 2", "all different", "2 once"]),
        ((*CLASSIC, "--seeds", 0), ["--seeds is 0", "1 or more"]),
        ((*CLASSIC, "--seeds", 10**8), ["--seeds is 100000000", "at most 1,000,000"]),
        ((*CLASSIC, "--batch-size", 1498), ["--batch-size 1498", "1497 training examples"]),
        ((*CLASSIC, "--data.limit", 5000), ["1497 training examples", "--data.limit 5000"]),
        ((*CLASSIC, "--data.fallback", "none"), ["no MNIST", "--data.manual-dir"]),
        ((*CLASSIC, "--data.manual-dir", "nowhere"), ["nowhere: no such folder"]),
        ((*CLASSIC, "--data.validation", 1497), ["1497 training examples"]),
    ],
)
def test_wrong_flags(before_jax, flags, reasons):
    refused(before_jax("train", *flags), *reasons)


@pytest.mark.parametrize(
    "verb, flags, reason",
    [
        ("evaluate", ["nowhere"], "nowhere: no such network"),
        ("export", ["--network", "nowhere"], "nowhere: no such network"),
        ("export", ["--format", "jpeg"], "jpeg"),
        ("predict", [], "pictures"),
        ("predict", ["a.png", "b.png", "--annotate", "c.png"], "takes one picture"),
        ("reproduce", ["--only", "clasic"], "--only clasic: not in the set paper: best, classic,"),
        ("reproduce", ["--quick", "--seeds", 10**8], "--seeds is 100000000"),
        ("serve", ["--port", 99999], "allowed are 0 to 65535"),
        ("summary", ["--config", "nowhere.py"], "nowhere.py: no such file"),
        ("visualize", ["nothing"], "no topic 'nothing'"),
    ],
)
def test_wrong_arguments_of_the_others(before_jax, verb, flags, reason):
    refused(before_jax(verb, *flags), reason)


def commands(file):
    """The flags of each training that a page tells the reader to start."""
    given = re.findall(r"python -m lenet_jax[. ]train (--config [^`|\n]*)", file.read_text())
    return [shlex.split(line, comments=True) for line in given]


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.py")), ids=lambda f: f.stem)
def test_what_a_page_tells_to_start_is_an_experiment(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    for flags in commands(file):
        assert commandline.experiment("", "", flags).name.startswith(file.stem)


def test_what_readme_tells_to_start_runs_without_mnist(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = commands(ROOT / "README.md") + commands(ROOT / "docs" / "training.md")
    assert len(found) > 5
    for flags in found:
        if "--help" not in flags:
            asked = commandline.experiment("", "", flags).data
            data = dataset.embedded(asked.limit, asked.validation)
            assert len(data.train) == (asked.limit or 1497)


def test_more_seeds_than_memory(program, tmp_path):
    done = program("train", *CLASSIC, "--seeds", 10**6, "--workdir", tmp_path / "run")
    refused(done, "1,000,000 seeds need", "MiB each", "at most")
    assert not (tmp_path / "run").exists()


def test_summary(environment, tmp_path):
    """The paper's table; what is compiled is kept, so that the next one is quick."""
    clean = {k: v for k, v in environment.items() if not k.startswith("JAX_")}
    program = (
        "import sys; from lenet_jax import summary\n"
        "summary.main(sys.argv[1:])\n"
        "import jax; print(jax.config.jax_compilation_cache_dir)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, CLASSIC)],
        env=clean | {"XDG_CACHE_HOME": str(tmp_path)}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "60,000" in done.stdout and "340,908" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "lenet_jax")


def test_a_summary_has_room_on_eighty_columns_for_a_large_networks_numbers(program):
    done = program("summary", "--config", "alexnet:shapes", COLUMNS="80")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    # With ten classes 4,097 (1,000 - 10) fewer than the published 60,965,224.
    assert "56,909,194" in done.stdout and "204,671,232" in done.stdout
    assert "…" not in done.stdout and "fixed" not in done.stdout


def test_a_benchmark_tells_what_it_is_and_does_nothing():
    files = (ROOT / "benchmarks").glob("*.py")
    named = sorted(file.stem for file in files if "__main__" in file.read_text())
    if not importlib.util.find_spec("torch"):
        named.remove("pytorch_fast")
    program = (
        "import runpy, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for flag in ('--help', '--nonsense'):\n"
        "        sys.argv = [name, flag]\n"
        "        try: runpy.run_module(f'benchmarks.{name}', run_name='__main__')\n"
        "        except SystemExit as end: print(name, end.code, flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *named], cwd=ROOT, capture_output=True, text=True
    )
    ends = [line.split() for line in done.stdout.splitlines() if line.startswith(tuple(named))]
    assert ends == [[name, code] for name in named for code in ("0", "2")], done.stderr
    assert all(f"usage: python -m benchmarks.{name}" in done.stdout for name in named)


def test_killed_and_stopped_it_ends_like_the_run_that_never_was(program, tmp_path):
    flags = (*CLASSIC, "--epochs", 4, "--data.limit", 700, "--data.validation", 97)
    whole = program("train", *flags, "--workdir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert "uci-digits" in whole.stdout and "0.95" not in whole.stdout
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    assert {"config.json", "metrics.jsonl", "curve.png", "result.json", "times.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    rows = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4]

    broken = tmp_path / "broken"
    command = (*flags, "--workdir", broken)
    with program("train", *command, start=True) as process:
        while "begun" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 42 and "give the same command" in told, told

    with program("train", *command, start=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:  # at the first row: its checkpoint is being written
            file = broken / "metrics.jsonl"
            if file.exists() and file.read_text().count("\n") >= 2:
                break
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL

    done = program("train", *command)
    assert done.returncode == 0 and "resuming from step" in done.stderr, done.stderr
    assert final_state(broken) == final_state(tmp_path / "whole")

    before = final_state(broken)
    again = program("train", *command)
    assert again.returncode == 0 and final_state(broken) == before
    assert "finished already" in again.stderr and "resuming" not in again.stderr

    metrics = broken / "metrics.jsonl"
    first = metrics.read_text().splitlines(keepends=True)[0]
    for there in (first, first.replace("1", "7"), "", None):  # cut, changed, emptied, deleted
        metrics.unlink() if there is None else metrics.write_text(there)
        again = program("train", *command)
        assert again.returncode == 0 and final_state(broken) == before, again.stderr

    newest = max((broken / "checkpoints").iterdir(), key=lambda p: int(p.name))
    damaged = max((newest / "state").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    done = program("train", *command)
    assert done.returncode == 0 and f"checkpoint {newest.name} is damaged" in done.stderr
    assert final_state(broken) == before

    for checkpoint in (broken / "checkpoints").iterdir():
        for file in (checkpoint / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    refused(program("train", *command), "no checkpoint", "can be used", "--workdir")


def test_a_signal_stops_a_run_whose_epochs_are_short(program, tmp_path):
    flags = (*CLASSIC, "--data.limit", 20, "--epochs", 300, "--workdir", tmp_path / "run")
    with program("train", *flags, start=True) as process:
        while "epoch  1" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 42 and "give the same command" in told, told
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(row)["step"] for row in rows]
    assert steps == [20 * n for n in range(1, len(rows) + 1)] and len(rows) < 300
    kept = {int(checkpoint.name) for checkpoint in (tmp_path / "run" / "checkpoints").iterdir()}
    assert max(kept) == steps[-1]


def test_seeds_in_one_run_stop_and_go_on_and_equal_single_runs(program, tmp_path):
    flags = (*SHORT, "--seeds", 4, 2, 9, "--workdir")
    whole = program("train", *flags, tmp_path / "whole")
    assert whole.returncode == 0 and "3 seeds (4, 2, 9)" in whole.stdout, whole.stderr
    assert (tmp_path / "whole" / "curve.png").stat().st_size > 10_000

    with program("train", *flags, tmp_path / "broken", start=True) as process:
        while "begun" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 42, told
    done = program("train", *flags, tmp_path / "broken")
    assert done.returncode == 0 and "resuming from step" in done.stderr, done.stderr
    assert final_state(tmp_path / "broken") == final_state(tmp_path / "whole")

    single = program("train", *SHORT, "--seed", 2, "--workdir", tmp_path / "single")
    assert single.returncode == 0, single.stderr
    alone, together = (
        [json.loads(row) for row in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("single", "whole")
    )
    for one, three in zip(alone, together, strict=True):
        assert one == {k: v[1] if isinstance(v, list) else v for k, v in three.items()}
    record = json.loads((tmp_path / "whole" / "result.json").read_text())
    percent = [100 * n / 300 for n in record["test_errors"]]
    assert record["seeds"] == [4, 2, 9] and record["test_error_percent"] == pytest.approx(percent)
    assert record["test_error_percent_std"] == pytest.approx(statistics.stdev(percent))


def test_loss_that_is_not_finite(program, tmp_path):
    flags = (*SHORT, "--workdir", tmp_path / "run", "--model.activation", "relu")
    rates = "--optimizer.learning-rates", "1e-4", "1e6"
    refused(program("train", *flags, *rates), "not finite at epoch 2, step", "--optimizer")
    kept = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert kept == ["150"]
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1


def test_a_full_disk_loses_nothing(program, tmp_path):
    command = ("--config", ROOT / "experiments" / "fully_connected.py", "--data.limit", 150)
    command = (*command, "--epochs", 2, "--workdir", tmp_path / "run")
    full = program("train", *command, file_limit_kib=100, JAX_ENABLE_COMPILATION_CACHE="false")
    refused(full, "--workdir", "last good checkpoint stays")
    refused(program("train", *command, "--seed", 1), "holds another run", "seed: 0 there, 1 here")
    done = program("train", *command)
    assert done.returncode == 0, done.stderr


def test_two_programs_in_one_folder(program, tmp_path):
    flags = (*CLASSIC, "--workdir", tmp_path / "run")
    with program("train", *flags, start=True) as first:
        while "begun" not in first.stderr.readline():
            pass
        refused(program("train", *flags), f"in use by process {first.pid}")
        first.kill()
        first.communicate()


@pytest.mark.xdist_group("mnist")
def test_one_epoch_over_mnist(program, tmp_path, prepared_mnist):
    """The paper's network on the paper's data: 2.65 % after the first epoch in Fig. 5."""
    done = program(
        "train", *CLASSIC, "--epochs", 1, "--workdir", tmp_path / "run",
        "--data.data-dir", prepared_mnist,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dataset"] == "mnist" and result["test_size"] == 10_000
    assert result["test_errors"] < 300


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"),
    reason="no os.sched_setaffinity to tie a program to cores (Linux has it)",
)
def test_jax_gets_the_cores_that_the_program_may_use():
    one = next(iter(os.sched_getaffinity(0)))
    program = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from lenet_jax import commandline; commandline.set_up_jax()\n"
        "import jax; from lenet_jax.measurement import records\n"
        "print(jax.device_count(), records.hardware().split(', ')[-1])"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=clean, capture_output=True, text=True)
    assert done.stdout == "1 1 core\n", done.stderr


def lenet_jax_of(folder, *arguments):
    """`python -m lenet_jax` with the package of another folder, from an empty one."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "LENET_JAX_MNIST"}
    return subprocess.run(
        [sys.executable, "-m", "lenet_jax", *map(str, arguments)],
        cwd=empty, env=environment | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True, text=True,
    )  # fmt: skip


def test_the_package_lists_its_verbs_and_runs_them(tmp_path):
    listed = lenet_jax_of(ROOT, "--help")
    assert listed.returncode == 0
    files = {
        file.stem for file in (ROOT / "lenet_jax").glob("*.py") if "def main(" in file.read_text()
    }
    shown = {line.split()[0] for line in listed.stdout.splitlines() if line.startswith("  ")}
    assert shown == files - {"__main__"} and len(shown) == 8
    assert lenet_jax_of(ROOT).stdout == listed.stdout
    wrong = lenet_jax_of(ROOT, "trian")
    assert wrong.returncode == 2 and "trian: no such verb. There are: train," in wrong.stderr
    usage = lenet_jax_of(ROOT, "predict", "--help").stdout
    assert usage.startswith("usage: python -m lenet_jax predict [-h]")


def test_the_list_needs_no_jax():
    program = (
        "import sys; from lenet_jax.__main__ import main; main([]); assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_pages_come_by_name_also_where_the_package_is_installed(tmp_path):
    """As a wheel has them: experiments/ inside the package."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    shutil.copytree(ROOT / "lenet_jax", tmp_path / "lenet_jax")
    for source, target in wheel["force-include"].items():
        shutil.copytree(ROOT / source, tmp_path / target)
    done = lenet_jax_of(tmp_path, "summary", "--config", "classic:full-table")
    assert done.returncode == 0 and "classic-full-table" in done.stdout, done.stderr
    wrong = lenet_jax_of(tmp_path, "summary", "--config", "clasic")
    assert (
        wrong.returncode == 2
        and "no page of the package, which are: alexnet, baselines," in wrong.stderr
    )
    own = tmp_path / "empty" / "classic"
    own.write_text("no page")
    wrong = lenet_jax_of(tmp_path, "summary", "--config", "classic")
    assert wrong.returncode == 2 and "not a Python file" in wrong.stderr  # a path goes first


def options(text):
    """The options of a help text, each with what is said of it."""
    parts = re.split(r"^[│ ]*(?=--[a-z])", text, flags=re.MULTILINE)[1:]
    return {part.split()[0]: part for part in parts}


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "visualize", "export", "serve"])
def test_help_says_each_default_once(program, verb):
    flags = ["--config", "classic"] if verb == "train" else []
    found = options(program(verb, *flags, "--help", COLUMNS="80").stdout)
    assert len(found) > 2
    assert not [name for name, text in found.items() if text.count("(default") > 1]


def test_an_optimizer_is_taken_by_its_name(before_jax):
    asked = "--config", "classic", "--help"
    assert "--optimizer.mu" in before_jax("train", *asked).stdout
    found = before_jax("train", "--optimizer", "adam", *asked).stdout
    assert "--optimizer.warmup" in found and "--optimizer.mu" not in found
    # The page's own keeps the page's values.
    assert (
        "(default: 0.015)"
        in before_jax("train", "--config", "fast", "--optimizer", "muon", "--help").stdout
    )
    wrong = before_jax("train", "--config", "classic", "--optimizer", "adm")
    assert (
        wrong.returncode == 2 and "--optimizer adm: there are sdlm, adam, muon, sgd" in wrong.stderr
    )


@pytest.mark.parametrize(
    "verb, flags, what",
    [
        ("train", ["--config", "gs://bucket/page.py"], "--config"),
        ("train", ["--config", "classic", "--workdir", "gs://bucket/run"], "--workdir"),
        ("train", ["--config", "classic", "--data.data-dir", "s3://bucket"], "--data.data-dir"),
        ("evaluate", ["gs://bucket/run"], "--network"),
        ("evaluate", ["--out", "gs://bucket/out"], "--out"),
        ("visualize", ["--out", "https://host/out"], "--out"),
        ("export", ["--out", "gs://bucket/out"], "--out"),
        ("predict", ["https://host/scan.png"], "--picture"),
    ],
)
def test_a_url_is_no_path(program, verb, flags, what):
    done = program(verb, *flags)
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and f"{what} is " in said
    assert "allowed is a path on this machine" in said and "Traceback" not in said


@pytest.mark.parametrize("verb", ["evaluate", "visualize", "export"])
def test_a_file_is_no_folder(before_jax, tmp_path, verb):
    (tmp_path / "file").write_text("")
    done = before_jax(verb, "--out", tmp_path / "file")
    assert done.returncode == 2 and "File exists. Give a folder" in done.stderr


def test_a_first_chunk_is_told_to_compile(program, tmp_path):
    flags = (
        "--config",
        "fast",
        "--epochs",
        "1",
        "--data.limit",
        "200",
        "--workdir",
        tmp_path / "run",
    )
    said = program("train", *flags).stderr.splitlines()
    at = next(n for n, line in enumerate(said) if "compiling (once)" in line)
    assert "epoch 1/1 begun" in said[at + 1]
    assert "compiling" not in program("train", *flags).stderr  # there is nothing left to do


def test_links_between_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
                links += 1
    assert links > 50


@pytest.mark.skipif(sys.platform != "linux", reason="no ulimit -v that is kept (Linux has it)")
@pytest.mark.parametrize(
    "before, said",
    [
        ("export PYTHONOPTIMIZE=1", "Python is optimized"),
        ("ulimit -v 1900000", "may use 1.9 GB of addresses, and jax needs 2 GB"),
    ],
)
def test_where_jax_could_not_work_nothing_is_begun(environment, tmp_path, before, said):
    command = f"{before}; exec {sys.executable} -m lenet_jax.train --config classic --workdir run"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    refused(done, said)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full (Linux has it)")
@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_run_outlives_its_streams(environment, tmp_path, stream):
    flags = "--config fully_connected --epochs 1 --data.limit 50 --batch-size 50 --workdir run"
    command = f"exec {sys.executable} -m lenet_jax.train {flags} {stream}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "run" / "result.json").exists()
