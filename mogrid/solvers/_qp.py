"""Exact solutions of the small quadratic programmes that weighting strategies pose.

All take matrices that were brought to a mean diagonal of 1 (`normalised`), so that every tolerance below is relative
to trace(G)/K, and none needs another. Singular matrices are the rule (duplicate rows, more objectives than directions):
a ridge far below the promised accuracy makes the solution unique, hence equivariant under permutation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mogrid.solvers.base import Array

__all__ = [
    "correlations",
    "min_norm",
    "min_norm_gap",
    "min_norm_unequal",
    "nonnegative_qp",
    "normalised",
    "onto_simplex",
    "simplex_qp",
    "spread",
    "uniform",
]

# Added to the diagonal where a factorisation needs a definite matrix. Costs at most this much of suboptimality.
RIDGE = 1e-14
# A row is zero if its square norm is below the rounding error of the largest one's.
ZERO = float(np.finfo(np.float64).eps) ** 2


def normalised(gramian: Array) -> tuple[Array, list[int], float]:
    """Scale a Gramian to mean diagonal 1 and leave out the rows of zero gradients.

    An objective at a stationary point has no direction to ask for: kept in, it would draw all weight to itself and
    halt the training of the others.

    Returns
    -------
    matrix : ndarray, shape (M, M)
        Rows and columns of the M non-zero gradients.
    rows : list of M int
        Empty when all gradients are zero.
    scale : float
        ``gramian[rows][:, rows] == scale * matrix``.
    """
    diagonal = gramian.diagonal().tolist()
    largest = max(diagonal)
    if largest <= 0.0:
        return np.empty((0, 0)), [], 0.0
    rows = [k for k, value in enumerate(diagonal) if value > ZERO * largest]
    scale = sum(diagonal) / len(rows)
    if len(rows) < len(diagonal):
        gramian = gramian[np.ix_(rows, rows)]
    return gramian / scale, rows, scale


def correlations(gramian: Array) -> tuple[Array, Array, list[int]]:
    """Return the cosines (M, M) and the norms (M,) of the non-zero gradients, and which rows those are.

    Cones of gradients do not depend on their lengths: programmes over them are best conditioned in cosines.
    """
    matrix, rows, scale = normalised(gramian)
    norms = np.sqrt(matrix.diagonal())
    return matrix / (norms[:, None] * norms), norms * scale**0.5, rows


def spread(values: Array, rows: list[int], count: int) -> Array:
    """Put (M,) values at their rows of a (K,) array of zeros."""
    if len(rows) == count:
        return values
    result = np.zeros(count)
    result[rows] = values
    return result


def uniform(count: int) -> Array:
    """Equal weights: what is left where all gradients are zero."""
    return np.full(count, 1.0 / count)


def min_norm(matrix: Array) -> Array:
    """Return argmin wᵀGw over the simplex.

    Parameters
    ----------
    matrix : ndarray, shape (K, K)
        Positive semidefinite, mean diagonal 1.
    """
    count = len(matrix)
    if count == 1:
        return np.ones(1)
    if count == 2:
        (a, c), (_, b) = matrix.tolist()
        first = _edge(a, b, c)
        return np.array([first, 1.0 - first])
    if count == 3:
        weights = _min_norm_3(matrix)
        if min_norm_gap(matrix, weights) < 1e-13:
            return weights
    # Scaling x = t·w shows that min ‖Jᵀx‖² + (1ᵀx − 1)² over x ≥ 0 has the same direction; as t ≥ 1/2, normalising
    # loses nothing.
    x = nonnegative_qp(matrix + 1.0, -np.ones((1, count)))[0]
    return x / x.sum()


def min_norm_unequal(gramian: Array) -> Array:
    """Return argmin wᵀGw over the simplex for vectors of whatever lengths above 0, the shortest to be told from 0, too.

    In u_k = w_k ‖g_k‖ the matrix is that of cosines, and the simplex the plane Σ u_k / ‖g_k‖ = 1: nothing is measured
    by the longest vector any more. From there as in `min_norm`.
    """
    norms = np.sqrt(gramian.diagonal())
    part = norms.min() / norms
    x = part * nonnegative_qp(gramian / norms[:, None] / norms + part[:, None] * part, -part[None])[0]
    return np.asarray(x / x.sum())


def min_norm_gap(matrix: Array, weights: Array) -> float:
    """Return wᵀGw − min_k (Gw)_k, twice of which bounds the suboptimality of ``weights`` in wᵀGw."""
    products = matrix @ weights
    return max(float(weights @ products - products.min()), 0.0)


def _edge(a: float, b: float, c: float) -> float:
    """Weight of the first of two vectors with squares a, b and product c; equal for equal vectors."""
    squared_distance = a + b - 2.0 * c
    if squared_distance <= 1e-15 * (a + b):
        return 0.5
    return min(max((b - c) / squared_distance, 0.0), 1.0)


def _min_norm_3(matrix: Array) -> Array:
    (a, d, e), (_, b, f), (_, _, c) = matrix.tolist()
    candidates = []
    # Interior: the distances to the third vertex, g₁ − g₃ and g₂ − g₃, are orthogonal to the solution.
    p, q, r = a + c - 2.0 * e, b + c - 2.0 * f, d + c - e - f
    determinant = p * q - r * r
    if determinant > 1e-15 * p * q:
        s, t = c - e, c - f
        first, second = (q * s - r * t) / determinant, (p * t - r * s) / determinant
        third = 1.0 - first - second
        if first >= 0.0 and second >= 0.0 and third >= 0.0:
            candidates.append((first, second, third))
    u = _edge(a, b, d)
    candidates.append((u, 1.0 - u, 0.0))
    u = _edge(a, c, e)
    candidates.append((u, 0.0, 1.0 - u))
    u = _edge(b, c, f)
    candidates.append((0.0, u, 1.0 - u))
    values = [x * x * a + y * y * b + z * z * c + 2.0 * (x * y * d + x * z * e + y * z * f) for x, y, z in candidates]
    best = min(values)
    # Edges tie when vectors coincide; the mean of their solutions is a solution too, and the one without a favourite.
    tied = [w for w, value in zip(candidates, values, strict=True) if value <= best + 1e-15]
    return np.array([sum(w[k] for w in tied) / len(tied) for k in range(3)])


def simplex_qp(matrix: Array, linear: Array) -> tuple[Array, float]:
    """Return argmin ½xᵀGx − qᵀx over the simplex by a primal active-set method, and its gap.

    Parameters
    ----------
    matrix : ndarray, shape (K, K)
        Positive semidefinite, mean diagonal 1.
    linear : ndarray, shape (K,)
        q.

    Returns
    -------
    x : ndarray, shape (K,)
    gap : float
        Bound on the suboptimality of x.
    """
    count = len(matrix)
    ridged = matrix + RIDGE * np.eye(count)
    x = np.zeros(count)
    start = int(np.argmin(0.5 * matrix.diagonal() - linear))
    x[start] = 1.0
    free = [start]
    tolerance = 1e-14 * (1.0 + float(np.abs(linear).max()))
    for _ in range(20 * count):
        slope = ridged @ x - linear
        entering = int(slope.argmin())
        if entering in free or slope[entering] >= slope @ x - tolerance:
            break
        free.append(entering)
        while True:
            target = _equality_qp(ridged[np.ix_(free, free)], linear[free])
            if (target > 0.0).all():
                break
            # Go as far as the first weight that reaches zero, and hold that one there.
            now = x[free]
            blocking = target <= 0.0
            ratios = now[blocking] / np.maximum(now[blocking] - target[blocking], 1e-300)
            reached = now + ratios.min() * (target - now)
            leaving = int(np.flatnonzero(blocking)[ratios.argmin()])
            x[free] = np.maximum(reached, 0.0)
            x[free[leaving]] = 0.0
            del free[leaving]
        x[:] = 0.0
        x[free] = target
    x /= x.sum()
    slope = matrix @ x - linear
    return x, max(float(slope @ x - slope.min()), 0.0)


def _equality_qp(matrix: Array, linear: Array) -> Array:
    """Minimise ½xᵀGx − qᵀx subject to 1ᵀx = 1, as one bordered system: G alone may be far more singular than that."""
    count = len(linear)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = matrix
    system[count, count] = 0.0
    return np.linalg.solve(system, np.append(linear, 1.0))[:count]


def nonnegative_qp(matrix: Array, linear: Array) -> Array:
    """Return argmin ½xᵀHx + qᵀx over x ≥ 0, for one q or many.

    Parameters
    ----------
    matrix : ndarray, shape (K, K)
        H, positive semidefinite, diagonal of order 1.
    linear : ndarray, shape (B, K)
        One q a row, each in the range of H.

    Returns
    -------
    ndarray, shape (B, K)
    """
    if len(linear) < _MANY:
        return _least_squares(matrix, linear)
    return _block_pivoting(matrix, linear)


# From so many problems with one matrix on, solving them side by side beats one after the other.
_MANY = 12


def _least_squares(matrix: Array, linear: Array) -> Array:
    """As min ‖LᵀX − b‖² with H = LLᵀ, b = −L⁻¹q: Lawson and Hanson's active-set method, in compiled code."""
    from scipy.optimize import nnls

    factor = _cholesky(matrix)
    right = np.linalg.solve(factor, -linear.T).T
    return np.array([nnls(factor.T, b, maxiter=100 * len(b))[0] for b in right])


