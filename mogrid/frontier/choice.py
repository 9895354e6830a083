"""Choose one point of a front: by a preference ray, the knee, and other readings of "best compromise"."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier.hypervolume import REFERENCE
from mogrid.frontier.search import PredictedFront
from mogrid.frontier.surrogate import Surrogate

__all__ = ["METHODS", "NEAR", "Choice", "choose", "knee", "pick"]

Floats = NDArray[np.float64]
Method = Literal["preference", "pseudo-weights", "knee", "hypervolume", "equal regret"]

NEAR = 0.1
"""Two weightings are as good as the same when this share of the weight, or less, lies elsewhere."""


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


def pick(values: Floats, method: Method = "preference", preference: Floats | None = None) -> int:
    """Return the index of the chosen among points (m, K); never of a dominated one.

    ``preference``
        minimises max_k p_k (l_k − ideal_k) / (nadir_k − ideal_k), the achievement scalarising function (Wierzbicki,
        1980): the larger an objective's p, the smaller its part of the compromise. Unlike a weighted sum it also
        reaches concave parts of a front.
    ``pseudo-weights``
        the point whose distances from the nadir are shared out most nearly as p (Deb, 2001).
    ``knee``
        of the high trade-off points (Rachmawati and Srinivasan, 2009), the one nearest the ideal; where there is none,
        the point farthest below the plane through the front's extremes (Das, 1999).
    ``hypervolume``
        the largest exclusive part of the normalised hypervolume; favours extremes.
    ``equal regret``
        minimises max_k (l_k / ideal_k − 1): every objective gives up the same percentage of its best.

    Parameters
    ----------
    values : ndarray, shape (m, K)
    preference : ndarray, shape (K,), optional
        Positive; equal when left out.

    Raises
    ------
    DataError
        A value is not finite, there are none, or (equal regret) an ideal is not positive.
    """
    import moocore

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise DataError(f"a choice needs at least one point and finite values, got shape {values.shape}")
    open_ = np.flatnonzero(moocore.is_nondominated(values))
    front = values[open_]
    if len(front) == 1:
        return int(open_[0])
    low, high = front.min(axis=0), front.max(axis=0)
    scaled = (front - low) / np.where(high > low, high - low, 1.0)
    p = np.ones(values.shape[1]) if preference is None else np.asarray(preference, dtype=np.float64)
    return int(open_[_RULES[method](front, scaled, p)])


def _first_least(scores: Floats, scaled: Floats) -> int:
    """Return the least score's index; ties go to the least sum of the normalised objectives."""
    return int(np.lexsort((scaled.sum(axis=1), np.round(scores, 12)))[0])


def _by_preference(front: Floats, scaled: Floats, p: Floats) -> int:
    from pymoo.decomposition.asf import ASF

    # pymoo divides by what it calls weights, so importance goes in as its reciprocal.
    return _first_least(np.ravel(ASF().do(scaled, 1.0 / p)), scaled)


def _by_pseudo_weights(front: Floats, scaled: Floats, p: Floats) -> int:
    from pymoo.mcdm.pseudo_weights import PseudoWeights

    # Bounds are given: an objective that is the same everywhere would otherwise divide by zero.
    bounds = {"ideal": np.zeros(len(p)), "nadir": np.ones(len(p))}
    return int(PseudoWeights(p / p.sum(), **bounds).do(scaled))


def _by_knee(front: Floats, scaled: Floats, p: Floats) -> int:
    from pymoo.mcdm.high_tradeoff import HighTradeoffPoints

    found = None
    if len(scaled) > 2 * scaled.shape[1]:
        # pymoo divides 0 by 0 and silences all warnings of the process: put them back.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found = HighTradeoffPoints(ideal=np.zeros(scaled.shape[1]), nadir=np.ones(scaled.shape[1])).do(scaled)
            except ValueError:  # no trade-off is finite
                found = None
    if found is None or not len(found):
        return _first_least(scaled.sum(axis=1), scaled)
    found = np.asarray(found, dtype=np.intp)
    return int(found[_first_least(np.linalg.norm(scaled[found], axis=1), scaled[found])])


def _by_hypervolume(front: Floats, scaled: Floats, p: Floats) -> int:
    import moocore

    return _first_least(-np.asarray(moocore.hv_contributions(scaled, ref=np.full(len(p), REFERENCE))), scaled)


def _by_regret(front: Floats, scaled: Floats, p: Floats) -> int:
    ideal = front.min(axis=0)
    if not (ideal > 0).all():
        raise DataError(f"equal regret is a percentage of the ideal, which must be positive, got {ideal.tolist()}")
    return _first_least((front / ideal - 1).max(axis=1), scaled)


_PREFERRING = ("preference", "pseudo-weights")
_RULES: dict[str, Callable[[Floats, Floats, Floats], int]] = {
    "preference": _by_preference,
    "pseudo-weights": _by_pseudo_weights,
    "knee": _by_knee,
    "hypervolume": _by_hypervolume,
    "equal regret": _by_regret,
}
METHODS = tuple(_RULES)
"""Ways to choose, for `choose` and `pick`."""


def _preference(objectives: tuple[str, ...], preference: Mapping[str, float] | None, method: str) -> Floats:
    if method not in _RULES:
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
