"""Contrastive entropy: the continuous loss that scaling laws of dense retrieval are fitted to.

Definition: Fang et al., "Scaling Laws for Dense Retrieval", SIGIR 2024, arXiv 2403.18684.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import EvaluationError
from mogrid.retrieval.encode import check_finite

__all__ = ["calibrate_temperature", "contrastive_entropy"]

Floats = NDArray[np.floating[Any]]

_QUERIES_AT_ONCE = 256
_POOL_AT_ONCE = 16384
_TEMPERATURES = (1e-4, 1e4)


def contrastive_entropy(
    queries: Floats,
    positives: Floats,
    pool: Floats,
    *,
    rng: np.random.Generator,
    negatives: int = 256,
    redraws: int = 10,
    temperature: float = 1.0,
    exclude: Sequence[Collection[int]] | None = None,
) -> NDArray[np.float64]:
    """Return −log(e^{s⁺/T} / (e^{s⁺/T} + Σ e^{s⁻/T})) of each (query, positive) pair, averaged over redraws.

    Scores s are dot products; the negatives are drawn at random, anew for every pair and redraw, without
    replacement, from the pool without the query's relevant documents. A chance-level model scores
    log(`negatives` + 1) ≈ 5.55 nats; lower is better. The value depends on the scale of the scores: compare models
    at a temperature from `calibrate_temperature`.

    Parameters
    ----------
    queries, positives : ndarray, shape (n, d)
        One pair a row; a query with several positives takes several rows.
    pool : ndarray, shape (m, d)
        Where a query has fewer than `negatives` documents left in it, all of those are used at every redraw: values
        from such pools are smaller and compare only with their like.
    rng : numpy.random.Generator
        Equal states give equal negatives, whatever the model: pass the same seed to every model that is compared.
    negatives, redraws : int
        Fang et al. use 256 and 10.
    temperature : float
        Positive; 1 is the original definition.
    exclude : sequence of n collections of int, optional
        For each pair, the rows of `pool` that are relevant to its query.

    Returns
    -------
    ndarray, shape (n,), float64
        In nats.

    Raises
    ------
    EvaluationError
        Shapes disagree, something is empty or not finite, a setting is out of range, or a pair has no negative left.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise EvaluationError(f"temperature must be positive and finite, got {temperature}")
    draws = _draw(queries, positives, pool, rng, negatives, redraws, exclude)
    return np.concatenate([_entropy(positive, drawn, 1.0 / temperature) for positive, drawn in draws])


def calibrate_temperature(
    queries: Floats,
    positives: Floats,
    pool: Floats,
    *,
    rng: np.random.Generator,
    negatives: int = 256,
    redraws: int = 10,
    exclude: Sequence[Collection[int]] | None = None,
) -> float:
    """Return the temperature in [1e-4, 1e4] that minimises the mean contrastive entropy (Guo et al., arXiv 1706.04599).

    Use a *select* split, and apply the result to the test splits: it takes the arbitrary scale of dot products out of
    a comparison without changing any ranking. Parameters are those of `contrastive_entropy`.
    """
    return best_temperature([entropy_curve(queries, positives, pool, rng, negatives, redraws, exclude)])


def entropy_curve(
    queries: Floats,
    positives: Floats,
    pool: Floats,
    rng: np.random.Generator,
    negatives: int,
    redraws: int,
    exclude: Sequence[Collection[int]] | None,
) -> Callable[[float], float]:
    """Return the mean contrastive entropy of fixed draws as a function of 1/T; it is convex."""
    draws = list(_draw(queries, positives, pool, rng, negatives, redraws, exclude))
    count = sum(len(positive) for positive, _ in draws)
    return lambda inverse: sum(float(_entropy(positive, drawn, inverse).sum()) for positive, drawn in draws) / count


