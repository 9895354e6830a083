"""MGDA for noisy gradients: weights that move slowly, along unbiased products."""

from __future__ import annotations

from mogrid.solvers._qp import onto_simplex, uniform
from mogrid.solvers._relative import relative
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["MoDo"]


class MoDo(Solver):
    """Multi-objective gradient with double sampling: w ← Π_Δ(w − γ (J₁J₂ᵀ + ρI) w).

    The Gramian of one batch holds the variance of its noise, which biases the weights towards quiet objectives; the
    product of two independent half batches does not.

    Parameters
    ----------
    gamma : float
        γ, the step size of the weights, for Gramians with mean diagonal 1.
    rho : float
        ρ: pulls the weights together; 0 leaves them to the gradients.

    References
    ----------
    Chen, Fernando, Ying and Chen, arXiv 2305.20057.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import MoDo, StepStatistics
    >>> gramian = torch.diag(torch.tensor([1.0, 3.0]))
    >>> MoDo().weights(StepStatistics(("a", "b"), gramian=gramian, half_gramian=gramian))
    tensor([0.5250, 0.4750], dtype=torch.float64)
    """

    name = "modo"
    summary = "stochastic MGDA from two independent half batches"
    paper = "arXiv 2305.20057"
    needs_halves = True
    _state = ("current",)

    def __init__(self, gamma: float = 0.1, rho: float = 0.0) -> None:
        self.gamma = number(self.name, "gamma", gamma, above=0.0)
        self.rho = number(self.name, "rho", rho, at_least=0.0)
        self._current: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        current = uniform(len(step.objectives)) if self._current is None else self._current
        matrix = relative(step.gramian, step.half_gramian)
        self._current = onto_simplex(current - self.gamma * (matrix @ current + self.rho * current))
        return self._current.copy(), 0.0
