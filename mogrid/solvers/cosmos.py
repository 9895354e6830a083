"""A weighted sum that is drawn to the preference's direction."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._cone import Preferred
from mogrid.solvers._settings import PerObjective, number
from mogrid.solvers.base import Array, Step

__all__ = ["COSMOS"]


class COSMOS(Preferred):
    """Gradient weights of pᵀL − λ·cos(p, L): weighted losses, and their angle to the preference, which is to close.

    w = p − λ·(p/‖p‖ − cos(p, L)·L/‖L‖)/‖L‖.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        p: the direction in which the losses are to end up, so a *larger* share allows a larger loss. Positive, rescaled
        to sum to 1; equal if left out.
    penalty : float
        λ: how much the angle counts beside the weighted losses, in units of a loss. The paper takes .01 to 8.

    Notes
    -----
    One ordinary backward a step. A loss that is too small for its share may get a negative weight: it is raised. The
    paper also feeds the preference to the model and draws it anew at each step, to learn a whole front at once; here it
    is fixed, and one model is trained.

    References
    ----------
    Ruchte and Grabocka, arXiv 2103.13392.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import COSMOS, StepStatistics
    >>> COSMOS(penalty=1.0).weights(StepStatistics(("a", "b"), losses=torch.tensor([3.0, 4.0])))
    tensor([0.4774, 0.5170], dtype=torch.float64)
    """

    name = "cosmos"
    summary = "weighted sum less the cosine between losses and preference"
    paper = "arXiv 2103.13392"
    needs = "losses"

    def __init__(self, preference: PerObjective | None = None, penalty: float = 1.0) -> None:
        super().__init__(preference)
        self.penalty = number(self.name, "penalty", penalty, at_least=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = self._preferred(step.objectives)
        size = float(np.linalg.norm(step.losses))
        if size == 0.0:  # no direction to draw
            return preference, 0.0
        wanted, now = preference / np.linalg.norm(preference), step.losses / size
        return preference - self.penalty * (wanted - (wanted @ now) * now) / size, 0.0
