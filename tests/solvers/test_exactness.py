"""Exact solutions against independent ones: brute force over supports, and Clarabel."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.solvers import MGDA, CAGrad, DualProj, FairGrad, NashMTL, SolverError, StepStatistics, UPGrad
from mogrid.solvers._qp import min_norm, nonnegative_qp, normalised, onto_simplex, simplex_qp
from tests.solvers.cases import NAMES, case

HARD = st.sampled_from(["random", "wide", "duplicate", "opposed", "rank_1", "unequal"])
SEEDS = st.integers(0, 10_000)


def gramian(kind: str, count: int, seed: int) -> np.ndarray:
    j = case(kind, count, seed).jacobian
    return j @ j.T


def statistics(g: np.ndarray) -> StepStatistics:
    return StepStatistics(NAMES[: len(g)], torch.ones(len(g)), torch.from_numpy(g))


def brute_force_min_norm(g: np.ndarray) -> float:
    """Smallest wᵀGw over all supports, each by its equality-constrained optimum."""
    best = float(g.diagonal().min())
    for size in range(2, len(g) + 1):
        for support in map(list, combinations(range(len(g)), size)):
            part = g[np.ix_(support, support)]
            system = np.block([[part, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            w = np.linalg.lstsq(system, np.r_[np.zeros(size), 1.0], rcond=1e-13)[0][:size]
            if (w >= -1e-12).all() and abs(w.sum() - 1.0) < 1e-9:
                best = min(best, float(w @ part @ w))
    return best


@given(kind=HARD, count=st.integers(2, 7), seed=SEEDS)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_min_norm_equals_brute_force(kind: str, count: int, seed: int) -> None:
    matrix, _, _ = normalised(gramian(kind, count, seed))
    w = min_norm(matrix)
    assert w.min() >= 0.0
    assert w.sum() == pytest.approx(1.0, abs=1e-12)
    assert w @ matrix @ w <= brute_force_min_norm(matrix) + 1e-12


@pytest.mark.parametrize("count", [2, 3, 8, 32, 64])
def test_mgda_conflicts_with_no_objective(count: int) -> None:
    """Frank-Wolfe after 100 steps conflicts on more than half of such Gramians at K = 32."""
    for seed in range(60):
        g = gramian("random" if seed % 2 else "unequal", count, seed)
        solution = MGDA().solve(statistics(g))
        unit = g.trace() / count
        assert (g @ solution.weights.numpy()).min() >= -1e-12 * unit
        assert solution.gap < 1e-12


def clarabel(g: np.ndarray, linear: np.ndarray, lower: np.ndarray, *, simplex: bool) -> float:
    """Optimal value of ½xᵀGx − qᵀx over x ≥ lower, on the plane 1ᵀx = 1 or not."""
    cvxpy = pytest.importorskip("cvxpy")
    values, vectors = np.linalg.eigh(g)
    factor = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    x = cvxpy.Variable(len(g))
    constraints = [x >= lower] + ([cvxpy.sum(x) == 1.0] if simplex else [])
    problem = cvxpy.Problem(cvxpy.Minimize(0.5 * cvxpy.sum_squares(factor @ x) - linear @ x), constraints)
    return float(problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11))


@pytest.mark.parametrize("count", [2, 3, 5, 8, 32])
@pytest.mark.parametrize("kind", ["random", "duplicate", "wide"])
def test_bounded_mgda_solves_the_bounded_programme(kind: str, count: int) -> None:
    g, _, _ = normalised(gramian(kind, count, 3))
    bounds = dict(zip(NAMES, np.random.default_rng(0).uniform(0, 0.9 / count, count), strict=False))
    solution = MGDA(bounds).solve(statistics(g))
    w, lower = solution.weights.numpy(), np.array(list(bounds.values()))
    assert (w >= lower - 1e-12).all()
    assert w.sum() == pytest.approx(1.0)
    assert 0.5 * w @ g @ w <= clarabel(g, np.zeros(count), lower, simplex=True) + 1e-9
    assert solution.gap < 1e-12


def test_bounds_that_leave_no_choice() -> None:
    w = MGDA(0.5).weights(statistics(np.diag([1.0, 9.0])))
    torch.testing.assert_close(w, torch.tensor([0.5, 0.5], dtype=torch.float64))
    with pytest.raises(SolverError, match=r"bounds must sum to at most 1, they sum to 1\.2"):
        MGDA(0.6).weights(statistics(np.diag([1.0, 9.0])))


@pytest.mark.parametrize("normalise", ["none", "l2", "loss", "loss+"])
@pytest.mark.parametrize("bound", [0.0, 0.05])
def test_normalised_mgda_minimises_the_normalised_length(normalise: str, bound: float) -> None:
    """Compare with random points of the feasible set."""
    rng = np.random.default_rng(2)
    for seed in range(10):
        g = gramian("wide", 4, seed)
        losses = rng.uniform(0.5, 2.0, 4)
        norms = {"none": 1, "l2": g.diagonal() ** 0.5, "loss": losses, "loss+": losses * g.diagonal() ** 0.5}[normalise]
        w = (
            MGDA(bound, normalise)
            .weights(StepStatistics(NAMES[:4], torch.from_numpy(losses), torch.from_numpy(g)))
            .numpy()
        )
        others = bound + (1 - 4 * bound) * rng.dirichlet(np.full(4, 0.7), 3000)
        lengths = np.einsum("ik,kl,il->i", others, g, others) / (others * norms).sum(axis=1) ** 2
        assert w @ g @ w / (w * norms).sum() ** 2 <= lengths.min() + 1e-12
        assert w.min() >= bound - 1e-12
        if bound == 0.0:
            assert (g @ w).min() > -1e-12


@given(kind=HARD, count=st.integers(1, 8), seed=SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_simplex_qp_is_optimal(kind: str, count: int, seed: int) -> None:
    matrix, _, _ = normalised(gramian(kind, count, seed))
    linear = np.random.default_rng(seed).standard_normal(count)
    x, gap = simplex_qp(matrix, linear)
    assert x.min() >= 0.0
    assert gap <= 1e-11
    slope = matrix @ x - linear
    assert slope.min() >= slope @ x - 1e-11


@pytest.mark.parametrize("problems", [1, 20])
@given(kind=HARD, count=st.integers(1, 20), seed=SEEDS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_nonnegative_qp_is_optimal_one_by_one_and_together(problems: int, kind: str, count: int, seed: int) -> None:
    matrix, _, _ = normalised(gramian(kind, count, seed))
    q = np.random.default_rng(seed).standard_normal((problems, count)) @ matrix
    x = nonnegative_qp(matrix, q)
    slope = x @ matrix + q
    size = 1.0 + np.abs(x).sum(axis=1)
    assert x.min() >= 0.0
    assert (slope.min(axis=1) >= -1e-9 * size).all()
    assert (np.abs((x * slope).sum(axis=1)) <= 1e-9 * size**2).all()


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_projection_onto_the_simplex(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        point = rng.standard_normal(count) * 3
        x = onto_simplex(point)
        assert x.sum() == pytest.approx(1.0)
        others = rng.dirichlet(np.ones(count), 500)
        assert ((x - point) ** 2).sum() <= ((others - point) ** 2).sum(axis=1).min() + 1e-12


@pytest.mark.parametrize("kind", ["random", "duplicate", "opposed", "unequal"])
@pytest.mark.parametrize("count", [2, 3, 8, 32])
def test_dual_cone_projections(kind: str, count: int) -> None:
    """UPGrad and DualProj conflict with none, and their multipliers are the least that achieve it."""
    for seed in range(5):
        g = gramian(kind, count, seed)
        norms = np.sqrt(g.diagonal())
        for solver in (UPGrad(), DualProj()):
            solution = solver.solve(statistics(g))
            v = solution.weights.numpy()
            assert (v >= 1 / count - 1e-12).all()
            assert ((g @ v) / norms >= -1e-9 * np.abs(v) @ norms).all()
            assert solution.gap <= 1e-9
        v = DualProj().weights(statistics(g)).numpy()
        matrix = g / (norms[:, None] * norms)
        value = 0.5 * (v * norms) @ matrix @ (v * norms)
        if kind != "unequal":  # beyond an interior-point method's conditioning
            assert value <= clarabel(matrix, np.zeros(count), norms / count, simplex=False) + 1e-7 * (1 + value)


def test_upgrad_by_its_definition() -> None:
    """Σ_i of each gradient's own projection, solved one at a time."""
    cvxpy = pytest.importorskip("cvxpy")
    j = case("wide", 4, 5).jacobian
    j[1] -= 2 * j[0]
    total = np.zeros(j.shape[1])
    preference = np.array([0.1, 0.2, 0.3, 0.4])
    for g, u in zip(j, preference, strict=True):
        d = cvxpy.Variable(len(g))
        cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(d - g)), [j @ d >= 0]).solve(
            solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
        )
        total += u * d.value
    weights = UPGrad(dict(zip(NAMES, preference, strict=False))).weights(statistics(j @ j.T)).numpy()
    np.testing.assert_allclose(weights @ j, total, atol=1e-6)


