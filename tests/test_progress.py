"""Progress: bars on a terminal, lines in a log that no long step silences, nothing where nothing is wanted."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from mogrid import progress
from mogrid.progress import Progress, status


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """A clock of the test's own; the thread, whose seconds are real ones, looks at it only where the test says so."""
    monkeypatch.setattr(progress._Lines, "_watch", lambda self: None)
    return Clock()


@pytest.fixture
def log() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=40)


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def after(bar: Progress, clock: Clock, seconds: float) -> None:
    """Let time pass, and the display's thread look at its clock once."""
    clock.now += seconds
    bar._display.beat()  # type: ignore[union-attr]


def test_a_log_gets_a_first_and_a_last_line_and_one_every_thirty_seconds(log, clock) -> None:
    with Progress(log, "runs", total=12, clock=clock) as bar:
        after(bar, clock, 29)
        bar.update(3, said="a said\n[bold]thing")
        after(bar, clock, 1)
        after(bar, clock, 29)
        bar.update(6)
        after(bar, clock, 31)
        clock.now += 3600
        bar.update(12)
    assert lines(log) == [
        "runs: 0/12",
        "runs: 3/12, 0:30, 1:30 left  a said [bold]thing",
        "runs: 6/12, 1:30, 1:30 left  a said [bold]thing",
        "runs: 12/12, done in 1:01:30",
    ]


def test_one_long_step_is_not_silent() -> None:
    """The lines come from a thread: nothing is updated, and yet there is a second line to wait for."""
    wrote = threading.Semaphore(0)

    class File(io.StringIO):
        def write(self, text: str) -> int:
            wrote.release()
            return super().write(text)

    console = Console(file=File(), force_terminal=False, width=80)
    with Progress(console, "one step", total=1, every=0.001):
        assert all(wrote.acquire(timeout=30) for _ in range(4))
    assert sum(line.startswith("one step: 0/1") for line in lines(console)) >= 2


def test_what_an_earlier_call_did_does_not_count_towards_the_speed(log, clock) -> None:
    with Progress(log, "steps", total=100, done=90, clock=clock) as bar:
        after(bar, clock, 40)
        bar.advance(5)
        after(bar, clock, 40)
    assert lines(log)[:3] == ["steps: 90/100", "steps: 90/100, 0:40", "steps: 95/100, 1:20, 1:20 left"]


def test_the_first_hundredth_foretells_nothing(log, clock) -> None:
    with Progress(log, "runs", total=4e12, clock=clock) as bar:
        bar.advance(3e10)
        after(bar, clock, 30)
        bar.advance(1e10)
        after(bar, clock, 30)
    assert lines(log)[1:3] == ["runs: 1%, 0:30", "runs: 1%, 1:00, 1:39:00 left"]


def test_amounts_are_shares(log, clock) -> None:
    with Progress(log, "runs", total=4e12, clock=clock) as bar:
        report = bar.shares([1e12, 3e12])
        report(0, 0.5)
        report(1, 1 / 3)
        report(0, 1.0)
        after(bar, clock, 30)
    assert bar.done == pytest.approx(2e12)
    assert lines(log)[1] == "runs: 50%, 0:30, 0:30 left"


def test_stages_inside_share_the_line(log, clock) -> None:
    with Progress(log, "runs", total=2, clock=clock) as bar:
        for _ in range(2):
            with Progress(log, "steps", total=10, clock=clock) as inner:
                inner.update(4)
                after(inner, clock, 30)
            bar.advance()
    assert lines(log) == [
        "runs: 0/2",
        "runs: 0/2, 0:30; steps: 4/10, 0:30, 0:45 left",
        "runs: 1/2, 1:00, 1:00 left; steps: 4/10, 0:30, 0:45 left",
        "runs: 2/2, done in 1:00",
    ]


def test_an_error_stands_alone_where_nothing_was_said_yet(log, clock) -> None:
    with pytest.raises(ValueError, match="bad"), Progress(log, "reading", clock=clock) as stage:
        after(stage, clock, 4)
        raise ValueError("bad")
    assert lines(log) == []


def test_a_stage_without_a_total_speaks_when_it_is_long(log, clock) -> None:
    with Progress(log, "reading", clock=clock) as stage:
        after(stage, clock, 5)
        stage.say("tldr")
        after(stage, clock, 30)
    assert lines(log) == ["reading: 0:05", "reading: 0:35  tldr", "reading: done in 0:35"]
    with status(log, "short"):
        pass
    assert len(lines(log)) == 3


def test_what_was_cut_short_is_not_called_done(log, clock) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(log, "runs", total=3, clock=clock) as bar:
        bar.update(1)
        clock.now += 10
        raise KeyboardInterrupt
    assert lines(log) == ["runs: 0/3", "runs: stopped at 1/3, 0:10, 0:20 left"]


@pytest.mark.parametrize("console", [None, Console(file=io.StringIO(), quiet=True)])
def test_silence(console, clock) -> None:
    with Progress(console, "runs", total=3, clock=clock) as bar:
        bar.update(2, said="x")
    assert bar.done == 2
    assert console is None or console.file.getvalue() == ""


def test_a_terminal_gets_bars(clock) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with Progress(console, "[runs]", total=2, clock=clock) as bar:
        with Progress(console, "steps", total=10, clock=clock) as inner:
            clock.now = 5.0
            inner.update(10)
        bar.update(2, said="over")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", console.file.getvalue())
    last = plain.splitlines()[-1]
    assert "[runs] ━" in last
    assert last.endswith("2/2, 0:05, 0:00 left  over")
    assert not progress._open
