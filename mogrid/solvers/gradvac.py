"""Gradient vaccine: raise the cosines of the gradients to their moving averages, then add up."""

from __future__ import annotations

import math

import numpy as np
import torch

from mogrid.solvers._orders import orders
from mogrid.solvers._settings import integer, number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["GradVac"]


class GradVac(Solver):
    """Gradient vaccine: raise the cosine of each pair of gradients to its moving average, then add up.

    For j in random order, with φ = cos(g_i, g_j) below its average φ̂:
    g_i ← g_i + ‖g_i‖ (φ̂ √(1−φ²) − φ √(1−φ̂²)) / (‖g_j‖ √(1−φ̂²)) · g_j, and φ̂ ← (1−β) φ̂ + β φ.

    Parameters
    ----------
    beta : float
        β, the share of the new cosine in the average.
    seed : int
        Decides in which order objectives are taken; the state holds how far the draws have come.

    References
    ----------
    Wang, Tsvetkov, Firat and Cao, arXiv 2010.05874.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import GradVac, StepStatistics
    >>> GradVac().weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([1., 1.], dtype=torch.float64)
    """

    name = "gradvac"
    summary = "gradient vaccine: raise cosines to their moving averages"
    paper = "arXiv 2010.05874"
    _state = ("generator", "averages")

    def __init__(self, beta: float = 0.5, seed: int = 0) -> None:
        self.beta = number(self.name, "beta", beta, at_least=0.0, at_most=1.0)
        self._generator = torch.Generator().manual_seed(integer(self.name, "seed", seed, at_least=0))
        self._averages: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        # One unit of length for all rows: squared norms far from 1 would not survive the products below.
        scale = step.gramian.diagonal().max()
        gramian = step.gramian / scale if scale > 0.0 else step.gramian
        count = len(gramian)
        averages = np.zeros((count, count)) if self._averages is None else self._averages.copy()
        norms = np.sqrt(gramian.diagonal())
        weights = np.zeros(count)
        for i, order in enumerate(orders(count, self._generator)):
            products, squared = gramian[i].copy(), float(gramian[i, i])
            weights[i] += 1.0
            for j in order:
                if j == i or norms[j] == 0.0 or squared <= 0.0:
                    continue
                cosine = min(max(products[j] / (math.sqrt(squared) * norms[j]), -1.0), 1.0)
                target = averages[i, j]
                if cosine < target < 1.0 - 1e-12:
                    rest = math.sqrt(1.0 - target * target)
                    share = math.sqrt(squared) / norms[j] * (target * math.sqrt(1.0 - cosine**2) / rest - cosine)
                    weights[j] += share
                    squared = max(squared + 2.0 * share * products[j] + share * share * gramian[j, j], 0.0)
                    products += share * gramian[j]
                averages[i, j] = (1.0 - self.beta) * target + self.beta * cosine
        self._averages = averages
        return weights, 0.0
