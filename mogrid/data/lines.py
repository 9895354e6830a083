"""Lines of text files and their values: every error names file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from mogrid.errors import DataError, nearest

__all__ = ["checked_text", "integer", "json_lines", "lines", "located", "names", "open_bytes", "reason_of", "text_of"]


def located(folder: Path, pattern: str, name: str, known: Iterable[str] | None = None) -> Path:
    """Return the file ``pattern`` with ``*`` replaced by a name, or its ``.gz``, that lies in a folder.

    Names that would have been right are ``known``, or those for which the folder holds the file.

    Raises
    ------
    DataError
        There is none, or ``..`` or a symbolic link leads out of the folder.
    """
    path = folder / pattern.replace("*", name)
    try:
        if not path.is_file() and path.with_name(f"{path.name}.gz").is_file():
            path = path.with_name(f"{path.name}.gz")
        outside = not path.resolve().is_relative_to(folder.resolve())
        there = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a null byte, a loop of links
        raise DataError(f"{folder}: {name!r} names no file ({error})") from error
    if outside:
        raise DataError(f"{path}: leads out of {folder}")
    if not there:
        hint = nearest(name, names(folder, pattern) if known is None else known) if "*" in pattern else ""
        raise DataError(f"{path}: no such file{hint}" if hint else f"{path}: cannot be read (no such file)")
    return path


def names(folder: Path, pattern: str) -> list[str]:
    """Return what ``*`` stands for in the files of a folder, compressed or not."""
    before, _, after = (folder / pattern).name.partition("*")
    parent = (folder / pattern).parent
    found = (*parent.glob(f"{before}*{after}"), *parent.glob(f"{before}*{after}.gz"))
    return sorted({path.name.removesuffix(".gz").removeprefix(before).removesuffix(after) for path in found})


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


def reason_of(error: ValueError | RecursionError) -> str:
    """Return why a text is not JSON."""
    return "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of every line that is not blank."""
    with open_bytes(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: not UTF-8 at byte {error.start} of the line") from error
            if text.strip():
                yield number, text


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number from 1, object) of every line that is not blank."""
    for number, text in lines(path):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON ({reason_of(error)})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: expected an object, got {type(record).__name__}")
        yield number, record


def text_of(record: Mapping[str, Any], key: str, place: str) -> str:
    """Return a string of a record."""
    if key not in record:
        raise DataError(f"{place}: no {key!r}")
    value = record[key]
    if not isinstance(value, str):
        raise DataError(f"{place}: {key!r} must be a string, got {type(value).__name__}")
    if key == "_id" and not value:
        raise DataError(f"{place}: '_id' is empty")
    return checked_text(value, repr(key), place)


def checked_text(value: str, what: str, place: str) -> str:
    """Return a text that can be written as UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{place}: {what} holds half of a surrogate pair, which is no text") from None
    return value


def integer(value: object, place: str) -> int:
    """Return a relevance, which trec_eval keeps in 32 bits."""
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) >= 2**31:
        raise DataError(f"{place}: relevance must be an integer, got {str(value)[:40]!r}")
    return number
