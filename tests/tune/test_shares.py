"""How much of a tuned model is taken: what is surely better and surely kept; else the base."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks import bounds
from mogrid.sweep.merging import by_query
from mogrid.tune.shares import at_worst, choose_share, interval, keeps, merges_of, preferred, worst_domain

QUERIES = 200
OOD = {"ood": [("x", "clean"), ("y", "clean")]}


def values(gain: float, far: float, spread: float = 0.05) -> dict[str, dict[str, float]]:
    """Values of a model that gains in domain, on average, and elsewhere, by chance more or less."""
    rng = np.random.default_rng(0)
    base, noise = rng.uniform(0.2, 0.6, size=(2, QUERIES)), rng.normal(0, spread, size=(2, QUERIES))
    noise -= noise.mean(axis=1, keepdims=True)
    scale = 0.0 if gain == far == 0 else 1.0
    table = base + scale * noise + np.array([[gain], [far]])
    return {
        "home": {f"h/{i}": float(v) for i, v in enumerate(table[0])},
        "ood": {f"o/{i}": float(v) for i, v in enumerate(table[1])},
    }


BASE = values(0, 0)
LEAST = float(np.mean(list(BASE["ood"].values())))


def test_the_best_share_is_taken() -> None:
    rows = [BASE, values(0.02, 0), values(0.05, 0.001), values(0.04, 0.02)]
    assert choose_share(rows, {"home": 1}, {}) == 2
    assert choose_share(rows, {"home": 1, "ood": 1}, {}) == 3


def test_what_may_be_chance_is_the_base() -> None:
    assert choose_share([BASE, values(0.002, 0)], {"home": 1}, {}) == 0
    assert choose_share([BASE, values(0.002, 0, spread=0.001)], {"home": 1}, {}) == 1


def test_a_bound_is_kept_surely() -> None:
    rows = [BASE, values(0.02, 0.0), values(0.05, -0.012)]
    assert choose_share(rows, {"home": 1}, {}) == 2
    assert choose_share(rows, {"home": 1}, {"ood": LEAST - 0.01}) == 1
    assert choose_share(rows, {"home": 1}, {"ood": LEAST}) == 0  # nor is what is as good as the base, by chance
    assert choose_share([*rows, values(0.03, 0.01)], {"home": 1}, {"ood": LEAST}) == 3


def test_a_bound_is_for_domains_that_nobody_has_seen() -> None:
    """Two domains that a training moves apart say less of a third than two that it moves alike."""
    base = by_query(
        {("x", "clean"): {str(i): 0.5 for i in range(80)}, ("y", "clean"): {str(i): 0.5 for i in range(40)}}, OOD
    )
    for apart, kept in ((0.0, True), (0.001, True), (0.002, False)):
        moved = {
            (name, "clean"): {str(i): 0.5 + sign * apart + 0.001 * (-1) ** i for i in range(count)}
            for name, sign, count in (("x", 1, 80), ("y", -1, 40))
        }
        assert keeps(by_query(moved, OOD)["ood"], base["ood"], 0.495) == kept
        one = {"ood": [("x", "clean")]}
        assert keeps(by_query(moved, one)["ood"], by_query(moved, one)["ood"], 0.495)


def domains(home: float, near: float, far: float) -> dict[str, dict[str, float]]:
    """Values of a model at home and on two domains of unequal numbers of queries."""
    rng, places = np.random.default_rng(3), {"home": [("h", "clean")], "ood": [("x", "clean"), ("y", "clean")]}
    found = {}
    for domain, mean, count in (("h", home, 60), ("x", near, 40), ("y", far, 120)):
        own = mean + rng.normal(0, 0.05, count)
        found[domain, "clean"] = {str(i): float(v) for i, v in enumerate(own - own.mean() + mean)}
    return by_query(found, places)


def test_an_objective_of_the_worst_domain_is_bound_and_valued_by_it() -> None:
    base = domains(0.5, 0.7, 0.4)
    least, goal, worst = {"ood": 0.395}, {"home": 1.0}, {"ood"}
    assert worst_domain(base["ood"]) == "y"
    assert np.mean(list(at_worst(base, worst)["ood"].values())) == pytest.approx(0.4)
    assert choose_share([base, domains(0.6, 0.6, 0.3)], goal, least, worst) == 0  # the mean is .45 still
    assert choose_share([base, domains(0.6, 0.6, 0.41)], goal, least, worst) == 1
    assert choose_share([base, domains(0.6, 0.39, 0.6)], goal, least, worst) == 0  # what was the best is the worst
    only = {"ood": 1.0}
    assert choose_share([base, domains(0.5, 0.9, 0.39), domains(0.5, 0.6, 0.43)], only, {}, worst) == 2
    assert choose_share([base, domains(0.5, 0.38, 0.7)], only, {}, worst) == 0  # on the base's worst it gains .3
    assert choose_share([base, domains(0.5, 0.45, 0.7)], only, {}, worst) == 1  # on its own worst it loses .25


def test_a_bound_is_sure_on_two_domains_as_on_many() -> None:
    """A training that loses on unseen domains just what it may is taken for one that keeps the bound one time in ten."""
    rng = np.random.default_rng(0)
    for count in (2, 4):
        places = {"ood": [(f"d{i}", "clean") for i in range(count)]}
        said = 0
        for _ in range(400):
            moved = 0.02 * rng.normal(size=count)
            tables = [
                {(f"d{i}", "clean"): {str(q): 0.5 + by + 0.01 * (-1) ** q * (of is moved) for q in range(20)}
                 for i, by in enumerate(of)}
                for of in (moved, np.zeros(count))
            ]  # fmt: skip
            value, base = (by_query(table, places)["ood"] for table in tables)
            said += keeps(value, base, 0.5)
        assert 0.05 < said / 400 < 0.14


def test_bounds_are_kept_as_often_as_is_said(capsys) -> None:
    assert bounds.main([]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^(debian|squad|medquad|tldr) ", said, re.MULTILINE)) == 4
    share = re.search(r"together: (\d+) of (\d+) ", said)
    assert share is not None
    assert int(share[1]) / int(share[2]) > 0.9


def test_a_preference_is_the_mean_of_means() -> None:
    given = {"a": {"x/1": 0.2, "x/2": 0.4}, "b": {"x/1": 0.6, "x/2": 0.8, "y/1": 0.1}}
    found = preferred(given, {"a": 2, "b": 1})
    assert np.mean(list(found.values())) == pytest.approx((2 * 0.3 + 0.5) / 3)
    assert found.keys() == {"x/1", "x/2", "y/1"}


def test_how_domains_differ_is_no_chance() -> None:
    rng = np.random.default_rng(1)
    own = {f"{d}/{i}": float(level + rng.normal(0, 0.01)) for d, level in (("x", 0.1), ("y", 0.9)) for i in range(50)}
    mean, low, high = interval(own)
    assert mean == pytest.approx(0.5, abs=0.01)
    assert high - low < 0.01


def test_merges_are_between_the_base_and_the_tuned() -> None:
    merges = merges_of([0.0, 0.5, 1.0], [BASE, values(0.02, 0.01), values(0.05, -0.01)])
    assert merges.names == ("base", "tuned")
    assert merges.corner("tuned") == 2
    assert (merges.low < merges.values).all()
