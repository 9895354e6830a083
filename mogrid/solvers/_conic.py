"""Small quadratic programmes with linear constraints, through cvxpy and Clarabel.

The programme is built once per shape, with parameters (DPP): a solve costs a millisecond, a rebuilt programme four.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mogrid.solvers.base import Array
from mogrid.solvers.errors import SolverError

__all__ = ["constrained_qp", "root"]

_PRECISION = {"tol_gap_abs": 1e-13, "tol_gap_rel": 1e-13, "tol_feas": 1e-13, "tol_ktratio": 1e-10}


def root(matrix: Array) -> Array:
    """Return R with RᵀR equal to a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    result: Array = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    return result


def constrained_qp(
    factor: Array,
    linear: Array,
    *,
    lower: Array,
    upper: Array,
    at_least: tuple[Array, Array] | None = None,
    equal: tuple[Array, float] | None = None,
) -> Array:
    """Return argmin ½‖Rx‖² − qᵀx over lower ≤ x ≤ upper, Ax ≥ b and eᵀx = f.

    Parameters
    ----------
    factor : ndarray, shape (M, N)
    linear, lower, upper : ndarray, shape (N,)
    at_least : (ndarray of shape (C, N), ndarray of shape (C,)), optional
    equal : (ndarray of shape (N,), float), optional

    Raises
    ------
    SolverError
        No x satisfies the constraints.
    """
    rows = 0 if at_least is None else len(at_least[1])
    problem, x, parameters = _programme(*factor.shape, rows, equal is not None)
    parameters["factor"].value, parameters["linear"].value = factor, linear
    parameters["lower"].value, parameters["upper"].value = lower, upper
    if at_least is not None:
        parameters["matrix"].value, parameters["bounds"].value = at_least
    if equal is not None:
        parameters["row"].value, parameters["total"].value = equal
    import cvxpy

    problem.solve(solver=cvxpy.CLARABEL, warm_start=False, **_PRECISION)
    if x.value is None:
        raise SolverError(f"a constrained programme of {factor.shape[1]} weights is {problem.status}")
    return np.clip(x.value, lower, upper)


@lru_cache(maxsize=64)
def _programme(height: int, width: int, rows: int, has_total: bool) -> tuple[Any, Any, dict[str, Any]]:
    import cvxpy

    x = cvxpy.Variable(width)
    parameters = {
        "factor": cvxpy.Parameter((height, width)),
        "linear": cvxpy.Parameter(width),
        "lower": cvxpy.Parameter(width),
        "upper": cvxpy.Parameter(width),
    }
    constraints = [x >= parameters["lower"], x <= parameters["upper"]]
    if rows:
        parameters |= {"matrix": cvxpy.Parameter((rows, width)), "bounds": cvxpy.Parameter(rows)}
        constraints.append(parameters["matrix"] @ x >= parameters["bounds"])
    if has_total:
        parameters |= {"row": cvxpy.Parameter(width), "total": cvxpy.Parameter()}
        constraints.append(parameters["row"] @ x == parameters["total"])
    objective = 0.5 * cvxpy.sum_squares(parameters["factor"] @ x) - parameters["linear"] @ x
    return cvxpy.Problem(cvxpy.Minimize(objective), constraints), x, parameters
