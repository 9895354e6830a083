"""What the stages of a tune share: its cells and how they are run, what is spent, and the plan."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from mogrid.errors import ConfigError
from mogrid.files import write_json
from mogrid.progress import Progress, status
from mogrid.report.table import Table
from mogrid.runs import Kind, RunRecord, RunStore, seconds_of
from mogrid.sweep.cells import Cell, run_cell
from mogrid.sweep.drain import drain, outlook
from mogrid.sweep.run import drain_cells
from mogrid.training.costs import row_costs
from mogrid.training.fit import Interrupted
from mogrid.training.recipe import Recipe
from mogrid.training.run import default_label, materials
from mogrid.training.train import Stop
from mogrid.tune.shares import values_of, worst_domain
from mogrid.tune.stages import LEAST, Budget, Stages, divide, divide_time, in_turns, pilot_mixes
from mogrid.tune.verdict import standing

__all__ = ["EVALUATIONS", "MOST", "SHARES", "SYSTEMS", "Session"]

SHARES = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Of the tuned model, in merges with the base."""
MOST = 6
"""Pilots that the first ones ask for."""
EVALUATIONS = 8
"""Of a final training that keeps its best."""
SYSTEMS = 3
"""In the verdict: model, base, BM25."""
_BASELINES, _RATES, _LEVELS = 2, 3, 2


