"""Choose one point of a front over the weights of one sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier import rules
from mogrid.frontier.search import PredictedFront
from mogrid.frontier.surrogate import Surrogate

__all__ = ["METHODS", "NEAR", "Choice", "choose", "knee", "pick"]

Floats = NDArray[np.float64]
Method = Literal["preference", "knee", "hypervolume", "equal regret"]

NEAR = 0.1
_PREFERRING = ("preference",)
METHODS = ("preference", "knee", "hypervolume", "equal regret")


def pick(values: Floats, method: str = "preference", preference: Floats | None = None) -> int:
    return rules.pick(values, "chebyshev" if method == "preference" else method, preference)


@dataclass(frozen=True)
class Choice:
    """Weights to train with, and what they are predicted to reach.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    weights, predicted : dict by objective
    low, high : dict by objective
        90 % prediction interval of the mean over the stated number of runs.
    weight_low, weight_high : dict by objective
        90 % interval of the chosen weight over draws of the surrogate: how firmly the data point at these weights.
    preference : dict by objective, or None
        What was asked for, where the method asks.
    probability : float
        Share of draws that choose weights within `NEAR` of these (total variation distance).
    """

    method: str
    weights: dict[str, float]
    predicted: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    weight_low: dict[str, float]
    weight_high: dict[str, float]
    preference: dict[str, float] | None
    probability: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def choose(
    surrogate: Surrogate,
    front: PredictedFront,
    preference: Mapping[str, float] | None = None,
    *,
    method: Method = "preference",
    runs: int = 1,
) -> Choice:
    """Return a point of the predicted front, and how sure the choice is.

    The same choice is made on every draw of the surrogate, with that draw's ideal and nadir.

    Parameters
    ----------
    surrogate, front
        As from `fit_surrogate` and `search_front`.
    preference : mapping of objective to positive number, optional
        Importance, for the methods ``preference`` and ``pseudo-weights``; only ratios matter. Equal when left out.
    method : str
        See `pick`.
    runs : int
        Number of runs whose mean the intervals are for.

    Raises
    ------
    ConfigError
        Unknown method; a preference is not positive, is missing, names no objective, or the method has no use for it.
    """
    objectives = surrogate.objectives
    p = _preference(objectives, preference, method)
    index = pick(front.values, method, p)
    drawn = [front.weights[pick(values, method, p)] for values in surrogate.predict_draws(front.weights)]
    picked = np.stack(drawn)
    chosen = front.weights[index]
    spread = np.quantile(picked, [0.05, 0.95], axis=0)
    interval = surrogate.interval(chosen[None], runs=runs)[0]

    def named(values: Floats) -> dict[str, float]:
        return {name: float(value) for name, value in zip(objectives, values, strict=True)}

    return Choice(
        method=method,
        weights=named(chosen),
        predicted=named(front.values[index]),
        low=named(interval[:, 0]),
        high=named(interval[:, 1]),
        weight_low=named(np.minimum(spread[0], chosen)),
        weight_high=named(np.maximum(spread[1], chosen)),
        preference=named(p) if method in _PREFERRING else None,
        probability=float((np.abs(picked - chosen).sum(axis=1) / 2 <= NEAR + 1e-9).mean()),
    )


def knee(surrogate: Surrogate, front: PredictedFront, *, runs: int = 1) -> Choice:
    """Return the front's knee: the point of largest trade-off, where a gain anywhere costs most elsewhere."""
    return choose(surrogate, front, method="knee", runs=runs)


def _preference(objectives: tuple[str, ...], preference: Mapping[str, float] | None, method: str) -> Floats:
    if method not in METHODS:
        raise ConfigError(f"no way to choose {method!r}{nearest(method, METHODS)}")
    if preference is None:
        return np.ones(len(objectives))
    if method not in _PREFERRING:
        raise ConfigError(f"choosing by {method!r} has no use for a preference; {', '.join(_PREFERRING)} have")
    for name, value in preference.items():
        if name not in objectives:
            raise ConfigError(f"preference: no objective {name!r}{nearest(name, objectives)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
            raise ConfigError(f"preference of {name!r} must be a positive number, got {value!r}")
    for name in objectives:
        if name not in preference:
            raise ConfigError(f"preference: no value for objective {name!r}")
    return np.array([float(preference[name]) for name in objectives])
