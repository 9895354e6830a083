"""The mean of the gradients' projections onto their dual cone."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._cone import Preferred, gaps
from mogrid.solvers._qp import correlations, nonnegative_qp, spread
from mogrid.solvers.base import Array, Step

__all__ = ["UPGrad"]


class UPGrad(Preferred):
    """Project each gradient onto the dual cone {d : J d ≥ 0} and average: Σ_i v_i, v_i = argmin_{v ≥ u_i e_i} vᵀGv.

    Conflicts with no objective, and moves along the mean gradient where that conflicts with none already.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        u, positive: how much each projection counts. Rescaled to sum to 1; equal if left out.

    Notes
    -----
    K programmes with one matrix, solved exactly and together. In lengths relative to its gradient, each asks for
    λ ≥ 0 minimising ½λᵀCλ + c_iᵀλ, with C the cosines: conditioning does not suffer from gradients of unequal norm.

    References
    ----------
    Quinton and Rey, arXiv 2406.16232.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import StepStatistics, UPGrad
    >>> jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> UPGrad().weights(StepStatistics(("a", "b"), gramian=jacobian @ jacobian.T))
    tensor([1.1111, 0.7895], dtype=torch.float64)
    """

    name = "upgrad"
    summary = "mean of the gradients' projections onto their dual cone: conflicts with none"
    paper = "arXiv 2406.16232"

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = self._preferred(step.objectives)
        cosines, norms, rows = correlations(step.gramian)
        if not rows:
            return preference, 0.0
        multipliers = _helpers(cosines)
        sizes = preference[rows] * norms
        inner = preference[rows] + sizes @ multipliers / norms
        each = gaps(multipliers, (multipliers + np.eye(len(rows))) @ cosines)
        gap = float(sizes**2 @ each) / float((norms**2).mean())
        return spread(inner, rows, len(preference)), gap


def _helpers(cosines: Array) -> Array:
    """Return, one row each, how much of the others every unit gradient needs to conflict with none.

    No gradient needs help of its own kind, which leaves K − 1 unknowns: closed forms up to K = 3.
    """
    count = len(cosines)
    if count == 1:
        return np.zeros((1, 1))
    if count == 2:
        return np.array([[0.0, 1.0], [1.0, 0.0]]) * max(-cosines[0, 1], 0.0)
    if count == 3:
        (_, a, b), (_, _, c), _ = cosines.tolist()
        if max(abs(a), abs(b), abs(c)) < 1.0 - 1e-3:  # nearer to parallel, the closed form cancels
            (p, q), (r, s), (t, u) = _two_helpers(a, b, c), _two_helpers(a, c, b), _two_helpers(b, c, a)
            return np.array([[0.0, p, q], [r, 0.0, s], [t, u, 0.0]])
    return nonnegative_qp(cosines, cosines)


def _two_helpers(p: float, q: float, r: float) -> tuple[float, float]:
    """Minimise ½(x² + 2rxy + y²) + px + qy over x, y ≥ 0, for cosines p, q, r of three vectors."""
    x, y = max(-p, 0.0), max(-q, 0.0)
    if r * x + q >= 0.0:
        return x, 0.0
    if r * y + p >= 0.0:
        return 0.0, y
    rest = 1.0 - r * r
    return max((q * r - p) / rest, 0.0), max((p * r - q) / rest, 0.0)
