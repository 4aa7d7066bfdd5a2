"""Fault trials: python -m tests.faults

A trial disturbs a piece of work (tests/works.py), or a file that it left, does it again undisturbed
and compares what is left with what was never disturbed. It is survived if that is the same, bit for
bit; told if the program refused with a message, and goes on to the same once the cause is gone;
anything else is lost. Every trial runs in processes of its own, forked from one that has imported
everything and has no devices yet. Writes results/faults.json and RELIABILITY.md.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "NPROC": "1", "JAX_NUM_CPU_DEVICES": "1"}
os.environ |= {"LENET_JAX_OFFLINE": "1", "LENET_JAX_MNIST": "", "TFDS_DATA_DIR": "/nowhere"}

from lenet_jax.settings import set_up_jax  # noqa: E402

set_up_jax()

from lenet_jax import commandline  # noqa: E402
from tests import works  # noqa: E402
from tests.works import Work  # noqa: E402

ROOT = Path(__file__).parents[1]
SURVIVED, TOLD, LOST = "survived", "told", "lost"
WORKERS = 2
HANGS = 120  # seconds after which a trial is lost


@dataclass(frozen=True)
class Trial:
    fault: str
    about: str  # which of its kind
    run: Callable[[Path], str]  # in an empty folder: SURVIVED, TOLD, or why it is lost


class Apart:
    """Something in a forked process, as a program does it.

    Only a process of one thread may fork: a lock that another holds would never be let go.
    """

    def __init__(self, do: Callable[[], Any]) -> None:
        self._said, self._returned = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        self._deadline = time.monotonic() + HANGS
        self._child = os.fork()
        if not self._child:
            _program(do, self._said, self._returned)

    def end(self) -> tuple[int, str]:
        """The exit code, and what it returned or said.

        Negative for a signal, 1 for an exception that no user should see.
        """
        while (ended := os.waitpid(self._child, os.WNOHANG))[0] == 0:
            if time.monotonic() > self._deadline:
                os.kill(self._child, signal.SIGKILL)
                os.waitpid(self._child, 0)
                return 1, f"it hangs for more than {HANGS} s"
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(ended[1])
        with self._said, self._returned:
            told = self._said if code else self._returned
            told.seek(0)
            return code, told.read()


def apart(do: Callable[[], Any]) -> tuple[int, str]:
    return Apart(do).end()


def _program(do: Callable[[], Any], said: Any, returned: Any) -> NoReturn:
    def main(_: Any) -> int:
        returned.write(do() or "")
        returned.flush()
        return 0

    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr = said
        commandline.run(main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        said.write(traceback.format_exc())
    finally:  # or the forked process would go on as the one that it was
        with contextlib.suppress(OSError):
            said.flush()
        os._exit(code)


def finished(work: Work, folder: Path, whole: str) -> str:
    """Does the work undisturbed, and says whether it left what it should."""
    code, said = apart(lambda: work.do(folder))
    if code:
        return f"done again it ends with {code}: {said[-500:]}"
    code, left = apart(lambda: work.left(folder))
    return SURVIVED if (code, left) == (0, whole) else f"another end: {left[-500:]}"


@contextlib.contextmanager
def tracing(files: frozenset[str], seen: Callable[[str, int], None]) -> Iterator[None]:
    """Calls `seen` before each line of some files, in whatever thread."""

    def tracer(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen(frame.f_code.co_filename, frame.f_lineno)
        return tracer

    threading.settrace(tracer)
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


def lines_of(work: Work, folder: Path) -> list[tuple[str, int]]:
    """Each line that the work comes by in a folder."""

    def record() -> str:
        met: list[tuple[str, int]] = []
        with tracing(work.files, lambda file, line: met.append((file, line))):
            work.do(folder)
        return json.dumps(met)

    code, met = apart(record)
    assert code == 0, met
    return sorted({(file, line) for file, line in json.loads(met)})


def killed_at(work: Work, start: Path | None, whole: str, at: tuple, folder: Path) -> str:
    """The work, from a copy of `start` or anew, is killed before a line, and done again."""
    if start:
        shutil.copytree(start, folder, dirs_exist_ok=True)
    random_ = random.Random(str(at))

    def seen(where: str, number: int) -> None:
        # At its first time there, or at one of the next.
        if (where, number) == at and random_.random() < 0.6:
            os.kill(os.getpid(), signal.SIGKILL)

    def do() -> None:
        with tracing(work.files, seen):
            work.do(folder)

    code, said = apart(do)
    if code not in (0, -signal.SIGKILL):  # 0: it did not come by there again
        return f"ends with {code}: {said[-500:]}"
    return finished(work, folder, whole)


def signalled(work: Work, whole: str, number: int, seconds: float, folder: Path) -> str:
    """Killed, or told to stop, after some seconds: saved and 42, ended at once, or done already."""

    def do() -> None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
        work.do(folder)

    code, said = apart(do)
    if code not in (0, 42, 130, -number):
        return f"ends with {code}: {said[-500:]}"
    return finished(work, folder, whole)


def flipped(content: bytes, rng: random.Random) -> bytes:
    at, bit = rng.randrange(len(content)), rng.randrange(8)
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a bit flipped": flipped,
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "emptied": lambda content, rng: b"",
    "deleted": lambda content, rng: None,
}


def damaged(
    work: Work, start: Path, whole: str, read: str, name: str, damage: str, folder: Path
) -> str:
    """A file of what the work left is damaged; `read` is what another verb reads of it whole."""
    shutil.copytree(start, folder, dirs_exist_ok=True)
    file = folder / name
    content = file.read_bytes()
    worse = DAMAGES[damage](content, random.Random(name + damage)) if content else None
    file.unlink() if worse is None else file.write_bytes(worse)
    if read:
        code, found = apart(lambda: work.read(folder))
        if code == 2:
            return TOLD
        return SURVIVED if (code, found) == (0, read) else f"reads {code}: {found[-500:]}"
    code, said = apart(lambda: work.do(folder))
    if code == 0:
        code, left = apart(lambda: work.left(folder))
        return SURVIVED if (code, left) == (0, whole) else f"another end: {left[-500:]}"
    if code != 2:
        return f"ends with {code}: {said[-500:]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    again = finished(work, folder, whole)
    return TOLD if again == SURVIVED else f"refused, and once the file is mended {again}"


def without_room(work: Work, start: Path | None, whole: str, room: int, folder: Path) -> str:
    """No file may grow beyond `room` bytes: what is saved stays, and goes on with more room."""
    if start:
        shutil.copytree(start, folder, dirs_exist_ok=True)

    def do() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            work.do(folder)
        finally:  # what is said goes to a file, too
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )

    code, said = apart(do)
    if code not in (0, 2):
        return f"ends with {code}: {said[-500:]}"
    again = finished(work, folder, whole)
    return TOLD if again == SURVIVED and code else again


def two_at_once(work: Work, whole: str, later: float, folder: Path) -> str:
    """A second program, some seconds later, on the same folder: one at least comes to the end."""

    def second() -> None:
        time.sleep(later)
        work.do(folder)

    both = Apart(lambda: work.do(folder)), Apart(second)
    ends = [each.end() for each in both]
    if any(code not in (0, 2) for code, _ in ends) or all(code for code, _ in ends):
        return f"they end with {ends}"
    return finished(work, folder, whole)


# How a program may find itself, beside what is usual: what bash does before it.
SURROUNDINGS = {
    "no HOME": "unset HOME XDG_CACHE_HOME",
    "HOME is nowhere": "export HOME=/nowhere; unset XDG_CACHE_HOME",
    "HOME is a file": "export HOME=/etc/hostname; unset XDG_CACHE_HOME",
    "HOME cannot be written": "export HOME=/proc; unset XDG_CACHE_HOME",
    "an empty HOME": "export HOME=$PWD/home; mkdir home; unset XDG_CACHE_HOME",
    "the cache folder cannot be written": "export XDG_CACHE_HOME=/proc/cache",
    "TMPDIR is nowhere": "export TMPDIR=/nowhere",
    "an empty environment": "unset $(compgen -e | grep -vxE 'PATH|PYTHONPATH|JAX_NUM_CPU_DEVICES')",
    "no terminal, no input": "exec <&-",
    "output closed": "exec >&-",
    "errors closed": "exec 2>&-",
    "output and errors closed": "exec >&- 2>&-",
    "output full": "exec >/dev/full",
    "errors full": "exec 2>/dev/full",
    "output read no further": "exec > >(head -c 1 >/dev/null)",
    "locale C": "export LC_ALL=C LANG=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
    "ASCII output": "export PYTHONIOENCODING=ascii LC_ALL=C PYTHONUTF8=0",
    "a locale that is not there": "export LC_ALL=xx_XX.UTF-8 LANG=xx",
    "a terminal of no kind": "export TERM=dumb COLUMNS=1",
    "64 open files": "ulimit -n 64",
    "1.5 GB of addresses": "ulimit -v 1500000",
    "4 GB of addresses": "ulimit -v 4000000",
    "a small stack": "ulimit -s 512",
    "one core": "taskset -p -c 0 $$ >/dev/null",
    "umask 077": "umask 077",
    "optimized Python": "export PYTHONOPTIMIZE=1",
    "optimized Python without docstrings": "export PYTHONOPTIMIZE=2",
    "warnings are errors of Python's own": "export PYTHONDEVMODE=1",
    "the folder is called ' a b'": "W=' a b'",
    "the folder is called '-x'": "W=./-x",
    "the folder is called Ziffern/数字/ñ": "W=Ziffern/数字/ñ",
    "the folder's name has a line break": "W=$'a\\nb'",
    "the folder's name has 200 letters": "W=$(printf 'a%.0s' {1..200})",
    "the folder is a link": "mkdir there; ln -s there here; W=here",
    "the folder there is empty": "mkdir run",
}


def surrounded(setting: str, whole: str, folder: Path) -> str:
    """The real program in odd surroundings: it works, or says why not."""
    train = "python -m lenet_jax.train --config fully_connected --epochs 2 --data.limit 100"
    command = f'cd "$0"; W=run; {setting}; exec {train} --batch-size 50 --workdir "$W"'
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    with (folder / "said").open("w+b") as said:
        done = subprocess.run(
            ["bash", "-c", command, folder], env=env, stdout=subprocess.DEVNULL, stderr=said,
            timeout=HANGS,
        )  # fmt: skip
        said.seek(0)
        text = said.read().decode(errors="replace")
    if done.returncode == 0:
        (config,) = folder.rglob("config.json")
        left = works.PROGRAM.left(config.parent)
        return SURVIVED if left == whole else f"another end: {left[-300:]}"
    if done.returncode in (1, 2) and "Traceback" not in text and text.strip():
        return TOLD
    return f"ends with {done.returncode}: {text[-500:]}"


class Ground:
    """Where trials begin: what works leave undisturbed, made once each when it is asked for."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._made: dict[str, tuple[Path, str, float]] = {}

    def whole(self, work: Work) -> tuple[Path, str, float]:
        """The folder of a work that was never disturbed, what it left, and the seconds it took."""
        if work.name not in self._made:
            folder, again = (self.base / kind / work.name for kind in ("whole", "timed"))
            folder.mkdir(parents=True)
            code, said = apart(lambda: work.do(folder))
            assert code == 0, said
            began = time.monotonic()
            apart(lambda: work.do(again))  # what it compiles is kept now
            seconds = time.monotonic() - began
            self._made[work.name] = folder, apart(lambda: work.left(folder))[1], seconds
        return self._made[work.name]

    @cached_property
    def half(self) -> Path:
        """A run that was killed in its third epoch."""
        folder = self.base / "half"
        folder.mkdir()
        loop = frozenset({str(works.PACKAGE / "training" / "loop.py")})

        def seen(file: str, line: int) -> None:
            if (folder / "checkpoints" / "4").exists():
                os.kill(os.getpid(), signal.SIGKILL)

        def do() -> None:
            with tracing(loop, seen):
                works.RUN.do(folder)

        code, said = apart(do)
        assert code == -signal.SIGKILL, said
        return folder


