"""The predicted front: within reach of a dense grid, inside what was measured, quick, the same each time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.frontier import fit_surrogate, hypervolume, search_front
from tests.frontier.sweeps import INSIDE, NAMES, SEVEN, probe, share_law, sweep


@pytest.fixture(scope="module")
def surrogate():
    return fit_surrogate(NAMES, *sweep(share_law, SEVEN, 2, 0.01, np.random.default_rng(0)))


@pytest.mark.parametrize("algorithm", [None, "nsga2", "smsemoa"])
def test_the_front_holds_what_a_dense_grid_finds(surrogate, algorithm) -> None:
    started = time.perf_counter()
    front = search_front(surrogate, algorithm=algorithm)
    assert time.perf_counter() - started < 10
    grid = surrogate.predict(np.random.default_rng(1).dirichlet([0.7] * 3, 5000))
    ideal, nadir = front.values.min(axis=0), front.values.max(axis=0)
    # A grid of twenty times as many points fills the gaps between ours, no more.
    assert hypervolume(front.values, ideal, nadir) > 0.97 * hypervolume(grid, ideal, nadir)
    found = front.hypervolume(surrogate, ideal, nadir)
    assert found.low < found.value < found.high


def test_nothing_on_it_is_dominated_and_weights_are_weights(surrogate) -> None:
    front = search_front(surrogate, generations=15)
    np.testing.assert_allclose(front.weights.sum(axis=1), 1, atol=1e-12)
    assert (front.weights >= 0).all()
    np.testing.assert_allclose(surrogate.predict(front.weights), front.values)
    better = (front.values[:, None] <= front.values[None]).all(axis=2) & (
        front.values[:, None] < front.values[None]
    ).any(axis=2)
    assert not better.any()
    again = search_front(surrogate, generations=15)
    np.testing.assert_array_equal(front.weights, again.weights)
    assert not np.array_equal(front.weights, search_front(surrogate, generations=15, seed=1).weights)


def test_it_stays_where_the_sweep_was() -> None:
    inside = fit_surrogate(NAMES, *sweep(share_law, INSIDE, 2, 0.01, np.random.default_rng(0)))
    assert search_front(inside, generations=10).weights.min() > 0.1 - 1e-6
    runs, weights = probe()
    told = fit_surrogate(NAMES, weights, runs.values, costs=(1, 1, 1.5))
    front = search_front(told, generations=10)
    zero = (front.weights == 0).any(axis=1)
    assert (front.weights[~zero] > 0.1 - 1e-6).all()
    assert {tuple(w) for w in front.weights[zero]} <= {tuple(w) for w in np.eye(3)}
    assert zero.any()


@pytest.mark.parametrize("count", [2, 4])
def test_other_numbers_of_objectives(count) -> None:
    rng = np.random.default_rng(0)
    weights = np.vstack([np.eye(count), rng.dirichlet(np.ones(count), 8)])
    names = [f"o{k}" for k in range(count)]
    surrogate = fit_surrogate(names, weights, 1.5 + 0.5 * (weights + 0.05) ** -0.4, draws=20)
    front = search_front(surrogate, weights, generations=20)
    assert len(front.weights) > 50
    assert front.values[:, 0].argmin() == front.weights[:, 0].argmax()


def test_unknown_algorithm() -> None:
    surrogate = fit_surrogate(NAMES, INSIDE, share_law(INSIDE), draws=5)
    with pytest.raises(ConfigError, match="did you mean 'smsemoa'"):
        search_front(surrogate, algorithm="sms")
