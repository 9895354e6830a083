"""Two more ways to a chosen point of the front, from the literature: PMGDA and FERERO."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import min_norm, min_norm_gap, normalised, simplex_qp, spread, uniform
from mogrid.solvers._settings import PerObjective, number, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["FERERO", "PMGDA"]


class _Ray(Solver):
    """A solver that works with f_k = p_k L_k, gradients p_k g_k, and the ray on which all f_k are equal."""

    needs_losses = True

    def __init__(self, preference: PerObjective) -> None:
        self._preference = per_objective(self.name, "preference", preference, above=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        values_of(self.name, "preference", self._preference, objectives)
        return super().active(objectives)

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = values_of(self.name, "preference", self._preference, step.objectives)
        preference = preference / preference.mean()
        matrix, rows, _ = normalised(preference[:, None] * step.gramian * preference)
        if not rows:
            return uniform(len(preference)), 0.0
        inner, gap = self._balance(matrix, (preference * step.losses)[rows])
        weights = inner * preference[rows]
        return spread(weights / np.abs(weights).sum(), rows, len(preference)), gap

    def _balance(self, matrix: Array, values: Array) -> tuple[Array, float]:
        """Return the weights of the gradients of f, for their Gramian with mean diagonal 1, and the gap."""
        raise NotImplementedError


class PMGDA(_Ray):
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


class FERERO(_Ray):
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
