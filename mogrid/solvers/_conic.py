"""Quadratic programmes over a simplex cut by halfspaces: compiled once by cvxpy (DPP), solved by Clarabel."""

from __future__ import annotations

import numpy as np

from mogrid.solvers.base import Array
from mogrid.solvers.errors import SolverError

__all__ = ["HalfspaceQP"]


class HalfspaceQP:
    """min ½ xᵀMx − qᵀx over the simplex with A x ≥ 0.

    Parameters
    ----------
    halfspaces : ndarray, shape (m, K)
        A. Fixed, so that the problem is compiled once; M and q are its parameters.
    """

    def __init__(self, halfspaces: Array) -> None:
        import cvxpy

        count = halfspaces.shape[1]
        self.halfspaces = halfspaces
        self.x = cvxpy.Variable(count)
        self.factor = cvxpy.Parameter((count, count))
        self.linear = cvxpy.Parameter(count)
        objective = 0.5 * cvxpy.sum_squares(self.factor @ self.x) - self.linear @ self.x
        constraints = [self.x >= 0, cvxpy.sum(self.x) == 1, halfspaces @ self.x >= 0]
        self.problem = cvxpy.Problem(cvxpy.Minimize(objective), constraints)

    def solve(self, matrix: Array, linear: Array) -> tuple[Array, float]:
        """Return the solution and a bound on its suboptimality, in the objective's unit.

        The bound is max_y ∇ᵀ(x − y) over the feasible y, by one small linear programme: it needs no dual variables.
        """
        import cvxpy
        from scipy.optimize import linprog

        values, vectors = np.linalg.eigh(matrix)
        self.factor.value = np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T
        self.linear.value = linear
        try:
            self.problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        except cvxpy.error.SolverError as error:
            raise SolverError(f"Clarabel found no weights within the bounds ({error})") from error
        if self.x.value is None:
            raise SolverError(f"no weights lie within the bounds (Clarabel: {self.problem.status})")
        x = np.clip(np.asarray(self.x.value), 0.0, None)
        x /= x.sum()
        slope = matrix @ x - linear
        best = linprog(
            slope, A_ub=-self.halfspaces, b_ub=np.zeros(len(self.halfspaces)), A_eq=np.ones((1, len(x))), b_eq=[1.0]
        )
        return x, max(float(slope @ x - best.fun), 0.0)
