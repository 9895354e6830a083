"""Choices among merges, and what lies on the path between two models."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.frontier.merges import Merges
from mogrid.sweep.grid import lattice


def merges(middle=(0.82, 0.62)) -> Merges:
    """Two models, the first better at home, the second abroad, and what lies between them."""
    shares = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    values = np.array([(0.9, 0.4), middle, (0.6, 0.7)])
    return Merges(("a", "b"), ("home", "away"), shares, values, values - 0.02, values + 0.02)


def test_a_preference_and_constraints_choose() -> None:
    found = merges()
    assert found.front().all()
    assert found.choose() == 1
    assert found.choose({"home": 20, "away": 1}) == 0
    assert found.choose({"home": 1, "away": 20}) == 2
    assert found.choose({"home": 1}, {"away": 0.6}) == 1
    assert found.choose({"home": 1}, {"away": 0.63}) == 2
    assert found.choose(knee=True) == 1


def test_a_constraint_that_nothing_keeps_says_what_is_reachable() -> None:
    with pytest.raises(ConfigError, match=r"no merge keeps away ≥ 0\.8000; .* reaches: away 0\.7000"):
        merges().choose(None, {"away": 0.8})
    with pytest.raises(ConfigError, match=r"no merge keeps away ≥ 0\.8000; .* reaches: away 0\.7000$"):
        merges().choose(None, {"home": 0.7, "away": 0.8})  # the one that is within reach is not the trouble
    with pytest.raises(
        ConfigError,
        match=r"no single merge keeps all of home ≥ 0\.8500, away ≥ 0\.6500, though each is kept by one; "
        r"the nearest, 0\.5 a \+ 0\.5 b, reaches home 0\.8200, away 0\.6200$",
    ):
        merges().choose(None, {"home": 0.85, "away": 0.65})
    with pytest.raises(ConfigError, match="no objective 'hme'; did you mean 'home'"):
        merges().choose({"hme": 1})


def test_the_barrier_is_how_far_the_path_falls_below_the_line() -> None:
    (basin,) = merges().basins()
    assert basin.ends == ("a", "b")
    assert basin.barrier == pytest.approx({"home": -0.07, "away": -0.07})
    assert basin.shared
    (basin,) = merges((0.5, 0.3)).basins()
    assert basin.barrier == pytest.approx({"home": 0.25, "away": 0.25})
    assert not basin.shared
    (basin,) = merges((0.59, 0.55)).basins()  # below both ends at home, by less than its interval
    assert basin.shared


def between(shares: np.ndarray) -> Merges:
    """Merges of which the best by both objectives alike lies at .55/.15/.3, by the first alone at .7/.15/.15."""
    values = np.column_stack(
        [1 - ((shares - best) ** 2).sum(axis=1) for best in ([0.7, 0.15, 0.15], [0.4, 0.15, 0.45])]
    )
    return Merges(("a", "b", "c"), ("home", "away"), shares, values, values, values)


def test_what_lies_between_the_judged_is_proposed() -> None:
    shares = np.array(list(lattice(3, 4)))
    found = between(shares)
    assert np.abs(shares - found.proposal()).max(axis=1).min() > 0.05
    assert found.proposal() == pytest.approx([0.55, 0.15, 0.3], abs=0.02)
    assert found.proposal({"home": 1}) == pytest.approx([0.7, 0.15, 0.15], abs=0.02)
    home, away = between(found.proposal({"home": 1}, {"away": 0.95})[None]).values[0]
    assert away == pytest.approx(0.95, abs=0.005)
    assert home > found.values[found.choose({"home": 1}, {"away": 0.95}), 0]
    assert between(np.vstack([shares, [0.55, 0.15, 0.3]])).proposal() is None
    assert found.proposal(None, {"away": 1.5}) is None
    assert between(shares[:4]).proposal() is None  # too few for a surface


def test_dominated_merges_are_not_chosen() -> None:
    found = merges((0.5, 0.3))
    assert found.front().tolist() == [True, False, True]
    assert {found.choose({"home": p, "away": 1}) for p in (0.01, 1, 100)} <= {0, 2}
