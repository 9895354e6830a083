"""Projections onto the dual cone of the gradients: directions that conflict with none of them."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import correlations, nonnegative_qp, spread, uniform
from mogrid.solvers._settings import PerObjective, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["DualProj", "UPGrad"]


class _Preferred(Solver):
    """A solver with a preference u on the simplex: equal where none is given."""

    def __init__(self, preference: PerObjective | None = None) -> None:
        self._preference = None if preference is None else per_objective(self.name, "preference", preference, above=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._preferred(objectives)
        return super().active(objectives)

    def _preferred(self, objectives: tuple[str, ...]) -> Array:
        if self._preference is None:
            return uniform(len(objectives))
        preference = values_of(self.name, "preference", self._preference, objectives)
        return preference / preference.sum()


class UPGrad(_Preferred):
    """Project each gradient onto the dual cone {d : J d ≥ 0} and average: Σ_i v_i, v_i = argmin_{v ≥ u_i e_i} vᵀGv.

    Conflicts with no objective, and moves along the mean gradient where that conflicts with none already.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        Positive; rescaled to sum to 1. Equal if left out.

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
        gaps = _gaps(multipliers, (multipliers + np.eye(len(rows))) @ cosines)
        gap = float(sizes**2 @ gaps) / float((norms**2).mean())
        return spread(inner, rows, len(preference)), gap


class DualProj(_Preferred):
    """Project the preferred combination of the gradients onto the dual cone: argmin_{v ≥ u} vᵀGv.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        u: positive; rescaled to sum to 1. Equal if left out.

    References
    ----------
    Lopez-Paz and Ranzato (GEM), arXiv 1706.08840; as an aggregator: arXiv 2406.16232.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import DualProj, StepStatistics
    >>> jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> DualProj().weights(StepStatistics(("a", "b"), gramian=jacobian @ jacobian.T))
    tensor([0.6111, 0.5000], dtype=torch.float64)
    """

    name = "dualproj"
    summary = "projection of the mean gradient onto the gradients' dual cone"
    paper = "arXiv 1706.08840"

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = self._preferred(step.objectives)
        cosines, norms, rows = correlations(step.gramian)
        if not rows:
            return preference, 0.0
        start = preference[rows] * norms
        size = float(start.max())
        products = cosines @ (start / size)
        multipliers = nonnegative_qp(cosines, products[None, :])
        gap = float(_gaps(multipliers, products + multipliers @ cosines)[0]) * size**2 / float((norms**2).mean())
        return spread(preference[rows] + size * multipliers[0] / norms, rows, len(preference)), gap


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


def _gaps(multipliers: Array, slopes: Array) -> Array:
    """Of each row: complementarity |λᵀy| plus what y lacks to y ≥ 0, for multipliers of the solution's size."""
    violation = np.maximum(-slopes.min(axis=1), 0.0)
    total: Array = np.abs((multipliers * slopes).sum(axis=1)) + violation * (1.0 + multipliers.sum(axis=1))
    return total
