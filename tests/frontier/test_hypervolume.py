"""Hypervolume against brute force, its invariances, its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mogrid.errors import DataError
from mogrid.frontier import Front, bootstrap_hypervolume, hypervolume, hypervolume_interval

UNIT = st.integers(0, 20).map(lambda i: i / 10)


def staircase(points: np.ndarray) -> float:
    """Area that points dominate below (1.1, 1.1), by sweeping one axis."""
    total, ceiling = 0.0, 1.1
    for x, y in sorted(map(tuple, points)):
        if x < 1.1 and y < ceiling:
            total += (1.1 - x) * (ceiling - y)
            ceiling = y
    return total


@settings(deadline=None, max_examples=80)
@given(arrays(float, st.tuples(st.integers(1, 8), st.just(2)), elements=UNIT))
def test_two_objectives_match_brute_force(points: np.ndarray) -> None:
    assert hypervolume(points, np.zeros(2), np.ones(2)) == pytest.approx(staircase(points), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(arrays(float, (5, 3), elements=UNIT), st.permutations(range(3)), st.floats(0.1, 50), st.floats(-9, 9))
def test_units_and_order_do_not_matter(points: np.ndarray, order: list[int], scale: float, shift: float) -> None:
    ideal, nadir = np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.2, 1.4])
    plain = hypervolume(points, ideal, nadir)
    moved = [scale * x + shift for x in (points[:, order], ideal[order], nadir[order])]
    assert hypervolume(*moved) == pytest.approx(plain, abs=1e-9)


def test_three_objectives_match_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    points = rng.dirichlet([1, 1, 1], 12)
    sample = rng.uniform(0, 1.1, (200_000, 3))
    covered = np.zeros(len(sample), dtype=bool)
    for point in points:
        covered |= (sample >= point).all(axis=1)
    assert hypervolume(points, np.zeros(3), np.ones(3)) == pytest.approx(covered.mean() * 1.1**3, rel=0.01)


def test_nan_raises_where_libraries_skip_it() -> None:
    with pytest.raises(DataError, match="finite"):
        hypervolume(np.array([[0.5, np.nan], [0.1, 0.1]]), np.zeros(2), np.ones(2))
    with pytest.raises(DataError, match="below the nadir"):
        hypervolume(np.array([[0.5, 0.5]]), np.zeros(2), np.array([1.0, 0.0]))
    with pytest.raises(DataError, match="differ in objectives"):
        hypervolume(np.array([[0.5, 0.5]]), np.zeros(3), np.ones(3))


def test_the_interval_holds_the_value_and_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([[0.0, 1.0], [0.2, 0.6], [0.5, 0.3], [1.0, 0.0]])
    volume = hypervolume(truth, np.zeros(2), np.ones(2))
    labels, seeds = tuple(np.repeat(list("abcd"), 5)), tuple(range(5)) * 4
    held = 0
    for _ in range(40):
        values = np.repeat(truth, 5, axis=0) + 0.05 * rng.normal(size=(20, 2))
        found = bootstrap_hypervolume(Front(("x", "y"), values, labels, seeds), np.zeros(2), np.ones(2), draws=200)
        assert found.low <= found.value <= found.high
        held += found.low <= volume <= found.high
    assert held >= 32


def test_draws_of_any_origin_are_taken() -> None:
    values = np.array([[0.2, 0.8], [0.8, 0.2]])
    draws = values + np.array([-0.1, 0.0, 0.1])[:, None, None]
    found = hypervolume_interval(values, draws, np.zeros(2), np.ones(2), confidence=1.0)
    assert found.low < found.value < found.high
