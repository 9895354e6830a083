"""The chooser of `mogrid tune` against others, on a finished sweep: ``python -m benchmarks.chooser --store DIR``.

The store holds static mixes of one base model at two lengths or more. The longest is what is to be foretold: a method
sees shorter runs alone, for the same FLOPs as all others, and names one of the mixes that were run at full length. Its
regret is what the best of these is better by, in the preference's mean of nDCG@10 over the seeds there are. A
repetition draws anew which seed of a cell is seen and whatever a method draws itself; preferences are equal weights and
each objective counted thrice.

Rivals: random search and a grid, which take the best mix they saw; a quadratic regression on a swarm of the shortest
runs, as RegMix; merges of short corner runs at each mix's shares, as MergeMix, where the sweep judged them (``merge:
[corners]``); with ``--beside`` the best mix that runs of another, thinner base model show; where BoTorch is installed,
Gaussian processes that qLogNEHVI feeds; and two who look at nothing: the equal mix, and what counts most alone.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError, MogridError
from mogrid.evaluation.intervals import bootstrap_interval
from mogrid.files import write_json
from mogrid.frontier import Measurements, choose_mix, next_pilots, options_of
from mogrid.frontier.measurements import as_losses
from mogrid.report.table import Table, printer
from mogrid.runs import RunStore
from mogrid.sweep.measured import measured

__all__ = ["METHODS", "Replay", "main", "regrets"]

Floats = NDArray[np.float64]
Method = Callable[["Replay", float, Floats, np.random.Generator], Floats]
"""From runs, FLOPs for pilots, a preference (K,) and a generator to a score of every mix (m,): the least is chosen."""


@dataclass(frozen=True)
class Replay:
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

    def rows(self, mix: Floats, level: int) -> NDArray[np.intp]:
        """Return the runs of a mix and a length."""
        return np.flatnonzero((np.abs(self.runs.mix - mix).max(axis=1) < 1e-3) & (self.level == level))

    def cells(self, level: int) -> list[Floats]:
        """Return the mixes that were run at a length."""
        return list(np.unique(self.runs.mix[self.level == level].round(4), axis=0))

    def fair(self, budget: float) -> int:
        """Return the longest of the short lengths that a budget buys K + 1 runs of; else the shortest."""
        count = self.mixes.shape[1] + 1
        able = [i for i, flops in enumerate(self.lengths[:-1]) if count * flops <= budget]
        return max(able, default=0)

    def seen(
        self, order: Sequence[tuple[Floats, int]], budget: float, rng: np.random.Generator
    ) -> tuple[list[int], float]:
        """Return a run of each cell, a seed at random, as long as the budget lasts, and what is left."""
        found: list[int] = []
        for mix, level in order:
            row = int(rng.choice(self.rows(mix, level)))
            if self.runs.flops[row] > budget:
                break
            budget -= float(self.runs.flops[row])
            found.append(row)
        return found, budget


def _spread(mixes: list[Floats]) -> list[Floats]:
    """Return mixes so that each is far from those before it: the most even first, then corners, then between."""
    left, table = list(range(len(mixes))), np.array(mixes)
    order = [int(np.abs(table - 1 / table.shape[1]).max(axis=1).argmin())]
    left.remove(order[0])
    while left:
        far = [np.abs(table[order] - table[i]).sum(axis=1).min() for i in left]
        order.append(left.pop(int(np.argmax(far))))
    return [mixes[i] for i in order]


def _measured_best(replay: Replay, rows: Sequence[int], p: Floats) -> Floats:
    """Return the mean scalar of every mix that was seen; the others are as bad as can be."""
    scores = np.full(len(replay.mixes), np.inf)
    for i, mix in enumerate(replay.mixes):
        own = [row for row in rows if np.abs(replay.runs.mix[row] - mix).max() < 1e-3]
        if own:
            scores[i] = (replay.losses[own] @ p).mean()
    return scores


def tune(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """Centre and corners at two lengths where two thirds of the budget buy them, then what would change the choice."""
    count, final = replay.mixes.shape[1], float(replay.lengths[-1])
    goal: dict[str, Any] = {"preference": dict(zip(replay.runs.objectives, map(float, p), strict=True))}
    goal["metric"] = replay.metric
    short = _spread(replay.cells(0))[: count + 1]
    level = max((i for i, x in enumerate(replay.lengths[:-1]) if x <= 4.5 * replay.lengths[0]), default=0)
    rows, left = replay.seen([(mix, 0) for mix in short], budget, rng)
    if level and len(short) * replay.lengths[level] <= left - budget / 3:
        more, left = replay.seen([(mix, level) for mix in short], left, rng)
        rows += more
    pilots = range(len(replay.lengths) - 1)
    while True:
        mask = np.isin(np.arange(len(replay.runs)), rows)
        choice = choose_mix(replay.runs.only(mask), final, draws=60, rng=rng, **goal)
        able = [mix for i in pilots for mix in replay.cells(i) if set(replay.rows(mix, i)) - set(rows)]
        lengths = replay.lengths[:-1].tolist()
        wanted = next_pilots(choice, lengths, np.unique(able, axis=0), left, final, **goal) if able else []
        added = 0
        for mix, flops in wanted[:3]:
            share, i = np.array(list(mix.values())), int(np.argmin(np.abs(np.log(replay.lengths[:-1] / flops))))
            free = sorted(set(replay.rows(share, i)) - set(rows))
            if free and replay.runs.flops[free[0]] <= left:
                row = int(rng.choice(free))
                rows.append(row)
                left -= float(replay.runs.flops[row])
                added += 1
        if not added:
            break
    if choice.laws is None:
        scores = np.abs(replay.mixes - np.array(list(choice.mix.values()))).sum(axis=1)
        return np.asarray(scores)
    return np.asarray(options_of(choice.laws, [final], replay.mixes).losses(replay.metric) @ p)


def random_search(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes at random."""
    level = replay.fair(budget)
    cells = replay.cells(level)
    order = [(cells[i], level) for i in rng.permutation(len(cells))]
    return _measured_best(replay, replay.seen(order, budget, rng)[0], p)


