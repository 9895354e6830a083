"""Equal projections of the step on all gradients, with the length of their sum along it."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._equiangular import equal_projections
from mogrid.solvers._qp import correlations, spread, uniform
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["ConFIG"]


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
        solution, _ = equal_projections(cosines)
        products = cosines @ solution
        squared = float(solution @ products)
        if squared <= 1e-20:
            return np.zeros(count), 0.0
        length = float(norms @ products) / squared
        return spread(length * solution / norms, rows, count), 0.0
