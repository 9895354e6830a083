"""One way from a name, or a name with settings, to what it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

import pytest

from mogrid.construct import construct
from mogrid.errors import ConfigError, DataError
from mogrid.objectives.registry import LOSSES, checked_loss, loss_from_config


class Speed(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class HillClimb:
    def __init__(
        self,
        model: Any,
        rate: float,
        steps: int | None = None,
        kinds: Sequence[str] = (),
        side: Literal["up", "down"] = "up",
        speed: Speed = Speed.SLOW,
    ) -> None:
        self.given = (model, rate, steps, tuple(kinds), side, speed)


REGISTRY = {"hill_climb": HillClimb}


def made(**settings: Any) -> tuple[Any, ...]:
    return construct(REGISTRY, {"name": "HillClimb", **settings}, "model", what="search").given


def test_values_arrive_with_their_types() -> None:
    assert made(rate="1e-3", steps=None, kinds=["a"], side="down", speed="fast") == (
        "model", 0.001, None, ("a",), "down", Speed.FAST,
    )  # fmt: skip
    assert made(rate=1, steps=2) == ("model", 1, 2, (), "up", Speed.SLOW)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hill_clim", "unknown search 'hill_clim'; did you mean 'hill_climb'?"),
        ({"name": 3}, "unknown search 3; known: hill_climb"),
        ({"nam": "hill_climb"}, "search: settings need 'name', got 'nam'"),
        (["hill_climb"], "search: expected a name or a mapping with 'name', got ['hill_climb']"),
        ("hill_climb", "search hill_climb: the setting 'rate' is missing"),
        ({"name": "hill_climb", "rate": 1, "step": 2}, "search hill_climb: no setting 'step'; did you mean 'steps'?"),
        ({"name": "hill_climb", "rate": 1, "model": 2}, "search hill_climb: no setting 'model'; known: kinds"),
        ({"name": "hill_climb", "rate": "x"}, "search hill_climb: rate must be a number, got 'x'"),
        ({"name": "hill_climb", "rate": True}, "search hill_climb: rate must be a number, got True"),
        ({"name": "hill_climb", "rate": 1, "steps": 1.5}, "steps must be a whole number or left out, got 1.5"),
        ({"name": "hill_climb", "rate": 1, "kinds": "a"}, "kinds must be a list, got 'a'"),
        ({"name": "hill_climb", "rate": 1, "kinds": [[]], "side": "upp"}, "side 'upp' is unknown; did you mean 'up'?"),
        ({"name": "hill_climb", "rate": 1, "speed": "fats"}, "speed 'fats' is unknown; did you mean 'fast'?"),
        ({"name": "hill_climb", "rate": 1, "speed": 3}, "speed must be 'slow' or 'fast', got 3"),
    ],
)
def test_what_is_wrong_is_one_line(spec: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        construct(REGISTRY, spec, "model", what="search", error=DataError)
    assert str(caught.value).startswith(message) or message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_checked_before_there_is_a_model(name: str) -> None:
    assert checked_loss(name.upper().replace("_", "-")) == name
    with pytest.raises(ConfigError, match=rf"loss {name}: no setting 'domain'"):
        checked_loss({"name": name, "domain": 3})
    if name not in ("distil", "drift_bound", "l2_base"):  # which have none
        with pytest.raises(ConfigError, match=rf"loss {name}: temperature must be a number, got 'warm'"):
            loss_from_config({"name": name, "temperature": "warm"}, None)
