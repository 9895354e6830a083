"""Choosers of a mix, each with what it asks runs for: that of `mogrid tune`, and its rivals.

A method has FLOPs for pilots and a bench that runs them (`Bench`): finished runs that are looked up
(`benchmarks.chooser`), or trainings (`benchmarks.live`). Rivals are random search and a grid, which take the best mix
they saw; a quadratic regression on a swarm of short runs, as RegMix; merges of short corner runs at each mix's
shares, as MergeMix; where BoTorch is installed, Gaussian processes that qLogNEHVI feeds; and two who look at nothing:
the equal mix, and what counts most alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier import Measurements, choose_mix, next_pilots
from mogrid.frontier.measurements import as_losses
from mogrid.frontier.options import options_of

__all__ = ["METHODS", "Bench", "Floats", "Method", "measured_best", "spread"]

Floats = NDArray[np.float64]


class Bench(ABC):
    """What runs pilots and knows what came of them.

    Attributes
    ----------
    metric : str
        That the choice is made in.
    objectives : tuple of K str
    mixes : ndarray, shape (m, K)
        Of which one is to be named.
    lengths : ndarray
        FLOPs of a pilot, shortest first, and in the end those of the final training.
    """

    metric: str

    @property
    @abstractmethod
    def objectives(self) -> tuple[str, ...]: ...

    @property
    @abstractmethod
    def mixes(self) -> Floats: ...

    @property
    @abstractmethod
    def lengths(self) -> Floats: ...

    @abstractmethod
    def known(self) -> Measurements:
        """Return all runs that are known, in rows that keep their places."""

    @abstractmethod
    def cells(self, level: int) -> list[Floats]:
        """Return the mixes that there are, or can be, runs of at a length."""

    @abstractmethod
    def left(self, mix: Floats, level: int, rows: Collection[int]) -> bool:
        """Return whether there can be a run of a mix and a length beside some."""

    @abstractmethod
    def one(
        self, mix: Floats, level: int, budget: float, rng: np.random.Generator, rows: Collection[int]
    ) -> int | None:
        """Return a run of a mix and a length, of a seed not among some rows; None where the budget is too small."""

    @abstractmethod
    def merges(self, budget: float, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
        """Return (mix, what is to be lowered (K,)) of runs of one objective each, merged at the shares of a mix."""

    @property
    def losses(self) -> Floats:
        """What is to be lowered (R, K)."""
        return as_losses(self.known().values[self.metric], self.metric)

    def fair(self, budget: float) -> int:
        """Return the longest of the pilots' lengths that a budget buys K + 1 runs of; else the shortest."""
        count = self.mixes.shape[1] + 1
        able = [i for i, flops in enumerate(self.lengths[:-1]) if count * flops <= budget]
        return max(able, default=0)

    def seen(
        self, order: Sequence[tuple[Floats, int]], budget: float, rng: np.random.Generator, rows: Collection[int] = ()
    ) -> tuple[list[int], float]:
        """Return a run of each (mix, length), as long as the budget lasts, and what is left."""
        found: list[int] = []
        for mix, level in order:
            row = self.one(mix, level, budget, rng, {*rows, *found})
            if row is None:
                break
            budget -= float(self.known().flops[row])
            found.append(row)
        return found, budget


Method = Callable[[Bench, float, Floats, np.random.Generator], Floats]
"""From a bench, FLOPs for pilots, a preference (K,) and a generator to scores of all mixes (m,): the least counts."""


def spread(mixes: list[Floats]) -> list[Floats]:
    """Return mixes so that each is far from those before it: the most even first, then corners, then between."""
    left, table = list(range(len(mixes))), np.array(mixes)
    order = [int(np.abs(table - 1 / table.shape[1]).max(axis=1).argmin())]
    left.remove(order[0])
    while left:
        far = [np.abs(table[order] - table[i]).sum(axis=1).min() for i in left]
        order.append(left.pop(int(np.argmax(far))))
    return [mixes[i] for i in order]


def measured_best(bench: Bench, rows: Sequence[int], p: Floats) -> Floats:
    """Return the mean scalar of every mix that was seen; the others are as bad as can be."""
    scores = np.full(len(bench.mixes), np.inf)
    for i, mix in enumerate(bench.mixes):
        own = [row for row in rows if np.abs(bench.known().mix[row] - mix).max() < 1e-3]
        if own:
            scores[i] = (bench.losses[own] @ p).mean()
    return scores


