"""Preference as a constraint with multipliers."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import simplex_qp
from mogrid.solvers._ray import Ray
from mogrid.solvers._settings import PerObjective, number
from mogrid.solvers.base import Array

__all__ = ["FERERO"]


class FERERO(Ray):
    """Preference as a constraint B f = 0, with B f the deviations from the mean of f: reduce it at a given rate.

    The step solves min_{d,t} t + ½‖d‖² with −∇f_kᵀd ≤ t and B ∇f d = c·B f; its dual, which is what is solved, is
    min ½‖∇fᵀ(λ + Bμ)‖² − c μᵀBf over λ on the simplex and any μ. The weights are λ + Bμ, and may be negative.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float
        Positive; training ends where p_k L_k are equal, as for `ParetoTarget`.
    c : float
        Rate at which deviations decay, for Gramians with mean diagonal 1 and losses with mean 1.

    References
    ----------
    Chen, Saif, Shen and Chen, arXiv 2412.01773.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import FERERO, StepStatistics
    >>> FERERO([1.0, 1.0]).weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 1.5]), gramian=torch.eye(2)))
    tensor([0.4006, 0.5994], dtype=torch.float64)
    """

    name = "ferero"
    summary = "preference as a linear constraint with multipliers"
    paper = "arXiv 2412.01773"

    # Where gradients nearly agree, no finite multipliers move the losses apart as fast as wanted. This much of |μ|² in
    # the dual, the same as a slack in the constraint, keeps them bounded; the point that training ends in is the same.
    _SLACK = 1e-3

    def __init__(self, preference: PerObjective, c: float = 0.5) -> None:
        super().__init__(preference)
        self.c = number(self.name, "c", c, above=0.0)

    def _balance(self, matrix: Array, values: Array) -> tuple[Array, float]:
        count = len(values)
        size = float(np.abs(values).mean())
        deviations = np.eye(count) - 1.0 / count
        wanted = self.c * (deviations @ values) / size if size > 0.0 else np.zeros(count)
        # For a given λ the best μ solves a linear system; put in, it leaves a programme over the simplex.
        crossed = deviations @ matrix
        inverse = np.linalg.inv(crossed @ deviations + self._SLACK * np.eye(count))
        reduced = matrix - crossed.T @ inverse @ crossed
        shares, gap = simplex_qp(0.5 * (reduced + reduced.T), -crossed.T @ inverse @ wanted)
        return shares + deviations @ inverse @ (wanted - crossed @ shares), gap
