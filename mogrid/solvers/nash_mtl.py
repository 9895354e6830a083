"""Nash's bargaining solution between the objectives."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._bargaining import bargain
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["NashMTL"]


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
        weights, gap = bargain(step.gramian, 1.0)
        diagonal = step.gramian.diagonal()
        used = np.count_nonzero(diagonal)
        if not used:
            return weights, gap
        scale = diagonal.sum() / used
        return weights * np.sqrt(np.linalg.norm(step.gramian / scale)), gap
