"""The choice of a mix as a convex program: where nothing harms, losses are convex in the pairs, and cvxpy is exact.

With every t_kj ≥ 0 the data that count for an objective are linear in its pairs (concave where transfer saturates), and
its loss is convex and falling in them; what pairs cost and where the sweep ends are linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.exchange import Exchange
from mogrid.frontier.laws import LawFit, Laws

__all__ = ["Target", "is_convex", "solve_mix"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What is minimised: Σ_k p_k l_k, or, given ideal and nadir, max_k p_k (l_k − ideal_k) / (nadir_k − ideal_k).

    l_k is a loss, or what a score misses, 1 − v.

    Attributes
    ----------
    preference : ndarray, shape (K,)
    ideal, nadir : ndarray, shape (K,), or None
    caps : ndarray, shape (K,)
        Upper bounds of the log losses that laws are fitted to; inf for none.
    """

    preference: Floats
    ideal: Floats | None
    nadir: Floats | None
    caps: Floats

    def scalar(self, losses: Floats) -> Floats:
        """Return what is minimised (…) of losses (…, K)."""
        if self.ideal is None or self.nadir is None:
            return np.asarray(losses @ self.preference / self.preference.sum())
        span = np.where(self.nadir > self.ideal, self.nadir - self.ideal, 1.0)
        return np.asarray((self.preference * (losses - self.ideal) / span).max(axis=-1))


def is_convex(laws: Laws, metric: str, target: Target) -> bool:
    """Return whether all laws that the target asks are convex in the pairs."""
    asked = (target.preference > 0) | np.isfinite(target.caps)
    return not laws.costs.weights and all(
        _is_convex(fit, weighed=bool(p > 0))
        for fit, p, on in zip(laws.fits[metric], target.preference, asked, strict=True)
        if on
    )


def _is_convex(fit: LawFit, weighed: bool) -> bool:
    form = fit.form
    if not isinstance(form, Exchange) or form.harms or (weighed and fit.scale.name == "odds"):
        return False
    place = form.parameters().index("log T")
    return not form.mixed or bool((fit.fitted.theta[place + 1 : place + form.count] >= 0).all())


def solve_mix(
    laws: Laws, metric: str, target: Target, budget: float, size: float, low: Floats, high: Floats
) -> Floats | None:
    """Return the best mix (K,) of a budget at one N, to the solver's accuracy; None where none keeps the caps.

    Parameters
    ----------
    laws : Laws
        For which `is_convex` holds.
    low, high : ndarray, shape (K,)
        Bounds of the mix.
    """
    import cvxpy as cp

    count = len(laws.objectives)
    pairs = cp.Variable(count, nonneg=True)
    total = cp.sum(pairs)
    # In units of what the budget buys at an equal mix, so that the solver sees numbers near 1.
    unit = budget / float(laws.costs.per_pair(size).mean())
    limits = [pairs @ (laws.costs.per_pair(size) * unit / budget) == 1, pairs >= low * total, pairs <= high * total]
    parts, bounds = [], []
    for k, fit in enumerate(laws.fits[metric]):
        if target.preference[k] == 0 and np.isinf(target.caps[k]):
            continue
        loss = _loss(cp, fit, k, pairs * (unit / laws.d0), float(np.log(size / laws.n0)))
        if np.isfinite(target.caps[k]):
            limits.append(loss <= float(np.exp(target.caps[k] - fit.unit)))
        if target.preference[k] > 0:
            parts.append((k, loss * float(np.exp(fit.unit))))
    if target.ideal is None or target.nadir is None:
        goal: Any = sum(float(target.preference[k]) * loss for k, loss in parts)
    else:
        goal = cp.Variable()
        for k, loss in parts:
            span = float(target.nadir[k] - target.ideal[k]) or 1.0
            bounds.append(float(target.preference[k]) * (loss - float(target.ideal[k])) / span <= goal)
    problem = cp.Problem(cp.Minimize(goal), limits + bounds)
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.error.SolverError:
        return None
    if problem.status not in ("optimal", "optimal_inaccurate") or pairs.value is None:
        return None
    found = np.clip(pairs.value / pairs.value.sum(), low, high)
    found = np.where(found < 1e-6, 0.0, found)
    return np.asarray(found / found.sum())


def _loss(cp: Any, fit: LawFit, own: int, pairs: Any, log_n: float) -> Any:
    """Return an exchange law's loss, in its own unit, as an expression of pairs in units of D₀."""
    form = fit.form
    theta = dict(zip(form.parameters(), fit.fitted.theta.tolist(), strict=True))
    data = float(np.exp(theta["log T"])) + (pairs[own] if form.mixed else cp.sum(pairs))
    if form.mixed:
        for i, j in enumerate(j for j in range(form.count) if j != own):
            given = pairs[j]
            if "log s" in theta:
                level = float(np.exp(theta["log s"]))
                given = level - level**2 * cp.inv_pos(level + pairs[j])
            data = data + theta[f"t{i + 1}"] * given
    fixed = float(np.exp(theta["log e"]))
    if form.sized:
        fixed += float(np.exp(theta["log a"] - np.exp(theta["log α"]) * log_n))
    return fixed + cp.exp(theta["log b"] - float(np.exp(theta["log β"])) * cp.log(data))
