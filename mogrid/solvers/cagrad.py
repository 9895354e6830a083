"""Conflict-averse gradient descent: the best worst improvement near the mean gradient."""

from __future__ import annotations

import math

import numpy as np

from mogrid.solvers._qp import RIDGE, nonnegative_qp, normalised, simplex_qp, spread, uniform
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["CAGrad"]

# Below this best worst improvement (relative to trace(G)/K) a point is stationary: no direction improves all.
_STATIONARY = 1e-11


class CAGrad(Solver):
    """Conflict-averse gradients: max_d min_k g_kᵀd subject to ‖d − g₀‖ ≤ c‖g₀‖, with g₀ the mean gradient.

    Its dual is min_{w∈Δ} g_wᵀg₀ + s‖g_w‖ with s = c‖g₀‖, and d = g₀ + s·g_w/‖g_w‖.

    Parameters
    ----------
    c : float
        Radius of the ball, relative to ‖g₀‖. 0 is the mean gradient; towards 1 and beyond, MGDA's direction.

    Notes
    -----
    With x = s·w/‖g_w‖ and b = Gu, u = 1/K, the optimality conditions are y = b + Gx − ν1 ≥ 0, x ≥ 0, xᵀy = 0 and
    xᵀGx = s². For a given set F of non-zero x the last makes ν the larger root of αν² − 2βν + γ = s², where
    α = 1ᵀG_F⁻¹1, β = 1ᵀG_F⁻¹b, γ = bᵀG_F⁻¹b: pivoting on F solves the conic programme with a few small linear
    systems. At a stationary point, where d is not determined by w, it is g₀'s projection onto the dual cone.

    References
    ----------
    Liu, Liu, Jin, Stone and Liu, arXiv 2110.14048.

    Examples
    --------
    >>> import torch
    >>> from mogrid.solvers import CAGrad, StepStatistics
    >>> jacobian = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    >>> CAGrad().weights(StepStatistics(("a", "b"), gramian=jacobian @ jacobian.T))
    tensor([0.7041, 0.5000], dtype=torch.float64)
    """

    name = "cagrad"
    summary = "best worst improvement within a ball around the mean gradient"
    paper = "arXiv 2110.14048"

    def __init__(self, c: float = 0.5) -> None:
        self.c = number(self.name, "c", c, at_least=0.0)

    def _solve(self, step: Step) -> tuple[Array, float]:
        count = len(step.objectives)
        matrix, rows, _ = normalised(step.gramian)
        if not rows or self.c == 0.0:
            return uniform(count), 0.0
        mean = np.full(len(rows), 1.0 / count)
        products = matrix @ mean
        radius = self.c * math.sqrt(max(float(mean @ products), 0.0))
        if radius <= 1e-15:  # the gradients cancel: the ball is a point
            return uniform(count), 0.0
        x = _pivot(matrix, products, radius)
        if x is None:
            x = _bisect(matrix, products, radius)
        if x is None:
            x = nonnegative_qp(matrix, products[None, :])[0]
            length = _norm(matrix, x)
            if length > radius:
                x *= radius / length
        weights = uniform(count) + spread(x, rows, count)
        return weights, _gap(matrix, products, x, radius)


def _norm(matrix: Array, x: Array) -> float:
    return math.sqrt(max(float(x @ matrix @ x), 0.0))


def _gap(matrix: Array, products: Array, x: Array, radius: float) -> float:
    """Return the dual value at w ∝ x minus the worst improvement of d = g₀ + Jᵀx, which lies in the ball."""
    worst = float((products + matrix @ x).min())
    total = float(x.sum())
    dual = (float(products @ x) + radius * _norm(matrix, x)) / total if total > 0.0 else float(products.min())
    return max(dual - worst, 0.0)


def _pivot(matrix: Array, products: Array, radius: float) -> Array | None:
    """Exchange all x and y of the wrong sign until there is none; None where that does not end or x is huge."""
    count = len(products)
    ridged = matrix + RIDGE * np.eye(count)
    right = np.array([products, np.ones(count)]).T
    free = np.ones(count, dtype=bool)
    for _ in range(15):
        chosen = np.flatnonzero(free)
        inner = right[chosen]
        solutions = np.linalg.solve(ridged[chosen[:, None], chosen], inner)
        (gamma, beta), (_, alpha) = (inner.T @ solutions).tolist()
        discriminant = beta * beta - alpha * (gamma - radius * radius)
        level = (beta + math.sqrt(max(discriminant, 0.0))) / alpha
        part = solutions @ np.array([-1.0, level])
        signs = products + ridged[:, chosen] @ part - level
        signs[chosen] = part
        wrong = signs < np.where(free, 0.0, -1e-14)
        if not wrong.any():
            if discriminant < 0.0 or abs(level) < _STATIONARY:
                return None
            signs[~free] = 0.0
            return signs * (radius / _norm(matrix, signs))
        free ^= wrong
        if not free.any():
            free[products.argmin()] = True
    return None


def _bisect(matrix: Array, products: Array, radius: float) -> Array | None:
    """Find τ with ‖Jᵀw(τ)‖ = τs, where w(τ) minimises τ·bᵀw + ½wᵀGw over the simplex; None at a stationary point."""
    low, high = -60.0, 60.0  # of log τ
    w = simplex_qp(matrix, -math.exp(low) * products)[0]
    if _norm(matrix, w) <= math.exp(low) * radius or _norm(matrix, w) * radius < _STATIONARY:
        return None
    for _ in range(200):
        middle = 0.5 * (low + high)
        tau = math.exp(middle)
        w = simplex_qp(matrix / max(tau, 1.0), -min(tau, 1.0) * products)[0]
        if _norm(matrix, w) > tau * radius:
            low = middle
        else:
            high = middle
        if high - low < 1e-15 * (1.0 + abs(middle)):
            break
    length = _norm(matrix, w)
    return w * (radius / length) if length * radius >= _STATIONARY else None
