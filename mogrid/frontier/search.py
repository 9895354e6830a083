"""Search the surrogate for its Pareto front with pymoo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.surrogate import Surrogate

__all__ = ["PredictedFront", "search_front"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PredictedFront:
    """Non-dominated weights under the surrogate.

    Attributes
    ----------
    weights, values : ndarray, shape (m, K)
    """

    weights: Floats
    values: Floats


def search_front(
    surrogate: Surrogate, finished: Floats, *, generations: int = 80, partitions: int = 12, seed: int = 0
) -> PredictedFront:
    """Return the surrogate's Pareto front over weights of at least the sweep's smallest one.

    NSGA-III along Das-Dennis directions for three or more objectives, NSGA-II for two. Evaluations are those of the
    surrogate, never a training; the finished runs' weights are in the first generation.

    Parameters
    ----------
    surrogate : Surrogate
    finished : ndarray, shape (n, K)
        Weights of the sweep's runs.
    generations, partitions : int
        Partitions of each axis between Das-Dennis directions.
    seed : int
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
    from pymoo.optimize import minimize
    from pymoo.util.ref_dirs import get_reference_directions

    count = len(surrogate.objectives)
    low = surrogate.lowest

    def to_simplex(x: Floats) -> Floats:
        """Map any point of the box to weights ≥ low that sum to 1."""
        free = np.clip(x - low, 1e-12, None)
        return low + (1 - count * low) * free / free.sum(axis=1, keepdims=True)

    class Normalise(Repair):  # type: ignore[misc]
        def _do(self, problem: Problem, X: Floats, **kwargs: object) -> Floats:
            return to_simplex(X)

    class Weights(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=count, n_obj=count, xl=low, xu=1.0 - (count - 1) * low)

        def _evaluate(self, x: Floats, out: dict[str, Floats], *args: object, **kwargs: object) -> None:
            out["F"] = surrogate.predict(x)

    directions = get_reference_directions("das-dennis", count, n_partitions=partitions)
    first = to_simplex(np.vstack([np.unique(finished, axis=0), low + (1 - count * low) * directions]))
    if count == 2:
        algorithm = NSGA2(pop_size=max(len(first), 40), sampling=first, repair=Normalise())
    else:
        algorithm = NSGA3(ref_dirs=directions, pop_size=len(first), sampling=first, repair=Normalise())
    result = minimize(Weights(), algorithm, ("n_gen", generations), seed=seed, verbose=False)
    weights = np.atleast_2d(result.X)
    order = np.lexsort(weights.T[::-1])
    return PredictedFront(weights[order], surrogate.predict(weights[order]))
