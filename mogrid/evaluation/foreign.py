"""Results that other tools wrote, per query where they have that: what `compare_files` compares."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mogrid.data.lines import json_lines, lines, open_bytes, parsed, words_of
from mogrid.errors import DataError, nearest
from mogrid.evaluation.measures import rank_measures
from mogrid.evaluation.results import SplitResult
from mogrid.evaluation.retriever import MODEL, Evaluation
from mogrid.evaluation.trec import read_run
from mogrid.retrieval.types import Qrels, Run

__all__ = ["MEASURES", "ONLY", "Scores", "read_scores"]

ONLY = ""
"""The place of a file that holds results of one set and does not say which."""

MEASURES = ("nDCG@10", "RR@10", "R@100", "CE", "main_score")
"""What is compared where nothing else is asked for and one of these is there."""

_OURS = dict(zip(("ndcg", "rr", "recall", "ce"), MEASURES, strict=False))
_FAMILIES = {
    "ndcg": "nDCG", "map": "AP", "mrr": "RR", "rr": "RR", "recall": "R", "r": "R", "precision": "P", "p": "P",
    "success": "Success", "accuracy": "Success",
}  # fmt: skip
_MEASURE = re.compile(r"([a-z]+)(?:_cut)?(?:_at_|[_.@])(\d+)")


@dataclass(frozen=True)
class Scores:
    """What one file says of one retriever.

    Attributes
    ----------
    name : str
        Of the retriever, or of the file.
    queries : dict of place to dict of measure to dict of query id to value
        A place is a set with its split and condition; `ONLY` where the file does not say.
    means : dict of place to dict of measure to float
        All that there are, those of `queries` among them.
    """

    name: str
    queries: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_scores(path: Path | str, *, qrels: Qrels | None = None, system: str = MODEL) -> Scores:
    """Read a file of results, whatever wrote it.

    =============================================  ============================  ===========
    written by                                     file                          per query
    =============================================  ============================  ===========
    ``mogrid evaluate --out``                      JSON                          yes
    TREC run                                       text of six columns           with `qrels`
    sentence-transformers, ``write_predictions``   JSON Lines                    with `qrels`
    a run as JSON: query → document → score        JSON                          with `qrels`
    ``trec_eval -q``, ``ir_measures -q``           text of three columns         yes
    ``pytrec_eval``: query → measure → value       JSON                          yes
    sentence-transformers' evaluators              CSV, its last row             no
    MTEB                                           JSON                          no
    =============================================  ============================  ===========

    Parameters
    ----------
    path : Path
        May be compressed (``.gz``).
    qrels : mapping of query id to mapping of document id to int, optional
        Judgements that runs are measured by, as everywhere here: nDCG@10, RR@10 and R@100, ties against the system.
    system : str
        Which of the systems in a file of ours.

    Raises
    ------
    DataError
        The file cannot be read, is none of these, or is a run and there are no judgements.
    """
    path = Path(path)
    bare = path.name.removesuffix(".gz")
    if bare.endswith(".csv"):
        return _csv(path)
    if bare.endswith(".jsonl"):
        return _predictions(path, qrels)
    with open_bytes(path) as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return _json(path, qrels, system) if start[:1] in (b"{", b"[") else _columns(path, qrels)


def _json(path: Path, qrels: Qrels | None, system: str) -> Scores:
    with open_bytes(path) as file:
        value = parsed(file.read().decode("utf-8", "replace").removeprefix("\ufeff"), path)
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: {_UNKNOWN}")
    if "systems" in value:
        return _evaluation(path, Evaluation.load(path), system)
    if "mteb_version" in value or "mteb_dataset_name" in value or ("task_name" in value and "scores" in value):
        return _mteb(path, value)
    if not all(isinstance(inner, dict) and inner and _numbers(inner) for inner in value.values()):
        raise DataError(f"{path}: {_UNKNOWN}")
    run = {query: {name: float(v) for name, v in inner.items()} for query, inner in value.items()}
    if qrels is not None and any(query in qrels and set(found) & set(qrels[query]) for query, found in run.items()):
        return _measured(path, run, qrels)
    measures = dict.fromkeys(name for found in run.values() for name in found)
    if len(measures) > 64:
        raise DataError(f"{path}: a run needs judgements to be measured by: give --qrels")
    by_measure = {name: {q: found[name] for q, found in run.items() if name in found} for name in measures}
    return _per_query(path.stem, {ONLY: {_known(name): values for name, values in by_measure.items()}})


def _evaluation(path: Path, found: Evaluation, system: str) -> Scores:
    if system not in found.systems:
        raise DataError(f"{path}: no system {system!r}{nearest(system, found.systems)}")
    results = found.systems[system]
    name = found.model if system == MODEL else system
    places = {_place(r): {_OURS[key]: values for key, values in _values(r).items()} for r in results}
    return _per_query(name, places)


def _place(result: SplitResult) -> str:
    return f"{result.domain}, {result.role}, {result.condition}"


def _values(result: SplitResult) -> dict[str, Mapping[str, float]]:
    found = {"ndcg": result.ndcg, "rr": result.rr, "recall": result.recall, "ce": result.ce}
    return {name: values for name, values in found.items() if values}


def _mteb(path: Path, value: Mapping[str, Any]) -> Scores:
    """Read a result file of MTEB: means by split and subset, in the layout of version 1.11 and later or the older."""
    task = str(value.get("task_name", value.get("mteb_dataset_name", path.stem)))
    means: dict[str, dict[str, float]] = {}
    splits = value.get("scores", {k: [v] for k, v in value.items() if isinstance(v, dict)})
    try:
        for split, entries in splits.items():
            for entry in entries:
                subset = str(entry.get("hf_subset", "default"))
                name = f"{task}, {split}" + ("" if subset == "default" else f", {subset}")
                means[name] = {_known(key): float(v) for key, v in entry.items() if _is_number(v)}
    except (AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a result file of MTEB ({error})") from error
    if not means:
        raise DataError(f"{path}: a result file of MTEB without scores")
    return Scores(path.stem, {}, means)


def _csv(path: Path) -> Scores:
    """Read the last row of what an evaluator of sentence-transformers appends to."""
    with open_bytes(path) as file:
        rows = list(csv.reader(file.read().decode("utf-8", "replace").removeprefix("\ufeff").splitlines()))
    if len(rows) < 2 or rows[0][:2] != ["epoch", "steps"]:
        raise DataError(f"{path}: not what an evaluator of sentence-transformers writes: its columns begin epoch,steps")
    found: dict[str, dict[str, float]] = {}
    for name, text in zip(rows[0][2:], rows[-1][2:], strict=False):
        function, dash, measure = name.rpartition("-")
        try:
            found.setdefault(function if dash else "", {})[_known(measure)] = float(text)
        except ValueError:
            raise DataError(f"{path}: column {name!r}: {text!r} is no number") from None
    if len(found) > 1:  # by similarity; RobustnessEvaluator, ours, has none
        return Scores(path.stem, {}, found)
    (values,) = found.values()
    return Scores(path.stem, {}, {ONLY: values})


def _predictions(path: Path, qrels: Qrels | None) -> Scores:
    run: dict[str, dict[str, float]] = {}
    for place, record in json_lines(path):
        try:
            run[str(record["query_id"])] = {str(r["corpus_id"]): float(r["score"]) for r in record["results"]}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{place}: expected query_id and results of corpus_id and score, as sentence-transformers writes "
                f"predictions ({type(error).__name__}: {error})"
            ) from error
    return _measured(path, run, qrels)


def _columns(path: Path, qrels: Qrels | None) -> Scores:
    first = next((words_of(text) for _, text in lines(path)), [])
    if len(first) == 6:
        return _measured(path, read_run(path), qrels)
    if len(first) != 3:
        raise DataError(f"{path}: {_UNKNOWN}")
    found: dict[str, dict[str, float]] = {}
    for place, query, measure, text in _three(path):
        if not _is_number(value := _float(text)):
            continue  # trec_eval's runid, say
        if query in found.setdefault(_known(measure), {}):
            raise DataError(f"{place}: query {query!r} has {measure!r} twice")
        found[_known(measure)][query] = value
    return _per_query(path.stem, {ONLY: {name: values for name, values in found.items() if values}})


def _three(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield (place, query, measure, value) of what ``trec_eval -q`` (measure first) or ``ir_measures -q`` writes."""
    rows = [(f"{path}:{number}", words_of(text)) for number, text in lines(path)]
    for place, fields in rows:
        if len(fields) != 3:
            raise DataError(f"{place}: expected measure, query and value, got {len(fields)} fields")
    swapped = _looks(rows, 1) > _looks(rows, 0)
    for place, fields in rows:
        query, measure = (fields[0], fields[1]) if swapped else (fields[1], fields[0])
        if query != "all":
            yield place, query, measure, fields[2]


