"""How much of the tuned model to take: merges with the base, judged on select-role data, and the share that is sure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from mogrid.evaluation.intervals import bootstrap_interval
from mogrid.frontier.merges import Merges
from mogrid.runs import RunRecord
from mogrid.runs.summary import domain_of
from mogrid.sweep.merging import Places, Values, by_query

__all__ = [
    "SURETY", "at_worst", "choose_share", "interval", "keeps", "merges_of", "preferred", "values_of", "worst_domain"
]  # fmt: skip

SURETY = 0.9
"""Probability with which a merge must be better than the base and keep what it must."""


def values_of(record: RunRecord, places: Places, role: str) -> dict[str, dict[str, float]]:
    """Return a record's nDCG@10 by objective and query, on one role's data."""
    found = {(r.domain, r.condition): r.queries["ndcg"] for r in record.results if r.role == role}
    return by_query(found, places)


def preferred(values: Values, preference: Mapping[str, float]) -> dict[str, float]:
    """Return by query what the preference's mean of the objectives' means is the mean of."""
    total, found = sum(preference.get(name, 0.0) for name in values), dict[str, float]()
    for name, own in values.items():
        for query, value in own.items():
            found[query] = found.get(query, 0.0) + preference.get(name, 0.0) / (total or 1.0) * value / len(own)
    return {query: len(found) * value for query, value in found.items()}


def merges_of(shares: Sequence[float], values: Sequence[Values]) -> Merges:
    """Return what shares of the tuned model, with the base as the rest, reach."""
    objectives = tuple(values[0])
    table = np.array([[interval(value[name]) for name in objectives] for value in values])
    rows = np.column_stack([1 - np.array(shares), shares])
    return Merges(("base", "tuned"), objectives, rows, table[..., 0], table[..., 1], table[..., 2])


def interval(values: Mapping[str, float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean over queries with its bootstrap interval, of draws within every domain.

    Parameters
    ----------
    values : mapping of ``DOMAIN/QUERY`` to float
    confidence : float
    """
    mean = float(np.mean(list(values.values())))
    # How domains differ is no chance: without it, drawing from all of them is drawing within each.
    even = np.concatenate([np.array(own) - np.mean(own) + mean for own in _domains(values).values()])
    return (mean, *bootstrap_interval(even, confidence=confidence))


def worst_domain(values: Mapping[str, float]) -> str:
    """Return the domain of least mean, of values by ``DOMAIN/QUERY``."""
    means = {domain: float(np.mean(list(own.values()))) for domain, own in _alone(values).items()}
    return min(means, key=lambda domain: means[domain])


def at_worst(values: Values, worst: Collection[str]) -> dict[str, Mapping[str, float]]:
    """Return a model's values with those of its worst domain alone for the objectives that are judged by that."""
    return {name: _alone(own)[worst_domain(own)] if name in worst else own for name, own in values.items()}


def choose_share(
    values: Sequence[Values],
    preference: Mapping[str, float],
    at_least: Mapping[str, float],
    worst: Collection[str] = (),
) -> int:
    """Return the row to take, of which the first is the base.

    It is the best by the preference of those that are better than the base and keep every bound, both with `SURETY`;
    the base where there is none.

    Parameters
    ----------
    values : sequence of values
        Of the base, then of every merge.
    preference : mapping of objective to float
    at_least : mapping of objective to float
        Least nDCG@10.
    worst : collection of str
        Objectives that are judged by their worst domain: by the preference, a model's worst counts, against the level
        of the base's worst; a bound is kept by every domain, since each may be the worst, and promises nothing of
        others.
    """
    base = values[0]
    own = [preferred(at_worst(value, worst), preference) for value in values]
    means = [float(np.mean(list(value.values()))) for value in own]

    def sure(row: int) -> bool:
        if _lower(_change(own[row], preferred(_beside(values[row], base, worst), preference))) <= 0:
            return False
        return all(_kept(values[row][name], base[name], least, name in worst) for name, least in at_least.items())

    return max((row for row in range(len(values)) if row == 0 or sure(row)), key=lambda row: (means[row], -row))


def _beside(value: Values, base: Values, worst: Collection[str]) -> dict[str, Mapping[str, float]]:
    """Return the base's values on a model's worst domains, moved to the level of the base's own worst.

    So differences are by query, and their mean is that of the two worst domains' means.
    """
    found = dict(base)
    for name in base.keys() & set(worst):
        there, own = _alone(base[name])[worst_domain(value[name])], at_worst(base, [name])[name]
        above = float(np.mean(list(there.values())) - np.mean(list(own.values())))
        found[name] = {query: number - above for query, number in there.items()}
    return found


def _kept(value: Mapping[str, float], base: Mapping[str, float], least: float, worst: bool) -> bool:
    if not worst:
        return keeps(value, base, least)
    there = _alone(base)
    return all(keeps(own, there[domain], least) for domain, own in _alone(value).items())


def keeps(value: Mapping[str, float], base: Mapping[str, float], least: float) -> bool:
    """Return whether a model keeps a bound with `SURETY`, on domains like those that it was judged on.

    What is promised is promised of domains that nothing has been measured on: how much the ones at hand differ in what
    a training does to them is chance, too, and a few domains tell little of how much that is, so that the margin is
    Student's, its degrees of freedom Welch and Satterthwaite's. What domains' means differ by has the chance of queries
    in it, which counts once: the larger of the two is the variance. One domain tells nothing of domains.

    `SURETY` is of this one model: among several that are looked at, one that does not keep the bound is found more
    often.

    Parameters
    ----------
    value, base : mapping of ``DOMAIN/QUERY`` to float
        Of the model and of the base.
    least : float
        Least mean.
    """
    change = _change(value, base)
    mean, groups = float(np.mean(list(change.values()))), _domains(change)
    margin = mean - _lower(change)
    if len(groups) > 1:
        even = len(change) / len(groups)  # see `by_query`: the sums of all domains weigh alike
        between = np.std([sum(own) / even for own in groups.values()], ddof=1) / np.sqrt(len(groups))
        margin = _margin(margin / NormalDist().inv_cdf(SURETY), float(between), len(groups))
    return mean - margin >= least - float(np.mean(list(base.values()))) - 1e-12


def _margin(queries: float, domains: float, count: int) -> float:
    """Return what goes with two standard errors of a mean: over queries alone, and over so many domains."""
    from scipy.special import stdtrit

    if domains == 0:
        return NormalDist().inv_cdf(SURETY) * queries
    error = max(queries, domains)
    return float(stdtrit((count - 1) * (error / domains) ** 4, SURETY)) * error


def _change(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {query: value - second[query] for query, value in first.items()}


def _lower(change: Mapping[str, float]) -> float:
    """Return what the mean exceeds in `SURETY` of the draws of queries."""
    return interval(change, 2 * SURETY - 1)[1]


def _alone(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return values by domain, without the weights that `by_query` gives them for the mean over domains."""
    groups: dict[str, dict[str, float]] = {}
    for query, value in values.items():
        groups.setdefault(domain_of(query), {})[query] = value
    even = len(values) / len(groups)
    return {domain: {q: value * len(own) / even for q, value in own.items()} for domain, own in groups.items()}


def _domains(values: Mapping[str, float]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for query, value in values.items():
        groups.setdefault(domain_of(query), []).append(value)
    return groups
