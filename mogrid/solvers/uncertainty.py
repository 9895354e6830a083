"""Weights as learned noise levels of the objectives."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._adam import adam
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["UncertaintyWeighting"]


class UncertaintyWeighting(Solver):
    """Uncertainty weighting: minimise Σ ½ e^{−s_k} L_k + ½ s_k over the model and s_k = log σ_k², jointly.

    w_k = ½ e^{−s_k}; s_k follows its gradient ½ − ½ e^{−s_k} L_k by Adam, towards s_k = log L_k.

    Parameters
    ----------
    rate : float
        Adam's step size for s.
    initial : float
        Where every s starts.

    Notes
    -----
    By definition not on the simplex, and not invariant to the scale of the losses while s is still far from log L.

    References
    ----------
    Kendall, Gal and Cipolla, arXiv 1705.07115.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import StepStatistics, UncertaintyWeighting
    >>> UncertaintyWeighting(initial=0.0).weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 9.0])))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "uncertainty"
    summary = "homoscedastic uncertainty: weights ½/σ², with σ learned"
    paper = "arXiv 1705.07115"
    needs = "losses"
    _state = ("logarithms", "moments", "count")

    def __init__(self, rate: float = 0.01, initial: float = -0.5) -> None:
        self.rate = number(self.name, "rate", rate, above=0.0)
        self.initial = number(self.name, "initial", initial)
        self._logarithms: Array | None = None
        self._moments: Array | None = None
        self._count = 0

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.losses)
        if self._logarithms is None or self._moments is None:
            self._logarithms, self._moments = np.full(count, self.initial), np.zeros((2, count))
        weights = 0.5 * np.exp(-self._logarithms)
        self._count += 1
        # Beyond this bound Adam's step no longer depends on the gradient's size; squares stay finite.
        gradient = np.clip(0.5 - weights * step.losses, -1e100, 1e100)
        self._logarithms, self._moments = adam(self._logarithms, gradient, self._moments, self._count, self.rate)
        return weights, 0.0
