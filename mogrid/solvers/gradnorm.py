"""Weights that even out the gradients' norms, more so for objectives that train slowly."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["GradNorm"]


class GradNorm(Solver):
    """Gradient normalisation: learn w by descent on Σ_k |w_k n_k − n̄ r_k^α|.

    n_k = ‖g_k‖; n̄ = mean w_k n_k; r_k is L_k/L_k⁰ over its mean: the inverse rate of training. With the target held
    fixed, as in the paper, the derivative is ±n_k, so no second backward is needed. Weights are rescaled to sum to 1
    after each update (to K in the paper) and take effect at the next step.

    Parameters
    ----------
    alpha : float
        Strength of the pull towards a common rate of training; 0 evens out the norms alone.
    rate : float
        Step size of w, for gradient norms relative to their mean.

    References
    ----------
    Chen, Badrinarayanan, Lee and Rabinovich, arXiv 1711.02257.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import GradNorm, StepStatistics
    >>> solver = GradNorm()
    >>> step = StepStatistics(("a", "b"), losses=torch.ones(2), gramian=torch.diag(torch.tensor([1.0, 16.0])))
    >>> for _ in range(200):
    ...     weights = solver.weights(step)
    >>> weights.round(decimals=1)
    tensor([0.8000, 0.2000], dtype=torch.float64)
    """

    name = "gradnorm"
    summary = "learn weights that even out gradient norms and rates of training"
    paper = "arXiv 1711.02257"
    needs_losses = True
    _state = ("current", "initial")

    # A weight that reached zero would have no gradient norm to come back by.
    _FLOOR = 1e-3

    def __init__(self, alpha: float = 1.5, rate: float = 0.025) -> None:
        self.alpha = number(self.name, "alpha", alpha, at_least=0.0)
        self.rate = number(self.name, "rate", rate, above=0.0)
        self._current: Array | None = None
        self._initial: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.losses)
        if self._current is None or self._initial is None:
            self._current, self._initial = np.full(count, 1.0 / count), step.losses.copy()
        weights = self._current
        norms = np.sqrt(step.gramian.diagonal())
        if norms.mean() > 0.0:
            norms = norms / norms.mean()
            progress = np.ones(count)
            np.divide(step.losses, self._initial, out=progress, where=self._initial != 0.0)
            progress = np.maximum(progress, 0.0)
            relative = progress / progress.mean() if progress.mean() > 0.0 else np.ones(count)
            weighted = weights * norms
            direction = norms * np.sign(weighted - weighted.mean() * relative**self.alpha)
            updated = np.maximum(weights - self.rate / count * direction, self._FLOOR / count)
            self._current = updated / updated.sum()
        return weights, 0.0