def best_temperature(curves: Sequence[Callable[[float], float]]) -> float:
    """Return the T in [1e-4, 1e4] that minimises the mean of curves over 1/T; being convex, it has no other minimum."""
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log_temperature: sum(curve(float(np.exp(-log_temperature))) for curve in curves),
        bounds=tuple(np.log(_TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(best.x))


def _entropy(
    positive: NDArray[np.float64], drawn: NDArray[np.float64], inverse_temperature: float
) -> NDArray[np.float64]:
    """Return the entropy (c,) of scores (c,) against drawn scores (redraws, c, negatives)."""
    # Scores relative to the positive's, so that the largest of them and 0 is what log-sum-exp takes out.
    margins = (drawn - positive[:, None]) * inverse_temperature
    top = np.maximum(margins.max(axis=2), 0.0)
    total = np.exp(-top) + np.exp(margins - top[..., None]).sum(axis=2)
    return np.asarray((np.log(total) + top).mean(axis=0))


def _draw(
    queries: Floats,
    positives: Floats,
    pool: Floats,
    rng: np.random.Generator,
    negatives: int,
    redraws: int,
    exclude: Sequence[Collection[int]] | None,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield, for some pairs at a time, scores of positives (c,) and of negatives (redraws, c, places).

    There are as many places as the pair with the most relevant documents needs; those that hold no negative hold −∞.
    """
    queries, positives, pool = (np.asarray(x, dtype=np.float32) for x in (queries, positives, pool))
    _check(queries, positives, pool, negatives, redraws, exclude)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        some = queries[rows]
        # A uniform draw from a uniform part of a large pool is a uniform draw, and costs one small matrix product.
        part = rng.permutation(len(pool))[:_POOL_AT_ONCE]
        relevant = _relevant_places(part, len(pool), exclude[rows]) if exclude is not None else [[]] * len(some)
        usable = np.ones((len(some), len(part)), dtype=bool)
        for row, places in enumerate(relevant):
            usable[row, places] = False
        if not usable.any(axis=1).all():
            pair = start + int(np.argmin(usable.any(axis=1)))
            raise EvaluationError(f"pair {pair}: the pool holds no document that is not relevant to its query")
        scores = (some @ pool[part].T).astype(np.float64)
        positive = np.einsum("nd,nd->n", some, positives[rows], dtype=np.float64)
        yield positive, np.stack([_sample(scores, usable, negatives, rng) for _ in range(redraws)])


def _sample(
    scores: NDArray[np.float64], usable: NDArray[np.bool_], negatives: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw `negatives` usable scores from every row: a random window of one random order of the columns.

    A window of a random permutation is a uniform draw without replacement; the window's own random start keeps the
    rows' draws all but independent of each other, at the cost of one permutation for all rows.
    """
    count, size = scores.shape
    unusable = int((~usable).sum(axis=1).max())
    places = np.arange(min(size, negatives + unusable))
    columns = rng.permutation(size)[(rng.integers(size, size=(count, 1)) + places) % size]
    drawn = np.take_along_axis(scores, columns, axis=1)
    keep = np.take_along_axis(usable, columns, axis=1)
    keep &= np.cumsum(keep, axis=1) <= negatives
    drawn[~keep] = -np.inf
    return drawn


def _relevant_places(part: NDArray[np.intp], size: int, exclude: Sequence[Collection[int]]) -> list[list[int]]:
    place_of = np.full(size, -1)
    place_of[part] = np.arange(len(part))
    return [[int(p) for p in place_of[list(relevant)] if p >= 0] if relevant else [] for relevant in exclude]


def _check(
    queries: Floats,
    positives: Floats,
    pool: Floats,
    negatives: int,
    redraws: int,
    exclude: Sequence[Collection[int]] | None,
) -> None:
    named = {"queries": queries, "positives": positives, "pool": pool}
    for name, matrix in named.items():
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise EvaluationError(f"{name} must be a matrix with at least one row and column, got {matrix.shape}")
        check_finite(matrix, name)
    if queries.shape != positives.shape or queries.shape[1] != pool.shape[1]:
        shapes = ", ".join(f"{name} {matrix.shape}" for name, matrix in named.items())
        raise EvaluationError(f"queries and positives pair up row by row and share the pool's width, got {shapes}")
    if negatives < 1 or redraws < 1:
        raise EvaluationError(f"negatives and redraws must be at least 1, got {negatives} and {redraws}")
    if exclude is None:
        return
    if len(exclude) != len(queries):
        raise EvaluationError(f"exclude has {len(exclude)} entries for {len(queries)} pairs")
    for pair, relevant in enumerate(exclude):
        if relevant and not (min(relevant) >= 0 and max(relevant) < len(pool)):
            raise EvaluationError(f"exclude of pair {pair} names a row outside the pool of {len(pool)}")
