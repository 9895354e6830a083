"""How many times the FLOPs another mix needs, against what the true law says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from mogrid.errors import ConfigError
from mogrid.frontier import Laws, fit_laws, times_needed
from tests.frontier.truth import COSTS, NAMES, SIZES, Truth, sweep

SELFISH = np.array([[1, 0.05, 0.05], [0.05, 1, 0.05], [0.05, 0.05, 1]])
P = {"effectiveness": 2.0, "ood": 1.0, "typos": 1.0}
MIX = {"effectiveness": 0.5, "ood": 0.3, "typos": 0.2}
EQUAL = dict.fromkeys(NAMES[:3], 1 / 3)
SIZE = SIZES[1]


@pytest.fixture(scope="module")
def laws() -> Laws:
    return fit_laws(sweep(Truth(SELFISH), rng=np.random.default_rng(0)), draws=100)


@pytest.fixture(scope="module")
def budget(laws) -> float:
    return float(laws.runs.flops.max()) / 4


def scalar(budget: float, mix: dict[str, float]) -> float:
    shares = np.array([[mix.get(name, 0.0) for name in NAMES[:3]]])
    pairs = budget * shares / (shares @ COSTS[:3] * SIZE)[:, None]
    return float(Truth(SELFISH)(np.array([SIZE]), pairs)[0] @ np.array([2.0, 1.0, 1.0]))


def test_the_true_number_is_found_with_an_interval(laws, budget) -> None:
    goal = scalar(budget, MIX)
    wanted = {"equal mix": EQUAL, "half": {"effectiveness": 0.5, "ood": 0.5}}
    for one in times_needed(laws, SIZE, budget, MIX, wanted, P, metric="ce"):
        true = np.exp(brentq(lambda log, m=wanted[one.rival]: scalar(budget * np.exp(log), m) - goal, -2, 3))
        assert one.low <= one.value <= one.high
        assert one.value == pytest.approx(true, rel=0.25)
        assert one.low / 1.3 <= true <= one.high * 1.3


def test_a_mix_needs_as_much_as_itself_and_more_than_a_tenth_of_a_better_one(laws, budget) -> None:
    (same,) = times_needed(laws, SIZE, budget, MIX, {"same": MIX}, P)
    assert same.low == pytest.approx(1, rel=1e-6)
    assert same.high == pytest.approx(1, rel=1e-6)
    (alone,) = times_needed(laws, SIZE, budget, {"ood": 1.0}, {"equal mix": EQUAL}, P)
    assert alone.high < 1


def test_what_never_gets_there_is_said_to(laws, budget) -> None:
    (other,) = times_needed(laws, SIZE, budget, {"ood": 1.0}, {"typos only": {"typos": 1.0}}, {"ood": 1.0})
    assert np.isinf(other.value)
    assert str(other).startswith("typos only is foretold to need more than 10 [")


def test_a_wrong_model_or_preference_is_refused(laws, budget) -> None:
    with pytest.raises(ConfigError, match="no run of a base model"):
        times_needed(laws, "large", budget, MIX, {"equal mix": EQUAL}, P)
    with pytest.raises(ConfigError, match="no objective 'odd'"):
        times_needed(laws, SIZE, budget, MIX, {"equal mix": EQUAL}, {"odd": 1.0})
