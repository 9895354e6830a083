"""What methods that aim at a preferred ray have in common."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from mogrid.solvers._qp import normalised, spread, uniform
from mogrid.solvers._settings import PerObjective, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["Ray"]


class Ray(Solver):
    """A solver that works with f_k = p_k L_k, gradients p_k g_k, and the ray on which all f_k are equal."""

    needs_losses = True

    def __init__(self, preference: PerObjective) -> None:
        self._preference = per_objective(self.name, "preference", preference, above=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        values_of(self.name, "preference", self._preference, objectives)
        return super().active(objectives)

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = values_of(self.name, "preference", self._preference, step.objectives)
        preference = preference / preference.mean()
        matrix, rows, _ = normalised(preference[:, None] * step.gramian * preference)
        if not rows:
            return uniform(len(preference)), 0.0
        inner, gap = self._balance(matrix, (preference * step.losses)[rows])
        weights = inner * preference[rows]
        return spread(weights / np.abs(weights).sum(), rows, len(preference)), gap

    @abstractmethod
    def _balance(self, matrix: Array, values: Array) -> tuple[Array, float]:
        """Return the weights of the gradients of f, for their Gramian with mean diagonal 1, and the gap."""
