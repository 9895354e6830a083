"""The chooser of `mogrid tune` against others, on a finished sweep: ``python -m benchmarks.chooser --store DIR``.

The store holds static mixes of one base model at two lengths or more. The longest is what is to be foretold: a method
sees shorter runs alone, for the same FLOPs as all others, and names one of the mixes that were run at full length. Its
regret is what the best of these is better by, in the preference's mean of nDCG@10 over the seeds there are. A
repetition draws anew which seed of a cell is seen and whatever a method draws itself; preferences are equal weights and
each objective counted thrice.

The methods are those of `benchmarks.choosers`: merges of corner runs where the sweep judged them (``merge:
[corners]``), and with ``--beside`` the best mix that runs of another, thinner base model show.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.choosers import METHODS, Bench, Floats, Method, measured_best, spread
from mogrid.errors import DataError, MogridError
from mogrid.evaluation.intervals import bootstrap_interval
from mogrid.files import write_json
from mogrid.frontier import Measurements
from mogrid.frontier.measurements import as_losses
from mogrid.report.table import Table, printer
from mogrid.runs import RunStore
from mogrid.sweep.measured import measured

__all__ = ["REPLAYED", "Replay", "main", "regrets"]


@dataclass(frozen=True)
class Replay(Bench):
    """Finished runs of one base model, as cells of mix and length.

    Attributes
    ----------
    runs : Measurements
    metric : str
    merged : sequence of (runs, loss (K,))
        Merges of corner runs: the parents' shares by run, and what each is to be lowered to.
    beside : Replay, optional
        Of another base model.
    """

    runs: Measurements
    metric: str = "ndcg"
    merged: Sequence[tuple[Mapping[str, float], Floats]] = ()
    beside: Replay | None = None

    def __post_init__(self) -> None:
        # Laws of what does not choose are not fitted.
        object.__setattr__(self, "runs", replace(self.runs, values={self.metric: self.runs.values[self.metric]}))
        if len(self.runs.sizes) > 1 or len(self.lengths) < 2 or len(self.mixes) < 3:
            raise DataError(
                f"a replay needs runs of one base model, two lengths and three mixes at least; these are of "
                f"{len(self.runs.sizes)}, {len(self.lengths)} and {len(self.mixes)} (choose runs with --where)"
            )

    @cached_property
    def level(self) -> NDArray[np.intp]:
        """Which length each run has (R,): FLOPs that differ by less than 1.5 are one."""
        order = np.argsort(self.runs.flops)
        jumps = np.diff(np.log(self.runs.flops[order])) > np.log(1.5)
        found = np.empty(len(order), dtype=np.intp)
        found[order] = np.r_[0, np.cumsum(jumps)]
        return found

    @cached_property
    def lengths(self) -> Floats:
        """Median FLOPs of each length."""
        return np.array([np.median(self.runs.flops[self.level == i]) for i in range(self.level.max() + 1)])

    @cached_property
    def mixes(self) -> Floats:
        """The mixes (m, K) that were run at full length."""
        return np.unique(self.runs.mix[self.level == self.level.max()].round(4), axis=0)

    @cached_property
    def losses(self) -> Floats:
        """What is to be lowered (R, K)."""
        return as_losses(self.runs.values[self.metric], self.metric)

    def truth(self, p: Floats) -> Floats:
        """Return the scalar (m,) of every mix at full length, over its seeds."""
        rows = [self.rows(mix, len(self.lengths) - 1) for mix in self.mixes]
        return np.array([(self.losses[own] @ p).mean() for own in rows])

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.runs.objectives

    def known(self) -> Measurements:
        """Return all runs."""
        return self.runs

    def rows(self, mix: Floats, level: int) -> NDArray[np.intp]:
        """Return the runs of a mix and a length."""
        return np.flatnonzero((np.abs(self.runs.mix - mix).max(axis=1) < 1e-3) & (self.level == level))

    def cells(self, level: int) -> list[Floats]:
        """Return the mixes that were run at a length."""
        return list(np.unique(self.runs.mix[self.level == level].round(4), axis=0))

    def left(self, mix: Floats, level: int, rows: Collection[int]) -> bool:
        """Return whether there is a run of a mix and a length beside some."""
        return bool(set(self.rows(mix, level).tolist()) - set(rows))

    def one(
        self, mix: Floats, level: int, budget: float, rng: np.random.Generator, rows: Collection[int]
    ) -> int | None:
        """Return a run of a mix and a length, a seed at random of those that are not among some rows."""
        row = int(rng.choice(sorted(set(self.rows(mix, level).tolist()) - set(rows))))
        return row if self.runs.flops[row] <= budget else None

    def merges(self, budget: float, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
        """Return the merges that were judged of the corner runs of one seed, drawn at random, and these runs."""
        corners, level = np.eye(self.mixes.shape[1]), self.fair(budget)
        seed = rng.choice([self.runs.seeds[row] for row in self.rows(corners[0], level)])
        rows = [next(row for row in self.rows(mix, level) if self.runs.seeds[row] == seed) for mix in corners]
        names = [self.runs.labels[row] for row in rows]
        found = [(corner, self.losses[row]) for corner, row in zip(corners, rows, strict=True)]
        for parents, losses in self.merged:
            if parents.keys() <= set(names):
                found.append((np.array([parents.get(name, 0.0) for name in names]), losses))
        return found


def another_model(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes that another base model was trained with, as long as the budget lasts for all of them."""
    assert isinstance(bench, Replay)
    assert bench.beside is not None
    other = bench.beside
    levels = [i for i, flops in enumerate(other.lengths) if len(other.cells(i)) * flops <= budget]
    level = max(levels, default=0)
    rows, _ = other.seen([(m, level) for m in spread(other.cells(level))], budget, rng)
    scores = {tuple(mix): score for mix, score in zip(other.mixes, measured_best(other, rows, p), strict=True)}
    return np.array([scores.get(tuple(mix), np.inf) for mix in bench.mixes])


