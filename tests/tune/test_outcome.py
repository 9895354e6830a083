"""What is said of a tune: whether each bound held, of the base's by the difference to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mogrid.runs import RunRecord
from mogrid.tune.outcome import Asked, Outcome, _held, lines_of
from mogrid.tune.verdict import Verdict


def verdict(difference: float, low: float, high: float) -> Verdict:
    test = {"difference": difference, "low": low, "high": high, "p_value": 0.5}
    systems = {"model": {"ood": (0.45, 0.42, 0.48)}, "base": {"ood": (0.45 - difference, 0.4, 0.5)}}
    return Verdict("test", systems, {"base": {"ood": test}}, "ood", ("typos",))


@pytest.mark.parametrize(
    ("given", "of", "said"),
    [
        ("base-0.005", (0.01, -0.004, 0.02), "kept (+0.010 [-0.004, +0.020] against the base)"),
        ("base", (0.01, -0.004, 0.02), "kept, not surely (+0.010 [-0.004, +0.020] against the base)"),
        ("base", (0.0, 0.0, 0.0), "kept (+0.000 [+0.000, +0.000] against the base)"),
        ("base-0.005", (-0.006, -0.01, 0.0), "broken, not surely (-0.006 [-0.010, +0.000] against the base)"),
        ("base-0.005", (-0.02, -0.03, -0.01), "broken (-0.020 [-0.030, -0.010] against the base)"),
        (0.42, (0, 0, 0), "kept (0.450 [0.420, 0.480])"),
        (0.46, (0, 0, 0), "broken, not surely (0.450 [0.420, 0.480])"),
    ],
)
def test_whether_a_bound_held(given, of, said) -> None:
    assert _held(verdict(*of), "ood", given) == f"at least ood={given}: {said}"


def test_a_bound_on_what_nothing_stands_for_is_said_so() -> None:
    assert "nobody knows" in _held(verdict(0, 0, 0), "typos", "base")


@pytest.mark.parametrize("goal", ["ood", "typos"])
def test_what_was_asked_for_and_not_tested_is_not_said_not_to_pay(goal) -> None:
    found = replace(verdict(0.0, -0.01, 0.01), goal=goal)
    outcome = Outcome(found, 1.0, [], [], [], Asked({goal: 1.0}, {}, 0, 1e-3, ()), {})
    final = RunRecord("a", "a", "trained", 0, "", "", {}, best={"step": 3}, steps=3, mix={goal: 1.0})
    said = " ".join(lines_of(outcome, final, keeps=True))
    assert ("it is not shown that fine-tuning pays" in said) == (goal == "ood")
    assert ("whether fine-tuning pays was not tested" in said) == (goal == "typos")
