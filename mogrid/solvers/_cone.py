"""What solvers with a preference have in common, and the projections onto the gradients' dual cone."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._settings import PerObjective, per_objective, values_of
from mogrid.solvers.base import Array, Solver

__all__ = ["Preferred", "gaps"]


class Preferred(Solver):
    """A solver with a preference u: 1 each where none is given, or rescaled to the simplex."""

    def __init__(self, preference: PerObjective | None = None) -> None:
        self._preference = None if preference is None else per_objective(self.name, "preference", preference, above=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._given(objectives)
        return super().active(objectives)

    def _given(self, objectives: tuple[str, ...]) -> Array:
        if self._preference is None:
            return np.ones(len(objectives))
        return values_of(self.name, "preference", self._preference, objectives)

    def _preferred(self, objectives: tuple[str, ...]) -> Array:
        preference = self._given(objectives)
        return preference / preference.sum()


def gaps(multipliers: Array, slopes: Array) -> Array:
    """Of each row: complementarity |λᵀy| plus what y lacks to y ≥ 0, for multipliers of the solution's size."""
    violation = np.maximum(-slopes.min(axis=1), 0.0)
    total: Array = np.abs((multipliers * slopes).sum(axis=1)) + violation * (1.0 + multipliers.sum(axis=1))
    return total