def tune(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """Centre and corners at two lengths where two thirds of the budget buy them, then what would change the choice."""
    count, final = bench.mixes.shape[1], float(bench.lengths[-1])
    goal: dict[str, Any] = {"preference": dict(zip(bench.objectives, map(float, p), strict=True))}
    goal["metric"] = bench.metric
    short = spread(bench.cells(0))[: count + 1]
    level = max((i for i, x in enumerate(bench.lengths[:-1]) if x <= 4.5 * bench.lengths[0]), default=0)
    rows, left = bench.seen([(mix, 0) for mix in short], budget, rng)
    # A run is of whole steps, and a few hundredths off what it was to take.
    if level and len(short) * bench.lengths[level] <= 1.05 * (left - budget / 3):
        more, left = bench.seen([(mix, level) for mix in short], left, rng)
        rows += more
    pilots = range(len(bench.lengths) - 1)
    while True:
        mask = np.isin(np.arange(len(bench.known())), rows)
        choice = choose_mix(bench.known().only(mask), final, draws=60, rng=rng, **goal)
        able = [mix for i in pilots for mix in bench.cells(i) if bench.left(mix, i, rows)]
        lengths = bench.lengths[:-1].tolist()
        wanted = next_pilots(choice, lengths, np.unique(able, axis=0), left, final, **goal) if able else []
        added = 0
        for mix, flops in wanted[:3]:
            share, i = np.array(list(mix.values())), int(np.argmin(np.abs(np.log(bench.lengths[:-1] / flops))))
            more, left = bench.seen([(share, i)] if bench.left(share, i, rows) else [], left, rng, rows)
            rows += more
            added += len(more)
        if not added:
            break
    if choice.laws is None:
        scores = np.abs(bench.mixes - np.array(list(choice.mix.values()))).sum(axis=1)
        return np.asarray(scores)
    return np.asarray(options_of(choice.laws, [final], bench.mixes).losses(bench.metric) @ p)


def random_search(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes at random."""
    level = bench.fair(budget)
    cells = bench.cells(level)
    order = [(cells[i], level) for i in rng.permutation(len(cells))]
    return measured_best(bench, bench.seen(order, budget, rng)[0], p)


def grid(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The best of mixes that lie evenly."""
    level = bench.fair(budget)
    return measured_best(bench, bench.seen([(m, level) for m in spread(bench.cells(level))], budget, rng)[0], p)


def regression(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """A quadratic surface, ridge-regressed on a swarm of short runs: two of each of its terms, if the budget lasts."""
    wanted = min(len(bench.cells(0)), 2 * _terms(bench.mixes).shape[1])
    level = max((i for i, flops in enumerate(bench.lengths[:-1]) if wanted * flops <= budget), default=0)
    cells = bench.cells(level)
    rows, _ = bench.seen([(cells[i], level) for i in rng.permutation(len(cells))], budget, rng)
    x, y = _terms(bench.known().mix[rows]), bench.losses[rows] @ p
    middle = y.mean()
    penalty = 1e-2 * np.eye(x.shape[1])
    theta = np.linalg.solve(x.T @ x + penalty, x.T @ (y - middle))
    return np.asarray(_terms(bench.mixes) @ theta)


def _terms(mixes: Floats) -> Floats:
    i, j = np.triu_indices(mixes.shape[1], 1)
    return np.column_stack([mixes, mixes[:, i] * mixes[:, j]])


def hypervolume_search(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """Gaussian processes of each objective, fed by qLogNEHVI, and the best mix by their mean."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(int(rng.integers(2**31)))
    level = bench.fair(budget)
    cells = spread(bench.cells(level))
    rows, left = bench.seen([(mix, level) for mix in cells[: bench.mixes.shape[1] + 1]], budget, rng)

    def fitted() -> ModelListGP:
        x = torch.tensor(bench.known().mix[rows][:, :-1])
        columns = (torch.tensor(-bench.losses[rows][:, [k]]) for k in range(len(p)))
        model = ModelListGP(*(SingleTaskGP(x, y, outcome_transform=Standardize(m=1)) for y in columns))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        return model

    while True:
        seen = bench.known().mix[rows]
        free = [mix for mix in cells if np.abs(seen - mix).max(axis=1).min() >= 1e-3]
        if not free:
            break
        x = torch.tensor(bench.known().mix[rows][:, :-1])
        reference = torch.tensor(-bench.losses[rows].max(axis=0) - 0.01)
        gain = qLogNoisyExpectedHypervolumeImprovement(fitted(), reference, x, prune_baseline=True)
        best = int(gain(torch.tensor(np.array(free)[:, None, :-1])).argmax())
        more, left = bench.seen([(free[best], level)], left, rng, rows)
        if not more:
            break
        rows += more
    model = fitted()
    with torch.no_grad():
        told = model.posterior(torch.tensor(bench.mixes[:, :-1])).mean.numpy()
    return np.asarray(-told @ p)


def merged_corners(bench: Bench, budget: float, p: Floats, rng: np.random.Generator) -> Floats:
    """The shares at which short corner runs merge best: as many trainings as objectives, and no other."""
    known = {tuple(mix.round(4)): losses @ p for mix, losses in bench.merges(budget, rng)}
    return np.array([known.get(tuple(mix.round(4)), np.inf) for mix in bench.mixes])


METHODS: dict[str, Method] = {
    "tune": tune,
    "random search": random_search,
    "grid": grid,
    "regression on a swarm": regression,
    "merged corners": merged_corners,
    "the equal mix": lambda bench, budget, p, rng: np.abs(bench.mixes - 1 / len(p)).sum(axis=1),
    "what counts most": lambda bench, budget, p, rng: 1 - bench.mixes[:, int(p.argmax())],
    **({"qLogNEHVI": hypervolume_search} if find_spec("botorch") else {}),
}
