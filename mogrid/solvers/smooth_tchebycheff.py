"""Smooth Tchebycheff scalarisation: a smooth worst objective, by preference."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import uniform
from mogrid.solvers._settings import PerObjective, number, per_objective, values_of
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["SmoothTchebycheff"]

_LEAST = 1e-8  # of the nadir: where the logarithm of a loss that falls to 0 stops


class SmoothTchebycheff(Solver):
    """Gradient weights of μ·log Σ_k exp(p_k (f_k − z_k)/μ).

    Reaches every point of the front, concave parts included, at the cost of one backward. With ``nadir``, f_k =
    log(L_k/nadir_k), which the authors advise for networks (with μ = 1); else f_k = L_k.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        p, positive: a larger share asks for a smaller loss. Equal if left out.
    mu : float
        μ: the smaller, the closer to max_k p_k (f_k − z_k).
    ideal : mapping of name to float, or sequence of float, optional
        z, in units of f: what a loss is measured from; 0 for names left out.
    nadir : mapping of name to float, or sequence of float, optional
        Positive: a bad value of each loss, such as the one at the start.

    Notes
    -----
    Weights are p_k softmax_k(·) ∂f_k/∂L_k, rescaled to sum to 1. By definition they depend on the losses' scale.

    References
    ----------
    Lin et al., arXiv 2402.19078.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import SmoothTchebycheff, StepStatistics
    >>> SmoothTchebycheff(mu=1.0).weights(StepStatistics(("a", "b"), losses=torch.tensor([1.0, 3.0])))
    tensor([0.2689, 0.7311], dtype=torch.float64)
    """

    name = "smooth_tchebycheff"
    summary = "smooth maximum of preferred losses; reaches concave fronts with one backward"
    paper = "arXiv 2402.19078"
    needs = "losses"

    def __init__(
        self,
        preference: PerObjective | None = None,
        mu: float = 0.01,
        ideal: PerObjective | None = None,
        nadir: PerObjective | None = None,
    ) -> None:
        self._preference = None if preference is None else per_objective(self.name, "preference", preference, above=0.0)
        self.mu = number(self.name, "mu", mu, above=0.0)
        self._ideal = per_objective(self.name, "ideal", {} if ideal is None else ideal)
        self._nadir = None if nadir is None else per_objective(self.name, "nadir", nadir, above=0.0)

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        self._settings(objectives)
        return super().active(objectives)

    def _settings(self, objectives: tuple[str, ...]) -> tuple[Array, Array, Array | None]:
        preference = uniform(len(objectives))
        if self._preference is not None:
            preference = values_of(self.name, "preference", self._preference, objectives)
        ideal = values_of(self.name, "ideal", self._ideal, objectives, default=0.0)
        nadir = None if self._nadir is None else values_of(self.name, "nadir", self._nadir, objectives)
        return preference / preference.sum(), ideal, nadir

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference, ideal, nadir = self._settings(step.objectives)
        values, slopes = step.losses, np.ones(len(step.losses))
        if nadir is not None:
            for objective, loss in zip(step.objectives, step.losses.tolist(), strict=True):
                if loss < 0.0:
                    raise SolverError(f"{self.name}: nadir needs losses of at least 0, {objective!r} is {loss:g}")
            losses = np.maximum(step.losses, _LEAST * nadir)
            values, slopes = np.log(losses / nadir), losses.min() / losses
        exponents = preference * (values - ideal) / self.mu
        weights = preference * np.exp(exponents - exponents.max()) * slopes
        return weights / weights.sum(), 0.0
