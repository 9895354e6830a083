"""Readings of "best compromise": choose one point of a front by a preference, the knee, and others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError, nearest

__all__ = ["METHODS", "PREFERRING", "Rule", "importance", "pick"]

Floats = NDArray[np.float64]


def pick(values: Floats, method: str = "weighted", preference: Floats | None = None) -> int:
    """Return the index of the chosen among points (m, K); never of a dominated one.

    ``weighted``
        minimises Σ_k p_k l_k.
    ``chebyshev``
        minimises max_k p_k (l_k − ideal_k) / (nadir_k − ideal_k), the achievement scalarising function (Wierzbicki,
        1980): the larger an objective's p, the smaller its part of the compromise. Unlike a weighted sum it also
        reaches concave parts of a front.
    ``knee``
        of the high trade-off points (Rachmawati and Srinivasan, 2009), the one nearest the ideal; where there is none,
        the point farthest below the plane through the front's extremes (Das, 1999).

    Parameters
    ----------
    values : ndarray, shape (m, K)
        Losses: lower is better in every column.
    preference : ndarray, shape (K,), optional
        At least 0, for ``weighted`` and ``chebyshev``; equal when left out.

    Raises
    ------
    DataError
        A value is not finite, or there are none.
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


def _weighted(front: Floats, scaled: Floats, p: Floats) -> int:
    return _first_least(front @ p / np.abs(front @ p).max(), scaled)


def _chebyshev(front: Floats, scaled: Floats, p: Floats) -> int:
    return _first_least((p * scaled).max(axis=1) / p.max(), scaled)


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


Rule = Callable[[Floats, Floats, Floats], int]
_RULES: dict[str, Rule] = {
    "weighted": _weighted,
    "chebyshev": _chebyshev,
    "knee": _by_knee,
}
METHODS = tuple(_RULES)
"""Ways to choose."""
PREFERRING = ("weighted", "chebyshev")
"""Those of them that ask for a preference."""


def importance(objectives: tuple[str, ...], preference: Mapping[str, float] | None, method: str) -> Floats:
    """Return a preference as an array (K,): equal where there is none, 0 for objectives that it does not name.

    Raises
    ------
    ConfigError
        Unknown method; a preference is no number of at least 0, names no objective, is 0 for all, or the method has no
        use for it.
    """
    if method not in METHODS:
        raise ConfigError(f"no way to choose {method!r}{nearest(method, METHODS)}")
    if preference is None:
        return np.ones(len(objectives))
    if method not in PREFERRING:
        raise ConfigError(f"choosing by {method!r} has no use for a preference; {', '.join(PREFERRING)} have")
    for name, value in preference.items():
        if name not in objectives:
            raise ConfigError(f"preference: no objective {name!r}{nearest(name, objectives)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not (np.isfinite(value) and value >= 0):
            raise ConfigError(f"preference of {name!r} must be a number of at least 0, got {value!r}")
    found = np.array([float(preference.get(name, 0.0)) for name in objectives])
    if not found.any():
        raise ConfigError("a preference of 0 for every objective prefers nothing")
    return found
