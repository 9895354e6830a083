"""One step of Adam on a small array, for methods that learn their weights beside the model."""

from __future__ import annotations

import numpy as np

from mogrid.solvers.base import Array

__all__ = ["adam"]


def adam(
    value: Array, gradient: Array, moments: Array, count: int, rate: float, *, decay: float = 0.0
) -> tuple[Array, Array]:
    """Return the new value and moments.

    Parameters
    ----------
    value, gradient : ndarray, shape (K,)
        What is learned, and the gradient of what is minimised there.
    moments : ndarray, shape (2, K)
        Averages of gradients and of their squares, as the last step returned them; zeros before the first.
    count : int
        Says which step this is, from 1: the averages of the first ones are corrected for their small number.
    decay : float
        L2 weight decay, added to the gradient.
    """
    gradient = gradient + decay * value
    first = 0.9 * moments[0] + 0.1 * gradient
    second = 0.999 * moments[1] + 0.001 * gradient**2
    size = np.sqrt(second / (1.0 - 0.999**count))
    step = np.divide(first / (1.0 - 0.9**count), size, out=np.zeros_like(value), where=size > 0.0)
    return value - rate * step, np.stack([first, second])
