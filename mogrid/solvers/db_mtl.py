"""Balance losses by their logarithms and gradients by their norms."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["DBMTL"]


class DBMTL(Solver):
    """Dual-balancing: add up the tracked gradients of log L_k, each scaled to the largest one's norm.

    With ĝ_k the moving average of g_k that the engine keeps: w_k = max_j (‖ĝ_j‖/L_j) / ‖ĝ_k‖.

    Parameters
    ----------
    beta : float
        β of the moving average ĝ ← β ĝ + (1 − β) g.

    Notes
    -----
    The paper averages g_k/L_k. A loss hardly changes within the average's memory, and scaling each gradient to one
    norm removes what is left of L_k but for the common length, so ĝ_k/L_k stands for it here.

    References
    ----------
    Lin et al., arXiv 2308.12029.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import DBMTL, StepStatistics
    >>> step = StepStatistics(("a", "b"), losses=torch.ones(2), gramian=torch.diag(torch.tensor([1.0, 4.0])))
    >>> DBMTL().weights(step)
    tensor([2., 1.], dtype=torch.float64)
    """

    name = "db_mtl"
    summary = "log losses, gradients scaled to the largest norm, moving averages"
    paper = "arXiv 2308.12029"
    needs_losses = True

    def __init__(self, beta: float = 0.9) -> None:
        self.tracking = number(self.name, "beta", beta, at_least=0.0, below=1.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        for objective, loss in zip(step.objectives, step.losses.tolist(), strict=True):
            if loss < 0.0:
                raise SolverError(f"{self.name}: needs losses of at least 0, {objective!r} is {loss:g}")
        norms = np.sqrt(step.gramian.diagonal())
        if not norms.any():
            return np.ones(len(norms)), 0.0
        # The logarithm of a loss of 0 has no gradient: the others say how long all are to be.
        relative = np.divide(norms, step.losses, out=np.zeros(len(norms)), where=step.losses > 0.0)
        largest = float(relative.max()) or float(norms.max())
        return np.divide(largest, norms, out=np.zeros(len(norms)), where=norms > 0.0), 0.0
