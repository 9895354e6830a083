"""MGDA for noisy gradients: weights that move slowly, along unbiased products."""

from __future__ import annotations

from mogrid.solvers._relative import Slow

__all__ = ["MoDo"]


class MoDo(Slow):
    """Multi-objective gradient with double sampling: w ← Π_Δ(w − γ (J₁J₂ᵀ + ρI) w).

    The Gramian of one batch holds the variance of its noise, which biases the weights towards quiet objectives; the
    product of two independent half batches does not.

    Parameters
    ----------
    gamma, rho
        As of `MoCo`.

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
