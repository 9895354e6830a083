"""MGDA near the preferred ray, and descent of the distance to it elsewhere."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import min_norm, min_norm_gap
from mogrid.solvers._ray import Ray
from mogrid.solvers._settings import PerObjective, number
from mogrid.solvers.base import Array

__all__ = ["PMGDA"]


class PMGDA(Ray):
    """Preference-based MGDA: descend h = ‖f − (f·r)r‖, the distance to the ray r, until h < ε‖f‖; then MGDA.

    While h is larger, the step is the combination of the gradients and ∇h (a point μ of the simplex over the K + 1 of
    them) with the largest worst improvement, min_k ∇f_kᵀd, among those with ∇hᵀd ≥ σ‖∇h‖²: a linear programme.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float
        Positive; training ends where p_k L_k are equal, as for `ParetoTarget`.
    epsilon : float
        ε: how near to the ray is near enough, relative to ‖f‖.
    sigma : float
        σ: the share of the steepest descent of h to insist on.

    Notes
    -----
    The weights, which may be negative, are rescaled to Σ|w_k| = 1. They jump where h crosses ε.

    References
    ----------
    Zhang, Lin and Zhang, arXiv 2402.09492.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import PMGDA, StepStatistics
    >>> PMGDA([1.0, 1.0]).weights(StepStatistics(("a", "b"), losses=torch.ones(2), gramian=torch.eye(2)))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    name = "pmgda"
    summary = "descend the distance to the preferred ray, then MGDA"
    paper = "arXiv 2402.09492"

    def __init__(self, preference: PerObjective, epsilon: float = 0.01, sigma: float = 0.95) -> None:
        super().__init__(preference)
        self.epsilon = number(self.name, "epsilon", epsilon, above=0.0)
        self.sigma = number(self.name, "sigma", sigma, above=0.0, below=1.0)

    def _balance(self, matrix: Array, values: Array) -> tuple[Array, float]:
        off_ray = values - values.mean()
        distance = float(np.linalg.norm(off_ray))
        descent = matrix @ off_ray
        squared = float(off_ray @ descent)  # of ∇h, times h²
        if distance <= self.epsilon * float(np.linalg.norm(values)) or squared <= 1e-14 * distance**2:
            weights = min_norm(matrix)
            return weights, min_norm_gap(matrix, weights)
        from scipy.optimize import linprog

        # ∇h is brought to the length of a typical gradient, so that the simplex mixes like with like.
        toward = off_ray / np.sqrt(squared)
        count = len(values)
        vectors = np.vstack([np.eye(count), toward])
        improvements = matrix @ vectors.T  # of each objective, along each of the K + 1 directions
        on_ray = toward @ improvements
        found = linprog(
            np.r_[np.zeros(count + 1), -1.0],
            A_ub=np.vstack([np.c_[-improvements, np.ones(count)], np.r_[-on_ray, 0.0]]),
            b_ub=np.r_[np.zeros(count), -self.sigma],
            A_eq=np.r_[np.ones(count + 1), 0.0][None, :],
            b_eq=[1.0],
            bounds=[(0.0, None)] * (count + 1) + [(None, None)],
            method="highs",
        )
        mixture = found.x[:-1] if found.x is not None else np.r_[np.zeros(count), 1.0]
        return mixture @ vectors, 0.0
