"""Bargaining between objectives: Nash-MTL, and FairGrad's α-fairness of which it is one case."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import correlations, spread, uniform
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["FairGrad", "NashMTL"]

# Keeps the system definite; too small to matter.
_RIDGE = 1e-14
# Weights of unit gradients this large mean that no bargain exists: a Pareto-stationary point. They are then those of
# a Gramian with a ridge, which bounds them at about 1/sqrt(ridge): a float32 gradient could not carry larger ones.
_UNBOUNDED = 1e6
_STATIONARY_RIDGE = 1e-8


class FairGrad(Solver):
    """α-fair updates: maximise Σ (g_kᵀd)^{1−α}/(1−α) over a ball, solved by Gw = w^{−1/α}.

    Parameters
    ----------
    alpha : float
        1 is proportional fairness (Nash-MTL); towards 0 the sum of improvements counts, towards infinity the worst.

    Notes
    -----
    The equation is the optimality condition of a strictly convex programme, min ½wᵀGw − Σ φ(w_k) with φ' = w^{−1/α},
    solved by Newton's method in lengths relative to each gradient. G is brought to mean diagonal 1 first, so that the
    step does not depend on the gradients' scale. ``gap`` is the largest relative error of the equation. It is not
    small at a Pareto-stationary point, where no bargain exists; the weighted gradients then nearly cancel.

    References
    ----------
    Ban and Ji, arXiv 2402.15638.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import FairGrad, StepStatistics
    >>> FairGrad().weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """

    name = "fairgrad"
    summary = "alpha-fair improvements: Gw = w^(-1/alpha)"
    paper = "arXiv 2402.15638"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(self.name, "alpha", alpha, above=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        return _bargain(step.gramian, self.alpha)


class NashMTL(Solver):
    """Nash's bargaining solution: the direction that maximises Σ log g_kᵀd, d = Jᵀw with Gw = 1/w.

    Every objective contributes the same: w_k g_kᵀd = 1. Indifferent to the scale of each objective by itself.

    Notes
    -----
    The paper solves a sequence of linearised programmes; this is Newton's method on the strictly convex
    ½wᵀGw − Σ log w_k, to rounding. As in the authors' code, weights are those for G/‖G‖ (Frobenius), so that the
    step does not depend on the gradients' scale. `EveryN` gives their "update every n steps".

    References
    ----------
    Navon et al., arXiv 2202.01017.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import NashMTL, StepStatistics
    >>> NashMTL().weights(StepStatistics(("a", "b"), gramian=torch.diag(torch.tensor([3.0, 4.0]))))
    tensor([1.2910, 1.1180], dtype=torch.float64)
    """

    name = "nash_mtl"
    summary = "Nash bargaining solution: equal contributions, Gw = 1/w"
    paper = "arXiv 2202.01017"

    def _solve(self, step: Step) -> tuple[Array, float]:
        weights, gap = _bargain(step.gramian, 1.0)
        diagonal = step.gramian.diagonal()
        used = np.count_nonzero(diagonal)
        if not used:
            return weights, gap
        scale = diagonal.sum() / used
        return weights * np.sqrt(np.linalg.norm(step.gramian / scale)), gap


def _bargain(gramian: Array, alpha: float) -> tuple[Array, float]:
    """Solve Gw = w^{−1/α} for G of mean diagonal 1; return w and the largest relative error.

    With C the cosines, n the norms and v = w∘n it reads Cv = n^{1/α−1} v^{−1/α}.
    """
    count = len(gramian)
    cosines, norms, rows = correlations(gramian)
    if not rows:
        return uniform(count), 0.0
    norms = norms / np.sqrt((norms**2).mean())
    power = -1.0 / alpha
    factors = norms ** (-power - 1.0)
    limit = _UNBOUNDED * max(float(factors.max()) ** (1.0 / (1.0 - power)), 1.0)
    v, gap = _newton(cosines + _RIDGE * np.eye(len(rows)), factors, power, limit)
    if v.max() > limit:
        v, _ = _newton(cosines + _STATIONARY_RIDGE * np.eye(len(rows)), factors, power, np.inf)
        gap = float(np.abs(1.0 - cosines @ v / (factors * v**power)).max())
    return spread(v / norms, rows, count), gap


def _newton(matrix: Array, factors: Array, power: float, limit: float) -> tuple[Array, float]:
    """Solve Cv = a∘v^p with p < 0 by Newton's method on the convex ½vᵀCv − Σ φ(v), φ' = a v^p.

    Returns early with some v above ``limit``.
    """
    v = factors ** (1.0 / (1.0 - power))
    # The best multiple of the start: t vᵀCv = t^p Σ a v^{p+1}.
    v = v * ((factors @ v ** (power + 1.0)) / (v @ matrix @ v)) ** (1.0 / (1.0 - power))
    diagonal = np.arange(len(v))
    best, smallest, since = v, np.inf, 0
    for _ in range(200):
        target = factors * v**power
        residual = target - matrix @ v
        error = float(np.abs(residual / target).max())
        since = 0 if error < smallest else since + 1
        if error < smallest:
            best, smallest = v, error
        if error < 1e-15 or (since and smallest < 1e-9) or since > 20:  # the rest is rounding
            break
        hessian = matrix.copy()
        hessian[diagonal, diagonal] -= power * target / v
        step = np.linalg.solve(hessian, residual)
        # No v may lose more than nine tenths; no damping is needed beyond that, as v^p is convex.
        v = v + step / max(-float((step / v).min()) / 0.9, 1.0)
        if v.max() > limit:
            return v, np.inf
    return best, smallest
