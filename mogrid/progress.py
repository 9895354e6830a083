"""What is going on, for whoever waits: a bar with an ETA on a terminal, and a line every 30 seconds in a log.

Everything that may take long says so here. Where there is no terminal, a thread writes the lines, so that one long step
does not silence them. Stages may follow or hold one another: those within show up in the line, or as a further bar.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskID
from rich.progress import Progress as RichProgress
from rich.text import Text

__all__ = ["EVERY", "Progress", "status"]

EVERY = 30.0
"""Seconds between two lines of a log."""

_PATIENCE = 5.0
"""Seconds after which a stage without a total is worth a first line: before it, an error should stand alone."""

_KNOWN = 0.01
"""Share of the work after which a speed is known: the first item is rarely like the others."""

_open: WeakKeyDictionary[Console, _Bars | _Lines] = WeakKeyDictionary()


class Progress:
    """A stage of work, with a total or without, from entering this context to leaving it.

    Parameters
    ----------
    console : Console, optional
        Where it is shown; None, or a quiet one, shows nothing.
    name : str
        What is being done, such as ``training``.
    total : int or float, optional
        An int counts things and is shown as ``3/12``; a float is an amount of work, shown as a share. None says that
        nobody knows, and then there is no ETA.
    done : float
        What was done before, by an earlier call that this one continues; it does not count towards the speed.
    clock : callable
        Returns seconds; tests give one of their own.
    every : float
        Seconds between two lines of a log.
    """

    def __init__(
        self,
        console: Console | None,
        name: str,
        total: float | None = None,
        *,
        done: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self.name, self.total, self.done = name, total, done
        self._before = done
        self._said = ""
        self._console = None if console is None or console.quiet else console
        self._clock, self._every = clock, every
        self._display: _Bars | _Lines | None = None
        self._began = clock()

    def update(self, done: float | None = None, *, said: str | None = None) -> None:
        """Say how much is done, of the total, and what is to stand behind it: a loss, the item at hand."""
        if done is not None:
            self.done = done
        if said is not None:
            self._said = " ".join(said.split())

    def advance(self, by: float = 1.0, *, said: str | None = None) -> None:
        """Say that so much more is done."""
        self.update(self.done + by, said=said)

    def say(self, said: str) -> None:
        """Say what is at hand; as a callback, for work that reports in words."""
        self.update(said=said)

    def shares(self, costs: Sequence[float]) -> Callable[[int, float], None]:
        """Return a callback for pieces of work, of these costs, that each report the share of them that is done."""
        reported = [0.0] * len(costs)

        def report(piece: int, share: float) -> None:
            self.advance((share - reported[piece]) * costs[piece])
            reported[piece] = share

        return report

    def line(self) -> str:
        """Return what there is to say now, in one line."""
        parts = [self._spent()]
        if self.total is not None:
            left = self._left()
            parts = [self._count(), *parts, *([] if left is None else [f"{_time(left)} left"])]
        return ", ".join(parts) + (f"  {self._said}" if self._said else "")

    def __enter__(self) -> Self:
        self._began = self._clock()
        if self._console is not None:
            display = _open.get(self._console)
            if display is None:
                kind = _Bars if self._console.is_interactive or self._console.is_jupyter else _Lines
                display = _open[self._console] = kind(self._console, self._clock, self._every)
            self._display = display
            display.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display is not None and self._console is not None:
            self._display.remove(self, whole=error is None)
            if not self._display.stages:
                del _open[self._console]
            self._display = None

    def _count(self) -> str:
        assert self.total is not None
        if isinstance(self.total, int):
            return f"{int(self.done):,}/{self.total:,}"
        return f"{self.done / self.total:.0%}" if self.total > 0 else "100%"

    def _spent(self) -> str:
        return _time(self._clock() - self._began)

    def _left(self) -> float | None:
        """Return seconds, at the mean speed so far; nothing before that is known."""
        new = self.done - self._before
        if self.total is None or new <= 0 or new < _KNOWN * (self.total - self._before):
            return None
        return max(self.total - self.done, 0.0) * (self._clock() - self._began) / new


def status(console: Console | None, name: str) -> Progress:
    """Return a stage without a total: ``with status(console, "reading the data") as stage: stage.say("tldr")``."""
    return Progress(console, name)


class _Bars:
    """A terminal's display: a bar for every open stage."""

    def __init__(self, console: Console, clock: Callable[[], float], every: float) -> None:
        self.stages: dict[Progress, TaskID] = {}
        self._bars = _Synchronised(_Text(), BarColumn(bar_width=None), _Line(), console=console, expand=True)

    def add(self, stage: Progress) -> None:
        self.stages[stage] = self._bars.add_task(stage.name, total=stage.total, stage=stage)
        self._bars.start()

    def remove(self, stage: Progress, *, whole: bool) -> None:
        task = self.stages.pop(stage)
        # A finished bar stays on the screen; what had no total, or was inside another, has nothing more to say.
        if stage.total is None or self.stages:
            self._bars.remove_task(task)
        if not self.stages:
            self._bars.stop()


class _Synchronised(RichProgress):
    """Bars that ask their stages how far they are whenever they are drawn: an update costs a step nothing."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            task.completed = task.fields["stage"].done
        return super().get_renderables()


class _Text(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description)


class _Line(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["stage"].line(), no_wrap=True, overflow="ellipsis")


class _Lines:
    """A log's display: the first and the last line of the outermost stage, and between them one when it is time."""

    def __init__(self, console: Console, clock: Callable[[], float], every: float) -> None:
        self.stages: dict[Progress, None] = {}
        self._console, self._clock, self._every = console, clock, every
        self._due = 0.0
        self._wrote = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mogrid-progress", daemon=True)

    def add(self, stage: Progress) -> None:
        with self._lock:
            self.stages[stage] = None
        if len(self.stages) == 1:
            if stage.total is None:
                self._due = self._clock() + min(_PATIENCE, self._every)
            else:
                self._write(f"{stage.name}: {stage._count()}")
            self._thread.start()

    def remove(self, stage: Progress, *, whole: bool) -> None:
        with self._lock:
            del self.stages[stage]
        if self.stages:
            return
        self._over.set()
        self._thread.join()
        if not whole:
            if self._wrote:
                self._write(f"{stage.name}: stopped at {stage.line()}")
        elif stage.total is not None:
            self._write(f"{stage.name}: {stage._count()}, done in {stage._spent()}")
        elif self._wrote:
            self._write(f"{stage.name}: done in {stage._spent()}")

    def beat(self) -> None:
        """Write a line if it is time for one."""
        with self._lock:
            if self.stages and self._clock() >= self._due:
                self._write("; ".join(f"{stage.name}: {stage.line()}" for stage in self.stages))

    def _write(self, line: str) -> None:
        self._due = self._clock() + self._every
        self._wrote = True
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._every)):
            self.beat()


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
