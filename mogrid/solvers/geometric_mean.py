"""The geometric mean of the losses in place of their sum."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import uniform
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["GeometricMean"]


class GeometricMean(Solver):
    """Gradient weights of (Π_k L_k)^{1/K}, the geometric loss strategy (GLS): w_k = (Π_j L_j)^{1/K} / (K L_k).

    Every loss is to fall by the same factor, whatever its unit: a loss that is multiplied by a constant moves the
    model as before, up to the common length of the step.

    Notes
    -----
    One ordinary backward a step. Not on the simplex: Σ w_k is the geometric mean of the losses over their harmonic
    mean, at least 1. Losses of 0 have arrived: they are left out, or their product would halt the others.

    References
    ----------
    Chennupati et al., arXiv 1904.08492.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import GeometricMean, StepStatistics
    >>> GeometricMean().weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 4.0])))
    tensor([1.0000, 0.2500], dtype=torch.float64)
    """

    name = "geometric_mean"
    summary = "geometric mean of the losses: equal relative progress, nothing to set (GLS)"
    paper = "arXiv 1904.08492"
    needs = "losses"

    def _solve(self, step: Step) -> tuple[Array, float]:
        for objective, loss in zip(step.objectives, step.losses.tolist(), strict=True):
            if loss < 0.0:
                raise SolverError(f"{self.name}: needs losses of at least 0, {objective!r} is {loss:g}")
        above = step.losses > 0.0
        if not above.any():
            return uniform(len(step.losses)), 0.0
        logarithms = np.log(step.losses, out=np.full(len(step.losses), np.inf), where=above)
        return np.exp(logarithms[above].mean() - logarithms) / above.sum(), 0.0
