"""Stages: one that is asked to stop stops, even in its last cell; and together they take the hours that were asked for."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mogrid.errors import ConfigError
from mogrid.runs import RunRecord
from mogrid.training.recipe import Recipe
from mogrid.tune import session
from tests.training.tiny import settings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_last_cell_is_not_lost(number, tmp_path, monkeypatch) -> None:
    done: list[str] = []

    def work(cell: Any, progress: object, stop: object) -> None:
        done.append(cell.name)
        if cell.name == "last":
            os.kill(os.getpid(), number)

    monkeypatch.setattr(session, "run_cell", work)
    cells: list[Any] = [
        SimpleNamespace(name=name, label=name, store=tmp_path, cost=1.0, parents=()) for name in ("first", "last")
    ]
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        session._drain_here("a stage", cells, tmp_path, Console(file=io.StringIO()))
    assert done == ["first", "last"]
    assert signal.getsignal(number) is before


class Ledger(session.Session):
    """A tune whose runs are only written down: a worker does 1e9 FLOPs a second, judging takes 5 s, 30 s are beside."""

    made: dict[str, RunRecord]

    def least(self) -> float:
        return 1e9

    def pilot(self, mix: Any, rate: float, flops: float, more: int = 0) -> Any:
        return self.write("trained", flops)

    def write(self, kind: Any, flops: float, stopping: float = 0.0) -> Any:
        name = str(len(self.made))
        seconds = {"training": flops / 1e9, "stopping": stopping, "judging": 5.0}
        self.made[name] = RunRecord(name, name, kind, 0, "m", "", {}, flops={"total": flops}, seconds=seconds)
        return SimpleNamespace(name=name)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_hours_are_over_when_they_are_over_by_the_clock(workers, tmp_path, monkeypatch) -> None:
    made: dict[str, RunRecord] = {}
    monkeypatch.setattr(session, "RunStore", lambda store: SimpleNamespace(read=made.__getitem__))
    for name in ("drain_cells", "_drain_here"):
        monkeypatch.setattr(session, name, lambda *given, **more: None)
    recipe = Recipe.model_validate(
        settings(solver="fixed", spend="rows", training={"steps": 12, "batch_size": 16, "learning_rate": 1e-2})
    )
    one = Ledger(
        recipe, recipe, tmp_path, tmp_path, session.Budget(hours=1.0, workers=workers), Console(file=io.StringIO())
    )
    one.made, one.beside = made, 30.0
    dry = one.planned()
    foretold = one.plan(dry)
    one.stage("baselines", [one.write("base", 0), one.write("bm25", 0)])
    stages = one.planned()
    assert stages == dry
    one.stage("learning rates", [one.pilot({}, 0, stages.rate_flops) for _ in stages.rates])
    one.stage("mixes", [one.pilot({}, 0, flops) for flops in stages.levels for _ in stages.mixes])
    one.stage("more pilots", [one.pilot({}, 0, stages.explore / 4) for _ in range(4)])
    rest = one.rest()
    assert stages.final < rest < 1.2 * stages.final  # what was foretold, and what pilots left
    one.stage("final training", [one.write("trained", rest, 5.0 * session.EVALUATIONS)])
    one.stage("merges", [one.write("merged", 0) for _ in session.SHARES])
    one.stage("verdict", [one.write("merged", 0) for _ in range(session.SYSTEMS)])
    assert one.clock + one.beside == pytest.approx(3600)
    by_stage = {row[0]: float(row[-1]) for row in foretold.rows}
    assert by_stage["final training"] == pytest.approx(stages.final / 3.6e12, rel=0.05)
    assert sum(by_stage.values()) < 1.02
    healed = [replace(made["0"], seconds={**made["0"].seconds, "healing": 40.0}, model="thin")] * 2
    assert one.took(healed) == pytest.approx(one.took([made["0"]] * 2) + 40)  # once, before all


def test_a_tune_of_hours_that_goes_on_keeps_to_the_division_it_began_with(tmp_path, monkeypatch) -> None:
    made: dict[str, RunRecord] = {}
    monkeypatch.setattr(session, "RunStore", lambda store: SimpleNamespace(read=made.__getitem__))
    monkeypatch.setattr(session, "_drain_here", lambda *given, **more: None)
    recipe = Recipe.model_validate(
        settings(solver="fixed", spend="rows", training={"steps": 12, "batch_size": 16, "learning_rate": 1e-2})
    )

    def begun(hours: float, beside: float) -> Ledger:
        one = Ledger(recipe, recipe, tmp_path, tmp_path, session.Budget(hours=hours), Console(file=io.StringIO()))
        one.made, one.beside = made, beside
        return one

    first = begun(1.0, 30.0)
    stages, rest = first.planned(), first.rest()
    again = begun(1.0, 700.0)  # another clock: what was trained by the first division is found again
    assert (again.planned(), again.rest()) == (stages, rest)
    other = begun(2.0, 30.0)
    assert other.planned().total > 1.5 * stages.total
    with pytest.raises(ConfigError, match=r"0\.01 hours are over before anything is trained"):
        begun(0.01, 700.0).planned()
    assert begun(0.5, 30.0).planned().total < stages.total  # a refusal settles nothing
