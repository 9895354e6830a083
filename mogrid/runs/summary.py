"""From records alone to a table: a row a strategy, means over seeds, intervals over queries and seeds, paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.evaluation.intervals import Estimate, PairedTest, corrected, estimate, paired_runs
from mogrid.runs.record import Result, RunRecord

__all__ = ["Measure", "Row", "Summary", "domain_of", "measures_of", "pairs_of", "summarise"]

Floats = NDArray[np.float64]
_CLEAN = "clean"
_DRAWN = ("trained", "merged")
"""Kinds of runs that a seed changes."""


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
    """One strategy: means over seeds, with half-widths of 95 % intervals over queries and, of several, seeds.

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
        Of the bootstrap that says how far queries move the worst domain.
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
    """Return the value and half its 95 % interval, over queries and seeds; see `estimate`."""
    names = [str(place) for place, table in enumerate(tables) for _ in range(table.shape[1])]
    if not measure.worst:
        found = estimate(np.concatenate([_even(table, tables) for table in tables], axis=1), names)
        return found.mean, found.half_width()
    rng = np.random.default_rng(seed)
    drawn = []
    for table in tables:
        weights = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), size=draws)
        drawn.append(weights @ table.mean(axis=0) / table.shape[1])
    of_queries = float(_combine(np.array(drawn), measure).var(ddof=1))
    by_seed = _combine(np.array([table.mean(axis=1) for table in tables]), measure)
    value = float(_combine(np.array([table.mean() for table in tables]), measure))
    fewest = min(table.shape[1] for table in tables)
    return value, Estimate.of(value, of_queries, fewest - 1, by_seed).half_width()


def _even(table: Floats, tables: Sequence[Floats]) -> Floats:
    """Return a domain's values, scaled so that the mean over all queries is the mean of the domains' means."""
    return table * (sum(each.shape[1] for each in tables) / len(tables) / table.shape[1])


def _tests(grouped: Mapping[str, Sequence[RunRecord]], measure: Measure, baseline: str) -> dict[str, PairedTest]:
    """Return paired tests against one label, of all that have the measure; Holm-corrected."""
    if baseline not in grouped:
        return {}
    found = {}
    for label, runs in grouped.items():
        both = pairs_of(runs, grouped[baseline])
        pairs = [(_per_query(first, measure), _per_query(second, measure)) for first, second in both]
        if label != baseline and all(all(pair) for pair in pairs):
            found[label] = paired_runs(pairs, stratum=domain_of)
    return corrected(found)


def domain_of(query: str) -> str:
    """Return the domain of a ``DOMAIN/QUERY``."""
    return query.partition("/")[0]


def pairs_of(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """Return runs of two systems side by side: those of one seed, which draw the same data.

    The base model and BM25, of which nothing is drawn, stand beside every run of the other. Runs without a seed in
    common stand beside one another in the order of their seeds.
    """
    for alone, others in ((first, second), (second, first)):
        if alone[0].kind not in _DRAWN and len({run.seed for run in alone}) == 1:
            return [(alone[0], run) if alone is first else (run, alone[0]) for run in others]
    rest, pairs = list(second), []
    for run in first:
        same = next((other for other in rest if other.seed == run.seed), None)
        if same is not None:
            rest.remove(same)
            pairs.append((run, same))
    by_seed = [sorted(runs, key=lambda run: run.seed) for runs in (first, second)]
    return pairs or list(zip(*by_seed, strict=False))


def _per_query(run: RunRecord, measure: Measure) -> dict[str, float]:
    """Return ``place/query`` → value, whose mean is the mean of the domains' means, of all that a measure averages."""
    chosen = [r for r in run.results if measure.chosen(r) and r.queries.get(measure.key)]
    even = sum(len(result.queries[measure.key]) for result in chosen) / max(len(chosen), 1)
    return {
        f"{result.place}/{query}": value * even / len(result.queries[measure.key])
        for result in chosen
        for query, value in result.queries[measure.key].items()
    }
