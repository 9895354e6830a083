"""Worst-case weights of the step's own losses."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["SmoothWorst"]


class SmoothWorst(Solver):
    """Gradient weights of τ·log mean_k exp(L_k/τ) over objectives: w = softmax(L/τ).

    The loss ``smooth_worst`` does the same inside one objective, over the domains that it is trained on.

    Parameters
    ----------
    temperature : float
        τ, in units of the losses: towards 0 the worst objective gets all weight, towards infinity all are equal.

    Notes
    -----
    The KL-regularised worst case of arXiv 1911.08731 solved afresh at each step: no state, no memory of past losses.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import SmoothWorst, StepStatistics
    >>> SmoothWorst().weights(StepStatistics(("a", "b"), losses=torch.tensor([0.0, 1.0])))
    tensor([0.2689, 0.7311], dtype=torch.float64)
    """

    name = "smooth_worst"
    summary = "softmax of the losses: smooth worst objective (over domains of one: the loss smooth_worst)"
    paper = "arXiv 1911.08731"
    needs = "losses"

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = number(self.name, "temperature", temperature, above=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        weights = np.exp((step.losses - step.losses.max()) / self.temperature)
        return weights / weights.sum(), 0.0
