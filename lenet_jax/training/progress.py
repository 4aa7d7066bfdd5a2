"""What the user sees while a run goes on: a bar on a terminal, a line per epoch elsewhere."""

import math
import sys
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

UNKNOWN = "-:--:--"


class Bar:
    """Epoch, loss, images per second and time left of a run on the data set `name`.

    Begins with `done` of the `epochs` and `seen` of the next epoch's `examples` behind it. Neither
    speed nor time left counts what compiles: the first chunk, and the first count of errors.
    """

    def __init__(
        self, name: str, epochs: int, examples: int, done: int, seen: int, quiet: bool = False
    ) -> None:
        self._name, self._epochs, self._examples = name, epochs, examples
        self._first, self._shown = done + 1, 0  # epochs
        self._since = 0.0, 0  # time, and examples then behind
        self._bar = Progress(
            TextColumn(f"{name}  {{task.description}}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            transient=True,
            console=Console(stderr=True, quiet=quiet),
            disable=not sys.stderr.isatty(),
        )
        self._total, behind = epochs * examples, done * examples + seen
        self._task = self._bar.add_task(
            "", total=self._total, completed=behind, status="", left=UNKNOWN
        )

    def __enter__(self) -> "Bar":
        self._bar.start()
        if self._total > self._bar.tasks[0].completed:
            self._bar.update(self._task, description="compiling (once)")
            if self._bar.disable:
                self.log(f"{self._name}  compiling (once)")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, number: int, seen: int, loss: float) -> None:
        """So many examples of this epoch have been seen, at this mean loss."""
        now, behind = time.monotonic(), (number - 1) * self._examples + seen
        description, status, left = f"epoch {number}/{self._epochs}", f"loss {loss:.3f}", UNKNOWN
        if self._bar.disable and not self._shown:
            self.log(f"{self._name}  {description} begun  {status}")
        if number != self._shown and number <= self._first + 1:
            self._since = now, behind
        self._shown = number
        began, before = self._since
        if now > began:
            speed = (behind - before) / (now - began)
            status = f"{speed:,.0f} images/s  {status}"
            left = str(timedelta(seconds=math.ceil((self._total - behind) / speed)))
        self._bar.update(
            self._task, completed=behind, description=description, status=status, left=left
        )

    def log(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line, highlight=False, soft_wrap=True)
