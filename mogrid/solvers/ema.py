"""A solver on the moving average of the Gramian."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import number
from mogrid.solvers._wrapper import Wrapper
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError
from mogrid.solvers.every_n import EveryN

__all__ = ["EMAGramian"]


class EMAGramian(Wrapper):
    """Give a solver the moving average of the Gramians instead of each step's own.

    Mini-batch noise biases the solution of a non-linear programme; averaging over steps takes noise off the Gramian
    at the price of a little age. M ← β M + (1 − β) G, and the solver sees M/(1 − β^t).

    Parameters
    ----------
    solver : Solver
        What gets the averaged Gramian; it must need one. Half-batch products are averaged, too.
    beta : float
        β: the memory is about 1/(1 − β) steps.

    References
    ----------
    The correction of stochastic bias: arXiv 2210.12624, on the level of the Gramian.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import MGDA, EMAGramian, StepStatistics
    >>> EMAGramian(MGDA()).weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "ema"
    summary = "any Gramian solver on a moving average of the Gramian"
    paper = "arXiv 2210.12624"
    _state = ("average", "half_average", "count")

    def __init__(self, solver: Solver, beta: float = 0.9) -> None:
        super().__init__(solver)
        if isinstance(solver, EveryN):
            raise SolverError(f"{self.name}: put {EveryN.name!r} around {self.name!r}, not inside it")
        if solver.needs != "gramian":
            raise SolverError(f"{self.name}: solver must need the Gramian, {solver.name!r} needs {solver.needs}")
        self.beta = number(self.name, "beta", beta, at_least=0.0, below=1.0)
        self._average: Array | None = None
        self._half_average: Array | None = None
        self._count = 0

    def _solve(self, step: Step) -> tuple[Array, float]:
        self._count += 1
        correction = 1.0 - self.beta**self._count
        self._average = self._averaged(self._average, step.gramian)
        step = step._replace(gramian=self._average / correction)
        if self.needs_halves:
            self._half_average = self._averaged(self._half_average, step.half_gramian)
            step = step._replace(half_gramian=self._half_average / correction)
        return self.solver._solve(step)

    def _averaged(self, average: Array | None, new: Array) -> Array:
        if average is None:
            average = np.zeros_like(new)
        return self.beta * average + (1.0 - self.beta) * new
