"""Which runs to do next: those that make the choice, or the laws, surest for their price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError
from mogrid.frontier.laws import LawFit, Laws
from mogrid.frontier.options import Options
from mogrid.frontier.planning import CONFIDENCE, decide
from mogrid.frontier.rules import importance

__all__ = ["Proposal", "next_runs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """What to run next.

    Attributes
    ----------
    rows : tuple of int
        Of the candidates, most useful for its price first; a row may come again, as another seed.
    flops : float
    before, after : dict
        Standard deviation without and with these runs: by objective of the predicted log loss at the targets; or, as
        ``choice``, of the preference's scalar between the mixes that draws of the laws choose, and of what the choice
        must keep.
    """

    rows: tuple[int, ...]
    flops: float
    before: dict[str, float]
    after: dict[str, float]


def next_runs(
    laws: Laws,
    candidates: Options,
    budget: float | None = None,
    *,
    count: int | None = None,
    final: float | None = None,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    models: Sequence[str | float] | None = None,
    targets: Options | None = None,
    metric: str | None = None,
    most: int = 3,
    surety: float = CONFIDENCE,
) -> Proposal:
    """Return the runs that most reduce what is not known, as long as the budget lasts.

    Given the FLOPs of the final training, that is which of the mixes that draws of the laws choose is the better one,
    and whether the choice keeps `at_least`: runs that could not change the choice are worth nothing. Without, it is the
    laws' predictions at the targets. Both are optimal designs, found greedily: laws are linear in their parameters near
    their fit, so what a run would teach follows from the derivatives there and needs no knowledge of its outcome
    (Pukelsheim, 2006; of scaling laws: arXiv 2604.22753).

    Parameters
    ----------
    laws : Laws
        Fitted to the runs there are.
    candidates : Options
        As from `options_of`.
    budget : float, optional
        FLOPs for experiments.
    count : int, optional
        Runs at most, with a budget or in its place.
    final : float, optional
        FLOPs of the training that is to be planned.
    preference, at_least, models, metric, surety
        As for `plan` by the method ``weighted``.
    targets : Options, optional
        Where predictions matter, without `final`; the dearest tenth of the candidates when left out.
    most : int
        Runs of one candidate.

    Raises
    ------
    ConfigError
        The budget does not buy the cheapest candidate, or as `plan`.
    """
    if count is not None and count < 1:
        raise ConfigError(f"a number of runs is at least 1, got {count}")
    if budget is None:
        if count is None:
            raise ConfigError("say how many runs, or how many FLOPs for them")
        budget = count * float(candidates.flops.max())
    if not (np.isfinite(budget) and budget >= candidates.flops.min()):
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs for experiments does not buy the cheapest run "
            f"({candidates.flops.min():.3g})"
        )
    if most < 1:
        raise ConfigError(f"most must be at least 1, got {most}")
    metric = laws.metric(metric)
    fits = laws.fits[metric]
    if final is None:
        dear = candidates.only(candidates.flops >= np.quantile(candidates.flops, 0.9)) if targets is None else targets
        aims = {k: _mean(_derivatives(laws, fit, k, dear.parameters, dear.effort)) for k, fit in enumerate(fits)}
    else:
        aims = _contrasts(laws, metric, final, preference, at_least, models, surety)
    state = {k: _Parameters(laws, metric, k, candidates, rows) for k, rows in aims.items()}
    start = {k: one.variance for k, one in state.items()}
    # For the laws each objective counts by how much of its own variance goes; for a choice variances add up.
    scale = start if final is None else dict.fromkeys(start, sum(start.values()))
    left, taken = budget, np.zeros(len(candidates.flops), dtype=int)
    rows: list[int] = []
    while (able := (candidates.flops <= left) & (taken < most)).any() and len(rows) != count:
        gains = sum((one.gains() / scale[k] for k, one in state.items() if scale[k] > 0), np.zeros(len(taken)))
        rate = np.where(able, gains / candidates.flops, -np.inf)
        best = int(rate.argmax())
        if not rate[best] > 0:
            break
        for one in state.values():
            one.add(best)
        rows.append(best)
        taken[best] += 1
        left -= float(candidates.flops[best])
    after = {k: one.variance for k, one in state.items()}
    return Proposal(tuple(rows), budget - left, _named(laws, start, final), _named(laws, after, final))


def _named(laws: Laws, variance: dict[int, float], final: float | None) -> dict[str, float]:
    if final is not None:
        return {"choice": float(np.sqrt(sum(variance.values())))}
    return {laws.objectives[k]: float(np.sqrt(value)) for k, value in variance.items()}


def _derivatives(laws: Laws, fit: LawFit, own: int, parameters: Floats, pairs: Floats) -> Floats:
    """Return derivatives (m, p) of the log loss to the law's parameters."""
    design = laws.design(own, parameters, pairs)
    return np.asarray(fit.form.values(fit.fitted.theta[None], design)[1][0])


def _contrasts(
    laws: Laws,
    metric: str,
    final: float,
    preference: Mapping[str, float] | None,
    at_least: Mapping[str, float] | None,
    models: Sequence[str | float] | None,
    surety: float,
) -> dict[int, Floats]:
    """Return derivatives of how much better the choice is than what draws choose, and of what is to be kept.

    However many draws there are, what is to be kept counts as much as they do in the mean.
    """
    p = importance(laws.objectives, preference, "weighted")
    made = decide(laws, final, preference=preference, at_least=at_least, models=models, metric=metric, surety=surety)
    found = made.options.only([made.chosen, *made.picked])
    losses = found.losses(metric)
    rows: dict[int, Floats] = {}
    for k, fit in enumerate(laws.fits[metric]):
        slopes = fit.slope(losses[:, k])[:, None] * _derivatives(laws, fit, k, found.parameters, found.effort)
        rows[k] = p[k] / p.sum() * _mean(slopes[1:] - slopes[0])
        if laws.objectives[k] in (at_least or {}):
            rows[k] = np.vstack([rows[k], slopes[:1]])
    return rows


def _mean(rows: Floats) -> Floats:
    """Return rows whose squares sum up to the mean of those given."""
    return rows / np.sqrt(len(rows))


class _Parameters:
    """Covariance of one law's parameters, as runs are added."""

    def __init__(self, laws: Laws, metric: str, own: int, candidates: Options, targets: Floats) -> None:
        fit, runs = laws.fits[metric][own], laws.runs
        self.noise = fit.fitted.sigma**2
        seen = _derivatives(laws, fit, own, runs.parameters, runs.effort)
        if fit.anchored:
            sizes = np.array([runs.sizes[model] for model in laws.based(metric)])
            base = _derivatives(laws, fit, own, sizes, np.zeros((len(sizes), len(laws.objectives))))
            seen = np.vstack([seen, base])
        _, spread = fit.form.prior()
        self.covariance = np.linalg.inv(seen.T @ seen / self.noise + np.diag(1 / spread**2))
        self.options = _derivatives(laws, fit, own, candidates.parameters, candidates.effort)
        self.targets = targets

    @property
    def variance(self) -> float:
        """Variance of the targets, added up."""
        return float(np.einsum("tp,pq,tq->", self.targets, self.covariance, self.targets))

    def gains(self) -> Floats:
        """Return by how much each candidate would reduce the variance (m,)."""
        moved = self.options @ self.covariance
        reached = (self.targets @ moved.T) ** 2
        return np.asarray(reached.sum(axis=0) / (self.noise + (moved * self.options).sum(axis=1)))

    def add(self, row: int) -> None:
        x = self.options[row]
        moved = self.covariance @ x
        self.covariance -= np.outer(moved, moved) / (self.noise + x @ moved)
