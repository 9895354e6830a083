"""Solvers around a solver: smoother statistics, or fewer solves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from mogrid.solvers._settings import integer, number
from mogrid.solvers.base import Array, Needs, Solver, State, Step
from mogrid.solvers.errors import SolverError

__all__ = ["EMAGramian", "EveryN"]

_INNER = "solver."


class _Wrapper(Solver):
    """Passes on everything that it does not change."""

    def __init__(self, solver: Solver) -> None:
        if not isinstance(solver, Solver):
            raise SolverError(f"{self.name}: solver must be a Solver, got {solver!r}")
        self.solver = solver
        self.needs_losses = solver.needs_losses or solver.needs == "losses"
        self.needs_halves = solver.needs_halves
        self.tracking = solver.tracking

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return self.solver.needs

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        return self.solver.active(objectives)

    def observe(self, losses: Tensor) -> None:
        self.solver.observe(losses)

    def state_dict(self) -> State:
        inner = {_INNER + key: value for key, value in self.solver.state_dict().items()}
        return super().state_dict() | inner

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state.items() if not key.startswith(_INNER)})
        self.solver.load_state_dict({k.removeprefix(_INNER): v for k, v in state.items() if k.startswith(_INNER)})


class EMAGramian(_Wrapper):
    """Give a solver the moving average of the Gramians instead of each step's own.

    Mini-batch noise biases the solution of a non-linear programme; averaging over steps takes noise off the Gramian
    at the price of a little age. M ← β M + (1 − β) G, and the solver sees M/(1 − β^t).

    Parameters
    ----------
    solver : Solver
        One that needs the Gramian. Half-batch products are averaged, too.
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


class EveryN(_Wrapper):
    """Solve every n steps, and use the last weights in between, at the cost of one ordinary backward (PSMGD).

    ``needs`` is the solver's own at steps 0, n, 2n, ... and "nothing" at the others.

    Parameters
    ----------
    solver : Solver
    n : int

    References
    ----------
    Xu, Ju, Liu and Yang, arXiv 2412.10961.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import MGDA, EveryN, StepStatistics
    >>> solver = EveryN(MGDA(), n=2)
    >>> solver.needs
    'gramian'
    >>> weights = solver.weights(StepStatistics(("a", "b"), gramian=torch.eye(2)))
    >>> solver.needs
    'nothing'
    >>> solver.weights(StepStatistics(("a", "b")))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "every_n"
    summary = "solve every n steps, plain weighted backward in between (PSMGD)"
    paper = "arXiv 2412.10961"
    _state = ("count", "last", "gap")

    def __init__(self, solver: Solver, n: int = 10) -> None:
        super().__init__(solver)
        if solver.tracking is not None:
            raise SolverError(f"{self.name}: {solver.name!r} tracks gradients, so it needs those of each step")
        self.n = integer(self.name, "n", n, at_least=1)
        self._count = 0
        self._last: Array | None = None
        self._gap = 0.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return self.solver.needs if self._last is None or self._count % self.n == 0 else "nothing"

    def _solve(self, step: Step) -> tuple[Array, float]:
        if self._last is None or self._count % self.n == 0:
            self._last, self._gap = self.solver._solve(step)
        self._count += 1
        return self._last.copy(), self._gap
