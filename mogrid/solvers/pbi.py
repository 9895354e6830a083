"""Penalty-based boundary intersection: down along a direction, and back to it."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._cone import Preferred
from mogrid.solvers._settings import PerObjective, number, per_objective, values_of
from mogrid.solvers.base import Array, Step

__all__ = ["PBI"]


class PBI(Preferred):
    """Gradient weights of d₁ + θ·d₂: the length of L − z along the preference p, and its distance from that line.

    w = p/‖p‖ + θ·r/‖r‖, with r the part of L − z across p; only the first where L − z lies on the line.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        p: the direction in which the losses are to end up, so a *larger* share allows a larger loss. Positive; equal
        if left out.
    penalty : float
        θ: 0 is a weighted sum; the larger, the closer to the line. 5 in the paper.
    ideal : mapping of name to float, or sequence of float, optional
        z, a lower bound of each loss; 0 for names left out.

    Notes
    -----
    One ordinary backward a step; reaches concave fronts. With a θ above the ratio of the shares, a loss below the line
    gets a negative weight: it is raised until the others have come down.

    References
    ----------
    Zhang and Li, "MOEA/D", IEEE Transactions on Evolutionary Computation 11 (2007), section III-C.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import PBI, StepStatistics
    >>> PBI(penalty=0.5).weights(StepStatistics(("a", "b"), losses=torch.tensor([2.0, 1.0])))
    tensor([1.0607, 0.3536], dtype=torch.float64)
    """

    name = "pbi"
    summary = "down along the preferred direction, with a penalty on the distance from it"
    paper = "doi 10.1109/TEVC.2007.892759"
    needs = "losses"

    def __init__(
        self, preference: PerObjective | None = None, penalty: float = 5.0, ideal: PerObjective | None = None
    ) -> None:
        super().__init__(preference)
        self.penalty = number(self.name, "penalty", penalty, at_least=0.0)
        self._ideal = per_objective(self.name, "ideal", {} if ideal is None else ideal)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        values_of(self.name, "ideal", self._ideal, objectives, default=0.0)
        return super().active(objectives)

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = self._preferred(step.objectives)
        direction = preference / np.linalg.norm(preference)
        values = step.losses - values_of(self.name, "ideal", self._ideal, step.objectives, default=0.0)
        across = values - (values @ direction) * direction
        distance = float(np.linalg.norm(across))
        if distance <= 1e-12 * float(np.linalg.norm(values)):  # what is left is rounding
            return direction, 0.0
        return direction + self.penalty * across / distance, 0.0
