"""Choices: what each method promises, invariances, and how sure they are."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mogrid.errors import ConfigError, DataError
from mogrid.frontier import METHODS, choose, fit_surrogate, knee, pick, search_front
from tests.frontier.sweeps import NAMES, SEVEN, share_law, sweep

POINTS = arrays(
    float, st.tuples(st.integers(1, 15), st.integers(2, 4)), elements=st.integers(1, 40).map(lambda i: i / 8)
)


@pytest.fixture(scope="module")
def predicted():
    surrogate = fit_surrogate(NAMES, *sweep(share_law, SEVEN, 3, 0.01, np.random.default_rng(0)), draws=60)
    return surrogate, search_front(surrogate, generations=30)


def dominated(values: np.ndarray, index: int) -> bool:
    row = values[index]
    return bool(((values <= row).all(axis=1) & (values < row).any(axis=1)).any())


@settings(deadline=None, max_examples=40)
@given(POINTS, st.sampled_from(METHODS))
def test_no_method_takes_a_dominated_point(values, method) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert not dominated(values, pick(values, method, np.arange(1, values.shape[1] + 1)))


@settings(deadline=None, max_examples=40)
@given(POINTS, st.randoms(use_true_random=False), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_ray_does_not_depend_on_units_or_on_order(values, random, scale, shift) -> None:
    p = np.array([2.0, 1.0, 0.5, 3.0])[: values.shape[1]]
    plain = values[pick(values, "preference", p)]
    order = random.sample(range(values.shape[1]), values.shape[1])
    turned = values[pick(values[:, order], "preference", p[order])]
    moved = values[pick(scale * values + shift, "preference", 7 * p)]

    def score(row: np.ndarray) -> float:
        best = values[[not dominated(values, i) for i in range(len(values))]]
        span = np.where(np.ptp(best, axis=0) > 0, np.ptp(best, axis=0), 1.0)
        return float((p * (row - best.min(axis=0)) / span).max())

    assert score(turned) == pytest.approx(score(plain), abs=1e-7)
    assert score(moved) == pytest.approx(score(plain), abs=1e-7)


def test_the_ray_is_the_definition_and_importance_pulls() -> None:
    angle = np.linspace(0, np.pi / 2, 400)
    concave = np.column_stack([np.cos(angle), np.sin(angle)]) + np.array([3, 1])
    for p in ([1.0, 1.0], [2.0, 1.0], [1.0, 5.0]):
        chosen = concave[pick(concave, "preference", np.array(p))] - [3, 1]
        # On a continuous front the ray meets it where p_k · normalised loss is equal for all k; here it is concave.
        assert p[0] * chosen[0] == pytest.approx(p[1] * chosen[1], abs=0.02)
    pulled = [concave[pick(concave, "preference", np.array([p, 1.0]))][0] for p in (0.5, 1, 2, 4, 8)]
    assert pulled == sorted(pulled, reverse=True)


def test_knee_of_a_bent_front_and_of_a_straight_one() -> None:
    x = np.linspace(0, 1, 41)
    bent = np.column_stack([x, np.where(x < 0.2, 1 - 4.5 * x, 0.1 - 0.125 * (x - 0.2))])
    assert bent[pick(bent, "knee")] == pytest.approx([0.2, 0.1], abs=0.03)
    straight = np.column_stack([x, 1 - x])
    assert 0 <= pick(straight, "knee") < 41


def test_hypervolume_and_equal_regret() -> None:
    x = np.linspace(0.0, 1.0, 101)
    line = np.column_stack([x, 1 - x])
    gap = np.array([[0.0, 1.0], [0.05, 0.95], [0.3, 0.3], [0.95, 0.05], [1.0, 0.0]])
    assert pick(gap, "hypervolume") == 2
    shifted = np.column_stack([1 + x, 2 + (1 - x)])
    chosen = shifted[pick(shifted, "equal regret")]
    assert chosen[0] / 1 - 1 == pytest.approx(chosen[1] / 2 - 1, abs=0.02)
    with pytest.raises(DataError, match="must be positive"):
        pick(line - 0.5, "equal regret")


def test_a_single_point_and_a_constant_objective() -> None:
    for method in METHODS:
        assert pick(np.array([[1.0, 2.0, 3.0]]), method) == 0
        flat = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.4, 1.4, 3.0]])
        assert pick(flat, method) in (0, 1, 2)
    with pytest.raises(DataError, match="finite"):
        pick(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("method", METHODS)
def test_a_choice_is_a_point_of_the_front_with_its_uncertainty(predicted, method) -> None:
    surrogate, front = predicted
    choice = choose(surrogate, front, method=method, runs=3)
    weights = np.array([choice.weights[name] for name in NAMES])
    assert np.abs(front.weights - weights).sum(axis=1).min() < 1e-12
    assert 0 <= choice.probability <= 1
    for name in NAMES:
        assert choice.low[name] <= choice.predicted[name] <= choice.high[name]
        assert choice.weight_low[name] <= choice.weights[name] <= choice.weight_high[name]
    assert (choice.preference is None) == (method != "preference")
    assert json.loads(json.dumps(choice.to_json(), allow_nan=False))["method"] == method


def test_more_importance_more_weight_and_less_loss(predicted) -> None:
    surrogate, front = predicted
    plain, keen = (choose(surrogate, front, {"effectiveness": 1, "ood": p, "adversarial": 1}) for p in (1, 6))
    assert keen.weights["ood"] > plain.weights["ood"]
    assert keen.predicted["ood"] < plain.predicted["ood"]


def test_noise_makes_a_choice_less_sure() -> None:
    found = []
    for noise in (0.002, 0.05):
        runs = sweep(share_law, SEVEN, 2, noise, np.random.default_rng(2))
        surrogate = fit_surrogate(NAMES, *runs, draws=60)
        choice = choose(surrogate, search_front(surrogate, generations=10, points=100))
        found.append((choice.probability, sum(choice.weight_high.values()) - sum(choice.weight_low.values())))
    assert found[0][0] >= found[1][0]
    assert found[0][1] < found[1][1]


@pytest.mark.parametrize(
    ("preference", "method", "message"),
    [
        ({"effectiveness": 0, "ood": 1, "adversarial": 1}, "preference", "'effectiveness' must be a positive number"),
        ({"effectiveness": 1, "ood": float("nan"), "adversarial": 1}, "preference", "'ood' must be a positive number"),
        ({"effectiveness": 1, "odd": 1, "adversarial": 1}, "preference", "no objective 'odd'; did you mean 'ood'"),
        ({"effectiveness": 1, "ood": 1}, "preference", "no value for objective 'adversarial'"),
        ({"effectiveness": 1, "ood": 1, "adversarial": 1}, "knee", "has no use for a preference"),
        (None, "kneee", "did you mean 'knee'"),
    ],
)
def test_bad_requests_say_what_is_wrong(predicted, preference, method, message) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(*predicted, preference, method=method)


def test_knee_is_short_for_choosing_it(predicted) -> None:
    assert knee(*predicted).weights == choose(*predicted, method="knee").weights
