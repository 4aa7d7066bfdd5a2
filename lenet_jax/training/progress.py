"""What the user sees while a run goes on: a bar on a terminal, a line per pass elsewhere."""

import sys
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """Passes, images per second, loss and time left of a run on the data set `name`.

    `done` and `total` count images over all passes.
    """

    def __init__(self, name: str, done: int, total: int) -> None:
        self._terminal = sys.stderr.isatty()
        self._name = name
        self._done, self._began = done, time.monotonic()
        self._start = done
        self._said = False
        if self._terminal:
            self._bar = Progress(
                TextColumn(f"{name}  {{task.description}}"),
                BarColumn(),
                TextColumn("{task.fields[status]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                transient=True,
            )
            from rich.console import Console

            self._bar.live.console = Console(stderr=True)
            self._task = self._bar.add_task("", total=total, completed=done, status="")
            self._bar.start()

    def advance(self, images: int, pass_number: int, passes: int, loss: float) -> None:
        """So many images more, in this pass, at this mean loss."""
        self._done += images
        speed = (self._done - self._start) / max(time.monotonic() - self._began, 1e-9)
        status = f"{speed:,.0f} images/s  loss {loss:.3f}"
        if self._terminal:
            description = f"pass {pass_number}/{passes}"
            self._bar.update(
                self._task, completed=self._done, description=description, status=status
            )
        elif not self._said:
            print(f"{self._name}  pass {pass_number}/{passes} begun  {status}", file=sys.stderr)
        self._said = True

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._terminal:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal:
            self._bar.stop()
