"""Hypervolume: how much of the objective space a set of runs dominates, with an interval over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.frontier.points import Front

__all__ = ["REFERENCE", "Hypervolume", "bootstrap_hypervolume", "hypervolume"]

Floats = NDArray[np.float64]

REFERENCE = 1.1
"""Reference point in every normalised objective: beyond the nadir, so that extreme points count."""


@dataclass(frozen=True)
class Hypervolume:
    """A hypervolume and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def hypervolume(values: Floats, ideal: Floats, nadir: Floats) -> float:
    """Return the hypervolume of points normalised so that the ideal is 0 and the nadir 1, with reference 1.1.

    Parameters
    ----------
    values : ndarray, shape (n, K)
    ideal, nadir : ndarray, shape (K,)
        Of all sets that are compared: a volume means nothing without them.

    Returns
    -------
    float
        In [0, 1.1**K] where the ideal bounds the points.

    Raises
    ------
    DataError
        A value is not finite (libraries skip such points silently), or the ideal is not below the nadir.
    """
    import moocore

    if not (np.isfinite(values).all() and np.isfinite(ideal).all() and np.isfinite(nadir).all()):
        raise DataError("a hypervolume needs finite values")
    if not (ideal < nadir).all():
        raise DataError(f"the ideal {ideal.tolist()} must lie below the nadir {nadir.tolist()} in every objective")
    scaled = (np.asarray(values, dtype=np.float64) - ideal) / (nadir - ideal)
    return float(moocore.hypervolume(scaled, ref=np.full(len(ideal), REFERENCE)))


def bootstrap_hypervolume(
    front: Front, ideal: Floats, nadir: Floats, *, draws: int = 1000, seed: int = 0
) -> Hypervolume:
    """Return the hypervolume of the strategies' seed means, with a percentile interval over resampled seeds.

    Each draw resamples every strategy's seeds with replacement. Taking means first keeps a set with more seeds from
    looking larger through its luckiest run.
    """
    rng = np.random.default_rng(seed)
    names = tuple(dict.fromkeys(front.labels))
    rows = [front.values[[label == name for label in front.labels]] for name in names]
    value = hypervolume(np.stack([r.mean(axis=0) for r in rows]), ideal, nadir)
    samples = [
        hypervolume(np.stack([r[rng.integers(len(r), size=len(r))].mean(axis=0) for r in rows]), ideal, nadir)
        for _ in range(draws)
    ]
    low, high = np.quantile(samples, [0.025, 0.975])
    return Hypervolume(value, float(low), float(high))
