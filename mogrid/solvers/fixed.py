"""Weights that the user chooses."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import PerObjective, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["FixedWeights", "require_simplex"]


class FixedWeights(Solver):
    """Weights that stay as they are: linear scalarisation Σ w_k L_k.

    Parameters
    ----------
    weights : mapping of name to float, or sequence of float, optional
        On the simplex: non-negative, summing to 1. Equal weights if left out. An objective of weight zero costs
        nothing, not even a forward.

    Notes
    -----
    One ordinary backward a step. Only the convex parts of a Pareto front can be reached.

    Examples
    --------
    >>> from mogrid.solvers import FixedWeights, StepStatistics
    >>> FixedWeights({"id": 0.8, "ood": 0.2}).weights(StepStatistics(("id", "ood"))).tolist()
    [0.8, 0.2]
    """

    name = "fixed"
    summary = "weights that stay as you set them; equal if you set none"
    paper = "-"
    needs = "nothing"

    def __init__(self, weights: PerObjective | None = None) -> None:
        self._given: PerObjective | None = None
        if weights is not None:
            self._given = per_objective(self.name, "weights", weights, at_least=0.0)
            require_simplex(self.name, self._given)
        self.sets_weights = weights is not None

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        return tuple((self._values(objectives) > 0).tolist())

    def _values(self, objectives: tuple[str, ...]) -> Array:
        if self._given is None:
            return np.full(len(objectives), 1.0 / len(objectives))
        return values_of(self.name, "weights", self._given, objectives)

    def _solve(self, step: Step) -> tuple[Array, float]:
        return self._values(step.objectives), 0.0


def require_simplex(solver: str, weights: PerObjective) -> None:
    """Raise `SolverError`, with the weights normalised, where they do not sum to 1."""
    values = dict(weights) if hasattr(weights, "keys") else dict(enumerate(weights))
    total = sum(values.values())
    if abs(total - 1.0) <= 1e-6:
        return
    if total <= 0:
        raise SolverError(f"{solver}: weights must sum to 1, they sum to {total:g}")
    normalised = {key: round(value / total, 6) for key, value in values.items()}
    shown = normalised if hasattr(weights, "keys") else list(normalised.values())
    raise SolverError(f"{solver}: weights must sum to 1, they sum to {total:g}; normalised they are {shown}")
