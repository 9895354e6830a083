"""Retrievers compared by what any tool wrote of them: per query, with intervals, paired tests and groups of queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from mogrid.data.lines import lines
from mogrid.errors import ConfigError, DataError, EvaluationError, nearest
from mogrid.evaluation.foreign import MEASURES, ONLY, Scores, read_scores
from mogrid.evaluation.intervals import holm, paired_test
from mogrid.evaluation.retriever import MODEL
from mogrid.evaluation.trec import read_qrels

__all__ = ["Compared", "Comparison", "compare_files", "compare_scores", "read_groups"]

ALL = "all"
"""The group of all queries."""


@dataclass(frozen=True)
class Compared:
    """One retriever against the first, on one set, by one measure, over one group of queries.

    Attributes
    ----------
    place, measure, group : str
        Set, split and condition, empty where the files do not say; such as ``nDCG@10``; ``"all"`` or a group's name.
    first, second : str
        Names of the retrievers.
    before, after : float
        Means of the first and the second.
    low, high : float or None
        Bootstrap interval of the mean difference (95 %, over queries). None without values per query.
    p_value : float or None
        Of the paired randomisation test, Holm-corrected over all rows of a comparison that have one.
    queries : int or None
        How many.
    """

    place: str
    measure: str
    group: str
    first: str
    second: str
    before: float
    after: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    queries: int | None = None

    @property
    def difference(self) -> float:
        """Second − first."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """What `compare_files` found.

    Attributes
    ----------
    rows : list of Compared
    notes : list of str
        What could not be compared, and why; to be shown with the rows.
    """

    rows: list[Compared]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dictionary that ``json.dumps`` takes."""
        rows = [{**asdict(row), "difference": row.difference} for row in self.rows]
        return {"rows": rows, "notes": self.notes}


def compare_files(
    paths: Sequence[Path | str],
    *,
    qrels: Path | str | None = None,
    groups: Path | str | None = None,
    measures: Sequence[str] | None = None,
    common: bool = False,
    system: str = MODEL,
    seed: int = 0,
) -> Comparison:
    """Compare files of results, each with the first. See `read_scores` for what they may be; kinds may be mixed.

    Parameters
    ----------
    paths : sequence of Path
        At least two.
    qrels : Path, optional
        Judgements that runs are measured by, in TREC's or BEIR's form.
    groups : Path, optional
        See `read_groups`.
    measures, common, seed
        As of `compare_scores`.
    system : str
        Which of the systems in evaluations of mogrid: the model, BM25, or both together.

    Raises
    ------
    DataError
        A file cannot be read or understood.
    ConfigError, EvaluationError
        As of `compare_scores`.
    """
    judged = None if qrels is None else read_qrels(qrels)
    found = [read_scores(path, qrels=judged, system=system) for path in paths]
    # Names of files, or of models, tell them apart; the same twice would not.
    names = [scores.name for scores in found]
    if len(set(names)) < len(names):
        found = [replace(scores, name=str(path)) for scores, path in zip(found, paths, strict=True)]
    by_query = None if groups is None else read_groups(groups)
    return compare_scores(found, groups=by_query, measures=measures, common=common, seed=seed)


