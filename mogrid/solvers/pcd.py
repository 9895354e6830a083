"""Follow one objective, bent as little as lets the others progress."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from mogrid.solvers._qp import correlations, min_norm, nonnegative_qp, spread, uniform
from mogrid.solvers._settings import PerObjective, number, per_objective, place_of, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["PCD"]


class PCD(Solver):
    """Priority-constrained descent: the direction closest to the primary gradient along which each other loss falls.

        min ½‖d − g̃_A‖²  subject to  g̃_kᵀd ≥ τ_k ‖g̃_k‖²,   g̃_k = g_k / √v_k,

    with v_k the moving average of ‖g_k‖². The step is d, brought to the length of the primary gradient.

    Parameters
    ----------
    primary : str
        Names the objective to follow.
    tau : float, mapping of name to float, or sequence of float
        τ in [0, 1]: the share of the progress along its own gradient that every other objective is promised; by name,
        the paper's 0.02 for those left out.
    beta : float
        β of the moving average of squared norms, whose first steps are corrected for their small number.

    Notes
    -----
    Unlike `ConstrainedDescent`, which holds the others below limits in units of their losses, it asks for progress of
    all at every step. Where no direction serves all others, their conditions are dropped, as in the paper. Where the
    primary objective is at rest the paper does, too: here the others go on with steps of their own mean length.

    References
    ----------
    Varam and AlHajri, arXiv 2606.29521.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import PCD, StepStatistics
    >>> PCD("a", tau=0.0).weights(StepStatistics(("a", "b"), gramian=torch.tensor([[1.0, -0.6], [-0.6, 1.0]])))
    tensor([1.2500, 0.7500], dtype=torch.float64)
    """

    name = "pcd"
    summary = "follow one objective, bent as little as lets every other progress by a share tau"
    paper = "arXiv 2606.29521"
    _state = ("squares", "count")

    _TAU = 0.02

    def __init__(self, primary: str, tau: float | PerObjective = _TAU, beta: float = 0.999) -> None:
        self.primary = primary
        self._tau: float | PerObjective
        if isinstance(tau, Real):
            self._tau = number(self.name, "tau", tau, at_least=0.0, at_most=1.0)
        else:
            self._tau = per_objective(self.name, "tau", tau, at_least=0.0, at_most=1.0)
        self.beta = number(self.name, "beta", beta, at_least=0.0, below=1.0)
        self._squares: Array | None = None
        self._count = 0

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        place_of(self.name, "primary", self.primary, objectives)
        self._shares(objectives)
        return super().active(objectives)

    def _shares(self, objectives: tuple[str, ...]) -> Array:
        if isinstance(self._tau, float):
            return np.full(len(objectives), self._tau)
        return values_of(self.name, "tau", self._tau, objectives, default=self._TAU)

    def _solve(self, step: Step) -> tuple[Array, float]:
        primary = place_of(self.name, "primary", self.primary, step.objectives)
        tau = self._shares(step.objectives)
        count = len(step.objectives)
        squares = step.gramian.diagonal()
        self._count += 1
        before = np.zeros(count) if self._squares is None else self._squares
        averages = self.beta * before + (1.0 - self.beta) * squares
        self._squares = averages
        cosines, norms, rows = correlations(step.gramian)
        if not rows:
            return uniform(count), 0.0
        others = [i for i, k in enumerate(rows) if k != primary]
        # In unit gradients; lengths say how long each is beside what it used to be.
        lengths = norms / np.sqrt(averages[rows] / (1.0 - self.beta**self._count))
        unit, gap = np.zeros(len(rows)), 0.0
        own = rows.index(primary) if primary in rows else None
        start = np.zeros(len(rows))
        if own is not None:
            unit[own] = lengths[own]
            start = unit[own] * cosines[own]
        if others:
            inner = cosines[np.ix_(others, others)]
            needed = (tau[rows] * lengths - start)[others]
            multipliers = nonnegative_qp(inner, -needed[None, :])[0]
            if multipliers.max() < 1e6 or _agree(inner):
                slopes = inner @ multipliers - needed
                gap = abs(float(slopes @ multipliers)) + max(-float(slopes.min()), 0.0)
                unit[others] = multipliers
        size = math.sqrt(max(float(unit @ cosines @ unit), 0.0))
        length = norms.mean() if own is None else norms[own] / size if size > 1e-9 * unit.sum() else 0.0
        return spread(length * unit / norms, rows, count), gap


def _agree(cosines: Array) -> bool:
    """Say whether a direction exists along which all fall: only where no mean of the unit gradients is zero."""
    weights = min_norm(cosines)
    return float(weights @ cosines @ weights) > 1e-10
