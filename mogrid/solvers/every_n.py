"""A solver at every n-th step, and its last weights in between."""

from __future__ import annotations

from mogrid.solvers._settings import integer
from mogrid.solvers._wrapper import Wrapper
from mogrid.solvers.base import Array, Needs, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["EveryN"]


class EveryN(Wrapper):
    """Solve every n steps, and use the last weights in between, at the cost of one ordinary backward (PSMGD).

    ``needs`` is the solver's own at steps 0, n, 2n, ... and "nothing" at the others.

    Parameters
    ----------
    solver : Solver
        What is asked every n-th step; in between, its last weights stand.
    n : int
        1 asks it at every step.

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
