"""From records alone to a table: a row a strategy, means over seeds, intervals over queries and seeds, paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.evaluation.intervals import PairedTest, compare
from mogrid.runs.record import Result, RunRecord

__all__ = ["Measure", "Row", "Summary", "measures_of", "per_query", "summarise"]

Floats = NDArray[np.float64]
_CLEAN = "clean"


@dataclass(frozen=True)
class Measure:
    """One column of a table: which results it averages, and whether larger is better.

    Attributes
    ----------
    name : str
        For people.
    key : str
        Of a result's means: ``ndcg`` or ``ce``.
    chosen : callable of a result
    worst : bool
        The worst domain in place of the mean over domains.
    """

    name: str
    key: str
    chosen: Callable[[Result], bool]
    worst: bool = False

    @property
    def larger(self) -> bool:
        """Whether a larger value is better."""
        return self.key != "ce"


def measures_of(records: Sequence[RunRecord], role: str) -> list[Measure]:
    """Return what there is to show of some runs on one role's data: at home, elsewhere, and under each perturbation."""
    results = [result for record in records for result in record.results if result.role == role]
    if not results:
        raise DataError(f"the runs were not judged on {role}-role data")
    known = any(_home(result) for result in results)
    found: list[Measure] = []

    def add(name: str, chosen: Callable[[Result], bool], worst: bool = False) -> None:
        if any(chosen(result) for result in results):
            found.append(Measure(f"{name} nDCG@10".strip(), "ndcg", lambda r: r.role == role and chosen(r), worst))

    add("", lambda r: r.condition == _CLEAN and (_home(r) or not known))
    if known:
        elsewhere = {r.domain for r in results if not _home(r) and r.condition == _CLEAN}
        add("other domains'", lambda r: r.condition == _CLEAN and not _home(r))
        if len(elsewhere) > 1:
            add("worst other", lambda r: r.condition == _CLEAN and not _home(r), worst=True)
    for condition in dict.fromkeys(r.condition for r in results if r.condition != _CLEAN):
        add(condition, lambda r, c=condition: r.condition == c)  # type: ignore[misc]
    entropies = [Measure(m.name.replace("nDCG@10", "CE"), "ce", m.chosen) for m in found if not m.worst]
    return [*found, *entropies]


def _home(result: Result) -> bool:
    return bool(result.notes.get("home", False))


@dataclass(frozen=True)
class Row:
    """One strategy: means over seeds, with half-widths of 95 % bootstrap intervals over queries and seeds.

    Attributes
    ----------
    label, kind, model : str
    seeds, steps : int
    flops : float
    values, widths : dict by measure name
        A measure without values (BM25 has no contrastive entropy) is left out.
    tests : dict by measure name
        Of nDCG@10 against the baseline, Holm-corrected over the rows.
    collapsed : bool
    """

    label: str
    kind: str
    model: str
    seeds: int
    steps: int
    flops: float
    values: dict[str, float]
    widths: dict[str, float]
    tests: dict[str, PairedTest]
    collapsed: bool


@dataclass(frozen=True)
class Summary:
    """A table's rows, in the order of first appearance, and its columns."""

    role: str
    baseline: str
    measures: tuple[Measure, ...]
    rows: tuple[Row, ...]

    def row(self, label: str) -> Row:
        """Return the row of a label. Raises `DataError` where there is none."""
        found = next((row for row in self.rows if row.label == label), None)
        if found is None:
            raise DataError(f"no row {label!r}; there are {', '.join(row.label for row in self.rows)}")
        return found


def summarise(
    records: Sequence[RunRecord], role: str, *, baseline: str = "base", draws: int = 1000, seed: int = 0
) -> Summary:
    """Return the table of some runs, which must have been read with their values of single queries.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one scale: runs of one label are its seeds.
    role : str
        ``select`` or ``test``.
    baseline : str
        The label that the others are tested against; no tests where there is none such.
    draws, seed : int
        Of the bootstrap.
    """
    measures = measures_of(records, role)
    grouped: dict[str, list[RunRecord]] = {}
    for record in records:
        grouped.setdefault(record.label, []).append(record)
    tests = {m.name: _tests(grouped, m, baseline) for m in measures if m.key == "ndcg" and not m.worst}
    rows = []
    for label, runs in grouped.items():
        values: dict[str, float] = {}
        widths: dict[str, float] = {}
        for measure in measures:
            tables = _tables(runs, measure)
            if tables:
                values[measure.name], widths[measure.name] = _interval(tables, measure, draws, seed)
        rows.append(
            Row(
                label=label,
                kind=runs[0].kind,
                model=runs[0].model,
                seeds=len(runs),
                steps=round(float(np.mean([run.steps for run in runs]))),
                flops=float(np.mean([run.total_flops for run in runs])),
                values=values,
                widths=widths,
                tests={name: found[label] for name, found in tests.items() if label in found},
                collapsed=any(run.collapsed for run in runs),
            )
        )
    return Summary(role, baseline, tuple(measures), tuple(rows))


def _tables(runs: Sequence[RunRecord], measure: Measure) -> list[Floats]:
    """Return, per result set that the measure averages, a (seeds, queries) table."""
    tables: dict[str, list[list[float]]] = {}
    for run in runs:
        for result in run.results:
            values = result.queries.get(measure.key)
            if measure.chosen(result) and values:
                tables.setdefault(result.place, []).append([values[query] for query in sorted(values)])
    return [np.array(rows) for rows in tables.values()]


def _combine(means: Floats, measure: Measure) -> Floats:
    """Reduce (domains, ...) to the mean or the worst over domains."""
    if not measure.worst:
        return np.asarray(means.mean(axis=0))
    return np.asarray(means.min(axis=0) if measure.larger else means.max(axis=0))


def _interval(tables: Sequence[Floats], measure: Measure, draws: int, seed: int) -> tuple[float, float]:
    """Return the value and half its 95 % bootstrap interval; seeds and queries are both resampled."""
    rng = np.random.default_rng(seed)
    value = float(_combine(np.array([table.mean() for table in tables]), measure))
    seeds = rng.integers(len(tables[0]), size=(draws, len(tables[0])))
    sampled = []
    for table in tables:
        weights = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), size=draws)
        per_seed = weights @ table.T / table.shape[1]  # (draws, seeds)
        sampled.append(np.take_along_axis(per_seed, seeds, axis=1).mean(axis=1))
    low, high = np.quantile(_combine(np.array(sampled), measure), [0.025, 0.975])
    return value, float(high - low) / 2


def _tests(grouped: Mapping[str, Sequence[RunRecord]], measure: Measure, baseline: str) -> dict[str, PairedTest]:
    """Return paired tests on every query's mean over seeds, against one label."""
    if baseline not in grouped:
        return {}
    known = {label: per_query(runs, measure) for label, runs in grouped.items()}
    others = {label: values for label, values in known.items() if label != baseline and values}
    return compare(others, known[baseline])


def per_query(runs: Sequence[RunRecord], measure: Measure) -> dict[str, float]:
    """Return ``place/query`` → mean over seeds, of all results that a measure averages."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for result in run.results:
            if measure.chosen(result):
                for query, value in result.queries.get(measure.key, {}).items():
                    found.setdefault(f"{result.place}/{query}", []).append(value)
    return {query: float(np.mean(values)) for query, values in found.items()}
