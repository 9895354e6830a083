"""Search mixes for a Pareto front with pymoo, and the lattices of mixes that a search starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["into_box", "lattice", "search_mixes"]

Floats = NDArray[np.float64]


def lattice(count: int, points: int) -> Floats:
    """Return at least so many mixes (m, K), evenly over the simplex, corners included."""
    if count == 1:
        return np.ones((1, 1))
    return np.unique(np.vstack([_directions(count, points), np.full((1, count), 1 / count)]).round(12), axis=0)


def into_box(mixes: Floats, low: Floats, high: Floats) -> Floats:
    """Map mixes (m, K) into the part of the simplex between bounds (K,), corners to corners."""
    mixes = low + np.clip(mixes, 0, None) * (1 - low.sum())
    for _ in range(len(low)):
        over = np.clip(mixes - high, 0, None).sum(axis=1, keepdims=True)
        mixes = np.minimum(mixes, high)
        room = high - mixes
        mixes = mixes + over * room / np.maximum(room.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(mixes)


def search_mixes(
    losses: Callable[[NDArray[np.intp], Floats], Floats],
    places: int,
    low: Floats,
    high: Floats,
    known: Floats,
    *,
    generations: int = 30,
    points: int = 200,
    seed: int = 0,
) -> tuple[NDArray[np.intp], Floats]:
    """Return places (m,) and mixes (m, K) that no others dominate, found by pymoo.

    By NSGA-II, and of three losses or more by NSGA-III.

    Parameters
    ----------
    losses : callable of (places (m,), mixes (m, K)) to losses (m, n)
        Lower is better.
    places : int
        Number of alternatives beside the mix: base models.
    low, high : ndarray, shape (K,)
        Bounds of the mix.
    known : ndarray, shape (n, K)
        Mixes to start from, at every place.
    """
    import moocore
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    count = len(low)

    def read(x: Floats) -> tuple[NDArray[np.intp], Floats]:
        free = np.clip(x[:, :count], 0.0, None)
        total = free.sum(axis=1, keepdims=True)
        free = np.where(total > 1e-12, free / np.maximum(total, 1e-12), 1 / count)
        return np.minimum(x[:, count].astype(np.intp), places - 1), into_box(free, low, high)

    free = np.clip((known - low) / max(1 - low.sum(), 1e-9), 0, 1)
    first = np.column_stack([np.tile(free, (places, 1)), np.repeat(np.arange(places) + 0.5, len(free))])
    values = losses(*read(first))
    objectives = values.shape[1]

    class Mixes(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=count + 1, n_obj=objectives, xl=0.0, xu=np.r_[np.ones(count), places])

        def _evaluate(self, x: Floats, out: dict[str, Floats], *args: object, **kwargs: object) -> None:
            out["F"] = losses(*read(x))

    order = np.argsort(~np.asarray(moocore.is_nondominated(values), dtype=bool), kind="stable")
    directions = _directions(max(objectives, 2), points).copy()
    options = {"pop_size": max(len(directions), points), "sampling": first[order[: max(len(directions), points)]]}
    algorithm = NSGA2(**options) if objectives < 3 else NSGA3(ref_dirs=directions, **options)
    result = minimize(Mixes(), algorithm, ("n_gen", generations), seed=seed, verbose=False, copy_algorithm=False)
    found = np.vstack([np.atleast_2d(result.opt.get("X")), first])
    place, mixes = read(found)
    keep = np.asarray(moocore.is_nondominated(losses(place, mixes)), dtype=bool)
    rows = np.unique(np.column_stack([place, mixes]).round(9)[keep], axis=0)
    return rows[:, 0].astype(np.intp), rows[:, 1:] / rows[:, 1:].sum(axis=1, keepdims=True)


@lru_cache(maxsize=8)
def _directions(count: int, points: int) -> Floats:
    """Return at least so many Das-Dennis directions: the lattice of the simplex with the fewest partitions that do."""
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while math.comb(partitions + count - 1, count - 1) < points:
        partitions += 1
    return np.asarray(get_reference_directions("das-dennis", count, n_partitions=partitions), dtype=np.float64)