ALL = works.RUN, works.SET, works.NETWORK, works.RECORD, works.BOOSTING


def kills_at_lines(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    for work in ALL:
        _, whole, _ = ground.whole(work)
        for at in lines_of(work, ground.base / "lines" / work.name):
            run = partial(killed_at, work, None, whole, at)
            yield Trial(f"{work.name} killed at each line that writes", _shown(at), run)


def kills_at_lines_of_resumes(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    folder, whole, _ = ground.whole(works.RUN)
    for start, stage in ((ground.half, "half-done"), (folder, "finished")):
        resumed = ground.base / "lines" / f"resumed {stage}"
        shutil.copytree(start, resumed)
        for at in lines_of(works.RUN, resumed):
            run = partial(killed_at, works.RUN, start, whole, at)
            yield Trial(f"a {stage} run killed at each line as it goes on", _shown(at), run)


def kills_at_moments(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    for work, number in ((works.RUN, 60), (works.PROGRAM, 20), (works.SET, 20)):
        _, whole, seconds = ground.whole(work)
        for after in sorted(rng.uniform(0, seconds) for _ in range(number)):
            run = partial(signalled, work, whole, signal.SIGKILL, after)
            yield Trial(f"{work.name} killed at any moment", f"{after:.3f} s", run)


def signals(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    _, whole, seconds = ground.whole(works.PROGRAM)
    for number in (signal.SIGTERM, signal.SIGINT):
        for after in sorted(rng.uniform(0, seconds) for _ in range(20)):
            run = partial(signalled, works.PROGRAM, whole, number, after)
            yield Trial(f"{number.name} at any moment", f"{after:.3f} s", run)


def damages(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    stages = [(works.RUN, ground.half, "a half-done run")]
    stages += [(work, ground.whole(work)[0], f"{work.name}, finished") for work in ALL]
    for work, start, name in stages:
        _, whole, _ = ground.whole(work)
        code, read = apart(partial(work.read, start))
        assert code == 0, read
        for file in sorted(path for path in start.rglob("*") if path.is_file()):
            at = str(file.relative_to(start))
            if work is works.BOOSTING and "/" in at:
                continue  # of its three runs
            for damage in DAMAGES:
                about = f"{at} {damage}"
                run = partial(damaged, work, start, whole, "", at, damage)
                yield Trial(f"a file damaged of {name}", about, run)
                run = partial(damaged, work, start, whole, read, at, damage)
                yield Trial(f"a file damaged of {name}, read by another verb", about, run)


def full_disks(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    starts = [(works.RUN, ground.half)] + [(work, None) for work in ALL if work != works.RECORD]
    for work, start in starts:
        for room in sorted(int(2 ** rng.uniform(0, 17)) for _ in range(15)):
            run = partial(without_room, work, start, ground.whole(work)[1], room)
            yield Trial("no room on the disk", f"{work.name}, {room} bytes a file", run)


def pairs(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    for work, number in ((works.RUN, 20), (works.SET, 10)):
        _, whole, seconds = ground.whole(work)
        for later in (rng.uniform(0, seconds) for _ in range(number)):
            run = partial(two_at_once, work, whole, later)
            yield Trial("two programs at once", f"{work.name}, {later:.3f} s later", run)


def surroundings(ground: Ground, rng: random.Random) -> Iterator[Trial]:
    usual = ground.base / "usual"
    usual.mkdir()
    assert surrounded("true", "", usual).startswith("another end")
    whole = works.PROGRAM.left(usual / "run")
    for about, setting in SURROUNDINGS.items():
        yield Trial("odd surroundings", about, partial(surrounded, setting, whole))


KINDS: dict[str, Callable[[Ground, random.Random], Iterator[Trial]]] = {
    "lines": kills_at_lines,
    "resumes": kills_at_lines_of_resumes,
    "moments": kills_at_moments,
    "signals": signals,
    "damages": damages,
    "disks": full_disks,
    "pairs": pairs,
    "surroundings": surroundings,
}


def _shown(at: tuple[str, int]) -> str:
    return f"{Path(at[0]).name}:{at[1]}"


def write(rows: list[dict[str, Any]], seconds: float) -> None:
    """results/faults.json, and what RELIABILITY.md says of it."""
    from benchmarks.speed import conditions, in_place

    found = conditions() | {"seconds": round(seconds), "rows": rows}
    (ROOT / "results" / "faults.json").write_text(json.dumps(found, indent=1) + "\n")
    in_place("faults", table(found), ROOT / "RELIABILITY.md")


def table(found: dict[str, Any]) -> str:
    """The rows as Markdown, and their sum."""
    columns = "trials", SURVIVED, TOLD, LOST
    total = {"fault": "all", **{c: sum(row[c] for row in found["rows"]) for c in columns}}
    lines = [f"| fault | {' | '.join(columns)} |", "|---" * 5 + "|"]
    for row in (*found["rows"], total):
        lines.append(f"| {row['fault']} | " + " | ".join(f"{row[c]:,}" for c in columns) + " |")
    return "\n".join(lines)


def worker(chosen: list[Trial], base: Path, into: Path) -> NoReturn:
    """A process that makes trials one after the other, and writes down the end of each."""
    with into.open("w") as ends:
        for trial in chosen:
            with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as folder:
                try:
                    end = trial.run(Path(folder))
                except Exception:
                    end = traceback.format_exc()
            if end not in (SURVIVED, TOLD):
                print(f"LOST: {trial.fault}: {trial.about}: {end}", file=sys.stderr, flush=True)
                end = LOST
            print(json.dumps((trial.fault, end)), file=ends, flush=True)
    os._exit(0)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take only each so manyth trial")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--write", action="store_true", help="write down what is found")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        ground = Ground(base)
        chosen = [t for kind in given.only for t in KINDS[kind](ground, random.Random(kind))]
        chosen = chosen[:: given.every]
        files = [base / f"ends-{at}" for at in range(WORKERS)]
        workers = [
            os.fork() or worker(chosen[at::WORKERS], base, file) for at, file in enumerate(files)
        ]
        for each in workers:
            os.waitpid(each, 0)
        ends = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(ends) == len(chosen)
    rows = {t.fault: {"fault": t.fault, "trials": 0, SURVIVED: 0, TOLD: 0, LOST: 0} for t in chosen}
    for fault, end in ends:
        rows[fault]["trials"] += 1
        rows[fault][end] += 1
    lost = sum(row[LOST] for row in rows.values())
    seconds = time.monotonic() - began
    print(f"{sum(r['trials'] for r in rows.values()):,} trials, {lost} lost, {seconds:.0f} s")
    if given.write:
        write(list(rows.values()), seconds)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