def _block_pivoting(matrix: Array, linear: Array) -> Array:
    """Solve for the free x of every problem, exchange all that violate a sign, repeat: three to five rounds.

    Where the exchanges go in circles (rarely: nearly singular matrices), the active-set method takes over.
    Reference: Kim and Park, "Fast nonnegative matrix factorization", SIAM J. Sci. Comput. 33 (2011), section 3.
    """
    ridged = matrix + RIDGE * np.eye(len(matrix))
    tolerance = 1e-14 * np.abs(linear).max(axis=1, keepdims=True)
    result = np.zeros_like(linear)
    pending = np.arange(len(linear))
    free = linear < 0.0
    for _ in range(12):
        x = _solve_free(ridged, free, -linear[pending])
        slope = x @ ridged + linear[pending]
        wrong = np.where(free, x < -tolerance[pending], slope < -tolerance[pending])
        going = wrong.any(axis=1)
        result[pending[~going]] = np.maximum(x[~going], 0.0)
        if not going.any():
            return result
        pending, free = pending[going], (free ^ wrong)[going]
    result[pending] = _least_squares(matrix, linear[pending])
    return result


def _solve_free(matrix: Array, free: NDArray[np.bool_], right: Array) -> Array:
    """For each row of ``free``, solve H_FF x_F = r_F, with zeros elsewhere."""
    both = free[:, :, None] & free[:, None, :]
    masked = np.where(both, matrix, np.eye(len(matrix)))
    return np.asarray(np.linalg.solve(masked, (right * free)[:, :, None])[:, :, 0], dtype=np.float64)


def onto_simplex(point: Array) -> Array:
    """Return the point of the simplex nearest to ``point``."""
    ordered = np.sort(point)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(point) + 1)
    return np.maximum(point - excess[np.flatnonzero(ordered > excess)[-1]], 0.0)


def _cholesky(matrix: Array) -> Array:
    """Lower factor of a positive semidefinite matrix, with the smallest ridge that makes it definite."""
    identity = np.eye(len(matrix))
    ridge = RIDGE
    while True:
        try:
            return np.asarray(np.linalg.cholesky(matrix + ridge * identity), dtype=np.float64)
        except np.linalg.LinAlgError:
            ridge *= 10.0
