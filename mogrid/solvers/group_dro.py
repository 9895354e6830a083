"""Worst-case weights that remember: exponentiated gradient on the losses."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["GroupDRO"]


class GroupDRO(Solver):
    """Group distributionally robust optimisation over objectives: q_k ← q_k e^{η L_k}/Z, and w = q.

    The loss ``group_dro`` does the same inside one objective, over the domains that it is trained on.

    Parameters
    ----------
    eta : float
        η: how fast weight moves to the worst objective. It multiplies losses: choose it for their scale.

    References
    ----------
    Sagawa, Koh, Hashimoto and Liang, arXiv 1911.08731.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import GroupDRO, StepStatistics
    >>> GroupDRO(eta=1.0).weights(StepStatistics(("a", "b"), losses=torch.tensor([0.0, 1.0])))
    tensor([0.2689, 0.7311], dtype=torch.float64)
    """

    name = "group_dro"
    summary = "exponentiated-gradient weights for the worst objective (over domains of one: the loss group_dro)"
    paper = "arXiv 1911.08731"
    needs = "losses"
    _state = ("logarithms",)

    def __init__(self, eta: float = 0.01) -> None:
        self.eta = number(self.name, "eta", eta, above=0.0)
        self._logarithms: Array | None = None  # of q: a product of thousands of factors would underflow

    def _solve(self, step: Step) -> tuple[Array, float]:
        before = np.zeros(len(step.losses)) if self._logarithms is None else self._logarithms
        after = before + self.eta * step.losses
        self._logarithms = after - after.max()
        weights = np.exp(self._logarithms)
        return weights / weights.sum(), 0.0