def compare_scores(
    systems: Sequence[Scores],
    *,
    groups: Mapping[str, str] | None = None,
    measures: Sequence[str] | None = None,
    common: bool = False,
    seed: int = 0,
) -> Comparison:
    """Compare each retriever with the first, on every set and by every measure that both have.

    Parameters
    ----------
    systems : sequence of Scores
        The first is what the others are compared with.
    groups : mapping of query id to group, optional
        Rows of each group, too, beside those of all queries.
    measures : sequence of str, optional
        Only these, such as ``nDCG@10``.
    common : bool
        Compare over the queries that both have; when false, other queries are an error, since a query that a retriever
        failed on would be missing where it was worst.
    seed : int
        Of intervals and tests.

    Raises
    ------
    ConfigError
        There is nothing to compare with, or a measure is not there.
    EvaluationError
        Queries differ, or two files have no set and measure in common.
    """
    if len(systems) < 2:
        raise ConfigError("comparing takes at least two files of results")
    first, rows, notes = systems[0], list[Compared](), list[str]()
    for second in systems[1:]:
        pairs = _places(first, second)
        known = {name for a, b, _ in pairs for name in set(first.means[a]) & set(second.means[b])}
        for name in measures or ():
            if name not in known:
                raise ConfigError(f"measure {name!r} is not in both files{nearest(name, known)}")
        if not known:
            have = "; ".join(_have(scores) for scores in (first, second))
            raise EvaluationError(f"{first.name} and {second.name} have no set and measure in common: {have}")
        chosen = set(measures or known.intersection(MEASURES) or known)
        if measures is None and known - chosen:
            notes.append(f"not shown, for --measure to name: {', '.join(sorted(known - chosen))}")
        found = []
        for a, b, place in pairs:
            for measure in first.means[a]:
                if measure in second.means[b] and measure in chosen:
                    found += _compared(first, second, (a, b, place), measure, groups or {}, common, seed)
        if any(row.p_value is None for row in found):
            notes.append(f"{first.name} and {second.name}: without values per query there is no interval and no test")
        rows += found
    tested = [row.p_value for row in rows if row.p_value is not None]
    corrected = iter(holm(tested).tolist())
    rows = [row if row.p_value is None else replace(row, p_value=next(corrected)) for row in rows]
    return Comparison(rows, list(dict.fromkeys(notes)))


def read_groups(path: Path | str) -> dict[str, str]:
    """Read groups of queries: a query id and its group a line, separated by a tab.

    Raises
    ------
    DataError
        Naming file and line: malformed, or a query twice.
    """
    found: dict[str, str] = {}
    for number, text in lines(Path(path)):
        fields = text.split("\t")
        if len(fields) != 2 or not fields[1].strip():
            raise DataError(f"{path}:{number}: expected a query id and its group, separated by a tab")
        if found.setdefault(fields[0], fields[1].strip()) != fields[1].strip():
            raise DataError(f"{path}:{number}: query {fields[0]!r} is in two groups")
    return found


def _places(first: Scores, second: Scores) -> list[tuple[str, str, str]]:
    """Return the places that both have, by the names each gives them; of single ones the name does not matter."""
    both = [(place, place, place) for place in first.means if place in second.means]
    if not both and len(first.means) == len(second.means) == 1:
        (a,), (b,) = first.means, second.means
        both = [(a, b, a if a != ONLY else b)]
    return both


def _have(scores: Scores) -> str:
    sets = [f"{place or 'one set'} ({', '.join(found)})" for place, found in scores.means.items()]
    return f"{scores.name} has {', '.join(sets)[:200]}"


def _compared(
    first: Scores,
    second: Scores,
    places: tuple[str, str, str],
    measure: str,
    groups: Mapping[str, str],
    common: bool,
    seed: int,
) -> list[Compared]:
    a, b, place = places
    names = place, measure
    before = first.queries.get(a, {}).get(measure)
    after = second.queries.get(b, {}).get(measure)
    if before is None or after is None:
        means = first.means[a][measure], second.means[b][measure]
        return [Compared(*names, ALL, first.name, second.name, *means)]
    shared = [query for query in before if query in after]
    if not shared or (not common and len(shared) < max(len(before), len(after))):
        odd = sorted(before.keys() ^ after.keys())
        raise EvaluationError(
            f"{first.name} and {second.name} were not judged on the same queries{f' of {place}' if place else ''}: "
            f"{len(odd)} differ, such as {odd[0]!r}" + ("" if not shared else "; --common compares the others")
        )
    members = {ALL: shared}
    for query in shared:
        if query in groups:
            members.setdefault(groups[query], []).append(query)
    rows = []
    for group, queries in members.items():
        test = paired_test({q: after[q] for q in queries}, {q: before[q] for q in queries}, seed=seed)
        means = fmean(before[q] for q in queries), fmean(after[q] for q in queries)
        row = Compared(*names, group, first.name, second.name, *means)
        rows.append(replace(row, low=test.low, high=test.high, p_value=test.p_value, queries=test.queries))
    return rows
