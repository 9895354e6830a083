"""Weight to objectives that are furthest from converged, by an estimate that label noise does not fool."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["ExcessMTL"]


class ExcessMTL(Solver):
    """Excess risks: w_k ← w_k e^{η E_k/E_k⁰}/Z, with E_k = ‖g_k‖²/√(Σ_t ‖g_k(t)‖²).

    A loss may stay high because its labels are noisy; its gradient, preconditioned by its past, does not.

    Parameters
    ----------
    eta : float
        η: how fast weight moves to the objectives with the largest excess.

    Notes
    -----
    The paper preconditions each coordinate by its own past (Adagrad's diagonal); a solver sees norms only, so this is
    Adagrad's scalar form.

    References
    ----------
    He, Zhou, Zhao et al., arXiv 2402.02009.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import ExcessMTL, StepStatistics
    >>> ExcessMTL().weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "excess_mtl"
    summary = "exponentiated-gradient weights from excess risks"
    paper = "arXiv 2402.02009"
    _state = ("logarithms", "squares", "initial")

    def __init__(self, eta: float = 0.01) -> None:
        self.eta = number(self.name, "eta", eta, above=0.0)
        self._logarithms: Array | None = None  # of w
        self._squares: Array | None = None
        self._initial: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        squares = step.gramian.diagonal()
        if self._logarithms is None or self._squares is None:
            self._logarithms, self._squares = np.zeros(len(squares)), np.zeros(len(squares))
        self._squares = self._squares + squares
        excess = np.divide(squares, np.sqrt(self._squares), out=np.zeros(len(squares)), where=self._squares > 0.0)
        if self._initial is None:
            self._initial = excess
        relative = np.divide(excess, self._initial, out=np.ones(len(squares)), where=self._initial > 0.0)
        logarithms = self._logarithms + self.eta * relative
        self._logarithms = logarithms - logarithms.max()
        weights = np.exp(self._logarithms)
        return weights / weights.sum(), 0.0
