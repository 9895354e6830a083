"""Equal relative progress, learned from how the losses change."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mogrid.solvers._adam import adam
from mogrid.solvers._settings import PerObjective, number, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["FAMO"]

# A loss at its floor has no logarithm; FAMO's own code keeps it this far away.
_FLOOR = 1e-8


class FAMO(Solver):
    """Fast adaptive multitask optimisation: descend Σ z_k log(L_k − b_k) with z = softmax(ξ), so that all fall alike.

    w_k = c·z_k/(L_k − b_k), with c such that they sum to 1. After the update, ξ takes an Adam step along
    (∂z/∂ξ)ᵀ (log L_k(t) − log L_k(t + 1)), plus weight decay.

    Parameters
    ----------
    rate : float
        Adam's step size for ξ.
    decay : float
        Draws ξ back to zero, that is the weights to equal ones.
    floor : mapping of name to float, or sequence of float, optional
        b, a lower bound of each loss; 0 for names left out.

    Notes
    -----
    Call ``observe`` with the losses of the *same* batch after the update. Where nobody does, the losses of the next
    batch stand in for them; that saves a forward and adds the noise between batches.

    References
    ----------
    Liu, Feng, Stone and Liu, arXiv 2306.03792.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import FAMO, StepStatistics
    >>> FAMO().weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 3.0])))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """

    name = "famo"
    summary = "equal relative progress of all losses with one backward"
    paper = "arXiv 2306.03792"
    needs = "losses"
    _state = ("logits", "moments", "count", "before")

    def __init__(self, rate: float = 0.025, decay: float = 0.001, floor: PerObjective | None = None) -> None:
        self.rate = number(self.name, "rate", rate, above=0.0)
        self.decay = number(self.name, "decay", decay, at_least=0.0)
        self._floor = per_objective(self.name, "floor", {} if floor is None else floor)
        self._logits: Array | None = None
        self._moments: Array | None = None
        self._count = 0
        self._before: Array | None = None  # log(L − b) of the last solve, until it has been compared
        self._floors: Array | None = None

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        values_of(self.name, "floor", self._floor, objectives, default=0.0)
        return super().active(objectives)

    def observe(self, losses: Tensor) -> None:
        """Update ξ from the (K,) losses of the same batch after the model's update."""
        if self._floors is None:
            raise SolverError(f"{self.name}: observe follows solve")
        self._compare(_logarithms(losses.detach().to("cpu", torch.float64).numpy() - self._floors))

    def _compare(self, after: Array) -> None:
        if self._before is None or self._logits is None or self._moments is None:
            return
        z = _softmax(self._logits)
        change = self._before - after
        self._count += 1
        self._logits, self._moments = adam(
            self._logits, z * (change - z @ change), self._moments, self._count, self.rate, decay=self.decay
        )
        self._before = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.losses)
        self._floors = values_of(self.name, "floor", self._floor, step.objectives, default=0.0)
        if self._logits is None:
            self._logits, self._moments = np.zeros(count), np.zeros((2, count))
        logarithms = _logarithms(step.losses - self._floors)
        self._compare(logarithms)
        self._before = logarithms
        return _softmax(np.log(_softmax(self._logits)) - logarithms), 0.0


def _logarithms(excess: Array) -> Array:
    return np.log(np.maximum(excess, _FLOOR))


def _softmax(values: Array) -> Array:
    weights = np.exp(values - values.max())
    return weights / weights.sum()
