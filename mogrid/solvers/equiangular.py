"""Directions with equal projections on all gradients: IMTL-G and ConFIG, which differ in length alone."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import correlations, spread, uniform
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["IMTLG", "ConFIG"]


class IMTLG(Solver):
    """Impartial multi-task learning: Σ w_k g_k has the same projection on every g_k/‖g_k‖, and Σ w_k = 1.

    The paper's w₂:K = g₁Uᵀ(DUᵀ)⁻¹ in closed form without its special first row: w ∝ (C⁻¹1)/n, with C the cosines and
    n the norms. Weights may be negative.

    Notes
    -----
    Where the gradients are dependent so that no direction has equal projections, the combination that cancels is
    returned: in the limit, that is the solution.

    References
    ----------
    Liu et al., "Towards impartial multi-task learning", ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import IMTLG, StepStatistics
    >>> IMTLG().weights(StepStatistics(("a", "b"), gramian=torch.diag(torch.tensor([1.0, 9.0]))))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """

    name = "imtl_g"
    summary = "equal projections of the step on all gradients"
    paper = "ICLR 2021, openreview IMPnRXEWpvr"

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.objectives)
        cosines, norms, rows = correlations(step.gramian)
        if not rows:
            return uniform(count), 0.0
        solution, exists = _equal_projections(cosines)
        if not exists:
            solution = np.ones(len(rows)) - cosines @ solution  # 1's part in the null space
        weights = solution / (norms / norms.mean())
        total, size = float(weights.sum()), float(np.abs(weights).sum())
        return spread(weights / (total if abs(total) > 1e-9 * size else size), rows, count), 0.0


class ConFIG(Solver):
    """Conflict-free inverse gradients: the unit vector with equal projections on all g_k/‖g_k‖, times Σ_k g_kᵀ of it.

    Improves all objectives at rates proportional to their gradients' norms.

    Notes
    -----
    Exists wherever the gradients are linearly independent. Where they are not, it is the least-squares solution
    (pseudo-inverse), and zero where gradients of unit length cancel out exactly.

    References
    ----------
    Liu, Chu and Thuerey, arXiv 2408.11104.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import ConFIG, StepStatistics
    >>> ConFIG().weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([1., 1.], dtype=torch.float64)
    """

    name = "config"
    summary = "conflict-free inverse gradients: improve all in proportion to their norms"
    paper = "arXiv 2408.11104"

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.objectives)
        cosines, norms, rows = correlations(step.gramian)
        if not rows:
            return uniform(count), 0.0
        solution, _ = _equal_projections(cosines)
        products = cosines @ solution
        squared = float(solution @ products)
        if squared <= 1e-20:
            return np.zeros(count), 0.0
        length = float(norms @ products) / squared
        return spread(length * solution / norms, rows, count), 0.0


def _equal_projections(cosines: Array) -> tuple[Array, bool]:
    """Return C⁺1, and whether it solves Cy = 1."""
    values, vectors = np.linalg.eigh(cosines)
    large = values > 1e-12 * values[-1]
    vectors = vectors[:, large]
    solution = vectors @ (vectors.sum(axis=0) / values[large])
    return solution, bool(np.abs(cosines @ solution - 1.0).max() < 1e-6)
