"""What a run writes down: one JSON line per epoch, TensorBoard events, and times apart.

metrics.jsonl is the true and holds nothing that another machine or another day would change:
a run that was killed and resumed ends with the same bytes.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lenet_jax.training.folder import write_whole


class Metrics:
    """Appends to the records of a run folder, which begin with `rows`: those of the checkpoint.

    Where several processes train the run only one of them `writes`; the others keep the rows.

    An epoch is recorded before its checkpoint is written, so a crash can leave a line too many.
    Whatever else became of the file, the checkpoint has the rows that led to it. Raises OSError
    where the folder is full.
    """

    def __init__(self, folder: Path, rows: list[dict[str, Any]], writes: bool = True) -> None:
        self.rows, self._writes = list(rows), writes
        if not writes:
            return
        # Where tensorboardX finds torch it imports it too: two seconds, for nothing used here.
        hidden = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]
        from tensorboardX import SummaryWriter

        if hidden:
            del sys.modules["torch"]

        self._file = folder / "metrics.jsonl"
        write_whole(self._file, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._times = folder / "times.jsonl"
        self._events = SummaryWriter(str(folder), purge_step=len(rows) + 1)

    def record(self, row: dict[str, Any], images_per_second: float) -> None:
        """Adds the row of an epoch, under its key "epoch". Lists are a number for each seed."""
        self.rows.append(row)
        if not self._writes:
            return
        with open(self._file, "a") as file:
            file.write(json.dumps(row) + "\n")
            _sync(file)
        speed = {"images_per_second": round(images_per_second)}
        with open(self._times, "a") as file:
            now = time.strftime("%Y-%m-%dT%H:%M:%S")
            file.write(json.dumps({"epoch": row["epoch"], "at": now} | speed) + "\n")
        for name, value in (row | speed).items():
            if isinstance(value, list):  # a number for each seed
                for place, one in enumerate(value):
                    self._events.add_scalar(f"{name}/{place}", one, row["epoch"])
                value = sum(value) / len(value)
            if name != "epoch":
                self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()

    def close(self) -> None:
        if self._writes:
            self._events.close()


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that a crash cut short is not one."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
