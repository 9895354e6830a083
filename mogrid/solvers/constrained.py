"""Improve one objective while the others stay where they are."""

from __future__ import annotations

from numbers import Real

import numpy as np

from mogrid.solvers._qp import correlations, nonnegative_qp, spread, uniform
from mogrid.solvers._settings import PerObjective, number, per_objective, place_of, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["ConstrainedDescent"]


class ConstrainedDescent(Solver):
    """Improve A, never worsen B by more than ε: descend the primary loss subject to L_k ≤ L_k⁰ + ε_k for the others.

    The step is the direction closest to the primary gradient along which each constrained loss falls fast enough:

        min ½‖d − g_A‖²  subject to  g_kᵀd ≥ rate · s_k ‖g_k‖‖g_A‖,   s_k = clip((L_k − L_k⁰ − ε_k)/b_k, −1, 1).

    Far from its limit a loss may rise, at its limit it may not, beyond it it must fall (a control barrier function).
    b_k is ε_k, or a tenth of L_k⁰ where that is more. The multipliers of the constraints weigh their gradients.

    Parameters
    ----------
    primary : str
        Names the objective to improve.
    epsilon : float, mapping of name to float, or sequence of float
        ε: how much each other loss may rise, in units of that loss.
    reference : mapping of name to float, optional
        L⁰ by name; what is left out is taken from the first step.
    rate : float
        Strength of the barrier: 1 lets a violated constraint ask for its steepest descent.

    Notes
    -----
    Constraints that contradict each other are balanced, not fatal: each has a slack that costs ten thousand times
    its square. Weights are rescaled to sum to 1.

    References
    ----------
    Allibhoy and Cortés, arXiv 2204.01930.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import ConstrainedDescent, StepStatistics
    >>> solver = ConstrainedDescent("ood", epsilon=0.1, reference={"id": 1.0})
    >>> solver.weights(StepStatistics(("id", "ood"), losses=torch.tensor([0.5, 2.0]), gramian=torch.eye(2)))
    tensor([0., 1.], dtype=torch.float64)
    """

    name = "constrained"
    summary = "improve one objective, never worsen the others by more than epsilon"
    paper = "arXiv 2204.01930"
    needs_losses = True
    _state = ("reference",)

    _SLACK = 1e-4

    def __init__(
        self,
        primary: str,
        epsilon: float | PerObjective = 0.0,
        reference: PerObjective | None = None,
        rate: float = 1.0,
    ) -> None:
        self.primary = primary
        self._epsilon: float | PerObjective
        if isinstance(epsilon, Real):
            self._epsilon = number(self.name, "epsilon", epsilon, at_least=0.0)
        else:
            self._epsilon = per_objective(self.name, "epsilon", epsilon, at_least=0.0)
        self._given = per_objective(self.name, "reference", {} if reference is None else reference)
        self.rate = number(self.name, "rate", rate, above=0.0, at_most=1.0)
        self._reference: Array | None = None

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._settings(objectives)
        return super().active(objectives)

    def _settings(self, objectives: tuple[str, ...]) -> tuple[int, Array, Array]:
        if isinstance(self._epsilon, float):
            epsilon = np.full(len(objectives), self._epsilon)
        else:
            epsilon = values_of(self.name, "epsilon", self._epsilon, objectives, default=0.0)
        given = values_of(self.name, "reference", self._given, objectives, default=np.nan)
        return place_of(self.name, "primary", self.primary, objectives), epsilon, given

    def _solve(self, step: Step) -> tuple[Array, float]:
        primary, epsilon, given = self._settings(step.objectives)
        if self._reference is None:
            self._reference = np.where(np.isnan(given), step.losses, given)
        count = len(step.objectives)
        cosines, _, rows = correlations(step.gramian)
        if not rows:
            return uniform(count), 0.0
        others = [i for i, k in enumerate(rows) if k != primary]
        if not others:
            return np.eye(count)[primary], 0.0
        norms = np.sqrt(step.gramian.diagonal()[rows])
        # In unit gradients; a primary gradient of zero leaves nothing to do but to satisfy the constraints.
        start = cosines[rows.index(primary)][others] if primary in rows else np.zeros(len(others))
        slack = np.maximum(epsilon, 0.1 * np.abs(self._reference))
        excess = step.losses - self._reference - epsilon
        relative = np.clip(np.divide(excess, slack, out=np.sign(excess), where=slack > 0.0), -1.0, 1.0)[rows][others]
        inner = cosines[np.ix_(others, others)] + self._SLACK * np.eye(len(others))
        needed = self.rate * relative - start
        multipliers = nonnegative_qp(inner, -needed[None, :])[0]
        slopes = inner @ multipliers - needed
        gap = abs(float(slopes @ multipliers)) + max(-float(slopes.min()), 0.0)
        unit_weights = np.zeros(len(rows))
        unit_weights[others] = multipliers
        if primary in rows:
            unit_weights[rows.index(primary)] = 1.0
        weights = unit_weights / (norms / norms.mean())
        total = weights.sum()
        return spread(weights / total if total > 0.0 else uniform(len(rows)), rows, count), gap
