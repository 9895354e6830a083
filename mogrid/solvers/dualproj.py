"""The mean gradient's projection onto the gradients' dual cone."""

from __future__ import annotations

from mogrid.solvers._cone import Preferred, gaps
from mogrid.solvers._qp import correlations, nonnegative_qp, spread
from mogrid.solvers.base import Array, Step

__all__ = ["DualProj"]


class DualProj(Preferred):
    """Project the preferred combination of the gradients onto the dual cone: argmin_{v ≥ u} vᵀGv.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        u, positive: what is projected is Σ u_k g_k. Rescaled to sum to 1; equal if left out.

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
        gap = float(gaps(multipliers, products + multipliers @ cosines)[0]) * size**2 / float((norms**2).mean())
        return spread(preference[rows] + size * multipliers[0] / norms, rows, len(preference)), gap