REPLAYED: dict[str, Method] = {**METHODS, "another model": another_model}


def regrets(replay: Replay, share: float, repetitions: int, methods: Sequence[str]) -> dict[str, Floats]:
    """Return regrets (preferences, repetitions) by method.

    Parameters
    ----------
    replay : Replay
    share : float
        FLOPs for pilots, in trainings of full length.
    repetitions : int
    methods : sequence of str
    """
    budget, count = share * float(replay.lengths[-1]), len(replay.runs.objectives)
    preferences = [np.ones(count) / count, *((np.ones(count) + 2 * np.eye(count)) / (count + 2))]
    found = {}
    for name in methods:
        table = np.empty((len(preferences), repetitions))
        for i, p in enumerate(preferences):
            truth = replay.truth(p)
            for j in range(repetitions):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # BoTorch's, on few data
                    scores = REPLAYED[name](replay, budget, p, np.random.default_rng([i, j]))
                table[i, j] = truth[int(np.argmin(scores))] - truth.min()
        found[name] = table
    return found


def _merged(store: RunStore, runs: Measurements, metric: str) -> list[tuple[Mapping[str, float], Floats]]:
    return [
        (r.parents, as_losses(np.array([r.objectives[name][metric] for name in runs.objectives]), metric))
        for r in store.records(queries=False)
        if len(r.parents) > 1 and "" not in r.parents
    ]


def _up_to(runs: Measurements, pairs: float) -> Measurements:
    """Return the runs of so many pairs; a run is of whole steps, or of equal FLOPs, and some hundredths off."""
    short = runs.pairs.sum(axis=1) <= 1.2 * pairs
    if not short.any():
        raise DataError(f"no run has {pairs:,.0f} pairs or fewer")
    return runs.only(short)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chooser", description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="runs, or a file of measurements")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="of runs of several recipes")
    parser.add_argument("--beside", action="append", default=[], metavar="KEY=VALUE", help="of another base model")
    parser.add_argument(
        "--pairs", type=float, default=np.inf, help="of the runs that are to be foretold: longer ones are left out"
    )
    parser.add_argument("--metric", default="ndcg", choices=["ndcg", "ce"])
    parser.add_argument("--pilots", type=float, default=1.2, help="FLOPs for pilots, in trainings of full length")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the regrets")
    arguments = parser.parse_args(argv)
    try:
        path = arguments.store
        runs = Measurements.load(path) if path.is_file() else measured(RunStore(path), arguments.where).measurements
        runs = _up_to(runs, arguments.pairs)
        if arguments.metric not in runs.values:
            raise DataError(f"{arguments.store}: the runs have no {arguments.metric!r}")
        merged = [] if path.is_file() else _merged(RunStore(path), runs, arguments.metric)
        beside = [measured(RunStore(path), arguments.beside).measurements] if arguments.beside else []
        other = Replay(_up_to(beside[0], arguments.pairs), arguments.metric) if beside else None
        replay = Replay(runs, arguments.metric, merged, other)
    except MogridError as error:
        print(f"chooser: {error}", file=sys.stderr)
        return 2
    without = {*([] if merged else ["merged corners"]), *([] if other else ["another model"])}
    methods = [name for name in REPLAYED if name not in without]
    found = regrets(replay, arguments.pilots, arguments.repetitions, methods)
    rows = []
    for name, table in found.items():
        low, high = bootstrap_interval(table.mean(axis=0))
        rows.append((name, f"{table.mean():.4f}", f"{low:.4f} to {high:.4f}", f"{(table < 1e-9).mean():.0%}"))
    note = (
        f"{len(replay.mixes)} mixes, pilots for {arguments.pilots:g} full trainings; 95 % intervals over "
        f"{arguments.repetitions} repetitions, means over {len(next(iter(found.values())))} preferences"
    )
    printer().print(Table("Regret of the choice", ("method", "mean", "95 %", "the best mix"), rows, note))
    if arguments.out is not None:
        write_json(arguments.out, {"store": str(arguments.store), "pilots": arguments.pilots,
                                   "regrets": {name: table.tolist() for name, table in found.items()}})  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
