"""Weights from how fast each loss fell lately."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import integer, number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["DWA"]


class DWA(Solver):
    """Dynamic weight average: w = softmax(r/T), r_k = L_k(t − 1)/L_k(t − 2).

    t counts windows of steps, and L_k(t) is the mean loss over one; the paper's window is an epoch. The first two
    windows have equal weights.

    Parameters
    ----------
    temperature : float
        T: the larger, the more equal the weights.
    window : int
        How many steps a mean loss is taken over; it is compared with that of the steps before.

    Notes
    -----
    The paper's weights sum to K; these sum to 1.

    References
    ----------
    Liu, Johns and Davison, arXiv 1803.10704.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import DWA, StepStatistics
    >>> solver = DWA(window=1)
    >>> for losses in ([2.0, 2.0], [1.0, 2.0], [1.0, 2.0]):
    ...     weights = solver.weights(StepStatistics(("fast", "slow"), losses=torch.tensor(losses)))
    >>> weights
    tensor([0.4378, 0.5622], dtype=torch.float64)
    """

    name = "dwa"
    summary = "dynamic weight average: more weight to losses that fall slowly"
    paper = "arXiv 1803.10704"
    needs = "losses"
    _state = ("sums", "count", "last", "before")

    def __init__(self, temperature: float = 2.0, window: int = 100) -> None:
        self.temperature = number(self.name, "temperature", temperature, above=0.0)
        self.window = integer(self.name, "window", window, at_least=1)
        self._sums: Array | None = None
        self._count = 0
        self._last: Array | None = None
        self._before: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        ratios = np.ones(len(step.losses))
        if self._last is not None and self._before is not None:
            np.divide(self._last, self._before, out=ratios, where=self._before != 0.0)
        exponents = ratios / self.temperature
        weights = np.exp(exponents - exponents.max())
        self._sums = step.losses.copy() if self._sums is None else self._sums + step.losses
        self._count += 1
        if self._count == self.window:
            self._last, self._before = self._sums / self.window, self._last
            self._sums, self._count = None, 0
        return weights / weights.sum(), 0.0
