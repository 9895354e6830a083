"""The multiple-gradient descent algorithm: the shortest vector in the convex hull of the gradients."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import min_norm, min_norm_gap, min_norm_unequal, normalised, spread, uniform
from mogrid.solvers._settings import PerObjective, bounds_of, bounds_within, choice
from mogrid.solvers.base import Array, Solver, Step
from mogrid.solvers.errors import SolverError

__all__ = ["MGDA"]

_NORMALISE = ("none", "l2", "loss", "loss+")
_UNEQUAL = 1e-10  # of the longest's square: shorter gradients are weighed in cosines


class MGDA(Solver):
    """Minimum-norm weights: min ‖Σ w_k g_k/n_k‖² over the simplex, exactly.

    The combined gradient is a descent direction for every objective, and is zero only on the Pareto front; where on
    the front training ends is left to chance.

    Parameters
    ----------
    bounds : float, mapping of name to float, or sequence of float
        Lower bounds c on the weights (PE-LTR), summing to at most 1; names left out have bound 0. The bounded
        programme is solved itself, where the paper projects the unbounded solution. With c > 0 only a part of the
        front can be reached.
    normalise : {"none", "l2", "loss", "loss+"}
        What each gradient is divided by: nothing, its norm, the loss, or their product. Without it, objectives with
        small gradients get most of the weight. The returned weights are those of the gradients as they are.

    Notes
    -----
    An objective whose gradient is exactly zero is left out; its weight is its bound. With bounds or a normalisation, so
    is one whose gradient is 4.5e15 times shorter than another: it lies below the rounding error of that one.

    References
    ----------
    Désidéri, Comptes Rendus Mathématique 350 (2012); Sener and Koltun, arXiv 1810.04650; bounds: Lin et al., "A
    Pareto-efficient algorithm for multiple objective optimization in e-commerce recommendation", RecSys 2019.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import MGDA, StepStatistics
    >>> jacobian = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> MGDA().weights(StepStatistics(("a", "b"), gramian=jacobian @ jacobian.T))
    tensor([0.2000, 0.8000], dtype=torch.float64)
    """

    name = "mgda"
    summary = "shortest vector in the convex hull of the gradients; bounds and normalisations"
    paper = "arXiv 1810.04650"

    def __init__(self, bounds: float | PerObjective = 0.0, normalise: str = "none") -> None:
        self.normalise = choice(self.name, "normalise", normalise, _NORMALISE)
        self.needs_losses = self.normalise.startswith("loss")
        self._bounds = bounds_within(self.name, bounds, at_most=1.0)
        self._bounded = not isinstance(self._bounds, float) or self._bounds > 0.0

    def active(self, objectives: tuple[str, ...]) -> tuple[bool, ...]:
        bounds_of(self.name, self._bounds, objectives, room=False)
        return super().active(objectives)

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.objectives)
        matrix, rows, scale = normalised(step.gramian)
        if not rows:
            return uniform(count), 0.0
        if not self._bounded and self.normalise == "none":
            diagonal = step.gramian.diagonal()
            there = np.flatnonzero(diagonal > 0.0).tolist()
            if diagonal[there].min() < _UNEQUAL * diagonal.max():
                # What is nearly zero beside the longest gradient is still the hull's shortest vector.
                inner = min_norm_unequal(step.gramian[np.ix_(there, there)])
                weights = spread(inner, there, count)
                return weights, min_norm_gap(step.gramian[np.ix_(there, there)] / scale, inner)
            inner = min_norm(matrix)
            return spread(inner, rows, count), min_norm_gap(matrix, inner)
        return self._bounded_or_normalised(step, rows)

    def _bounded_or_normalised(self, step: Step, rows: list[int]) -> tuple[Array, float]:
        """Minimise ‖Jᵀw‖ / nᵀw over {w ≥ c, 1ᵀw = 1}.

        That set is the simplex with vertices v_j = c + (1 − Σc)·e_j, so with w ∝ Σ_j u_j v_j / nᵀv_j this is the
        min-norm problem over u of the vectors Jᵀv_j / nᵀv_j.
        """
        lower = bounds_of(self.name, self._bounds, step.objectives, room=False)
        norms = self._norms(step, rows)
        rows = [k for k in rows if norms[k] > 0.0]  # relative to a loss of 0, a gradient is too long to get weight
        if not rows:
            return uniform(len(lower)), 0.0
        vertices = lower[:, None] + (1.0 - lower.sum()) * np.eye(len(lower))[:, rows]
        vertices = vertices / (norms @ vertices)
        products = vertices.T @ step.gramian @ vertices
        matrix, kept, _ = normalised(0.5 * (products + products.T))
        if not kept:  # the bounds leave no choice, or all vertices cancel
            return vertices.sum(axis=1) / vertices.sum(), 0.0
        inner = np.zeros(len(rows))
        inner[kept] = min_norm(matrix)
        weights = vertices @ inner
        return weights / weights.sum(), min_norm_gap(matrix, inner[kept])

    def _norms(self, step: Step, rows: list[int]) -> Array:
        norms = np.ones(len(step.objectives))
        if self.normalise in ("l2", "loss+"):
            norms = np.sqrt(step.gramian.diagonal())
        if self.needs_losses:
            for k in rows:
                if step.losses[k] < 0.0:
                    raise SolverError(
                        f"{self.name}: normalise={self.normalise!r} needs losses of at least 0, "
                        f"{step.objectives[k]!r} is {step.losses[k]:g}"
                    )
            norms = norms * step.losses
        return norms
