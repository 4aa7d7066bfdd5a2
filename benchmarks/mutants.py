"""Whether the tests notice a mistake: python -m benchmarks.mutants [--number 300] [--seed 0]

Draws that many small mistakes from all that can be made in the rooms below, makes them one at a
time in a copy of the last commit, and runs the tests nearest to each. Writes results/mutants.json
after each; stopped and started again it goes on. The drawn ones stay: what survived at another
commit is tried again at this one, so that a row with a later commit says what was learned since.

mutmut leaves decorated functions alone, which here are the jitted ones and the layers. Most mutants
of cosmic-ray are operators that no float has, and neither draws with a seed.
"""

import argparse
import ast
import contextlib
import copy
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed import ROOT, conditions
from lenet_jax.measurement.records import commit
from lenet_jax.training.folder import write_whole

RECORD = ROOT / "results" / "mutants.json"

# The tests of a file's own room or, where it has an entry of its own, of the file; the quick first.
NEAREST = {
    "baselines": "baselines",
    "baselines/boosting.py": "baselines family",
    "data": "data",
    "data/deslant.py": "baselines",
    "data/distort.py": "distort update step",
    "data/frames.py": "data lenet family",
    "experiment": "config update loop distort",
    "experiment/arrays.py": "page",
    "experiment/baseline.py": "config baselines",
    "experiment/pages.py": "config page",
    "experiment/serialization.py": "config page loop",
    "inspection": "visualize deconvnet",
    "layers": "lenet update curvature family",
    "layers/codes.py": "lenet",
    "measurement": "evaluate results",
    "measurement/counting.py": "config family",
    "measurement/records.py": "results family",
    "models": "lenet family",
    "models/nielsen.py": "update family",
    "recognition": "pictures predict",
    "recognition/networks.py": "predict export visualize page",
    "recognition/predictor.py": "lenet predict",
    "reports": "results",
    "reports/family.py": "family",
    "reports/published.py": "figures family results",
    "reports/figures.py": "figures evaluate results visualize",
    "reproduction": "config results family",
    "training": "update loop checkpoint step",
    "training/checkpoint.py": "checkpoint loop",
    "training/curvature.py": "curvature family",
    "training/folder.py": "checkpoint loop",
    "training/losses.py": "losses curvature family",
    "training/metrics.py": "checkpoint loop",
    "training/optimizers.py": "update curvature step family",
    "training/progress.py": "progress",
}
ROOMS = [name for name in NEAREST if "/" not in name]
SECONDS = 600
OUT_OF_TIME, BROKEN = "out of time", "pytest itself"  # which are caught as well

OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
PAIRS = (
    *(("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("sum", "mean")),
    *(("any", "all"), ("zeros", "ones"), ("zeros_like", "ones_like"), ("sin", "cos")),
    *(("floor", "ceil"), ("left", "right")),
)
SYMMETRIC = {"min", "max", "np.minimum", "np.maximum", "jnp.minimum", "jnp.maximum"}
NAMES = dict(PAIRS) | {b: a for a, b in PAIRS}

# Where nothing is computed: types, texts, checks of our own, and what only makes a function faster.
NO_FIELDS = {"annotation", "returns", "decorator_list"}
NO_NODES = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)
NO_KEYWORDS = {None, "strict", "check_vma", "compiler_options"}


class Mutant(NamedTuple):
    """The slip number `slip` at place number `place` of a file; `was` and `now` for a reader."""

    file: str
    line: int
    was: str
    now: str
    place: int
    slip: int


def slips(node: ast.AST) -> Iterator[ast.AST]:
    """What might stand in the place of a node by mistake."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(1.5 * value)
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name], node.ctx)
        case ast.Attribute(value, name) if name in NAMES:
            yield ast.Attribute(value, NAMES[name], node.ctx)
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            yield changed(node, op=OPERATORS[type(op)]())
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            yield changed(node, ops=[OPERATORS[type(op)]()])
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[_, *_]):
            yield changed(node, ifs=[])
        case ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.Call(func=function, args=args, keywords=keywords):
            starred = any(isinstance(a, ast.Starred) for a in args[:2])
            if len(args) > 1 and not starred and ast.unparse(function) not in SYMMETRIC:
                yield changed(node, args=[args[1], args[0], *args[2:]])
            for at, keyword in enumerate(keywords):
                if keyword.arg not in NO_KEYWORDS:
                    yield changed(node, keywords=keywords[:at] + keywords[at + 1 :])


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def places(tree: ast.AST) -> Iterator[tuple[Any, ast.AST]]:
    """Each node that computes something, and a function that puts another in its place."""
    for field, value in ast.iter_fields(tree):
        if field in NO_FIELDS:
            continue
        for at, node in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(node, ast.AST) or isinstance(node, NO_NODES):
                continue

            def put(other: ast.AST, field=field, value=value, at=at) -> None:
                if isinstance(value, list):
                    value[at] = other
                else:
                    setattr(tree, field, other)

            yield put, node
            yield from places(node)


def every_mutant() -> list[Mutant]:
    found = []
    for path in sorted(p for room in ROOMS for p in (ROOT / "lenet_jax" / room).glob("*.py")):
        file, line = str(path.relative_to(ROOT / "lenet_jax")), 0
        for place, (_, node) in enumerate(places(ast.parse(path.read_text()))):
            line = getattr(node, "lineno", line)
            for slip, other in enumerate(slips(node)):
                found.append(Mutant(file, line, short(node), short(other), place, slip))
    return found


def short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) < 90 else text[:87] + "..."


def source_of(mutant: Mutant, text: str) -> str:
    tree = ast.parse(text)
    put, node = list(places(tree))[mutant.place]
    put(list(slips(node))[mutant.slip])
    return ast.unparse(ast.fix_missing_locations(tree))


class Copy:
    """The last commit in a folder of its own, and the programs that its tests compile."""

    def __init__(self, folder: Path) -> None:
        self.tree, compiled = folder / "tree", folder / "compiled"
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(self.tree, filter="data")
        self._environment = os.environ | {
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LENET_JAX_TESTS": str(compiled),
        }
        self._sound = {"", OUT_OF_TIME, BROKEN}

    def test(self, *which: str) -> str:
        """The first test that fails of some files or tests, or "" if none does."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--tb=no", *which]
        process = subprocess.Popen(
            command,
            cwd=self.tree,
            env=self._environment,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return OUT_OF_TIME
        finally:
            with contextlib.suppress(ProcessLookupError):  # the programs that its tests started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        failed = re.findall(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", said, re.MULTILINE)
        return "" if process.returncode == 0 else failed[0] if failed else BROKEN

    def caught_by(self, mutant: Mutant) -> str:
        """The test that fails with the mutant and not without it, or "".

        Raises RuntimeError where a test fails without it as well.
        """
        path = self.tree / "lenet_jax" / mutant.file
        text = path.read_text()
        names = NEAREST.get(mutant.file) or NEAREST[mutant.file.split("/")[0]]
        try:
            path.write_text(source_of(mutant, text))
            failed = self.test(*(f"tests/test_{name}.py" for name in names.split()))
        finally:
            path.write_text(text)
        if failed not in self._sound:
            # A file that cannot even be imported need not be run to its end.
            if self.test(failed, *([] if "::" in failed else ["--collect-only"])):
                raise RuntimeError(f"{failed} fails without a mutant")
            self._sound.add(failed)
        return failed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    everything, now = every_mutant(), commit()
    if now is None or now.endswith("+"):
        print("error: mutants are made of a commit: commit what has changed", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and tidy up
    drawn = random.Random(given.seed).sample(everything, min(given.number, len(everything)))
    rows = json.loads(RECORD.read_text())["mutants"] if RECORD.exists() else []
    known = {here(row, everything): row for row in rows}
    if len(rows) >= given.number:
        drawn = [mutant for mutant in known if mutant]
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copied = Copy(Path(folder))
        for mutant in drawn:
            row = known.get(mutant)
            if row and (row["caught_by"] or row["commit"] == now):
                continue
            began = time.monotonic()
            caught_by = copied.caught_by(mutant)
            rows = [r for r in rows if r is not row]
            rows.append(mutant._asdict() | {"caught_by": caught_by, "commit": now})
            write(rows, given, len(everything))
            print(
                f"{len(rows)}/{len(drawn)}  {time.monotonic() - began:4.0f} s  "
                f"{'caught' if caught_by else 'SURVIVED'}  {mutant.file}:{mutant.line}  "
                f"{mutant.was}  ->  {mutant.now}",
                flush=True,
            )
    return 0


def here(row: dict[str, Any], everything: list[Mutant]) -> Mutant | None:
    """The mutant of a row among those of this commit, the nearest of the same words; or None."""
    same = [
        m for m in everything if (m.file, m.was, m.now) == (row["file"], row["was"], row["now"])
    ]
    return min(same, key=lambda m: abs(m.line - row["line"]), default=None)


def write(rows: list[dict[str, Any]], given: argparse.Namespace, of: int) -> None:
    record = {
        **conditions(),
        "seed": given.seed,
        "drawn": given.number,
        "of": of,
        "tried": len(rows),
        "caught": sum(bool(row["caught_by"]) for row in rows),
        "mutants": sorted(rows, key=lambda row: (row["file"], row["line"], row["place"])),
    }
    write_whole(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
