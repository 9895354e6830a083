"""One sector of objective space for each trade-off wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mogrid.solvers._qp import min_norm, min_norm_gap, normalised, uniform
from mogrid.solvers._settings import PerObjective, integer, number, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["ParetoMTL"]


class ParetoMTL(Solver):
    """Pareto multi-task learning: MGDA within the sector of losses that are closest in angle to one of many vectors.

    Sector k is {L : (u_j − u_k)ᵀL ≤ 0 for all j}. The step is the min-norm combination of the gradients and of the
    gradients of the constraints that are active; while the losses are outside the sector, of the latter alone.

    Parameters
    ----------
    vectors : sequence of (mapping of name to float, or sequence of float)
        The u: directions in the space of losses, non-negative; only their angles matter. At least two.
    sector : int
        Says which of the vectors this run is for, from 0.
    epsilon : float
        A constraint is active from this far inside its boundary on, relative to ‖L‖.

    Notes
    -----
    Gives a point of the front somewhere in the sector, not a chosen one. The weights, which may be negative, are
    rescaled to Σ|w_k| = 1.

    References
    ----------
    Lin, Zhen, Li, Zhang and Kwong, arXiv 1912.12854.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import ParetoMTL, StepStatistics
    >>> solver = ParetoMTL([[1.0, 0.0], [0.0, 1.0]], sector=0)
    >>> solver.weights(StepStatistics(("a", "b"), losses=torch.tensor([3.0, 1.0]), gramian=torch.eye(2)))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "pareto_mtl"
    summary = "MGDA within a sector around one of several preference vectors"
    paper = "arXiv 1912.12854"
    needs_losses = True

    def __init__(self, vectors: Sequence[PerObjective], sector: int, epsilon: float = 0.01) -> None:
        if isinstance(vectors, str) or not isinstance(vectors, Sequence) or len(vectors) < 2:
            raise SolverError(f"{self.name}: vectors must be a list of at least two vectors, got {vectors!r}")
        self._vectors = [
            per_objective(self.name, f"vectors[{i}]", vector, at_least=0.0) for i, vector in enumerate(vectors)
        ]
        self.sector = integer(self.name, "sector", sector, at_least=0)
        if self.sector >= len(vectors):
            raise SolverError(f"{self.name}: sector must be below {len(vectors)}, the number of vectors, got {sector}")
        self.epsilon = number(self.name, "epsilon", epsilon, at_least=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._constraints(objectives)
        return super().active(objectives)

    def _constraints(self, objectives: tuple[str, ...]) -> Array:
        units = []
        for i, vector in enumerate(self._vectors):
            values = values_of(self.name, f"vectors[{i}]", vector, objectives)
            if not values.any():
                raise SolverError(f"{self.name}: vectors[{i}] is zero: it has no direction")
            units.append(values / np.linalg.norm(values))
        return np.delete(np.stack(units) - units[self.sector], self.sector, axis=0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.objectives)
        constraints = self._constraints(step.objectives)
        size = float(np.linalg.norm(step.losses))
        values = constraints @ step.losses / size if size > 0.0 else np.full(len(constraints), -np.inf)
        combinations = constraints[values >= -self.epsilon]
        if not (values > 0.0).any():
            combinations = np.vstack([np.eye(count), combinations])
        matrix, rows, _ = normalised(combinations @ step.gramian @ combinations.T)
        if not rows:
            return uniform(count), 0.0
        inner = min_norm(matrix)
        weights = inner @ combinations[rows]
        total = float(np.abs(weights).sum())
        return weights / total if total > 0.0 else uniform(count), min_norm_gap(matrix, inner)
