"""Directions with equal projections on all gradients."""

from __future__ import annotations

import numpy as np

from mogrid.solvers.base import Array

__all__ = ["equal_projections"]


def equal_projections(cosines: Array) -> tuple[Array, bool]:
    """Return C⁺1, and whether it solves Cy = 1."""
    values, vectors = np.linalg.eigh(cosines)
    large = values > 1e-12 * values[-1]
    vectors = vectors[:, large]
    solution = vectors @ (vectors.sum(axis=0) / values[large])
    return solution, bool(np.abs(cosines @ solution - 1.0).max() < 1e-6)
