"""Read the JSON of DPR and its descendants: a list of questions with positive and hard negative passages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mogrid.data.building import DomainBuilder
from mogrid.data.domain import Domain, Role
from mogrid.data.lines import checked_text, json_lines, located, names, open_bytes, reason_of
from mogrid.errors import DataError

__all__ = ["dpr_splits", "read_dpr"]

_POSITIVE, _NEGATIVE = "positive_ctxs", ("hard_negative_ctxs", "negative_ctxs")


def read_dpr(folder: Path | str, splits: Mapping[Role, str], *, name: str | None = None) -> Domain:
    """Read a domain from ``SPLIT.json`` or ``SPLIT.jsonl`` files (Karpukhin et al., arXiv 2004.04906).

    Each record has a ``question`` and ``positive_ctxs``, and may have ``hard_negative_ctxs`` and ``negative_ctxs``:
    lists of passages with ``text``, an optional ``title`` and an optional ``passage_id``. All passages of all splits
    are the corpus; negatives are judged 0.

    Raises
    ------
    DataError
        Naming the file, and the record's number or line, that is missing or malformed.
    RoleError
        A question stands in two of the splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    builder = DomainBuilder(name or folder.name, str(folder))
    for role, split in splits.items():
        for place, record in _records(folder, split):
            question = _string(record, "question", place)
            if not isinstance(record.get(_POSITIVE), list):
                raise DataError(f"{place}: {_POSITIVE!r} must be a list of passages")
            for key, relevance in ((_POSITIVE, 1), *((negative, 0) for negative in _NEGATIVE)):
                for number, passage in enumerate(_list(record, key, place)):
                    document = _passage(builder, passage, f"{place}, {key}[{number}]")
                    builder.judge(role, question, document, relevance, place)
    return builder.build(splits)


def dpr_splits(folder: Path) -> list[str]:
    """Return the names of the splits that a folder holds."""
    return sorted({*names(folder, "*.json"), *names(folder, "*.jsonl")})


def _records(folder: Path, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if split in names(folder, "*.jsonl"):
        path = located(folder, "*.jsonl", split)
        for number, record in json_lines(path):
            yield f"{path}:{number}", record
        return
    path = located(folder, "*.json", split, dpr_splits(folder))
    with open_bytes(path) as file:
        raw = file.read()
    try:
        records = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        place = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise DataError(f"{place}: not JSON ({reason_of(error)})") from error
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of records, got {type(records).__name__}")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, record {number}: expected an object, got {type(record).__name__}")
        yield f"{path}, record {number}", record


def _passage(builder: DomainBuilder, passage: Any, place: str) -> str:
    if not isinstance(passage, dict):
        raise DataError(f"{place}: expected an object, got {type(passage).__name__}")
    title = _string(passage, "title", place) if passage.get("title") is not None else ""
    given = passage.get("passage_id")
    if given is not None and not (isinstance(given, (str, int)) and not isinstance(given, bool) and str(given)):
        raise DataError(f"{place}: 'passage_id' must be a string or an integer, got {given!r}")
    key = None if given is None else checked_text(str(given), "'passage_id'", place)
    return builder.document(f"{title} {_string(passage, 'text', place)}".strip(), place, key)


def _list(record: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{place}: {key!r} must be a list of passages, got {type(value).__name__}")
    return value


def _string(record: Mapping[str, Any], key: str, place: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string, got {type(value).__name__}")
    return checked_text(value, repr(key), place)
