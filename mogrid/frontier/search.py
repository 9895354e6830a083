"""Search the surrogate for its Pareto front with pymoo."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier.hypervolume import Hypervolume, hypervolume_interval

__all__ = ["PredictedFront", "WeightModel", "into_box", "lattice", "search_front", "search_mixes"]

Floats = NDArray[np.float64]
Algorithm = Literal["nsga2", "nsga3", "smsemoa"]

_ALGORITHMS = ("nsga2", "nsga3", "smsemoa")


class WeightModel(Protocol):
    """What a search asks of a model of the losses over the weights; `Surrogate` is one."""

    @property
    def objectives(self) -> tuple[str, ...]: ...

    @property
    def weights(self) -> Floats: ...

    @property
    def costs(self) -> Floats | None: ...

    @property
    def lowest(self) -> float: ...

    def predict(self, weights: Floats) -> Floats: ...

    def predict_draws(self, weights: Floats) -> Floats: ...


@dataclass(frozen=True)
class PredictedFront:
    """Weights that no others dominate under the surrogate, in lexicographic order.

    Attributes
    ----------
    weights : ndarray, shape (m, K)
    values : ndarray, shape (m, K)
        Predicted, in the objectives' unit.
    """

    weights: Floats
    values: Floats

    def hypervolume(self, model: WeightModel, ideal: Floats, nadir: Floats) -> Hypervolume:
        """Return the predicted hypervolume, with a 95 % interval over the surrogate's draws."""
        return hypervolume_interval(self.values, model.predict_draws(self.weights), ideal, nadir)


def search_front(
    surrogate: WeightModel,
    finished: Floats | None = None,
    *,
    algorithm: Algorithm | None = None,
    generations: int = 60,
    points: int = 300,
    seed: int = 0,
) -> PredictedFront:
    """Return the surrogate's Pareto front over the weights that the sweep can speak of.

    Those are the simplex of weights of at least the sweep's smallest one above 0. Where the sweep has weights of 0 and
    its runs' length did not depend on them, the losses between 0 and the smallest weight are interpolated and the whole
    simplex is searched; where it did (the surrogate has costs), a run at 0 is no neighbour of a run near 0, and the
    sweep's own weightings with a 0 are added to the front as candidates.

    Parameters
    ----------
    surrogate : WeightModel
    finished : ndarray, shape (n, K), optional
        Weights of finished runs, put into the first generation; those of the surrogate when left out. They enter with
        predicted values, not measured ones: a run with a lucky seed would otherwise never leave the front.
    algorithm : {"nsga2", "nsga3", "smsemoa"}, optional
        NSGA-II for two objectives and NSGA-III along Das-Dennis directions for more, when left out.
    generations : int
    points : int
        Size of the front aimed at; rounded up to a number of Das-Dennis directions.
    seed : int

    Raises
    ------
    ConfigError
        Unknown algorithm.
    """
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
    from pymoo.optimize import minimize

    count = len(surrogate.objectives)
    if algorithm is not None and algorithm not in _ALGORITHMS:
        raise ConfigError(f"no search algorithm {algorithm!r}{nearest(algorithm, _ALGORITHMS)}")
    name = algorithm or ("nsga2" if count == 2 else "nsga3")
    has_zero = bool((surrogate.weights == 0).any())
    low = 0.0 if has_zero and surrogate.costs is None else surrogate.lowest
    room = 1 - count * low

    def to_simplex(x: Floats) -> Floats:
        """Map any point of the box to weights ≥ low that sum to 1."""
        free = np.clip(x - low, 0.0, None)
        total = free.sum(axis=1, keepdims=True)
        free = np.where(total > 1e-12, free / np.maximum(total, 1e-12), 1 / count)
        return np.asarray(low + room * free)

    class Normalise(Repair):
        def _do(self, problem: Problem, X: Floats, **kwargs: object) -> Floats:
            return to_simplex(X)

    class Weights(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=count, n_obj=count, xl=low, xu=1.0 - (count - 1) * low)

        def _evaluate(self, x: Floats, out: dict[str, Floats], *args: object, **kwargs: object) -> None:
            out["F"] = surrogate.predict(to_simplex(x))

    known = np.atleast_2d(surrogate.weights if finished is None else finished)
    inside = known[(known >= low - 1e-9).all(axis=1)]
    directions = _directions(count, points).copy()
    first = np.unique(np.vstack([to_simplex(inside), low + room * directions]).round(12), axis=0)
    result = minimize(
        Weights(),
        _build(name, directions, first, Normalise()),
        ("n_gen", generations),
        seed=seed,
        verbose=False,
        copy_algorithm=False,
    )
    weights = to_simplex(np.vstack([np.atleast_2d(result.opt.get("X")), inside]))
    if low > 0:
        weights = np.vstack([weights, surrogate.weights[(surrogate.weights == 0).any(axis=1)]])
    return _front(surrogate, weights)


