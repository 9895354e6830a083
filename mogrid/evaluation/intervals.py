"""How far a difference between two retrievers can be believed: bootstrap intervals, paired tests, Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import EvaluationError

__all__ = ["PairedTest", "bootstrap_interval", "compare", "holm", "paired_test"]

_CELLS_AT_ONCE = 2**22


@dataclass(frozen=True)
class PairedTest:
    """Outcome of a paired test of two systems on the same queries.

    Attributes
    ----------
    difference : float
        Mean of first − second, in the measure's unit.
    low, high : float
        Bootstrap interval of the difference (95 %).
    p_value : float
        Two-sided; corrected for the number of comparisons when it comes from `compare`.
    queries : int
    """

    difference: float
    low: float
    high: float
    p_value: float
    queries: int


def bootstrap_interval(
    values: ArrayLike, *, seed: int = 0, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over queries (Sakai, SIGIR 2006).

    Parameters
    ----------
    values : array_like, shape (n,)
        One value a query.
    seed : int
        Equal seeds resample equal queries.
    confidence : float
        In (0, 1).
    resamples : int
        Draws with replacement that the ends are quantiles of.

    Returns
    -------
    low, high : float
    """
    data = _vector(values)
    if not 0 < confidence < 1 or resamples < 1:
        raise EvaluationError(f"expected 0 < confidence < 1 and resamples ≥ 1, got {confidence} and {resamples}")
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // len(data))
    means = [
        data[rng.integers(len(data), size=(min(step, resamples - start), len(data)))].mean(axis=1)
        for start in range(0, resamples, step)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_test(
    first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0, permutations: int = 10_000
) -> PairedTest:
    """Test whether two systems differ in the mean over the same queries, by randomisation.

    Fisher's randomisation (sign-flip) test: under the null hypothesis each query's difference might as well have the
    other sign. It assumes no distribution, which matters for measures with many zeros, and agrees with the t-test
    where that one holds (Smucker, Allan & Carterette, CIKM 2007). p is (1 + as extreme) / (1 + `permutations`), so it
    is never 0.

    Parameters
    ----------
    first, second : mapping of query id to value
        Over the same queries, in any order.
    seed, permutations : int
        Of the random flips of sign, and how many there are.

    Raises
    ------
    EvaluationError
        The queries differ, are none, or a value is not finite.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise EvaluationError(f"the two systems were not judged on the same queries: {len(odd)} differ, as {odd[0]!r}")
    queries = sorted(first)
    differences = _vector([first[q] - second[q] for q in queries])
    observed = abs(float(differences.mean()))
    rng = np.random.default_rng(seed)
    extreme = 0
    step = max(1, _CELLS_AT_ONCE // len(queries))
    # Rounding must not make a permutation that is as extreme as the data look less so.
    threshold = observed * (1 - 1e-12)
    for start in range(0, permutations, step):
        signs = rng.integers(2, size=(min(step, permutations - start), len(queries)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ differences / len(queries)) >= threshold).sum())
    low, high = bootstrap_interval(differences, seed=seed)
    return PairedTest(float(differences.mean()), low, high, (1 + extreme) / (1 + permutations), len(queries))


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values corrected by Holm's step-down method, in the order given (Holm, 1979).

    Rejecting those below α keeps the chance of any false rejection among all of them below α.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise EvaluationError(f"p-values must be a list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result


def compare(
    systems: Mapping[str, Mapping[str, float]], baseline: Mapping[str, float], *, seed: int = 0
) -> dict[str, PairedTest]:
    """Test each system against the baseline on the same queries; p-values are Holm-corrected over the systems."""
    tests = {name: paired_test(values, baseline, seed=seed) for name, values in systems.items()}
    corrected = holm([test.p_value for test in tests.values()])
    return {name: replace(test, p_value=float(p)) for (name, test), p in zip(tests.items(), corrected, strict=True)}


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise EvaluationError(f"expected a non-empty list of finite values, got shape {data.shape}")
    return data
