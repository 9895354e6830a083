"""MGDA for noisy gradients: tracked gradients, and weights that move slowly."""

from __future__ import annotations

from mogrid.solvers._relative import Slow
from mogrid.solvers._settings import number

__all__ = ["MoCo"]


class MoCo(Slow):
    """Multi-objective gradient correction: track each gradient, and take one projected step on the weights.

    ĝ_k ← β ĝ_k + (1 − β) g_k, kept by the engine; w ← Π_Δ(w − γ (Ĝ + ρI) w); the step is Σ w_k ĝ_k.

    Parameters
    ----------
    beta : float
        β of the tracked gradients. (The paper's β is the share of the new gradient, 1 − β here.)
    gamma : float
        γ, the step size of the weights, for Gramians with mean diagonal 1.
    rho : float
        ρ: pulls the weights together; 0 leaves them to the gradients.

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

    def __init__(self, beta: float = 0.5, gamma: float = 0.1, rho: float = 0.0) -> None:
        super().__init__(gamma, rho)
        self.tracking = number(self.name, "beta", beta, at_least=0.0, below=1.0)
