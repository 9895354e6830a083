"""From run records alone to what an experiment says: objective values, table, tests, front, hypervolumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.data import Role
from mogrid.errors import DataError
from mogrid.evaluation import PairedTest, SplitResult, compare
from mogrid.experiment.measure import TYPOS
from mogrid.experiment.settings import OBJECTIVES
from mogrid.frontier import Front, Hypervolume, bootstrap_hypervolume
from mogrid.runs import RunRecord

__all__ = ["MEASURES", "Row", "Summary", "front_of", "hypervolumes", "select_ranking", "select_values", "summarise"]

Floats = NDArray[np.float64]
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One column of the table: which results it averages, and whether larger is better."""

    name: str
    key: str
    chosen: Callable[[Result, str], bool]
    worst: bool = False
    larger: bool = True


def _clean_source(result: Result, source: str) -> bool:
    return result["role"] == Role.TEST and result["condition"] == "clean" and result["domain"] == source


def _clean_other(result: Result, source: str) -> bool:
    return result["role"] == Role.TEST and result["condition"] == "clean" and result["domain"] != source


def _typos(result: Result, source: str) -> bool:
    return result["role"] == Role.TEST and result["condition"] == TYPOS


MEASURES = (
    Measure("nDCG@10", "ndcg", _clean_source),
    Measure("MRR@10", "rr", _clean_source),
    Measure("R@100", "recall", _clean_source),
    Measure("CE", "ce", _clean_source, larger=False),
    Measure("OOD nDCG@10", "ndcg", _clean_other),
    Measure("OOD worst", "ndcg", _clean_other, worst=True),
    Measure("OOD CE", "ce", _clean_other, larger=False),
    Measure("typo nDCG@10", "ndcg", _typos),
    Measure("typo CE", "ce", _typos, larger=False),
)
"""All on test-role data. ``worst`` is the worst of the OOD test domains by its mean."""


@dataclass(frozen=True)
class Row:
    """One strategy: means over seeds, half-widths of 95 % bootstrap intervals over queries and seeds.

    Attributes
    ----------
    values, widths : dict by measure name
        A measure without values (BM25 has no contrastive entropy) is left out.
    success : (float, float) or None
        Conditional SR@10 of the embedding-neighbour flips and its half-width; lower is better.
    tests : dict by measure name
        Against equal weights, Holm-corrected over strategies.
    collapsed : bool
        Whether any embeddings of the strategy tied on over 1 % of neighbouring results.
    """

    strategy: str
    kind: str
    seeds: int
    steps: int
    flops: float
    values: dict[str, float]
    widths: dict[str, float]
    success: tuple[float, float] | None
    tests: dict[str, PairedTest]
    collapsed: bool


@dataclass(frozen=True)
class Summary:
    """Rows in the order of first appearance."""

    source: str
    rows: tuple[Row, ...]


def select_values(record: RunRecord, source: str) -> Floats:
    """Return (effectiveness, ood, adversarial) of a run on select-role data: contrastive entropies in nats.

    In-domain; mean over OOD select domains; in-domain with select typos. These, never test values, are what fronts,
    surrogates and choices are made of.
    """
    return _by_objective(record, source, "ce")


def select_ranking(record: RunRecord, source: str) -> Floats:
    """Return the same of 1 − nDCG@10."""
    return 1 - _by_objective(record, source, "ndcg")


def _by_objective(record: RunRecord, source: str, measure: str) -> Floats:
    by_place: dict[str, list[float]] = {name: [] for name in OBJECTIVES}
    for result in record.results:
        value = _mean(result, measure)
        if result["role"] != Role.SELECT or value is None:
            continue
        if result["domain"] != source:
            name = "ood"
        else:
            name = "effectiveness" if result["condition"] == "clean" else "adversarial"
        by_place[name].append(value)
    for name, values in by_place.items():
        if not values:
            raise DataError(f"run {record.name!r} has no select-role value of {name!r}")
    return np.array([np.mean(by_place[name]) for name in OBJECTIVES])


def _mean(result: Result, measure: str) -> float | None:
    """Return a measure's mean over queries, from a record read with or without per-query values."""
    if "means" in result:
        known: float | None = result["means"].get(measure)
        return known
    return float(np.mean(list(result[measure].values()))) if result[measure] else None


def test_values(record: RunRecord, source: str) -> Floats:
    """Return the same three on test-role data, for showing only."""
    chosen = (_clean_source, _clean_other, _typos)
    return np.array(
        [
            np.mean([np.mean(list(r["ce"].values())) for r in record.results if r["ce"] and choose(r, source)])
            for choose in chosen
        ]
    )


def front_of(
    records: Sequence[RunRecord], source: str, values: Callable[[RunRecord, str], Floats] = select_values
) -> Front:
    """Return runs as points."""
    return Front(
        objectives=OBJECTIVES,
        values=np.stack([values(record, source) for record in records]),
        labels=tuple(record.strategy for record in records),
        seeds=tuple(record.seed for record in records),
    )


