"""What the user sees while a run goes on: a bar on a terminal, a line per pass elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """Pass, loss, images per second and time left of a run on the data set `name`.

    Begins with `done` of the `passes` and `seen` of the next pass's `patterns` behind it.
    """

    def __init__(self, name: str, passes: int, patterns: int, done: int, seen: int) -> None:
        self._name, self._passes, self._patterns = name, passes, patterns
        self._start = done * patterns + seen
        self._began = time.monotonic()
        self._said = False
        self._bar = Progress(
            TextColumn(f"{name}  {{task.description}}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            transient=True,
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=passes * patterns, status="")

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, number: int, seen: int, loss: float) -> None:
        """So many patterns of this pass have been seen, at this mean loss."""
        now = (number - 1) * self._patterns + seen
        speed = (now - self._start) / max(time.monotonic() - self._began, 1e-9)
        status = f"{speed:,.0f} images/s  loss {loss:.3f}"
        description = f"pass {number}/{self._passes}"
        self._bar.update(self._task, completed=now, description=description, status=status)
        if self._bar.disable and not self._said:
            self.say(f"{self._name}  {description} begun  {status}")
        self._said = True

    def say(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)
