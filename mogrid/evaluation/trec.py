"""TREC run and qrels files, out and in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

from mogrid.data.lines import is_header, judgements, lines, words_of
from mogrid.errors import DataError, EvaluationError
from mogrid.files import write_text
from mogrid.retrieval.types import Qrels, Run

__all__ = ["check_ids", "read_qrels", "read_run", "write_qrels", "write_run"]

# What separates words for trec_eval, in C: the white space of Unicode beyond it may stand in an id.
_SPACE = re.compile(r"[ \t\n\v\f\r]")
_NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE)


def write_run(path: Path | str, run: Run, tag: str = "mogrid") -> None:
    """Write ``query Q0 document rank score tag`` lines, by falling score, whole or not at all.

    Raises
    ------
    EvaluationError
        An id is empty or holds white space, which the format cannot express; or a score is not finite.
    """
    rows = []
    for query, found in run.items():
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        for rank, (document, score) in enumerate(ordered, start=1):
            if not math.isfinite(score):
                raise EvaluationError(f"query {query!r}: the score of document {document!r} is {score}")
            rows.append(f"{_word(query)} Q0 {_word(document)} {rank} {score!r} {_word(tag)}\n")
    write_text(Path(path), "".join(rows))


def read_run(path: Path | str) -> dict[str, dict[str, float]]:
    """Read a run; its scores decide the order, as in trec_eval, not its ranks.

    Raises
    ------
    DataError
        Naming file and line: malformed, not finite, or a document twice for one query.
    """
    run: dict[str, dict[str, float]] = {}
    path = Path(path)
    for row, (number, text) in enumerate(lines(path)):
        place, fields = f"{path}:{number}", words_of(text)
        if row == 0 and is_header(fields):
            continue
        if len(fields) != 6:
            raise DataError(f"{place}: expected 'query Q0 document rank score tag', got {len(fields)} fields")
        query, _, document, _, written, _ = fields
        if not _NUMBER.fullmatch(written):
            raise DataError(f"{place}: the score must be a number, got {written!r}")
        score = float(written)
        if not math.isfinite(score):
            raise DataError(f"{place}: the score must be finite, got {written!r}")
        if document in run.setdefault(query, {}):
            raise DataError(f"{place}: query {query!r} has document {document!r} twice")
        run[query][document] = score
    return run


def write_qrels(path: Path | str, qrels: Qrels) -> None:
    """Write ``query 0 document relevance`` lines, whole or not at all. Raises as `write_run`."""
    rows = [f"{_word(q)} 0 {_word(d)} {relevance}\n" for q, judged in qrels.items() for d, relevance in judged.items()]
    write_text(Path(path), "".join(rows))


def read_qrels(path: Path | str) -> dict[str, dict[str, int]]:
    """Read judgements: TREC's, or BEIR's three columns, with or without a line of their names.

    Raises
    ------
    DataError
        Naming file and line: malformed, or a pair that is judged twice.
    """
    qrels: dict[str, dict[str, int]] = {}
    for place, query, document, relevance in judgements(Path(path)):
        if qrels.setdefault(query, {}).setdefault(document, relevance) != relevance:
            raise DataError(f"{place}: query {query!r} and document {document!r} are judged twice, differently")
    return qrels


def check_ids(ids: Iterable[str], where: str) -> None:
    """Raise `EvaluationError`, saying where it stands, at the first id that the format cannot express."""
    for name in ids:
        try:
            _word(name)
        except EvaluationError as error:
            raise EvaluationError(f"{where}: {error}") from error


def _word(text: str) -> str:
    if not text or _SPACE.search(text) or text[0] == "\ufeff":
        raise EvaluationError(f"the TREC format has no way to write {text!r}: ids are words without white space")
    return text