def hypervolumes(
    front: Front, sets: Mapping[str, Sequence[str]], *, draws: int = 1000
) -> dict[str, tuple[Hypervolume, int]]:
    """Return each set of strategies' hypervolume and size, all normalised by the ideal and nadir of all together."""
    _, means, _ = front.means()
    together = Front(front.objectives, means, tuple(map(str, range(len(means)))), (0,) * len(means))
    ideal, nadir = together.ideal, together.nadir
    if not (ideal < nadir).all():
        return {}  # one strategy is best at everything: there is no front
    return {
        name: (bootstrap_hypervolume(front.only(labels), ideal, nadir, draws=draws), len(labels))
        for name, labels in sets.items()
        if labels
    }


def summarise(records: Sequence[RunRecord], source: str, *, baseline: str, draws: int = 1000) -> Summary:
    """Return the table. Every number in it is computed from per-query values in the records."""
    strategies = list(dict.fromkeys(record.strategy for record in records))
    grouped = {name: [r for r in records if r.strategy == name] for name in strategies}
    tests = _tests(grouped, source, baseline)
    rows = []
    for name, runs in grouped.items():
        values: dict[str, float] = {}
        widths: dict[str, float] = {}
        for measure in MEASURES:
            tables = _tables(runs, source, measure)
            if tables:
                values[measure.name], widths[measure.name] = _interval(tables, measure, draws)
        rows.append(
            Row(
                strategy=name,
                kind=runs[0].kind,
                seeds=len(runs),
                steps=round(float(np.mean([r.steps for r in runs]))),
                flops=float(np.mean([r.flops.get("total", 0.0) for r in runs])),
                values=values,
                widths=widths,
                success=_success(runs, draws),
                tests={measure: test[name] for measure, test in tests.items() if name in test},
                collapsed=any(SplitResult.from_json(r).collapsed for run in runs for r in run.results),
            )
        )
    return Summary(source, tuple(rows))


def _tables(runs: Sequence[RunRecord], source: str, measure: Measure) -> list[Floats]:
    """Return, per result set that the measure averages, a (seeds, queries) table."""
    tables: dict[str, list[list[float]]] = {}
    for run in runs:
        for result in run.results:
            if measure.chosen(result, source) and result[measure.key]:
                queries = result[measure.key]
                tables.setdefault(result["domain"], []).append([queries[q] for q in sorted(queries)])
    return [np.array(rows) for rows in tables.values()]


def _combine(means: Floats, measure: Measure) -> Floats:
    """Reduce (domains, ...) to the mean or the worst over domains."""
    if not measure.worst:
        return np.asarray(means.mean(axis=0))
    return np.asarray(means.min(axis=0) if measure.larger else means.max(axis=0))


def _interval(tables: Sequence[Floats], measure: Measure, draws: int) -> tuple[float, float]:
    """Return the value and half its 95 % bootstrap interval; seeds and queries are both resampled."""
    rng = np.random.default_rng(0)
    value = float(_combine(np.array([table.mean() for table in tables]), measure))
    seeds = rng.integers(len(tables[0]), size=(draws, len(tables[0])))
    sampled = []
    for table in tables:
        weights = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), size=draws)
        per_seed = weights @ table.T / table.shape[1]  # (draws, seeds)
        sampled.append(np.take_along_axis(per_seed, seeds, axis=1).mean(axis=1))
    low, high = np.quantile(_combine(np.array(sampled), measure), [0.025, 0.975])
    return value, float(high - low) / 2


def _success(runs: Sequence[RunRecord], draws: int) -> tuple[float, float] | None:
    tables = [np.array([[float(o["after"] <= 10) for o in r.attacks[0]["outcomes"]]]) for r in runs if r.attacks]
    if not tables:
        return None
    measure = Measure("SR@10", "", _typos, larger=False)
    rng = np.random.default_rng(0)
    means = [t[0][rng.integers(t.shape[1], size=(draws, t.shape[1]))].mean(axis=1) for t in tables]
    picks = rng.integers(len(tables), size=(draws, len(tables)))
    sampled = np.stack(means)[picks, np.arange(draws)[:, None]].mean(axis=1)
    low, high = np.quantile(sampled, [0.025, 0.975])
    return float(_combine(np.array([t.mean() for t in tables]), measure)), float(high - low) / 2


def _tests(grouped: Mapping[str, Sequence[RunRecord]], source: str, baseline: str) -> dict[str, dict[str, PairedTest]]:
    """Paired tests on per-query means over seeds, against one strategy."""
    if baseline not in grouped:
        return {}
    tests: dict[str, dict[str, PairedTest]] = {}
    for measure in MEASURES:
        if measure.key != "ndcg" or measure.worst:
            continue
        per_query = {name: _per_query(runs, source, measure) for name, runs in grouped.items()}
        others = {name: values for name, values in per_query.items() if name != baseline and values}
        tests[measure.name] = compare(others, per_query[baseline])
    return tests


def _per_query(runs: Sequence[RunRecord], source: str, measure: Measure) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for result in run.results:
            if measure.chosen(result, source):
                for query, value in result[measure.key].items():
                    found.setdefault(f"{result['domain']}/{query}", []).append(value)
    return {query: float(np.mean(values)) for query, values in found.items()}
