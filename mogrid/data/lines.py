"""Lines of text files and their values: every error names file and line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from mogrid.errors import DataError, nearest

__all__ = [
    "checked_text",
    "identifier_of",
    "integer",
    "is_header",
    "json_lines",
    "judgements",
    "lines",
    "open_bytes",
    "parsed",
    "text_of",
    "words_of",
]

# C's white space, as trec_eval has it; an id may hold the rest of Unicode's.
_SPACE = re.compile(r"[ \t\v\f\r]+")
_INNER = re.compile(r"[ \v\f\r]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_HEADER = re.compile(
    r"[#_]?((query|topic|corpus|doc|document|passage|psg)s?[-_ ]?(id)?|[qpd]?id|iter(ation)?|score|rank|tag|text"
    r"|rel(evance)?|label|title|url|body|contents?|run)",
    re.IGNORECASE,
)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, through gzip where it ends in ``.gz``; what goes wrong while it is read is a `DataError`."""
    try:
        with path.open("rb") as file:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of every line that is not blank, without byte-order marks."""
    with open_bytes(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8").rstrip("\r\n").lstrip("\ufeff")
            except UnicodeDecodeError as error:
                utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
                why = "but UTF-16; save it as UTF-8" if utf16 else f"at byte {error.start} of the line"
                raise DataError(f"{path}:{number}: not UTF-8 {why}") from error
            if text.strip(" \t\v\f"):
                yield number, text


def parsed(text: str, path: Path, line: int | None = None) -> Any:
    """Return the value of a JSON text, or raise a `DataError` that names the line."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))
        place = line if line is not None else getattr(error, "lineno", 1)
        raise DataError(f"{path}:{place}: not JSON ({reason})") from error


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) of every line that is not blank."""
    for number, text in lines(path):
        record = parsed(text, path, number)
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: expected an object, got {type(record).__name__}")
        yield f"{path}:{number}", record


def words_of(line: str) -> list[str]:
    """Return the fields of a line of a TREC file."""
    return [word for word in _SPACE.split(line) if word]


def is_header(fields: list[str]) -> bool:
    """Whether a file's first line names its columns: every field is the usual name of one (a column of 0 has none)."""
    named = [field.strip() for field in fields if field not in ("0", "Q0")]
    return len(named) > 1 and named[-1] == fields[-1].strip() and all(_HEADER.fullmatch(name) for name in named)


def judgements(path: Path, *, tabs: bool = False) -> Iterator[tuple[str, str, str, int]]:
    """Yield (place, query, document, relevance) of BEIR's, MS MARCO's and TREC's files of judgements.

    Fields are separated by tabs or by white space: query, document, relevance; or, of four, with one that nobody reads
    in second place. A first line of usual names of columns is passed over; where it has two tabs, so have the others.

    Parameters
    ----------
    path : Path
    tabs : bool
        Whether ids of a line with two tabs may hold spaces, and a first line that is no judgement names columns (BEIR).
    """
    for row, (number, text) in enumerate(lines(path)):
        place, fields = f"{path}:{number}", text.split("\t")
        if len(fields) != 4 and not (len(fields) == 3 and (tabs or not _INNER.search(text))):
            fields = words_of(text)
        if row == 0 and (is_header(fields) or (tabs and not _INTEGER.fullmatch(fields[-1].strip()))):
            tabs = tabs or text.count("\t") == 2
            continue
        if len(fields) not in (3, 4):
            raise DataError(f"{place}: expected 'query document relevance', got {len(fields)} fields")
        yield place, fields[0], fields[-2], integer(fields[-1], place)


def text_of(record: Mapping[str, Any], key: str, place: str) -> str:
    """Return a string of a record; null is an empty one."""
    if key not in record:
        raise DataError(f"{place}: no {key!r}{nearest(key, map(str, record))}")
    value = record[key]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string, got {type(value).__name__}")
    return checked_text(value, repr(key), place)


def identifier_of(record: Mapping[str, Any], key: str, place: str) -> str:
    """Return an id of a record: a string that is not empty, or an integer as one."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise DataError(f"{place}: no {key!r}{nearest(key, map(str, record))}")
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string or an integer, got {type(value).__name__}")
    if not value:
        raise DataError(f"{place}: {key!r} is empty")
    return checked_text(value, repr(key), place)


def checked_text(value: str, what: str, place: str) -> str:
    """Return a text that can be written as UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place}: {what} holds half of a surrogate pair, which is no text") from None
    return value


def integer(value: object, place: str) -> int:
    """Return a relevance, which trec_eval keeps in 32 bits; ``1.0`` is one."""
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip(" \t\r")):
        value = int(value.strip(" \t\r").partition(".")[0])
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31:
        raise DataError(f"{place}: relevance must be an integer, got {str(value)[:40]!r}")
    return value
