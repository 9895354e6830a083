"""Which runs to do next: those that make the laws surest where it matters, for their price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError
from mogrid.scaling.forms import Design
from mogrid.scaling.laws import Laws

__all__ = ["Candidates", "Proposal", "propose_runs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """Runs that could be done.

    Attributes
    ----------
    sizes, pairs, flops : ndarray, shape (m,)
    weights : ndarray, shape (m, K)
    """

    sizes: Floats
    pairs: Floats
    weights: Floats
    flops: Floats

    def __post_init__(self) -> None:
        m = len(self.sizes)
        if self.weights.ndim != 2 or {len(self.pairs), len(self.flops), len(self.weights)} != {m} or not m:
            raise DataError("candidates need as many sizes, pairs, weights and FLOPs as each other, and at least one")
        table = np.column_stack([self.sizes, self.pairs, self.flops])
        if not (np.isfinite(table) & (table > 0)).all():
            raise DataError("sizes, pairs and FLOPs of candidates must be finite and positive")


@dataclass(frozen=True)
class Proposal:
    """What to run next.

    Attributes
    ----------
    rows : tuple of int
        Of the candidates, most useful for its price first; a row may come again, as another seed.
    flops : float
    before, after : dict by objective
        Root mean variance of the predicted log loss at the targets, without and with these runs.
    """

    rows: tuple[int, ...]
    flops: float
    before: dict[str, float]
    after: dict[str, float]


def propose_runs(
    laws: Laws,
    candidates: Candidates,
    budget: float,
    *,
    targets: Candidates | None = None,
    importance: Mapping[str, float] | None = None,
    most: int = 3,
) -> Proposal:
    """Return the runs that most reduce the variance of the laws' predictions, as long as the budget lasts.

    V-optimal design, greedily: laws are linear in their parameters near their fit, so what a run would teach follows
    from the derivatives there and needs no knowledge of its outcome (Pukelsheim, 2006; of scaling laws:
    arXiv 2604.22753). Gains are relative reductions of each objective's mean variance, summed, per FLOP.

    Parameters
    ----------
    laws : Laws
        Fitted to the runs there are.
    candidates : Candidates
    budget : float
        FLOPs for experiments.
    targets : Candidates, optional
        Where predictions matter; the dearest tenth of the candidates when left out.
    importance : mapping of objective to positive number, optional
    most : int
        Runs of one candidate.

    Raises
    ------
    ConfigError
        The budget does not buy the cheapest candidate, or an importance is wrong.
    """
    if not (np.isfinite(budget) and budget >= candidates.flops.min()):
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs for experiments does not buy the cheapest run "
            f"({candidates.flops.min():.3g})"
        )
    if most < 1:
        raise ConfigError(f"most must be at least 1, got {most}")
    if targets is None:
        dear = candidates.flops >= np.quantile(candidates.flops, 0.9)
        targets = Candidates(
            candidates.sizes[dear], candidates.pairs[dear], candidates.weights[dear], candidates.flops[dear]
        )
    share = np.array([(importance or {}).get(name, 1.0) for name in laws.objectives])
    if not (np.isfinite(share) & (share > 0)).all() or set(importance or {}) - set(laws.objectives):
        raise ConfigError(
            f"importance needs positive numbers for {', '.join(laws.objectives)}, got {dict(importance or {})}"
        )
    state = [_Objective(laws, k, candidates, targets) for k in range(len(laws.objectives))]
    before = {name: one.spread for name, one in zip(laws.objectives, state, strict=True)}
    start = np.array([one.variance for one in state])  # 0 where no candidate speaks of a target
    left, taken = budget, np.zeros(len(candidates.flops), dtype=int)
    rows: list[int] = []
    while True:
        able = (candidates.flops <= left) & (taken < most)
        if not able.any():
            break
        gains = sum(s * one.gains() / v for s, one, v in zip(share, state, start, strict=True) if v > 0)
        rate = np.where(able, np.asarray(gains) / candidates.flops, -np.inf)
        best = int(rate.argmax())
        if not rate[best] > 0:
            break
        for one in state:
            one.add(best)
        rows.append(best)
        taken[best] += 1
        left -= float(candidates.flops[best])
    after = {name: one.spread for name, one in zip(laws.objectives, state, strict=True)}
    return Proposal(tuple(rows), budget - left, before, after)


class _Objective:
    """What is known of one objective as runs are added: of its law for all trainings, and of each law apart."""

    def __init__(self, laws: Laws, own: int, candidates: Candidates, targets: Candidates) -> None:
        aims = {id(part): rows for part, rows in laws.parts(targets.weights)}
        total = len(targets.flops)
        self.count = len(candidates.flops)
        self.parts = [
            (rows, _Parameters(part, own, _taken(candidates, rows), _taken(targets, aims[id(part)])))
            for part, rows in laws.parts(candidates.weights)
            if id(part) in aims
        ]
        self.shares = [len(parameters.targets) / total for _, parameters in self.parts]

    @property
    def variance(self) -> float:
        """Mean variance of the predictions that a candidate can speak of."""
        return sum(share * parameters.variance for share, (_, parameters) in zip(self.shares, self.parts, strict=True))

    @property
    def spread(self) -> float:
        return float(np.sqrt(self.variance))

    def gains(self) -> Floats:
        """Return by how much each candidate would reduce the mean variance (m,)."""
        found = np.zeros(self.count)
        for share, (rows, parameters) in zip(self.shares, self.parts, strict=True):
            found[rows] = share * parameters.gains()
        return found

    def add(self, row: int) -> None:
        for rows, parameters in self.parts:
            place = np.flatnonzero(rows == row)
            if len(place):
                parameters.add(int(place[0]))


def _taken(candidates: Candidates, rows: NDArray[np.intp]) -> Candidates:
    return Candidates(candidates.sizes[rows], candidates.pairs[rows], candidates.weights[rows], candidates.flops[rows])


class _Parameters:
    """Covariance of one law's parameters, as runs are added."""

    def __init__(self, laws: Laws, own: int, candidates: Candidates, targets: Candidates) -> None:
        fit = laws.fits[own].fitted
        runs = laws.fitted
        self.noise = fit.sigma**2

        def derivatives(sizes: Floats, pairs: Floats, weights: Floats) -> Floats:
            where = Design(*laws._where(sizes, pairs, weights), own)
            return np.asarray(fit.form.values(fit.theta[None], where)[1][0])

        _, spread = fit.form.prior(len(laws.objectives))
        seen = derivatives(runs.sizes, runs.pairs, runs.weights)
        self.covariance = np.linalg.inv(seen.T @ seen / self.noise + np.diag(1 / spread**2))
        self.options = derivatives(candidates.sizes, candidates.pairs, candidates.weights)
        self.targets = derivatives(targets.sizes, targets.pairs, targets.weights)

    @property
    def variance(self) -> float:
        """Mean variance of the predictions."""
        return float(np.einsum("tp,pq,tq->t", self.targets, self.covariance, self.targets).mean())

    def gains(self) -> Floats:
        """Return by how much each candidate would reduce the mean variance (m,)."""
        moved = self.options @ self.covariance
        reached = (self.targets @ moved.T) ** 2
        return np.asarray(reached.mean(axis=0) / (self.noise + (moved * self.options).sum(axis=1)))

    def add(self, row: int) -> None:
        x = self.options[row]
        moved = self.covariance @ x
        self.covariance -= np.outer(moved, moved) / (self.noise + x @ moved)