def _looks(rows: list[tuple[str, list[str]]], column: int) -> int:
    """Return how many rows have the name of a measure in a column."""
    return sum("@" in fields[column] or _known(fields[column]) != fields[column] for _, fields in rows)


def _measured(path: Path, run: Run, qrels: Qrels | None) -> Scores:
    if qrels is None:
        raise DataError(f"{path}: a run needs judgements to be measured by: give --qrels")
    if not set(run) & set(qrels):
        raise DataError(f"{path}: no query of the run is judged (such as {next(iter(run), 'none')!r})")
    found = rank_measures(run, qrels)
    return _per_query(path.stem, {ONLY: {_OURS[name]: getattr(found, name) for name in ("ndcg", "rr", "recall")}})


def _per_query(name: str, places: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Scores:
    means = {place: {m: fmean(values.values()) for m, values in found.items()} for place, found in places.items()}
    return Scores(name, places, means)


def _known(measure: str) -> str:
    """Return ``nDCG@10`` for ``ndcg_at_10``, ``NDCG@10``, ``ndcg_cut_10`` and the like; other names as they are."""
    match = _MEASURE.fullmatch(measure.lower())
    if match and match[1] in _FAMILIES:
        return f"{_FAMILIES[match[1]]}@{match[2]}"
    return {"map": "AP", "recip_rank": "RR", "ndcg": "nDCG"}.get(measure.lower(), measure)


def _numbers(values: Mapping[str, Any]) -> bool:
    return all(_is_number(value) for value in values.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


_UNKNOWN = (
    "not a file of results: known are evaluations of mogrid, runs, predictions and CSV of sentence-transformers, "
    "result files of MTEB, and values per query of trec_eval, ir_measures and pytrec_eval"
)
