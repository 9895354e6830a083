"""Choices: what each method promises, and its invariances."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mogrid.errors import ConfigError, DataError
from mogrid.frontier import METHODS, pick
from mogrid.frontier.rules import importance

NAMES = ("effectiveness", "ood", "typos")
POINTS = arrays(
    float, st.tuples(st.integers(1, 15), st.integers(2, 4)), elements=st.integers(1, 40).map(lambda i: i / 8)
)


def dominated(values: np.ndarray, index: int) -> bool:
    row = values[index]
    return bool(((values <= row).all(axis=1) & (values < row).any(axis=1)).any())


@settings(deadline=None, max_examples=40)
@given(POINTS, st.sampled_from(METHODS))
def test_no_method_takes_a_dominated_point(values, method) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert not dominated(values, pick(values, method, np.arange(1, values.shape[1] + 1)))
        zeros = np.r_[1, np.zeros(values.shape[1] - 1)]
        assert not dominated(values, pick(values, method, zeros))


@settings(deadline=None, max_examples=40)
@given(POINTS, st.randoms(use_true_random=False), st.floats(0.01, 100), st.floats(-50, 50))
def test_the_ray_does_not_depend_on_units_or_on_order(values, random, scale, shift) -> None:
    p = np.array([2.0, 1.0, 0.5, 3.0])[: values.shape[1]]
    plain = values[pick(values, "chebyshev", p)]
    order = random.sample(range(values.shape[1]), values.shape[1])
    turned = values[pick(values[:, order], "chebyshev", p[order])]
    moved = values[pick(scale * values + shift, "chebyshev", 7 * p)]

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
        chosen = concave[pick(concave, "chebyshev", np.array(p))] - [3, 1]
        # On a continuous front the ray meets it where p_k · normalised loss is equal for all k; here it is concave.
        assert p[0] * chosen[0] == pytest.approx(p[1] * chosen[1], abs=0.02)
    pulled = [concave[pick(concave, "chebyshev", np.array([p, 1.0]))][0] for p in (0.5, 1, 2, 4, 8)]
    assert pulled == sorted(pulled, reverse=True)


@settings(deadline=None, max_examples=30)
@given(POINTS)
def test_the_weighted_sum_is_the_least(values) -> None:
    p = np.arange(1, values.shape[1] + 1)
    assert values[pick(values, "weighted", p)] @ p == pytest.approx((values @ p).min())


def test_knee_of_a_bent_front_and_of_a_straight_one() -> None:
    x = np.linspace(0, 1, 41)
    bent = np.column_stack([x, np.where(x < 0.2, 1 - 4.5 * x, 0.1 - 0.125 * (x - 0.2))])
    assert bent[pick(bent, "knee")] == pytest.approx([0.2, 0.1], abs=0.03)
    straight = np.column_stack([x, 1 - x])
    assert 0 <= pick(straight, "knee") < 41


def test_a_single_point_and_a_constant_objective() -> None:
    for method in METHODS:
        assert pick(np.array([[1.0, 2.0, 3.0]]), method) == 0
        flat = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.4, 1.4, 3.0]])
        assert pick(flat, method) in (0, 1, 2)
    with pytest.raises(DataError, match="finite"):
        pick(np.array([[1.0, np.nan]]))


def test_a_preference_leaves_out_what_does_not_matter() -> None:
    np.testing.assert_array_equal(importance(NAMES, {"ood": 2}, "weighted"), [0, 2, 0])
    np.testing.assert_array_equal(importance(NAMES, None, "knee"), [1, 1, 1])


@pytest.mark.parametrize(
    ("preference", "method", "message"),
    [
        ({"effectiveness": -1, "ood": 1}, "weighted", "'effectiveness' must be a number of at least 0"),
        ({"effectiveness": 1, "ood": float("nan")}, "chebyshev", "'ood' must be a number of at least 0"),
        ({"effectiveness": True}, "weighted", "'effectiveness' must be a number of at least 0"),
        ({"effectiveness": 1, "odd": 1}, "weighted", "no objective 'odd'; did you mean 'ood'"),
        ({"effectiveness": 0}, "weighted", "prefers nothing"),
        ({"effectiveness": 1}, "knee", "has no use for a preference"),
        (None, "kneee", "did you mean 'knee'"),
    ],
)
def test_bad_preferences_say_what_is_wrong(preference, method, message) -> None:
    with pytest.raises(ConfigError, match=message):
        importance(NAMES, preference, method)
