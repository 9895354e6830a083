"""Products of gradients in units of their size."""

from __future__ import annotations

import numpy as np

from mogrid.solvers._qp import normalised
from mogrid.solvers.base import Array

__all__ = ["relative"]


def relative(gramian: Array, products: Array) -> Array:
    """Products in units of trace(G)/K: step sizes then mean the same at every scale of the gradients."""
    _, rows, scale = normalised(gramian)
    return products / scale if rows else np.zeros_like(products)
