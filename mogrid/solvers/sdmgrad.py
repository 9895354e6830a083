"""MGDA for noisy gradients, pulled towards the mean gradient."""

from __future__ import annotations

from mogrid.solvers._qp import onto_simplex, uniform
from mogrid.solvers._relative import relative
from mogrid.solvers._settings import integer, number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["SDMGrad"]


class SDMGrad(Solver):
    """Stochastic direction-oriented MGDA: min_{w∈Δ} ½‖g_w + λ g₀‖², and the step (g_w + λ g₀)/(1 + λ).

    g₀ is the mean gradient. Each step takes a number of projected steps on w, which is carried on, with gradient
    J₁(J₂ᵀ(w + λ/K)) from two independent half batches.

    Parameters
    ----------
    pull : float
        λ: 0 is MGDA, large is the mean gradient.
    rate : float
        Step size of w, for Gramians with mean diagonal 1.
    iterations : int
        How many steps w takes at each step of the model.

    References
    ----------
    Xiao, Ban and Ji, arXiv 2305.18409.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import SDMGrad, StepStatistics
    >>> gramian = torch.diag(torch.tensor([1.0, 3.0]))
    >>> SDMGrad(pull=0.0).weights(StepStatistics(("a", "b"), gramian=gramian, half_gramian=gramian))
    tensor([0.7498, 0.2502], dtype=torch.float64)
    """

    name = "sdmgrad"
    summary = "stochastic MGDA pulled towards the mean gradient, from half batches"
    paper = "arXiv 2305.18409"
    needs_halves = True
    _state = ("current",)

    def __init__(self, pull: float = 0.3, rate: float = 0.3, iterations: int = 20) -> None:
        self.pull = number(self.name, "pull", pull, at_least=0.0)
        self.rate = number(self.name, "rate", rate, above=0.0)
        self.iterations = integer(self.name, "iterations", iterations, at_least=1)
        self._current: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        mean = uniform(len(step.objectives))
        current = mean if self._current is None else self._current
        matrix = relative(step.gramian, step.half_gramian)
        for _ in range(self.iterations):
            current = onto_simplex(current - self.rate * (matrix @ (current + self.pull * mean)))
        self._current = current
        return (current + self.pull * mean) / (1.0 + self.pull), 0.0
