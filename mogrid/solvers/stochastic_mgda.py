"""MGDA for noisy gradients: weights that follow the min-norm problem slowly, from unbiased or tracked products."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import normalised, onto_simplex, uniform
from mogrid.solvers._settings import integer, number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["MoCo", "MoDo", "SDMGrad"]


def _relative(gramian: Array, products: Array) -> Array:
    """Products in units of trace(G)/K: step sizes then mean the same at every scale of the gradients."""
    _, rows, scale = normalised(gramian)
    return products / scale if rows else np.zeros_like(products)


class MoCo(Solver):
    """Multi-objective gradient correction: track each gradient, and take one projected step on the weights.

    ĝ_k ← β ĝ_k + (1 − β) g_k, kept by the engine; w ← Π_Δ(w − γ (Ĝ + ρI) w); the step is Σ w_k ĝ_k.

    Parameters
    ----------
    beta : float
        β of the tracked gradients. (The paper's β is the share of the new gradient, 1 − β here.)
    gamma : float
        γ, the step size of the weights, for Gramians with mean diagonal 1.
    rho : float
        ρ, pulls the weights together.

    References
    ----------
    Fernando et al., arXiv 2210.12624.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import MoCo, StepStatistics
    >>> MoCo().weights(StepStatistics(("a", "b"), gramian=torch.diag(torch.tensor([1.0, 3.0]))))
    tensor([0.5250, 0.4750], dtype=torch.float64)
    """

    name = "moco"
    summary = "stochastic MGDA with tracked gradients and slow weights"
    paper = "arXiv 2210.12624"
    _state = ("current",)

    def __init__(self, beta: float = 0.5, gamma: float = 0.1, rho: float = 0.0) -> None:
        self.tracking = number(self.name, "beta", beta, at_least=0.0, below=1.0)
        self.gamma = number(self.name, "gamma", gamma, above=0.0)
        self.rho = number(self.name, "rho", rho, at_least=0.0)
        self._current: Array | None = None

    def _solve(self, step: Step) -> tuple[Array, float]:
        current = uniform(len(step.objectives)) if self._current is None else self._current
        matrix = _relative(step.gramian, step.gramian)
        self._current = onto_simplex(current - self.gamma * (matrix @ current + self.rho * current))
        return self._current.copy(), 0.0


class MoDo(Solver):
    """Multi-objective gradient with double sampling: w ← Π_Δ(w − γ (J₁J₂ᵀ + ρI) w).

    The Gramian of one batch holds the variance of its noise, which biases the weights towards quiet objectives; the
    product of two independent half batches does not.

    Parameters
    ----------
    gamma : float
        γ, the step size of the weights, for Gramians with mean diagonal 1.
    rho : float
        ρ, pulls the weights together.

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
        matrix = _relative(step.gramian, step.half_gramian)
        self._current = onto_simplex(current - self.gamma * (matrix @ current + self.rho * current))
        return self._current.copy(), 0.0


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
        Steps of w per step of the model.

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
        matrix = _relative(step.gramian, step.half_gramian)
        for _ in range(self.iterations):
            current = onto_simplex(current - self.rate * (matrix @ (current + self.pull * mean)))
        self._current = current
        return (current + self.pull * mean) / (1.0 + self.pull), 0.0