@dataclass
class Session:
    """The stages of one tune, each run or read from the store.

    Attributes
    ----------
    costs : list of (stage, runs, FLOPs, seconds by the clock)
    spent : list of RunRecord
        Of the stages that count.
    clock, beside : float
        Seconds by the clock that these took, and that were spent on what is no run.
    """

    recipe: Recipe
    plain: Recipe
    base: Path
    store: Path
    budget: Budget
    console: Console
    costs: list[tuple[str, int, float, float]] = field(default_factory=list)
    spent: list[RunRecord] = field(default_factory=list)
    clock: float = 0.0
    beside: float = 0.0

    @property
    def worst(self) -> frozenset[str]:
        """Names of the objectives that are judged by their worst domain."""
        judged = {name: objective.judged for name, objective in self.recipe.objectives.items()}
        return frozenset(name for name, own in judged.items() if own is not None and own.over == "worst")

    def narrow(self, places: dict[str, list[tuple[str, str]]], base: RunRecord, role: str) -> list[str]:
        """Let the base's worst domain stand for an objective that is judged by the worst one; say which that is."""
        there, notes = standing(places, base, role), []
        for name in [name for name, own in there.items() if name in self.worst and len(own) > 1]:
            domain = worst_domain(values_of(base, there, role)[name])
            places[name] = [place for place in there[name] if place[0] == domain]
            notes.append(f"{name} is judged by the worst domain: on {role}-role data {domain!r}, the base's, is meant")
        return notes

    @contextmanager
    def aside(self, said: str) -> Iterator[None]:
        """Count what is no run, and say what it is; hours are spent on it, too."""
        started = time.perf_counter()
        try:
            with status(self.console, said):
                yield
        finally:
            self.beside += time.perf_counter() - started

    def cell(
        self, recipe: Recipe, label: str = "", kind: Kind = "trained", *, parents: Sequence[tuple[str, float]] = (),
        keep: bool = False,
    ) -> Cell:  # fmt: skip
        label = label or self.label(recipe)
        name = materials(recipe, self.base).name(label, kind, dict(parents))
        cost = float(recipe.training.budget or 1.0) if kind == "trained" else 1.0
        return Cell(name, label, kind, recipe, self.base, self.store, tuple(parents), keep, cost)

    def label(self, recipe: Recipe) -> str:
        """Return what a run is called; the equal mix is so in the whole rows of a batch, too."""
        equal = len(recipe.shares) > 1 and min(recipe.shares.values()) > 0
        return "equal mix" if equal and recipe.shares == pilot_mixes(self.plain)[0] else default_label(recipe)

    def stage(self, name: str, cells: Sequence[Cell], *, counted: bool = True) -> list[RunRecord]:
        """Run what is not finished of a stage; return its records in the order of the cells."""
        distinct = list({cell.name: cell for cell in cells}.values())
        if self.budget.workers > 1:
            drain_cells(distinct, self.store, self.console, workers=self.budget.workers)
        else:
            _drain_here(name, distinct, self.store, self.console)
        runs = RunStore(self.store)
        records = [runs.read(cell.name) for cell in distinct]
        seen = {record.name for record in self.spent}
        new = [record for record in records if record.name not in seen]
        flops = sum(record.total_flops for record in new if record.kind == "trained")
        took = self.took(new)
        self.costs.append((name, len(new), flops, took))
        if counted:
            self.spent += new
            self.clock += took
        by_name = {record.name: record for record in records}
        return [by_name[cell.name] for cell in cells]

    def took(self, new: Sequence[RunRecord]) -> float:
        """Return the seconds by the clock that the runs of one stage took, by their records, whenever that was."""
        own = [sum(took for name, took in record.seconds.items() if name != "healing") for record in new]
        healing = seconds_of([*self.spent, *new]) - seconds_of(self.spent) - sum(own)  # before all others, alone
        return in_turns(own, self.budget.workers) + healing

    def judgings(self, *runs: int) -> int:
        """Return how many judgings, one after another, come from some stages and then from the final training on."""
        together = (*runs, len(SHARES), SYSTEMS)
        return sum(math.ceil(count / self.budget.workers) for count in together) + EVALUATIONS + 1

    def rest(self) -> float:
        """Return the FLOPs of the final training: what the pilots left, if it is more than the least."""
        left = self.settled(
            "rest", lambda: self.budget.left(self.spent, self.judgings(), self.clock + self.beside)
        )  # fmt: skip
        return max(left, self.least())

    def settled(self, name: str, found: Callable[[], float]) -> float:
        """Return a number that follows from the clock as it was when a tune first came here, kept in the store.

        A tune that goes on then asks for the runs that are there, and what was trained before counts as it did.
        """
        if self.budget.hours is None:
            return found()
        path, recipe = self.store / "cache" / "hours.json", self.recipe.model_dump(mode="json", exclude={"output"})
        asked = {"hours": self.budget.hours, "workers": self.budget.workers, "recipe": recipe}
        known: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            known = json.loads(path.read_text("utf-8"))
        if {key: known.get(key) for key in asked} != asked:  # another budget or recipe
            known = dict(asked)
        if name not in known:
            known[name] = found()
            write_json(path, known)
        return float(known[name])

    # -- the plan ----------------------------------------------------------------------------------------------------

    def least(self) -> float:
        """Return the FLOPs of the shortest pilot: its steps, of the dearest mix."""
        given = materials(self.plain, self.base)
        (self.store / "cache").mkdir(parents=True, exist_ok=True)
        prices = []
        with self.aside("measuring what rows cost"):
            for mix in pilot_mixes(self.plain):
                recipe = self.plain.change({"mix": mix})
                costs = row_costs(recipe, given.build, given.datasets, self.store / "cache", given.data)
                prices.append(sum(costs[name] * rows for name, rows in recipe.rows().items()))
        return LEAST * max(prices)

    def divided(self, total: float) -> Stages:
        return divide(total, self.least(), pilot_mixes(self.plain), self.plain.training.learning_rate)

    def planned(self) -> Stages:
        """Return how the budget is divided; of hours, after a pilot that says what this machine does in one."""
        if self.budget.flops is not None:
            return self.divided(self.budget.flops)
        pilot = self.pilot(pilot_mixes(self.plain)[0], self.plain.training.learning_rate, 2 * self.least())
        mixes = pilot_mixes(self.plain)

        def left() -> float:
            if self.beside >= 3600 * (self.budget.hours or 0.0):
                raise ConfigError(
                    f"{self.budget} are over before anything is trained: {self.beside:.0f} s went to the data"
                )
            records = self.stage("calibration", [pilot])
            # Baselines are foretold even where they are known: a dry run shows the plan of the run that follows.
            to_come = self.judgings(_BASELINES, _RATES, _LEVELS * len(mixes), MOST)
            found = self.budget.left(records, to_come, seconds_of(records) + self.beside)
            if found <= 0:
                raise ConfigError(f"{self.budget} are over before anything is trained: judging alone takes longer")
            return found

        alone = self.settled("left", left)
        if not any(record.name == pilot.name for record in self.spent):
            self.stage("calibration", [pilot])
        return divide_time(alone, self.least(), mixes, self.plain.training.learning_rate, self.budget.workers)

    def plan(self, stages: Stages) -> Table:
        rows = [("baselines", "2", 0.0)]
        rows += [(name, str(count), count * flops) for name, count, flops in stages.rows() if count]
        if stages.explore:
            rows.append(("more pilots", f"up to {MOST}", stages.explore))
        rows += [("final training", "1", stages.final), ("merges", str(len(SHARES)), 0.0)]
        rows.append(("verdict", str(SYSTEMS), 0.0))
        speed = next((r.total_flops / r.seconds["training"] for r in self.spent if r.kind == "trained"), None)
        turns = stages.in_turns(self.budget.workers)
        hours = [turns.get(name, 0.0) / speed / 3600 if speed else None for name, _, _ in rows]
        shown = [
            (name, count, f"{flops:.3g}", f"{flops / stages.total:.0%}",
             "not known yet" if hour is None else f"{hour:.2g}",
             *([f"{hour * price:.2g}"] if hour is not None and (price := self.budget.price) else []))
            for (name, count, flops), hour in zip(rows, hours, strict=True)
        ]  # fmt: skip
        money = ["in money"] if self.budget.price else []
        columns = ("stage", "runs", "training FLOPs", "of the budget", "hours of training", *money)
        return Table(
            f"The plan: {self.budget}", columns, shown,
            note="stages without trainings judge alone; what pilots leave goes to the final training",
        )  # fmt: skip

    def pilot(
        self, mix: Mapping[str, float], rate: float, flops: float, more: int = 0, *, tries: bool = False
    ) -> Cell:  # fmt: skip
        """Return a pilot's cell; one that tries a learning rate is called so."""
        changes = {"mix": dict(mix), "training.budget": float(f"{flops:.4g}"), "training.learning_rate": rate}
        recipe = self.plain.change({**changes, "seed": self.plain.seed + more})
        return self.cell(recipe, f"{self.label(recipe)}, learning rate {rate:g}" if tries else "")


def _drain_here(name: str, cells: Sequence[Cell], store: Path, console: Console) -> None:
    """Run cells in this process, with all of its threads."""
    view = outlook(cells, store)
    if not view.cells:
        return
    with Progress(console, f"{name}: {len(view.cells)} of {len(cells)} runs", total=view.total) as bar, Stop() as stop:

        def work(cell: Cell, progress: Callable[[float, str], None], halt: Callable[[], bool]) -> None:
            def tell(share: float, said: str) -> None:
                progress(share, said)
                bar.update(view.done()[0], said=f"{cell.label} {share:.0%} {said}")

            run_cell(cell, tell, halt)

        try:
            drain(view.cells, work, stop)
            if stop():  # asked for during the last of them
                raise Interrupted
        except Interrupted:
            raise KeyboardInterrupt from None
