"""What a long run adds up to: python -m benchmarks.longrun

400 epochs of a hundred embedded digits, each with its checkpoint: the memory of the process after
every epoch, and the bytes that its records grow by. Writes results/longrun.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed import ROOT, conditions

EPOCHS = 400
COMMAND = "--config fully_connected --data.limit 100 --batch-size 50 --data.fallback uci-digits"
RECORDS = "metrics.jsonl", "times.jsonl", "events.*"


def measure(folder: Path) -> dict[str, Any]:
    """Bytes in memory after each epoch that was seen to end, and bytes of records an epoch."""
    command = [sys.executable, "-m", "lenet_jax.train", *COMMAND.split()]
    command += ["--epochs", str(EPOCHS), "--workdir", str(folder)]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = folder / "metrics.jsonl"
    memory: dict[int, int] = {}
    while process.poll() is None:
        done = rows.read_text().count("\n") if rows.exists() else 0
        if done not in memory:
            memory[done] = process.memory_info().rss
        time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"it ended with {process.returncode}")
    size = sum(file.stat().st_size for name in RECORDS for file in folder.glob(name))
    return {
        "epochs": sorted(memory)[1:],
        "bytes_in_memory": [memory[epoch] for epoch in sorted(memory)[1:]],
        "bytes_of_records_an_epoch": size / EPOCHS,
    }


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("python -m benchmarks.longrun", description=__doc__).parse_args(
        arguments
    )
    with tempfile.TemporaryDirectory() as folder:
        found = conditions() | measure(Path(folder) / "run")
    (ROOT / "results" / "longrun.json").write_text(json.dumps(found) + "\n")
    memory = dict(zip(found["epochs"], found["bytes_in_memory"], strict=True))
    for epoch in (10, 100, 200, max(memory)):
        print(f"after epoch {epoch}: {memory.get(epoch, 0) / 2**20:.0f} MiB")
    print(f"{found['bytes_of_records_an_epoch']:.0f} bytes of records an epoch")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
