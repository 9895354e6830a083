"""Training to a chosen point of the Pareto front: the one where the preferred losses balance."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._conic import HalfspaceQP
from mogrid.solvers._qp import normalised, simplex_qp, spread, uniform
from mogrid.solvers._settings import PerObjective, bounds_of, bounds_within, number, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["ParetoTarget"]


class ParetoTarget(Solver):
    """Steer the losses to the ray on which all p_k L_k are equal, then down along it to the front.

    The class of problem is EPO's; the programme is another. With f_k = p_k (L_k − z_k) and its gradients p_k g_k, the
    weights are those of the proximal step for min max_k f_k, whose dual is a quadratic programme over the simplex:

        λ = argmin ½ λᵀĜλ − κ f̂ᵀλ,   w_k ∝ p_k λ_k,   Ĝ ∝ P G P with mean diagonal 1,   f̂ = f / mean|f|.

    While all λ_k > 0, its optimality condition says that the descent (Ĝλ)_k of f_k exceeds the common descent by
    κ(f̂_k − mean f̂): imbalances decay exponentially, and on the ray what remains is the min-norm direction. Where the
    ray misses the front, training ends at the point of the front with the smallest max_k f_k.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float
        Positive. A larger p_k asks for a smaller loss of objective k: training ends where p_k (L_k − z_k) are equal.
    ideal : mapping of name to float, or sequence of float, optional
        The point z that the ray starts from, 0 for names left out: the lowest value each loss can hope for.
    bounds : float, mapping of name to float, or sequence of float
        Lower bounds c on the weights, summing to less than 1: an objective keeps at least this share however far ahead
        of its ray it is. With bounds the programme is stated in cvxpy (DPP, compiled once) and solved by Clarabel, in
        about 2 ms a step; without them an exact active-set method solves it in a fiftieth of that.
    balance : float
        κ: how much of a step goes into balance rather than descent. Plain descent is stable up to a step size of about
        1/(κ · largest curvature): lower it where the losses swing about the ray.

    Notes
    -----
    Unlike EPO's pair of linear programmes, weights vary continuously with losses and gradients, so that mini-batch
    noise averages out instead of switching between two modes. Invariant to the scale of the gradients, of the
    losses and, jointly with p_k, of each objective.

    References
    ----------
    Problem: Mahapatra and Rajan, arXiv 2108.00597.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import ParetoTarget, StepStatistics
    >>> step = StepStatistics(("id", "ood"), losses=torch.tensor([1.0, 4.0]), gramian=torch.eye(2))
    >>> ParetoTarget({"id": 1.0, "ood": 1.0}).weights(step)  # "ood" lags behind
    tensor([0.2000, 0.8000], dtype=torch.float64)
    """

    name = "pareto_target"
    summary = "steer to the point of the front where the preferred losses p_k L_k balance (EPO class)"
    paper = "arXiv 2108.00597"
    needs_losses = True

    def __init__(
        self,
        preference: PerObjective,
        ideal: PerObjective | None = None,
        bounds: float | PerObjective = 0.0,
        balance: float = 0.5,
    ) -> None:
        self._preference = per_objective(self.name, "preference", preference, above=0.0)
        self._ideal = per_objective(self.name, "ideal", {} if ideal is None else ideal)
        self._bounds = bounds_within(self.name, bounds, below=1.0)
        self.balance = number(self.name, "balance", balance, above=0.0)
        self._compiled: tuple[tuple[str, ...], HalfspaceQP] | None = None

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._settings(objectives)
        bounds_of(self.name, self._bounds, objectives, room=True)
        return super().active(objectives)

    def _settings(self, objectives: tuple[str, ...]) -> tuple[Array, Array]:
        preference = values_of(self.name, "preference", self._preference, objectives)
        ideal = values_of(self.name, "ideal", self._ideal, objectives, default=0.0)
        return preference / preference.mean(), ideal

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference, ideal = self._settings(step.objectives)
        values = preference * (step.losses - ideal)
        matrix, rows, _ = normalised(preference[:, None] * step.gramian * preference)
        count = len(values)
        if not rows:
            return uniform(count), 0.0
        size = float(np.abs(values).mean())
        imbalance = values[rows] / size if size > 0.0 else np.zeros(len(rows))
        lower = bounds_of(self.name, self._bounds, step.objectives, room=True)
        if lower.any():
            return self._bounded(step.objectives, preference, lower, matrix, rows, imbalance)
        inner, gap = simplex_qp(matrix, self.balance * imbalance)
        weights = spread(inner * preference[rows], rows, count)
        return weights / weights.sum(), gap

    def _bounded(
        self,
        objectives: tuple[str, ...],
        preference: Array,
        lower: Array,
        matrix: Array,
        rows: list[int],
        imbalance: Array,
    ) -> tuple[Array, float]:
        """Solve with w_k ≥ c_k, which is linear in λ: p_k λ_k ≥ c_k Σ_j p_j λ_j."""
        count = len(preference)
        if self._compiled is None or self._compiled[0] != objectives:
            halfspaces = np.diag(preference) - lower[:, None] * preference
            self._compiled = objectives, HalfspaceQP(halfspaces)
        full, linear = np.zeros((count, count)), np.zeros(count)
        full[np.ix_(rows, rows)] = matrix
        linear[rows] = self.balance * imbalance
        inner, gap = self._compiled[1].solve(full, linear)
        # The solver's own tolerance must not show as a weight below its bound.
        above = np.clip(inner * preference / (inner @ preference) - lower, 0.0, None)
        return lower + above * (1.0 - lower.sum()) / above.sum(), gap