@given(kind=HARD, count=st.sampled_from([2, 3, 5, 8, 20]), seed=SEEDS, c=st.sampled_from([0.1, 0.5, 0.9, 1.5]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_cagrad_is_certified_and_stays_in_its_ball(kind: str, count: int, seed: int, c: float) -> None:
    """The gap is a duality gap: primal and dual value, each of a feasible point."""
    j = case(kind, count, seed).jacobian
    g = j @ j.T
    solution = CAGrad(c).solve(statistics(g))
    mean = j.mean(axis=0)
    d = solution.weights.numpy() @ j
    assert np.linalg.norm(d - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9) + 1e-12
    assert solution.gap <= 1e-9
    # No direction of the ball has a better worst improvement.
    rng = np.random.default_rng(seed)
    others = rng.standard_normal((500, j.shape[1]))
    others = mean + c * np.linalg.norm(mean) * others / np.linalg.norm(others, axis=1, keepdims=True)
    assert (others @ j.T).min(axis=1).max() <= (j @ d).min() + 1e-7 * g.trace()


@pytest.mark.parametrize("size", [1e-2, 1e-10, 1e10])
def test_no_absolute_tolerance(size: float) -> None:
    """With ‖J‖ = 0.01 a peer's UPGrad turns into the mean, and its CAGrad into zero."""
    j = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    for solver in (UPGrad(), CAGrad(), MGDA(), DualProj(), NashMTL()):
        expected = solver.weights(statistics(j @ j.T))
        actual = solver.weights(statistics(j @ j.T * size**2))
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fair_and_nash_solve_their_equation(count: int, alpha: float) -> None:
    for seed in range(5):
        g, _, _ = normalised(gramian("wide", count, seed))
        solution = FairGrad(alpha).solve(statistics(g))
        w = solution.weights.numpy()
        np.testing.assert_allclose(g @ w, w ** (-1 / alpha), rtol=1e-9)
        assert solution.gap < 1e-9
        nash = NashMTL().solve(statistics(g))
        v = nash.weights.numpy()
        np.testing.assert_allclose(v * (g / np.linalg.norm(g) @ v), np.ones(count), rtol=1e-9)


def test_nash_is_indifferent_to_each_objectives_scale() -> None:
    j = case("wide", 4, 0).jacobian
    units = np.array([1e-3, 1.0, 50.0, 1e4])
    first = NashMTL().weights(statistics(j @ j.T)).numpy() @ j
    second = NashMTL().weights(statistics((j * units[:, None]) @ (j * units[:, None]).T)).numpy() @ (j * units[:, None])
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert cosine == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("exponent", [2, 7, 8, 12, 60])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_mgda_gives_the_shortest_of_gradients_all_weight_however_short(exponent: int, count: int) -> None:
    """Of near-orthogonal ones; left out below some length, it would leave the longest one instead."""
    jacobian = torch.eye(count, dtype=torch.float64)
    jacobian[0] *= 10.0**exponent
    jacobian[-1] *= 10.0**-exponent
    names = tuple("abcde"[:count])
    weights = MGDA().weights(StepStatistics(names, gramian=jacobian @ jacobian.T))
    shortest = jacobian.square().sum(dim=1)
    expected = (1 / shortest) / (1 / shortest).sum()
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
