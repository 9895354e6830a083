"""Choose one point of a front: by a preference ray, or the knee."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier.search import PredictedFront
from mogrid.frontier.surrogate import Surrogate

__all__ = ["Choice", "choose", "knee"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Weights to train with, and what they are predicted to reach.

    Attributes
    ----------
    method : str
        ``"preference"`` or ``"knee"``.
    weights, predicted : dict by objective
    low, high : dict by objective
        90 % prediction interval of the mean over the stated number of runs.
    weight_low, weight_high : dict by objective
        90 % interval of the chosen weight over bootstrap refits: how firmly the data point at these weights.
    """

    method: str
    weights: dict[str, float]
    predicted: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    weight_low: dict[str, float]
    weight_high: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def choose(surrogate: Surrogate, front: PredictedFront, preference: Mapping[str, float], *, runs: int = 1) -> Choice:
    """Return the front's point on the preference ray.

    It minimises max_k p_k (l_k − ideal_k) / (nadir_k − ideal_k), the achievement scalarising function (Wierzbicki,
    1980): the larger an objective's p, the smaller its share of the compromise. Unlike a weighted sum it also reaches
    points on concave parts of a front.

    Parameters
    ----------
    preference : mapping of objective to positive number
        Only ratios matter.
    runs : int
        Number of runs whose mean the intervals are for.

    Raises
    ------
    ConfigError
        A preference is not positive, is missing, or names no objective.
    """
    from pymoo.decomposition.asf import ASF

    p = _preference(surrogate.objectives, preference)

    def pick(values: Floats) -> int:
        return int(ASF().do(_normalised(values), 1 / p).argmin())

    return _choice("preference", surrogate, front, pick, runs)


def knee(surrogate: Surrogate, front: PredictedFront, *, runs: int = 1) -> Choice:
    """Return the front's knee: the point of largest trade-off, where a gain anywhere costs most elsewhere.

    pymoo's high trade-off points; of several, and where it finds none, the one nearest the ideal.
    """
    from pymoo.mcdm.high_tradeoff import HighTradeoffPoints

    def pick(values: Floats) -> int:
        scaled = _normalised(values)
        found: Any = HighTradeoffPoints()(scaled) if len(scaled) > 2 * scaled.shape[1] else None
        candidates = np.arange(len(scaled)) if found is None or len(found) == 0 else np.asarray(found, dtype=int)
        return int(candidates[np.linalg.norm(scaled[candidates], axis=1).argmin()])

    return _choice("knee", surrogate, front, pick, runs)


def _normalised(values: Floats) -> Floats:
    low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray((values - low) / np.where(high > low, high - low, 1.0))


def _preference(objectives: tuple[str, ...], preference: Mapping[str, float]) -> Floats:
    for name, value in preference.items():
        if name not in objectives:
            raise ConfigError(f"preference: no objective {name!r}{nearest(name, objectives)}")
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"preference of {name!r} must be a positive number, got {value}")
    for name in objectives:
        if name not in preference:
            raise ConfigError(f"preference: no value for objective {name!r}")
    return np.array([float(preference[name]) for name in objectives])


def _choice(method: str, surrogate: Surrogate, front: PredictedFront, pick: Any, runs: int) -> Choice:
    index = pick(front.values)
    chosen = front.weights[[index]]
    picked = np.stack([front.weights[pick(values)] for values in surrogate.predict_draws(front.weights)])
    spread = np.quantile(np.vstack([picked, chosen]), [0.05, 0.95], axis=0)
    interval = surrogate.interval(chosen, runs=runs)[0]

    def named(values: Any) -> dict[str, float]:
        return {name: float(value) for name, value in zip(surrogate.objectives, values, strict=True)}

    return Choice(
        method=method,
        weights=named(chosen[0]),
        predicted=named(front.values[index]),
        low=named(interval[:, 0]),
        high=named(interval[:, 1]),
        weight_low=named(spread[0]),
        weight_high=named(spread[1]),
    )
