"""How many times the FLOPs another mix needs for what one reaches: what a choice is worth in what it is paid in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.laws import Laws
from mogrid.frontier.options import REACH, options_of
from mogrid.frontier.rules import importance

__all__ = ["Needed", "times_needed"]

Floats = NDArray[np.float64]

_POINTS = 81


@dataclass(frozen=True)
class Needed:
    """How many times the FLOPs a rival needs to be as good by a preference; inf beyond what laws are asked of.

    Attributes
    ----------
    rival : str
    value, low, high : float
        90 % interval over draws of the laws.
    """

    rival: str
    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, str | float | None]:
        """Return plain values; None for what lies beyond."""
        told = {"value": self.value, "low": self.low, "high": self.high}
        return {"rival": self.rival, **{name: x if np.isfinite(x) else None for name, x in told.items()}}

    def __str__(self) -> str:
        told = (self.value, self.low, self.high)
        value, low, high = (f"{x:.2g}" if np.isfinite(x) else f"more than {REACH:.0f}" for x in told)
        return f"{self.rival} is foretold to need {value} [{low}, {high}] times the FLOPs to be as good"


def times_needed(
    laws: Laws,
    model: str | float,
    budget: float,
    mix: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
    preference: Mapping[str, float] | None = None,
    *,
    metric: str | None = None,
) -> list[Needed]:
    """Return how many times a budget's FLOPs other mixes need to reach by a weighted preference what one mix does.

    Parameters
    ----------
    laws : Laws
        Fitted to runs of all of these mixes, or of what they lie between.
    model : str or N
        The base model of all of them.
    budget : float
        Training FLOPs of the mix.
    mix : mapping of objective to share
        That sets what is to be reached.
    rivals : mapping of name to mix
        That are asked how long they take.
    preference, metric
        As for `plan`.

    Returns
    -------
    list of Needed
        Of the least length that does, in each draw of the laws, between a tenth and ten times the budget.
    """
    p = importance(laws.objectives, preference, "weighted")
    ratios = np.geomspace(1 / REACH, REACH, _POINTS)

    def row(shares: Mapping[str, float]) -> Floats:
        return np.array([[shares.get(name, 0.0) for name in laws.objectives]])

    own = options_of(laws, [budget], row(mix), [model])
    goal = np.r_[own.losses(metric) @ p, (own.loss_draws(metric) @ p)[:, 0]]
    found = []
    for name, shares in rivals.items():
        options = options_of(laws, (budget * ratios).tolist(), row(shares), [model])
        curves = np.vstack([options.losses(metric) @ p, options.loss_draws(metric) @ p])
        times = np.array([_first(curve, level, ratios) for curve, level in zip(curves, goal, strict=True)])
        low, high = np.quantile(times[1:], [0.05, 0.95], method="closest_observation")
        found.append(Needed(name, float(times[0]), float(low), float(high)))
    return found


def _first(curve: Floats, level: float, ratios: Floats) -> float:
    """Return the least ratio at which a curve is as low as a level, by lines between points in the logarithm."""
    below = np.flatnonzero(curve <= level + 1e-12)
    if not len(below):
        return float("inf")
    i = int(below[0])
    if i == 0:
        return float(ratios[0])
    part = (curve[i - 1] - level) / max(curve[i - 1] - curve[i], 1e-300)
    return float(np.exp(np.log(ratios[i - 1]) + min(part, 1.0) * np.log(ratios[i] / ratios[i - 1])))
