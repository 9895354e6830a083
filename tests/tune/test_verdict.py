"""How much better one system is by a preference: seeds are averaged by query, domains and objectives weigh as asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mogrid.runs import RunRecord
from mogrid.runs.record import Result
from mogrid.tune.verdict import gain_of, verdict_of

PLACES = {"home": [("home", "clean")], "ood": [("north", "clean")], "typos": [("home", "typos")]}


def record(seed: int, home: float, ood: tuple[float, float], typos: float) -> RunRecord:
    """A run of one seed with constant values, plus noise that no two systems share out differently."""
    rng = np.random.default_rng(seed)

    def result(domain: str, condition: str, mean: float, count: int) -> Result:
        values = mean + 0.05 * rng.normal(size=count)
        own = {f"q{i}": float(v) for i, v in enumerate(values)}
        return Result(
            domain, "test", condition, {"ndcg": float(values.mean())}, {"ndcg": own}, {"home": domain == "home"}
        )

    results = (
        result("home", "clean", home, 60), result("home", "typos", typos, 60), result("south", "clean", ood[0], 40),
        result("east", "clean", ood[1], 120),
    )  # fmt: skip
    return RunRecord(f"run-{seed}", "run", "trained", seed, "model", "data", {}, results=results)


def test_the_gain_is_the_preferences_mean_of_the_objectives_means() -> None:
    first = [record(seed, 0.5, (0.2, 0.4), 0.3) for seed in range(3)]
    second = [record(seed, 0.46, (0.1, 0.4), 0.32) for seed in range(3)]
    test = gain_of(first, second, PLACES, {"home": 2, "ood": 1, "typos": 1}, "test")
    # Test-role domains stand for the ood objective, each as much as the other, however many queries it has.
    assert test.difference == pytest.approx((2 * 0.04 + 0.05 - 0.02) / 4, abs=1e-9)
    assert test.low < test.difference < test.high
    assert test.p_value < 0.01
    only = gain_of(first, second, PLACES, {"typos": 1}, "test")
    assert only.difference == pytest.approx(-0.02)


def test_what_does_not_differ_is_no_gain() -> None:
    first, second = ([record(seed, 0.5, (0.3, 0.3), 0.3) for seed in seeds] for seeds in ((0, 1), (2, 3)))
    test = gain_of(first, second, PLACES, {"home": 1, "ood": 1}, "test")
    assert test.p_value > 0.05
    assert test.low < 0 < test.high


def test_other_domains_stand_for_an_objective_that_is_judged_on_others_and_only_for_one() -> None:
    """What is in domain and has no test data is not shown to be better by what lies elsewhere."""
    model, base = record(0, 0.5, (0.3, 0.3), 0.3), record(1, 0.4, (0.2, 0.2), 0.2)
    trained = {"objectives": {"shop": {"datasets": [{"path": "sets/shop"}]}}}
    records = {"model": replace(model, recipe=trained), "base": replace(base, recipe=trained)}
    both: dict[str, list[tuple[str, str]]] = {"shop": [("shop", "clean")], "ood": [("north", "clean")]}
    found = verdict_of(records, both, {"shop": 1}, "test")
    assert found.systems["model"].keys() == {"ood"}
    assert found.untested == ("shop",)
    assert not found.pays
    twice = verdict_of(records, both | {"more": [("west", "clean")]}, {"ood": 1}, "test")
    assert set(twice.untested) == {"shop", "ood", "more"}
