"""How far a difference between two retrievers can be believed: bootstrap intervals, paired tests, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import EvaluationError

__all__ = [
    "Estimate",
    "PairedTest",
    "bootstrap_interval",
    "compare",
    "corrected",
    "estimate",
    "holm",
    "paired_runs",
    "paired_test",
]

_CELLS_AT_ONCE = 2**22
Key = TypeVar("Key")


@dataclass(frozen=True)
class PairedTest:
    """Outcome of a paired test of two systems on the same queries.

    Attributes
    ----------
    difference : float
        Mean of first − second, in the measure's unit.
    low, high : float
        Interval of the difference (95 %): over queries and seeds, or over queries where there is one seed.
    p_value : float
        Two-sided; corrected for the number of comparisons when it comes from `compare`.
    queries : int
    seeds : int
        Trainings that the difference is a mean over. With one nothing is known of how trainings differ.
    """

    difference: float
    low: float
    high: float
    p_value: float
    queries: int
    seeds: int = 1


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and queries, both of which are samples.

    Attributes
    ----------
    mean : float
    error : float
        Standard error.
    freedom : float
        Degrees of freedom of Student's t, by Welch and Satterthwaite.
    """

    mean: float
    error: float
    freedom: float

    @staticmethod
    def of(mean: float, of_queries: float, queries: int, by_seed: ArrayLike) -> Estimate:
        """Return a mean whose variance is that over queries and that over seeds.

        Parameters
        ----------
        mean : float
        of_queries : float
            Variance of the mean over seeds, as far as queries are drawn.
        queries : int
            Degrees of freedom of that.
        by_seed : array_like, shape (seeds,)
            Means over queries. One has no variance.
        """
        values = np.asarray(by_seed, dtype=np.float64)
        of_seeds = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
        total = of_queries + of_seeds
        shares = of_queries**2 / max(queries, 1) + of_seeds**2 / max(len(values) - 1, 1)
        return Estimate(mean, float(np.sqrt(total)), total**2 / shares if shares > 0 else float(max(queries, 1)))

    def half_width(self, confidence: float = 0.95) -> float:
        """Return half of the interval that holds the mean with a confidence in (0, 1)."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error

    @property
    def p_value(self) -> float:
        """Two-sided, of a true mean of 0."""
        from scipy.special import stdtr

        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))


def estimate(values: ArrayLike, strata: Sequence[str] | None = None) -> Estimate:
    """Return the mean of values by seed and query with how far seeds and queries may have moved it.

    The variance is that of the seeds' mean over queries plus that of the queries' mean over seeds; with few seeds
    the second is known badly, which the degrees of freedom carry (Welch-Satterthwaite). What a query and a seed do
    only together is in both: where trainings do not differ the interval is a little wide, about 5 % at three seeds.

    Parameters
    ----------
    values : array_like, shape (seeds, queries)
        One seed has no variance over seeds: the estimate is then of this very training.
    strata : sequence of str, optional
        What each query belongs to, such as its domain: how strata differ from one another is no chance.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise EvaluationError(f"expected finite values of seeds by queries, got shape {table.shape}")
    count, by_query = table.shape[1], table.mean(axis=0)
    own = np.zeros(count, np.intp) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    sizes = np.bincount(own)
    within = (by_query - np.bincount(own, by_query)[own] / sizes[own]) ** 2
    of_queries = float((within * (sizes / np.maximum(sizes - 1, 1))[own]).sum()) / count**2
    return Estimate.of(float(table.mean()), of_queries, count - len(sizes), table.mean(axis=1))


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


def paired_runs(
    pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    *,
    stratum: Callable[[str], str] = lambda query: "",
    seed: int = 0,
) -> PairedTest:
    """Test whether two ways to train differ in the mean over seeds and queries.

    Of several seeds by Student's t with both variances, see `estimate`; of one by `paired_test`, over queries alone.

    Parameters
    ----------
    pairs : sequence of (first, second)
        A pair a seed: values by query, all over the same queries.
    stratum : callable of a query's name
        Names what the query belongs to, such as its domain: how strata differ from one another is no chance.
    seed : int
        Of the random flips of sign and of the bootstrap, where there is one pair.

    Raises
    ------
    EvaluationError
        There is no pair, the queries differ or are none, or a value is not finite.
    """
    if not pairs:
        raise EvaluationError("there is no pair of runs to compare")
    queries = sorted(pairs[0][0])
    for values in (values for pair in pairs for values in pair):
        if sorted(values) != queries:
            raise EvaluationError("the two systems were not judged on the same queries")
    if len(pairs) == 1:
        return paired_test(*pairs[0], seed=seed)
    table = np.array([[first[query] - second[query] for query in queries] for first, second in pairs])
    found = estimate(table, [stratum(query) for query in queries])
    wide = found.half_width()
    return PairedTest(found.mean, found.mean - wide, found.mean + wide, found.p_value, len(queries), len(pairs))


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
    return corrected({name: paired_test(values, baseline, seed=seed) for name, values in systems.items()})


def corrected(tests: Mapping[Key, PairedTest]) -> dict[Key, PairedTest]:
    """Return tests with p-values that are Holm-corrected over all of them."""
    p_values = holm([test.p_value for test in tests.values()])
    return {name: replace(test, p_value=float(p)) for (name, test), p in zip(tests.items(), p_values, strict=True)}


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise EvaluationError(f"expected a non-empty list of finite values, got shape {data.shape}")
    return data
