"""Weights that move along a path as training goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mogrid.solvers._settings import PerObjective, integer, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError
from mogrid.solvers.fixed import require_simplex

__all__ = ["AnnealedWeights"]


class AnnealedWeights(Solver):
    """Fixed scalarisation along a path: weights at given steps, linear between them, constant outside.

    A plan's laws say which weights are best at every amount of data; this trains along them.

    Parameters
    ----------
    path : sequence of weights
        The stations, each on the simplex, by name or in order.
    steps : sequence of int
        The step, counted from 0, at which each weighting of the path holds; increasing.

    Examples
    --------
    >>> from mogrid.solvers import AnnealedWeights, StepStatistics
    >>> solver = AnnealedWeights([{"id": 1.0, "ood": 0.0}, {"id": 0.5, "ood": 0.5}], steps=[0, 2])
    >>> [solver.weights(StepStatistics(("id", "ood"))).tolist() for _ in range(4)]
    [[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]
    """

    name = "annealed"
    summary = "weights that you set for given steps, linear in between"
    paper = "-"
    needs = "nothing"
    sets_weights = True
    _state = ("count",)

    def __init__(self, path: Sequence[PerObjective], steps: Sequence[int]) -> None:
        if isinstance(path, str) or not isinstance(path, Sequence) or not path:
            raise SolverError(f"{self.name}: path must be a list of weights, got {path!r}")
        if isinstance(steps, str) or not isinstance(steps, Sequence) or len(steps) != len(path):
            raise SolverError(f"{self.name}: steps must be a list of {len(path)} whole numbers, one for each of path")
        self._path = [per_objective(self.name, f"path[{i}]", weights, at_least=0.0) for i, weights in enumerate(path)]
        for weights in self._path:
            require_simplex(self.name, weights)
        self._steps = [integer(self.name, f"steps[{i}]", step, at_least=0) for i, step in enumerate(steps)]
        if any(later <= earlier for earlier, later in zip(self._steps, self._steps[1:], strict=False)):
            raise SolverError(f"{self.name}: steps must increase, got {self._steps}")
        self._count = 0

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        return tuple((self._values(objectives).max(axis=0) > 0).tolist())

    def _values(self, objectives: tuple[str, ...]) -> Array:
        rows = [values_of(self.name, f"path[{i}]", weights, objectives) for i, weights in enumerate(self._path)]
        return np.stack(rows)

    def _solve(self, step: Step) -> tuple[Array, float]:
        values = self._values(step.objectives)
        weights = np.array([np.interp(self._count, self._steps, column) for column in values.T])
        self._count += 1
        return weights / weights.sum(), 0.0
