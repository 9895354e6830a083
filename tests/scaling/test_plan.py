"""The plan spends the budget where the true laws say it should, and says how far it can be trusted."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.frontier import pick
from mogrid.scaling import ExtrapolationWarning, Laws, fit_costs, fit_laws, plan, planned_front
from tests.scaling.known import ALPHA, BETA, DELTA, EQUAL, MIXES, NAMES, PAIRS, SIZES, A, B, capacity_law, sweep

WITH_CORNERS = np.vstack([MIXES, np.eye(3)])


@pytest.fixture(scope="module")
def laws() -> Laws:
    runs = sweep(capacity_law, sizes=SIZES[:3], pairs=PAIRS[1:], weights=WITH_CORNERS, rng=np.random.default_rng(0))
    return fit_laws(runs, draws=200)


def test_costs_are_those_of_the_ledger(laws) -> None:
    runs = laws.runs
    costs = fit_costs(runs)
    for size in (SIZES[0], 7e4, SIZES[2]):
        np.testing.assert_allclose(costs.per_pair(size), 120 * size, rtol=1e-4)
    corners, mix = (costs.pairs(1e12, SIZES[1], w) for w in (np.eye(3), EQUAL))
    np.testing.assert_allclose(corners, np.repeat(3 * mix, 3), rtol=1e-4)
    # One size that costs more than the power law says costs so much more in the plan too.
    dear = fit_costs(replace(runs, flops=np.where(runs.sizes == SIZES[1], 1.3, 1.0) * runs.flops))
    np.testing.assert_allclose(dear.per_pair(SIZES[1]), 156 * SIZES[1], rtol=0.02)
    np.testing.assert_allclose(dear.per_pair(SIZES[0]), 120 * SIZES[0], rtol=0.02)


def test_the_size_is_the_budget_optimum_of_fang() -> None:
    """With cost c·N·D, [(A/N)^a + B/D]^β + δ is least where a (A/N)^a = B/D."""
    a = ALPHA[0] / BETA[0]

    def law(n, d, w) -> np.ndarray:
        one = ((A[0] / n) ** a + B[0] / d) ** BETA[0] + DELTA[0]
        return np.repeat(one[:, None], 3, axis=1)

    runs = sweep(law, weights=EQUAL, seeds=2, noise=0.002, rng=np.random.default_rng(1))
    budget = 5e12
    found = plan(fit_laws(runs, form="joint", draws=50), budget)
    sizes = np.geomspace(1e4, 1e7, 4000)
    excess = a * (A[0] / sizes) ** a - B[0] / (budget / (360 * sizes))
    best = sizes[np.flatnonzero(np.diff(np.sign(excess)))[0]]
    assert best / 1.6 < found.size < best * 1.6
    assert found.pairs == pytest.approx(budget / (360 * found.size), rel=1e-3)
    assert found.size_low <= found.size <= found.size_high


def test_the_plan_has_little_regret_under_the_true_law(laws) -> None:
    """Its true losses against the best of a fine grid of sizes and weights, in the choice's own terms."""
    budget = 4e12
    found = plan(laws, budget)
    grid = np.array([(i, j, 20 - i - j) for i in range(1, 20) for j in range(1, 20 - i)]) / 20
    sizes = np.geomspace(SIZES[0], SIZES[2] * 10, 25)
    n, w = np.repeat(sizes, len(grid)), np.tile(grid, (len(sizes), 1))
    values = capacity_law(n, budget / (360 * n), w)
    best = values[pick(values)]
    size, pairs = np.array([found.size]), np.array([found.pairs])
    mine = capacity_law(size, pairs, np.array([[found.weights[k] for k in NAMES]]))[0]
    assert (mine / best - 1).max() < 0.03
    for k, name in enumerate(NAMES):
        assert found.low[name] < found.predicted[name] < found.high[name]
        assert found.predicted[name] == pytest.approx(mine[k], rel=0.03)
        assert found.weight_low[name] <= found.weights[name] <= found.weight_high[name]
    assert sum(found.weights.values()) == pytest.approx(1)
    assert 0 < found.probability <= 1
    json.dumps(found.to_json(), allow_nan=False)


def test_a_preference_moves_the_weights_and_more_budget_the_scale(laws) -> None:
    sizes = np.geomspace(SIZES[0], 10 * SIZES[2], 6).tolist()
    plain = plan(laws, 1e12, sizes=sizes)
    ood = plan(laws, 1e12, {"effectiveness": 1, "ood": 5, "adversarial": 1}, sizes=sizes)
    assert ood.weights["ood"] > plain.weights["ood"] + 0.05
    assert ood.predicted["ood"] < plain.predicted["ood"]
    richer = plan(laws, 1.6e13, sizes=sizes)
    assert richer.size > plain.size
    assert richer.pairs > plain.pairs
    assert all(richer.predicted[name] < plain.predicted[name] for name in NAMES)


def test_the_front_is_non_dominated_affordable_and_quick(laws) -> None:
    started = time.process_time()
    front = planned_front(laws, 2e12)
    assert time.process_time() - started < 15
    better = (front.values[:, None] <= front.values).all(axis=2) & (front.values[:, None] < front.values).any(axis=2)
    assert not better.any()
    cost = front.pairs * 120 * front.sizes * (front.weights > 0).sum(axis=1)
    np.testing.assert_allclose(cost, 2e12, rtol=0.01)
    fixed = planned_front(laws, 2e12, sizes=[SIZES[1]])
    assert set(fixed.sizes) == {SIZES[1]}


def test_beyond_ten_times_the_sweep_warns_with_the_interval(laws) -> None:
    dearest = laws.runs.flops.max()
    with pytest.warns(
        ExtrapolationWarning, match=r"20× the sweep's dearest run: extrapolated.*effectiveness .* \[.*, .*\]"
    ):
        found = plan(laws, 20 * dearest, sizes=[10 * SIZES[2]])
    assert found.extrapolated == pytest.approx(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(laws, 9 * dearest, sizes=[SIZES[2]])


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        (1e9, {}, r"budget of 1e\+09 FLOPs is below the sweep's cheapest run \(1.87e\+10\)"),
        (-1.0, {}, "positive number of FLOPs, got -1.0"),
        (float("nan"), {}, "positive number of FLOPs, got nan"),
        (1e12, {"sizes": [-5]}, "sizes must be positive"),
        (1e12, {"sizes": [1e12]}, "buys no amount of data between"),
        (1e12, {"method": "kne"}, "no way to choose 'kne'; did you mean 'knee'"),
        (1e12, {"preference": {"effectiveness": 1, "oood": 1}}, "did you mean 'ood'"),
    ],
)
def test_bad_budgets_are_refused(laws, budget, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(laws, budget, **options)
