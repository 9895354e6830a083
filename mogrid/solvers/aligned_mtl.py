"""Gradients made orthogonal and equally long, as close to the originals as possible."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._cone import Preferred
from mogrid.solvers._qp import normalised, spread
from mogrid.solvers.base import Array, Step

__all__ = ["AlignedMTL"]


class AlignedMTL(Preferred):
    """Aligned-MTL: w = √λ_min · V Λ^{−1/2} Vᵀ p, with G = V Λ Vᵀ.

    Replaces J by the nearest matrix whose rows are orthogonal and as long as its smallest singular value, so that the
    combination has condition number 1. λ_min is the smallest eigenvalue that is not zero to rounding.

    Parameters
    ----------
    preference : mapping of name to float, or sequence of float, optional
        p, positive: how much each aligned gradient counts; 1 each if left out.

    References
    ----------
    Senushkin, Patakin, Kuznetsov and Konushin, arXiv 2305.19000.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import AlignedMTL, StepStatistics
    >>> AlignedMTL().weights(StepStatistics(("a", "b"), gramian=torch.diag(torch.tensor([1.0, 4.0]))))
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    name = "aligned_mtl"
    summary = "align principal components of the gradients: condition number 1"
    paper = "arXiv 2305.19000"

    def _solve(self, step: Step) -> tuple[Array, float]:
        preference = self._given(step.objectives)
        matrix, rows, _ = normalised(step.gramian)
        if not rows:
            return preference, 0.0
        values, vectors = np.linalg.eigh(matrix)
        large = values > 10 * len(rows) * np.finfo(np.float64).eps * values[-1]
        values, vectors = values[large], vectors[:, large]
        weights = vectors @ (np.sqrt(values[0] / values) * (preference[rows] @ vectors))
        return spread(weights, rows, len(preference)), 0.0
