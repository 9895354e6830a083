"""Bargaining between objectives: the equation Gw = w^{−1/α}, solved."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import correlations, spread, uniform
from mogrid.solvers.base import Array

__all__ = ["bargain"]

# Keeps the system definite; too small to matter.
_RIDGE = 1e-14
# Weights of unit gradients this large mean that no bargain exists: a Pareto-stationary point. They are then those of
# a Gramian with a ridge, which bounds them at about 1/sqrt(ridge): a float32 gradient could not carry larger ones.
_UNBOUNDED = 1e6
_STATIONARY_RIDGE = 1e-8


def bargain(gramian: Array, alpha: float) -> tuple[Array, float]:
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
