"""A few of the fault trials, whose many are made by hand, and what is said of those."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no os.fork (Unix has it)")


def test_some_trials_lose_nothing():
    command = [sys.executable, "-m", "tests.faults", "--every", "20"]
    done = subprocess.run(
        [*command, "--only", "resumes"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    counted = re.search(r"(\d+) trials, 0 lost", done.stdout)
    assert counted and int(counted[1]) > 12


def test_reliability_says_what_was_found():
    found = json.loads((ROOT / "results" / "faults.json").read_text())
    page = (ROOT / "RELIABILITY.md").read_text()
    total = {key: 0 for key in ("trials", "survived", "told", "lost")}
    for row in found["rows"]:
        counts = [row[key] for key in total]
        assert counts[0] == sum(counts[1:]) > 0
        assert f"| {row['fault']} | " + " | ".join(f"{n:,}" for n in counts) + " |" in page
        for key in total:
            total[key] += row[key]
    assert "| all | " + " | ".join(f"{n:,}" for n in total.values()) + " |" in page
    assert total["trials"] >= 1000 and total["lost"] == 0


def test_what_is_said_of_a_long_run_is_its_record():
    found = json.loads((ROOT / "results" / "longrun.json").read_text())
    memory = dict(zip(found["epochs"], found["bytes_in_memory"], strict=True))
    tenth, last = memory[10], memory[400]
    assert last < 1.1 * tenth
    page = " ".join((ROOT / "RELIABILITY.md").read_text().split())
    assert f"held {tenth / 2**20:.0f} MiB after the tenth and {last / 2**20:.0f} after" in page
    assert f"grow by {found['bytes_of_records_an_epoch']:.0f} bytes an epoch" in page
