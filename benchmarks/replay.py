"""How many runs a sweep needs, replayed on the records of a finished one: runs that were proposed, against plain grids.

    python -m benchmarks.replay --store benchmarks/results/scaling

Laws are fitted to a part of the first seed's runs and predict the losses of every weighting at the largest scale; its
front's hypervolume, in the box between 0 and the entropy of guessing, is held against the measured one. Plain grids
are all sizes x so many data sizes x so many weightings; proposals start from a cross of cheap runs and are asked again
after every six. Writes replay.json and replay.png into the store; no training.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError, MogridError
from mogrid.scaling import Candidates, ScalingRuns, fit_laws, propose_runs

__all__ = ["main", "replay"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_GUESSING = math.log(257)  # nats: one document and 256 negatives
_AT_ONCE = 6
_QUARTER = 0.25


@dataclass(frozen=True)
class Point:
    """A part of the sweep: runs, their share of its FLOPs, and the errors of what they predict."""

    how: str
    runs: int
    share: float
    hypervolume: float
    loss: float


@dataclass(frozen=True)
class _Target:
    """The largest scale: what every weighting reached there."""

    sizes: Floats
    pairs: Floats
    weights: Floats
    values: Floats
    flops: Floats

    @staticmethod
    def of(runs: ScalingRuns) -> _Target:
        there = runs.flops > 0.9 * runs.flops[runs.sizes == runs.sizes.max()].max()
        rows = np.flatnonzero(there & (runs.sizes == runs.sizes.max()))
        return _Target(runs.sizes[rows], runs.pairs[rows], runs.weights[rows], runs.values[rows], runs.flops[rows])

    def errors(self, runs: ScalingRuns) -> tuple[float, float]:
        """Return relative errors of the hypervolume and, median, of the losses."""
        laws = fit_laws(runs, draws=2)
        rows = zip(self.sizes, self.pairs, self.weights, strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = np.array([laws.predict(n, d, w)[0] for n, d, w in rows])
        volume = _volume(predicted) / _volume(self.values) - 1
        return abs(volume), float(np.median(np.abs(predicted / self.values - 1)))


def _volume(values: Floats) -> float:
    import moocore

    return float(moocore.hypervolume(values / _GUESSING, ref=[1.0] * values.shape[1]))


def replay(runs: ScalingRuns) -> list[Point]:
    """Return the points of both ways, cheapest first.

    Raises
    ------
    DataError
        The sweep is too small to be cut.
    """
    first = runs.only(np.asarray(runs.seeds) == min(runs.seeds))
    target, total = _Target.of(first), float(first.flops.sum())
    found = []
    for how, parts in (("plain grid", _grids(first)), ("proposed", _proposals(first, target))):
        for rows in parts:
            part = first.only(np.isin(np.arange(len(first)), rows))
            try:
                volume, loss = target.errors(part)
            except DataError:
                continue  # too few for a law
            found.append(Point(how, len(rows), float(part.flops.sum()) / total, volume, loss))
    if not found:
        raise DataError("the sweep is too small to be replayed: no part of it suffices for a law")
    return sorted(found, key=lambda point: (point.how, point.runs))


def _levels(runs: ScalingRuns) -> tuple[Rows, Rows]:
    """Return which budget of its size (0 the smallest), and which weighting, every run has."""
    budget = np.zeros(len(runs), dtype=np.intp)
    for size in np.unique(runs.sizes):
        own = np.flatnonzero(runs.sizes == size)
        order = own[np.argsort(runs.flops[own])]
        steps = np.diff(np.log(runs.flops[order]), prepend=np.log(runs.flops[order[0]])) > 0.4
        budget[order] = np.cumsum(steps)
    weighting = np.unique(runs.weights.round(4), axis=0, return_inverse=True)[1].ravel()
    return budget, _by_spread(runs, weighting)


def _by_spread(runs: ScalingRuns, weighting: Rows) -> Rows:
    """Number weightings from the most even, so that a smaller grid has the centre and then the lopsided ones."""
    means = np.array([runs.weights[weighting == g].mean(axis=0) for g in range(int(weighting.max()) + 1)])
    inside = (means > 0).all(axis=1)
    lopsided = -means.max(axis=1)
    centre = np.ptp(means, axis=1) < 0.02
    order = np.lexsort((lopsided, ~inside, ~centre))
    return np.asarray(np.argsort(order))[weighting]


def _grids(runs: ScalingRuns) -> Iterator[Rows]:
    budget, weighting = _levels(runs)
    for budgets in range(3, int(budget.max()) + 2):
        for weightings in range(4, int(weighting.max()) + 2):
            yield np.flatnonzero((budget < budgets) & (weighting < weightings))


def _proposals(runs: ScalingRuns, target: _Target) -> Iterator[Rows]:
    """Start with a cross - each size, each budget and each weighting once, where it is cheapest - and ask for more."""
    budget, weighting = _levels(runs)
    small = runs.sizes == runs.sizes.min()
    have = np.flatnonzero(
        ((weighting == 0) & (budget == 0)) | (small & (budget == 0)) | (small & (weighting == 0) & (budget < 3))
    )
    aims = Candidates(target.sizes, target.pairs, target.weights, target.flops)
    while True:
        try:
            laws = fit_laws(runs.only(np.isin(np.arange(len(runs)), have)), draws=2)
        except DataError:
            left = np.setdiff1d(np.arange(len(runs)), have)
            have = np.r_[have, left[np.argmin(runs.flops[left])]]  # the cheapest until a law can be fitted
            continue
        yield have
        left = np.setdiff1d(np.arange(len(runs)), have)
        if len(left) < _AT_ONCE:
            return
        able = Candidates(runs.sizes[left], runs.pairs[left], runs.weights[left], runs.flops[left])
        proposal = propose_runs(laws, able, float(runs.flops.sum()), targets=aims, most=1)
        if not proposal.rows:
            return  # what is left teaches nothing of the target
        have = np.r_[have, left[list(proposal.rows[:_AT_ONCE])]]


def _report(points: Sequence[Point]) -> dict[str, object]:
    """Return what is asked of a replay: errors within a quarter of the FLOPs, and runs for equal errors."""
    found: dict[str, object] = {}
    for how in ("plain grid", "proposed"):
        own = [p for p in points if p.how == how and p.share <= _QUARTER]
        best = max(own, key=lambda p: p.share, default=None)
        found[f"{how}: hypervolume error at a quarter of the FLOPs"] = None if best is None else best.hypervolume
        found[f"{how}: median loss error there"] = None if best is None else best.loss
    for level in (0.2, 0.1, 0.05, 0.03):
        needed = {how: _needed([p for p in points if p.how == how], level) for how in ("plain grid", "proposed")}
        found[f"runs for a hypervolume error that stays below {level:.0%}"] = needed
    return found


def _needed(points: Sequence[Point], level: float) -> int | None:
    """Return the runs from which on every larger part's error stays below the level: one lucky part is no evidence."""
    needed = None
    for point in sorted(points, key=lambda p: -p.runs):
        if point.hypervolume > level:
            break
        needed = point.runs
    return needed


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, print and write; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", type=Path, default=Path("benchmarks/results/scaling"))
    arguments = parser.parse_args(argv)
    from dataclasses import asdict

    from mogrid.files import write_json
    from mogrid.report.figures import plot_replay

    try:
        points = replay(ScalingRuns.load(arguments.store / "entropy.jsonl"))
    except MogridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = _report(points)
    command = f"python -m benchmarks.replay --store {arguments.store}"
    write_json(
        arguments.store / "replay.json", {"command": command, **report, "points": [asdict(point) for point in points]}
    )
    series = {how: [(p.share, p.hypervolume) for p in points if p.how == how] for how in ("plain grid", "proposed")}
    plot_replay(arguments.store / "replay.png", series)
    for what, value in report.items():
        print(f"{what}: {value if not isinstance(value, float) else f'{value:.1%}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
