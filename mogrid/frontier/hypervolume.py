"""Hypervolume: how much of the objective space a set of runs dominates, with an interval over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.frontier.points import Front

__all__ = ["REFERENCE", "Hypervolume", "bootstrap_hypervolume", "hypervolume", "hypervolume_interval"]

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

    Exact, by moocore (Fonseca et al., CEC 2006; Guerreiro and Fonseca, 2017). Ideal and nadir (K,) are those of all
    sets that are compared: a volume means nothing without them.

    Raises
    ------
    DataError
        A value is not finite (libraries skip such points silently), or the ideal is not below the nadir.
    """
    return float(_volumes(np.asarray(values, dtype=np.float64)[None], ideal, nadir)[0])


def hypervolume_interval(
    values: Floats, draws: Floats, ideal: Floats, nadir: Floats, *, confidence: float = 0.95
) -> Hypervolume:
    """Return the hypervolume of points and its interval over draws of them, from seeds, queries or a surrogate.

    Noise makes points non-dominated by luck, so draws lie above the volume of the means; the interval is moved by that
    difference (basic bootstrap around the draws' median) and holds the value.

    Parameters
    ----------
    values, draws : ndarray, shapes (n, K) and (B, n, K)
        What was measured, and what it could have been as well.
    ideal, nadir : ndarray, shape (K,)
        As for `hypervolume`.
    """
    value = hypervolume(values, ideal, nadir)
    samples = _volumes(np.asarray(draws, dtype=np.float64), ideal, nadir)
    low, middle, high = np.quantile(samples, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Hypervolume(value, max(float(value + low - middle), 0.0), float(value + high - middle))


def bootstrap_hypervolume(
    front: Front, ideal: Floats, nadir: Floats, *, draws: int = 1000, seed: int = 0
) -> Hypervolume:
    """Return the hypervolume of the strategies' seed means, with a 95 % interval over resampled seeds.

    Taking means first keeps a set with more seeds from looking larger through its luckiest run.
    """
    _, means, _ = front.means()
    return hypervolume_interval(means, front.bootstrap(draws, seed=seed), ideal, nadir)


def _volumes(sets: Floats, ideal: Floats, nadir: Floats) -> Floats:
    """Return the hypervolume of each of B sets (B, n, K)."""
    import moocore

    ideal, nadir = np.asarray(ideal, dtype=np.float64), np.asarray(nadir, dtype=np.float64)
    if sets.ndim != 3 or sets.shape[2:] != ideal.shape or ideal.shape != nadir.shape:
        raise DataError(f"points {sets.shape[1:]}, ideal {ideal.shape} and nadir {nadir.shape} differ in objectives")
    if not (np.isfinite(sets).all() and np.isfinite(ideal).all() and np.isfinite(nadir).all()):
        raise DataError("a hypervolume needs finite values")
    if not (ideal < nadir).all():
        raise DataError(f"the ideal {ideal.tolist()} must lie below the nadir {nadir.tolist()} in every objective")
    scaled = (sets - ideal) / (nadir - ideal)
    reference = np.full(len(ideal), REFERENCE)
    return np.array([float(moocore.hypervolume(points, ref=reference)) for points in scaled])
