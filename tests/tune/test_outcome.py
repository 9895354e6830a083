"""What is said of a tune: whether each bound held, of the base's by the difference to it."""

from __future__ import annotations

import pytest

from mogrid.tune.outcome import _held
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
