"""Conflict-averse gradient descent: the best worst improvement near the mean gradient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mogrid.solvers._qp import RIDGE, correlations, min_norm, nonnegative_qp, simplex_qp, spread, uniform
from mogrid.solvers._settings import number
from mogrid.solvers.base import Array, Solver, Step

__all__ = ["CAGrad"]

# Below this best worst improvement (relative to trace(G)/K) a point is stationary: no direction improves all.
_STATIONARY = 1e-12
# A worst improvement, relative to the same, that only a singular system can come up with.
_HUGE = 1e12


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
        cosines, norms, rows = correlations(step.gramian)
        if not rows or self.c == 0.0:
            return uniform(count), 0.0
        norms = norms / math.sqrt(norms @ norms / len(rows))
        products = cosines @ (norms / count)  # of the unit gradients with g₀
        radius = self.c * math.sqrt(max(float(norms @ products) / count, 0.0))
        if radius <= 1e-15:  # the gradients cancel: the ball is a point
            return uniform(count), 0.0
        ball = _Ball(cosines, norms, products, radius)
        improvements = norms * products  # along g₀; what improves least is what will need help
        x = bound = ball.pivot(improvements <= improvements.mean())
        gap = math.inf if x is None else ball.gap(x, x)
        if x is None or gap > _STATIONARY:
            x, bound = ball.robust()
            gap = ball.gap(x, bound)
        return uniform(count) + spread(x / norms, rows, count), gap


class _Ball:
    """The programme in unit gradients: x stands for x∘n, G for the cosines, and 1 for 1/n.

    Parameters
    ----------
    cosines : ndarray, shape (K, K)
        G, the products of the unit gradients.
    norms : ndarray, shape (K,)
        n, the gradients' lengths, scaled to a mean square of 1.
    products : ndarray, shape (K,)
        b, the products of the unit gradients with g₀.
    radius : float
        s, how far the step may be from g₀.
    """

    def __init__(self, cosines: Array, norms: Array, products: Array, radius: float) -> None:
        self.cosines, self.products, self.radius = cosines, products, radius
        self.norms, self.inverse = norms, 1.0 / norms

    def length(self, x: Array) -> float:
        """‖Jᵀx‖."""
        return math.sqrt(max(float(x @ self.cosines @ x), 0.0))

    def gap(self, x: Array, bound: Array) -> float:
        """Dual value at w ∝ ``bound`` minus the worst improvement of d = g₀ + Jᵀx, which lies in the ball."""
        dual = (float(self.products @ bound) + self.radius * self.length(bound)) / float(self.inverse @ bound)
        return max(dual - float((self.norms * (self.products + self.cosines @ x)).min()), 0.0)

    def pivot(self, free: NDArray[np.bool_]) -> Array | None:
        """Exchange all x and y of the wrong sign until there is none; None where that does not end."""
        from scipy.linalg.lapack import dposv

        ridged = self.cosines.copy()
        ridged.flat[:: len(free) + 1] += RIDGE
        right = np.array([self.products, self.inverse]).T
        tolerance = -1e-14 * float(self.inverse.max())
        for _ in range(15):
            chosen = free.nonzero()[0]
            inner = right[chosen]
            _, solutions, failed = dposv(ridged[chosen[:, None], chosen], inner)
            (gamma, beta), (_, alpha) = (inner.T @ solutions).tolist()
            discriminant = beta * beta - alpha * (gamma - self.radius**2)
            level = (beta + math.sqrt(max(discriminant, 0.0))) / alpha if alpha > 0.0 else math.inf
            if failed or not abs(level) < _HUGE:
                return None
            part = level * solutions[:, 1] - solutions[:, 0]
            signs = self.products - level * self.inverse
            signs += ridged[:, chosen] @ part
            signs[chosen] = part
            wrong = signs < np.where(free, 0.0, tolerance)
            if not wrong.any():
                signs[~free] = 0.0
                length = self.length(signs)
                return signs * (self.radius / length) if discriminant >= 0.0 and self.radius < _HUGE * length else None
            free = free ^ wrong
            if not free.any():
                free[(self.norms * self.products).argmin()] = True
        return None

    def robust(self) -> tuple[Array, Array]:
        """Solve singular and stationary cases; return x, and what gives the dual bound.

        For ν = 0 the conditions are those of g₀'s projection onto the dual cone. If that is in the ball, either
        ν > 0 or, at a stationary point, it is the answer; if not, ν < 0.
        """
        projection = nonnegative_qp(self.cosines, self.products[None, :])[0]
        gramian = self.norms[:, None] * self.cosines * self.norms
        shortest = min_norm(gramian) * self.norms
        candidates = []
        if self.length(projection) <= self.radius:
            if self.length(shortest) * self.radius < _STATIONARY:
                return projection, shortest
            candidates.append((projection, shortest))
            start, low = shortest, -35.0
        else:
            start, low = projection, -math.log(float(self.inverse @ projection))
        x = self.pivot(start > 0.0)
        if x is None or self.gap(x, x) > _STATIONARY:
            x = self._bisect(gramian, low)
        candidates.append((x, x))
        return min(candidates, key=lambda candidate: self.gap(*candidate))

    def _bisect(self, gramian: Array, low: float) -> Array:
        """Find τ with ‖Jᵀw(τ)‖ = τs, where w(τ) = τx minimises τ·bᵀw + ½wᵀGw over the simplex."""
        high = 60.0  # of log τ
        products = self.norms * self.products
        w = self.norms
        for _ in range(200):
            middle = 0.5 * (low + high)
            tau = math.exp(middle)
            w = simplex_qp(gramian / max(tau, 1.0), -min(tau, 1.0) * products)[0] * self.norms
            if self.length(w) > tau * self.radius:
                low = middle
            else:
                high = middle
            if high - low < 1e-15 * (1.0 + abs(middle)):
                break
        return w * (self.radius / max(self.length(w), self.radius / _HUGE))
