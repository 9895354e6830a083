"""ParetoTarget with bounds: the cvxpy programme against the exact one, DPP, bounds kept, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mogrid.solvers import ParetoTarget, SolverError, StepStatistics, from_config
from mogrid.solvers._conic import HalfspaceQP
from mogrid.solvers._qp import simplex_qp

NAMES = ("a", "b", "c")


def statistics(seed: int, scale: float = 1.0) -> StepStatistics:
    rng = np.random.default_rng(seed)
    j = rng.normal(size=(3, 5)) * scale
    return StepStatistics(NAMES, losses=torch.tensor(rng.uniform(0.5, 3, 3)), gramian=torch.tensor(j @ j.T))


def test_conic_programme_equals_the_exact_method_where_no_halfspace_cuts() -> None:
    rng = np.random.default_rng(0)
    programme = HalfspaceQP(np.eye(4))
    assert programme.problem.is_dcp(dpp=True)
    for _ in range(50):
        j = rng.normal(size=(4, 6))
        matrix, linear = j @ j.T, rng.normal(size=4)
        x, gap = programme.solve(matrix, linear)
        exact, _ = simplex_qp(matrix, linear)
        assert gap < 1e-7
        np.testing.assert_allclose(x, exact, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_weights_keep_their_bounds_and_are_optimal(scale) -> None:
    solver = ParetoTarget({"a": 2, "b": 1, "c": 1}, bounds={"a": 0.2, "c": 0.1})
    free = ParetoTarget({"a": 2, "b": 1, "c": 1})
    differs = 0
    for seed in range(30):
        solution = solver.solve(statistics(seed, scale))
        assert solution.gap < 1e-7
        assert float(solution.weights.sum()) == pytest.approx(1)
        assert (solution.weights.numpy() >= np.array([0.2, 0.0, 0.1]) - 1e-15).all()
        unbounded = free.weights(statistics(seed, scale)).numpy()
        if (unbounded >= np.array([0.2, 0.0, 0.1])).all():
            np.testing.assert_allclose(solution.weights.numpy(), unbounded, atol=1e-5)
        else:
            differs += 1
    assert 0 < differs < 30


def test_a_zero_gradient_keeps_its_bound() -> None:
    g = torch.diag(torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    weights = ParetoTarget([1, 1, 1], bounds=0.1).weights(StepStatistics(NAMES, torch.ones(3), g))
    assert float(weights[1]) >= 0.1
    assert torch.isfinite(weights).all()


def test_bounds_are_checked() -> None:
    with pytest.raises(SolverError, match=r"sum to less than 1, they sum to 1\.2"):
        ParetoTarget([1, 1, 1], bounds=0.4).active(NAMES)
    with pytest.raises(SolverError, match="aa"):
        from_config({"name": "pareto_target", "preference": [1, 1, 1], "bounds": {"aa": 0.1}}).active(NAMES)
