"""Weights drawn anew each step."""

from __future__ import annotations

import numpy as np
import torch

from mogrid.solvers._settings import integer
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["RandomWeights"]


class RandomWeights(Solver):
    """Random loss weighting: w = softmax(z) with z ~ N(0, I), drawn anew each step.

    A baseline that costs nothing and that many elaborate methods fail to beat.

    Parameters
    ----------
    seed : int
        Decides the draws; the state holds how far they have come.

    References
    ----------
    Lin, Ye, Zhang and Tsang, arXiv 2111.10603.

    Examples
    --------
    >>> from mogrid.solvers import RandomWeights, StepStatistics
    >>> float(RandomWeights(seed=1).weights(StepStatistics(("a", "b"))).sum())
    1.0
    """

    name = "random"
    summary = "softmax of Gaussian noise, drawn anew each step: the baseline to beat"
    paper = "arXiv 2111.10603"
    needs = "nothing"
    _state = ("generator",)

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(integer(self.name, "seed", seed, at_least=0))

    def _solve(self, step: Step) -> tuple[Array, float]:
        drawn = torch.randn(len(step.objectives), generator=self._generator, dtype=torch.float64)
        return np.asarray(drawn.softmax(0)), 0.0
