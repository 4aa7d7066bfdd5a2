import io
import sys
from types import SimpleNamespace

import pytest

from lenet_jax.training import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The bar's, which the test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def last(monkeypatch, clock, shown, done=0, seen=0):
    """What a bar of four epochs through 6,000 examples ends with after (second, epoch, seen)s."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with progress.Bar("x", 4, 6000, done, seen) as bar:
        for clock.now, number, examples in shown:
            bar.show(number, examples, 1.5)
    return sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_speed_and_time_left_do_not_count_compilation(monkeypatch, clock):
    # The first chunk takes 20 s, of which it compiles the most, and 640 examples the next second.
    told = last(monkeypatch, clock, [(20, 1, 64), (21, 1, 704)])
    assert "640 images/s" in told and "left 0:00:37" in told  # 23,296 / 640
    # After the first epoch 10 s of counting errors for the first time; later counts take no time.
    shown = [(20, 1, 64), (30, 1, 6000), (41, 2, 100), (43, 2, 1380)]
    told = last(monkeypatch, clock, shown)
    assert "640 images/s" in told and "left 0:00:26" in told  # 16,620 / 640
    told = last(monkeypatch, clock, [*shown, (51, 3, 500)])
    assert "640 images/s" in told and "left 0:00:18" in told  # 11,500 / 640
    # Gone on with in the third epoch, 1,000 examples behind it.
    told = last(monkeypatch, clock, [(9, 3, 1100), (11, 3, 1300)], done=2, seen=1000)
    assert "100 images/s" in told and "left 0:01:47" in told


def test_elsewhere_than_on_a_terminal_a_line_says_that_it_began(capsys, clock):
    with progress.Bar("x", 2, 6000, 0, 0) as bar:
        for clock.now, seen in ((20, 64), (21, 704)):
            bar.show(1, seen, 1.5)
        bar.log("a line")
    said = "x  compiling (once)\nx  epoch 1/2 begun  loss 1.500\na line\n"
    assert capsys.readouterr().err == said
