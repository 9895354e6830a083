"""Equal projections of the step on all gradients, with weights that sum to 1."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._equiangular import equal_projections
from mogrid.solvers._qp import correlations, spread, uniform
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["IMTLG"]


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
        solution, exists = equal_projections(cosines)
        if not exists:
            solution = np.ones(len(rows)) - cosines @ solution  # 1's part in the null space
        weights = solution / (norms / norms.mean())
        total, size = float(weights.sum()), float(np.abs(weights).sum())
        return spread(weights / (total if abs(total) > 1e-9 * size else size), rows, count), 0.0
