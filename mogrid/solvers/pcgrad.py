"""Gradient surgery: project each gradient off those it conflicts with, then add up."""

from __future__ import annotations

import numpy as np
import torch

from mogrid.solvers._orders import orders
from mogrid.solvers._settings import integer
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["PCGrad"]


class PCGrad(Solver):
    """Projecting conflicting gradients: from each g_i take off its projection onto every g_j it conflicts with.

    For j in random order, if g_iᵀg_j < 0: g_i ← g_i − (g_iᵀg_j/‖g_j‖²)·g_j, with the original g_j. The step is the
    sum of the results.

    Parameters
    ----------
    seed : int
        Of the order, which the result depends on from three objectives on.

    References
    ----------
    Yu et al., arXiv 2001.06782.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import PCGrad, StepStatistics
    >>> jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> PCGrad().weights(StepStatistics(("a", "b"), gramian=jacobian @ jacobian.T))
    tensor([2.2222, 1.5789], dtype=torch.float64)
    """

    name = "pcgrad"
    summary = "gradient surgery: project each gradient off those it conflicts with"
    paper = "arXiv 2001.06782"
    _state = ("generator",)

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(integer(self.name, "seed", seed, at_least=0))

    def _solve(self, step: Step) -> tuple[Array, float]:
        gramian = step.gramian
        count = len(gramian)
        weights = np.zeros(count)
        for i, order in enumerate(orders(count, self._generator)):
            products = gramian[i].copy()  # of the changing g_i with all originals
            weights[i] += 1.0
            for j in order:
                if j != i and products[j] < 0.0:
                    share = -products[j] / gramian[j, j]
                    weights[j] += share
                    products += share * gramian[j]
        return weights, 0.0