def _build(name: str, directions: Floats, first: Floats, repair: Any) -> Any:
    size = max(len(first), len(directions))
    if name == "nsga3":
        from pymoo.algorithms.moo.nsga3 import NSGA3

        return NSGA3(ref_dirs=directions, pop_size=size, sampling=first, repair=repair)
    if name == "smsemoa":
        from pymoo.algorithms.moo.sms import SMSEMOA

        return SMSEMOA(pop_size=size, n_offsprings=size, sampling=first, repair=repair)
    from pymoo.algorithms.moo.nsga2 import NSGA2

    return NSGA2(pop_size=size, sampling=first, repair=repair)


def _front(surrogate: WeightModel, weights: Floats) -> PredictedFront:
    """Return the non-dominated of some weights, in an order that does not depend on how they were found."""
    import moocore

    weights = np.unique((weights / weights.sum(axis=1, keepdims=True)).round(9), axis=0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    values = surrogate.predict(weights)
    keep = np.asarray(moocore.is_nondominated(values), dtype=bool)
    return PredictedFront(weights[keep], values[keep])


@lru_cache(maxsize=8)
def _directions(count: int, points: int) -> Floats:
    """Return at least so many Das-Dennis directions: the lattice of the simplex with the fewest partitions that do."""
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while math.comb(partitions + count - 1, count - 1) < points:
        partitions += 1
    return np.asarray(get_reference_directions("das-dennis", count, n_partitions=partitions), dtype=np.float64)


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
    """Return places (m,) and mixes (m, K) that no others dominate, found by pymoo's NSGA-II or, from K = 3, NSGA-III.

    Parameters
    ----------
    losses : callable of (places (m,), mixes (m, K)) to losses (m, K)
        Lower is better.
    places : int
        Number of alternatives beside the mix: base models.
    low, high : ndarray, shape (K,)
        Bounds of the mix.
    known : ndarray, shape (n, K)
        Mixes to start from, at every place.
    """
    import moocore
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    count = len(low)

    def read(x: Floats) -> tuple[NDArray[np.intp], Floats]:
        free = np.clip(x[:, :count], 0.0, None)
        total = free.sum(axis=1, keepdims=True)
        free = np.where(total > 1e-12, free / np.maximum(total, 1e-12), 1 / count)
        return np.minimum(x[:, count].astype(np.intp), places - 1), into_box(free, low, high)

    class Mixes(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=count + 1, n_obj=count, xl=0.0, xu=np.r_[np.ones(count), places])

        def _evaluate(self, x: Floats, out: dict[str, Floats], *args: object, **kwargs: object) -> None:
            out["F"] = losses(*read(x))

    free = np.clip((known - low) / max(1 - low.sum(), 1e-9), 0, 1)
    first = np.column_stack([np.tile(free, (places, 1)), np.repeat(np.arange(places) + 0.5, len(free))])
    values = losses(*read(first))
    order = np.argsort(~np.asarray(moocore.is_nondominated(values), dtype=bool), kind="stable")
    directions = _directions(count, points).copy()
    size = max(len(directions), points)
    algorithm = _build("nsga2" if count == 2 else "nsga3", directions, first[order[:size]], None)
    algorithm.pop_size = size
    result = minimize(Mixes(), algorithm, ("n_gen", generations), seed=seed, verbose=False, copy_algorithm=False)
    found = np.vstack([np.atleast_2d(result.opt.get("X")), first])
    place, mixes = read(found)
    keep = np.asarray(moocore.is_nondominated(losses(place, mixes)), dtype=bool)
    rows = np.unique(np.column_stack([place, mixes]).round(9)[keep], axis=0)
    return rows[:, 0].astype(np.intp), rows[:, 1:] / rows[:, 1:].sum(axis=1, keepdims=True)
