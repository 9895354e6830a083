"""The contract, for every registered solver."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.solvers import (
    NonFiniteGradientError,
    NonFiniteLossError,
    Solver,
    SolverError,
    StepStatistics,
    available,
    from_config,
)
from tests.solvers.cases import ALL, KINDS, NAMES, NOT_UNIQUE, RANDOM, Case, case, make

COUNTS = st.sampled_from([1, 2, 2, 3, 3, 4, 5, 8, 13, 32, 64])
SEEDS = st.integers(0, 10_000)
WITH_LOSSES = [
    {"name": "mgda", "normalise": "loss"},
    {"name": "mgda", "normalise": "loss+", "bounds": 0.1},
    {"name": "smooth_tchebycheff", "nadir": [1.0, 1.0, 1.0], "mu": 0.1},
]
each_solver = pytest.mark.parametrize("name", ALL)


def solve(name: str, c: Case, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> np.ndarray:
    return make(name, c.names).weights(c.statistics(scale, dtype)).numpy()


def same_direction(c: Case, first: np.ndarray, second: np.ndarray, tolerance: float = 1e-6) -> bool:
    """Weights of dependent gradients are not unique; the step they make is."""
    norms = np.linalg.norm(c.jacobian, axis=1)
    size = max(float(np.abs(first) @ norms), float(np.abs(second) @ norms), 1e-300)
    return bool(np.abs((first - second) @ c.jacobian).max() <= tolerance * size)


@each_solver
@given(kind=st.sampled_from(KINDS), count=COUNTS, seed=SEEDS)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_weights_are_finite_float64_and_certified(name: str, kind: str, count: int, seed: int) -> None:
    c = case(kind, count, seed)
    solution = make(name, c.names).solve(c.statistics())
    assert solution.weights.shape == (count,)
    assert solution.weights.dtype == torch.float64
    assert torch.isfinite(solution.weights).all()
    assert 0.0 <= solution.gap < np.inf


@each_solver
@given(kind=st.sampled_from(KINDS), count=COUNTS, seed=SEEDS, exponent=st.floats(-20, 20))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_scale_of_the_gradients_does_not_matter(name: str, kind: str, count: int, seed: int, exponent: float) -> None:
    c = case(kind, count, seed)
    # A power of two scales without rounding, so the comparison is of the solver alone.
    scale = 2.0 ** round(exponent * np.log2(10.0))
    assert same_direction(c, solve(name, c), solve(name, c, scale))


@each_solver
@given(kind=st.sampled_from(KINDS), count=COUNTS, seed=SEEDS)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_permuted_objectives_get_permuted_weights(name: str, kind: str, count: int, seed: int) -> None:
    c = case(kind, count, seed)
    order = np.random.default_rng(seed).permutation(count)
    if name in RANDOM or (name in NOT_UNIQUE and kind not in ("random", "wide")):
        return
    weights = solve(name, c)
    permuted = np.empty(count)
    permuted[order] = make(name, c.names).weights(c.permuted(order).statistics()).numpy()
    assert same_direction(c, weights, permuted, 1e-5)


@each_solver
def test_a_satisfied_objective_does_not_halt_the_others(name: str) -> None:
    """The zero gradient of a hinge at rest must not draw all weight to itself."""
    j = np.eye(3)
    j[2] = 0.0
    c = Case(j, (j, j), np.array([1.0, 1.0, 0.5]), NAMES[:3])
    assert np.linalg.norm(solve(name, c) @ j) > 0.1


@pytest.mark.parametrize("losses", [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("config", [*ALL, *WITH_LOSSES], ids=str)
def test_a_loss_of_zero_is_no_end(config: str | dict[str, Any], losses: list[float]) -> None:
    c = replace(case("wide", 3, 1), losses=np.array(losses))
    solver = make(config, c.names) if isinstance(config, str) else from_config(config)
    for step in range(3):
        assert torch.isfinite(solver.weights(c.statistics(step=step))).all()


@each_solver
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_all_floating_dtypes(name: str, dtype: torch.dtype, count: int) -> None:
    weights = solve(name, case("wide", count, 1), dtype=dtype)
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()


@each_solver
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("count", [1, 3])
def test_non_finite_input_is_an_error_that_names_the_objective(name: str, value: float, count: int) -> None:
    c = case("random", count, 0)
    bad = count // 2
    solver = make(name, c.names)
    before = solver.state_dict()
    if solver.needs == "gramian":
        c.jacobian[bad, 0] = value
        with pytest.raises(NonFiniteGradientError, match=f"'o{bad}'") as caught:
            solver.solve(c.statistics(step=7))
        assert caught.value.objectives == (f"o{bad}",)
        assert "step 7" in str(caught.value)
        assert "\n" not in str(caught.value)
    elif solver.needs == "losses":
        c.losses[bad] = value
        with pytest.raises(NonFiniteLossError, match=f"'o{bad}'") as losses_caught:
            solver.solve(c.statistics())
        assert losses_caught.value.objectives == (f"o{bad}",)
    assert_same_state(before, solver.state_dict())


@each_solver
def test_missing_and_misshapen_statistics(name: str) -> None:
    c = case("random", 3, 0)
    solver = make(name, c.names)
    if solver.needs == "nothing":
        return
    field = "gramian" if solver.needs == "gramian" else "losses"
    with pytest.raises(SolverError, match=f"{solver.name}: needs {field}"):
        solver.solve(StepStatistics(c.names, **({"losses": torch.ones(3)} if field == "gramian" else {})))
    wrong = replace(c.statistics(), **{field: getattr(case("random", 2, 0).statistics(), field)})
    with pytest.raises(SolverError, match=f"{field} must be 3"):
        solver.solve(wrong)


@each_solver
@pytest.mark.parametrize("count", [1, 3, 8])
def test_stop_and_resume_gives_the_same_bits(name: str, count: int) -> None:
    steps = [case("random", count, seed).statistics(step=seed) for seed in range(14)]
    names = NAMES[:count]
    whole = make(name, names)
    for s in steps[:7]:
        advance(whole, s)
    state = through_a_file(whole.state_dict())
    resumed = make(name, names)
    resumed.load_state_dict(state)
    for s in steps[7:]:
        assert resumed.needs == whole.needs
        assert torch.equal(advance(whole, s), advance(resumed, s))
    assert_same_state(whole.state_dict(), resumed.state_dict())


# A plain counter is of no objectives.
@pytest.mark.parametrize("name", [name for name in ALL if set(available()[name]._state) - {"count"}])
def test_state_of_other_objectives_is_refused(name: str) -> None:
    solver = make(name, NAMES[:3])
    if not any(isinstance(getattr(solver, f"_{key}"), torch.Generator) for key in solver._state):
        advance(solver, case("random", 3, 0).statistics())
        state = solver.state_dict()
        fresh = make(name, NAMES[:2])
        fresh.load_state_dict(state)
        with pytest.raises(SolverError, match="state is of 3 objectives, the step has 2"):
            fresh.solve(case("random", 2, 0).statistics())


@each_solver
def test_state_of_another_solver_is_refused(name: str) -> None:
    solver = make(name, NAMES[:2])
    with pytest.raises(SolverError, match="state is that of solver 'another'"):
        solver.load_state_dict({"solver": "another"})


@each_solver
def test_described(name: str) -> None:
    solver = available()[name]
    assert solver.summary
    assert solver.paper
    assert "Examples\n" in (solver.__doc__ or "")
    assert "\n" not in solver.summary


@each_solver
def test_single_objective_descends(name: str) -> None:
    c = Case(np.ones((1, 2)), (np.ones((1, 2)), np.ones((1, 2))), np.ones(1), NAMES[:1])
    assert solve(name, c)[0] > 0.0


def advance(solver: Solver, statistics: StepStatistics) -> torch.Tensor:
    weights = solver.weights(statistics)
    if statistics.losses is not None and statistics.step % 2:
        solver.observe(statistics.losses * 0.9)
    return weights


def through_a_file(state: dict) -> dict:
    """Tensors as they are, the rest as JSON: what a checkpoint does."""
    tensors = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
    return tensors | json.loads(json.dumps({k: v for k, v in state.items() if k not in tensors}))


def assert_same_state(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