def grid(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes that lie evenly."""
    level = replay.fair(budget)
    return _measured_best(replay, replay.seen([(m, level) for m in _spread(replay.cells(level))], budget, rng)[0], p)


def regression(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """A quadratic surface, ridge-regressed on a swarm of the shortest runs."""
    cells = replay.cells(0)
    rows, _ = replay.seen([(cells[i], 0) for i in rng.permutation(len(cells))], budget, rng)
    x, y = _terms(replay.runs.mix[rows]), replay.losses[rows] @ p
    middle = y.mean()
    penalty = 1e-2 * np.eye(x.shape[1])
    theta = np.linalg.solve(x.T @ x + penalty, x.T @ (y - middle))
    return np.asarray(_terms(replay.mixes) @ theta)


def _terms(mixes: Floats) -> Floats:
    i, j = np.triu_indices(mixes.shape[1], 1)
    return np.column_stack([mixes, mixes[:, i] * mixes[:, j]])


def hypervolume_search(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """Gaussian processes of each objective, fed by qLogNEHVI, and the best mix by their mean."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(int(rng.integers(2**31)))
    level = replay.fair(budget)
    cells = _spread(replay.cells(level))
    rows, left = replay.seen([(mix, level) for mix in cells[: replay.mixes.shape[1] + 1]], budget, rng)

    def fitted() -> ModelListGP:
        x = torch.tensor(replay.runs.mix[rows][:, :-1])
        columns = (torch.tensor(-replay.losses[rows][:, [k]]) for k in range(len(p)))
        model = ModelListGP(*(SingleTaskGP(x, y, outcome_transform=Standardize(m=1)) for y in columns))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        return model

    while True:
        free = [mix for mix in cells if not set(replay.rows(mix, level)) & set(rows)]
        if not free:
            break
        x = torch.tensor(replay.runs.mix[rows][:, :-1])
        reference = torch.tensor(-replay.losses[rows].max(axis=0) - 0.01)
        gain = qLogNoisyExpectedHypervolumeImprovement(fitted(), reference, x, prune_baseline=True)
        best = int(gain(torch.tensor(np.array(free)[:, None, :-1])).argmax())
        more, left = replay.seen([(free[best], level)], left, rng)
        if not more:
            break
        rows += more
    model = fitted()
    with torch.no_grad():
        told = model.posterior(torch.tensor(replay.mixes[:, :-1])).mean.numpy()
    return np.asarray(-told @ p)


def merged_corners(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The shares at which short corner runs merge best: as many trainings as objectives, and no other."""
    corners, level = np.eye(len(p)), replay.fair(budget)
    seed = rng.choice([replay.runs.seeds[row] for row in replay.rows(corners[0], level)])
    rows = [next(row for row in replay.rows(mix, level) if replay.runs.seeds[row] == seed) for mix in corners]
    names = [replay.runs.labels[row] for row in rows]
    known = {tuple(corner): replay.losses[row] @ p for corner, row in zip(corners, rows, strict=True)}
    for parents, losses in replay.merged:
        if parents.keys() <= set(names):
            known[tuple(np.round([parents.get(name, 0.0) for name in names], 4))] = losses @ p
    return np.array([known.get(tuple(mix), np.inf) for mix in replay.mixes])


def another_model(replay: Replay, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes that another base model was trained with, as long as the budget lasts for all of them."""
    other = replay.beside
    assert other is not None
    levels = [i for i, flops in enumerate(other.lengths) if len(other.cells(i)) * flops <= budget]
    level = max(levels, default=0)
    rows, _ = other.seen([(m, level) for m in _spread(other.cells(level))], budget, rng)
    scores = {tuple(mix): score for mix, score in zip(other.mixes, _measured_best(other, rows, p), strict=True)}
    return np.array([scores.get(tuple(mix), np.inf) for mix in replay.mixes])


METHODS: dict[str, Method] = {
    "tune": tune,
    "random search": random_search,
    "grid": grid,
    "regression on a swarm": regression,
    "merged corners": merged_corners,
    "another model": another_model,
    "the equal mix": lambda replay, budget, p, rng: np.abs(replay.mixes - 1 / len(p)).sum(axis=1),
    "what counts most": lambda replay, budget, p, rng: 1 - replay.mixes[:, int(p.argmax())],
    **({"qLogNEHVI": hypervolume_search} if find_spec("botorch") else {}),
}


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
                    scores = METHODS[name](replay, budget, p, np.random.default_rng([i, j]))
                table[i, j] = truth[int(np.argmin(scores))] - truth.min()
        found[name] = table
    return found


def _merged(store: RunStore, runs: Measurements, metric: str) -> list[tuple[Mapping[str, float], Floats]]:
    return [
        (r.parents, as_losses(np.array([r.objectives[name][metric] for name in runs.objectives]), metric))
        for r in store.records(queries=False)
        if len(r.parents) > 1 and "" not in r.parents
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chooser", description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="runs, or a file of measurements")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="of runs of several recipes")
    parser.add_argument("--beside", action="append", default=[], metavar="KEY=VALUE", help="of another base model")
    parser.add_argument("--metric", default="ndcg", choices=["ndcg", "ce"])
    parser.add_argument("--pilots", type=float, default=1.2, help="FLOPs for pilots, in trainings of full length")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the regrets")
    arguments = parser.parse_args(argv)
    try:
        path = arguments.store
        runs = Measurements.load(path) if path.is_file() else measured(RunStore(path), arguments.where).measurements
        if arguments.metric not in runs.values:
            raise DataError(f"{arguments.store}: the runs have no {arguments.metric!r}")
        merged = [] if path.is_file() else _merged(RunStore(path), runs, arguments.metric)
        beside = [measured(RunStore(path), arguments.beside).measurements] if arguments.beside else []
        other = Replay(beside[0], arguments.metric) if beside else None
        replay = Replay(runs, arguments.metric, merged, other)
    except MogridError as error:
        print(f"chooser: {error}", file=sys.stderr)
        return 2
    without = {*([] if merged else ["merged corners"]), *([] if other else ["another model"])}
    methods = [name for name in METHODS if name not in without]
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
