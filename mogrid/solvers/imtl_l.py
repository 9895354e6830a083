"""Losses brought to one size by learned scales."""

from __future__ import annotations

from mogrid.solvers.base import Array, Step
from mogrid.solvers.uncertainty import UncertaintyWeighting

__all__ = ["IMTLL"]


class IMTLL(UncertaintyWeighting):
    """Impartial learning by losses: minimise Σ e^{s_k} L_k − s_k over the model and the s_k, jointly.

    w_k = e^{s_k}; s_k follows its gradient e^{s_k} L_k − 1 by Adam, towards w_k = 1/L_k: all w_k L_k are 1 then.

    Parameters
    ----------
    rate : float
        Adam's step size for s, which starts at 0.

    Notes
    -----
    Twice the objective of uncertainty weighting, at the negated parameter. Adam does not see a constant factor, so
    weights are twice those of `UncertaintyWeighting` with ``initial=0``: the difference is what s means, not what it
    does.

    References
    ----------
    Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import IMTLL, StepStatistics
    >>> IMTLL().weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 9.0])))
    tensor([1., 1.], dtype=torch.float64)
    """

    name = "imtl_l"
    summary = "losses brought to one size by learned scales"
    paper = "ICLR 2021, openreview IMPnRXEWpvr"

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__(rate, initial=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        weights, gap = super()._solve(step)
        return 2.0 * weights, gap
