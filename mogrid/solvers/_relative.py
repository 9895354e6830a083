"""Products of gradients in units of their size, and weights that follow them slowly."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import normalised, onto_simplex, uniform
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["Slow", "relative"]


def relative(gramian: Array, products: Array) -> Array:
    """Products in units of trace(G)/K: step sizes then mean the same at every scale of the gradients."""
    _, rows, scale = normalised(gramian)
    return products / scale if rows else np.zeros_like(products)


class Slow(Solver):
    """Weights that take one projected step at a time, w ← Π_Δ(w − γ (M + ρI) w), and are carried on.

    M holds the products of two independent half batches where the solver needs those, and is the Gramian elsewhere.
    """

    _state = ("current",)

    def __init__(self, gamma: float = 0.1, rho: float = 0.0) -> None:
        self.gamma = number(self.name, "gamma", gamma, above=0.0)
        self.rho = number(self.name, "rho", rho, at_least=0.0)
        self._current: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        current = uniform(len(step.objectives)) if self._current is None else self._current
        matrix = relative(step.gramian, step.half_gramian if self.needs_halves else step.gramian)
        self._current = onto_simplex(current - self.gamma * (matrix @ current + self.rho * current))
        return self._current.copy(), 0.0
