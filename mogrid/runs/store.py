"""The run store: one line a finished run, values of single queries beside it, appended by any number of processes.

``STORE/runs.jsonl`` has a line exactly for every finished run, ``STORE/queries.jsonl.gz`` one gzip member a run, which
``zcat`` reads. Both are appended under one lock, queries first; a line that a kill cut short is taken away by the next
writer, and never read. ``STORE/work/RUN`` holds a run's checkpoints until it is finished, and then what is kept of it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from mogrid.errors import DataError
from mogrid.runs.record import RunRecord

__all__ = ["RunStore", "run_name"]


def run_name(label: str, seed: int, digest: str) -> str:
    """Return ``label-sSEED-DIGEST``, which is a plain folder name."""
    slug = "".join(c if c.isalnum() or c in "._" else "-" for c in label).strip("-.")
    return f"{slug or 'run'}-s{seed}-{digest}"


class RunStore:
    """A folder of runs."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._lines: dict[str, dict[str, Any]] = {}
        self._read = 0  # bytes of runs.jsonl

    @property
    def path(self) -> Path:
        return self.root / "runs.jsonl"

    @property
    def queries_path(self) -> Path:
        return self.root / "queries.jsonl.gz"

    def folder(self, name: str) -> Path:
        """Return the folder of a run's work. Raises `DataError` for a name that leads elsewhere."""
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise DataError(f"{name!r} is no run's name: it must be a plain folder name")
        return self.root / "work" / name

    def add(self, record: RunRecord) -> None:
        """Append a finished run; one that is there already is left as it is."""
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".runs.lock"):
            _mend(self.path)
            if self.finished(record.name):
                return
            line = record.to_json()
            queries = record.queries()
            if queries:
                packed = gzip.compress(_line({"run": record.name, "queries": _compact(queries)}), mtime=0)
                line["kept"] = [_append(self.queries_path, packed), len(packed)]
            _append(self.path, _line(line))

    def finished(self, name: str) -> bool:
        """Return whether the run is there; other processes' runs are seen."""
        self.folder(name)  # a name that leads elsewhere is an error
        return name in self._table()

    def read(self, name: str, *, queries: bool = True) -> RunRecord:
        """Read one run.

        Raises
        ------
        DataError
            There is no such run, or it is damaged or of another format; with the file.
        """
        if not self.finished(name):
            raise DataError(f"{self.root}: no finished run {name!r}")
        return self._record(self._table()[name], queries)

    def records(self, *, queries: bool = True) -> Iterator[RunRecord]:
        """Yield all finished runs, in the order in which they finished; values of single queries where asked for."""
        for line in list(self._table().values()):
            yield self._record(line, queries)

    def __iter__(self) -> Iterator[RunRecord]:
        return self.records()

    def __len__(self) -> int:
        return len(self._table())

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Return the run's optimiser steps - losses, weights, gradient norms, cosines - where they were kept."""
        path = self.folder(name) / "steps.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def _record(self, line: dict[str, Any], queries: bool) -> RunRecord:
        value = {key: part for key, part in line.items() if key != "kept"}
        try:
            return RunRecord.from_json(value, self._queries(line) if queries else None)
        except DataError as error:
            raise DataError(f"{self.path}: run {line.get('name')!r}: {error}") from error

    def _queries(self, line: dict[str, Any]) -> dict[str, Any]:
        if "kept" not in line:
            return {}
        start, size = line["kept"]
        try:
            with self.queries_path.open("rb") as file:
                file.seek(start)
                found = json.loads(gzip.decompress(file.read(size)))
            if found["run"] != line["name"]:
                raise ValueError(f"holds run {found['run']!r} at byte {start}")
            return _expand(found["queries"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"values of single queries in {self.queries_path} cannot be read ({error})") from error

    def _table(self) -> dict[str, dict[str, Any]]:
        """Return all whole lines by run, reading only what is new since the last call."""
        try:
            size = self.path.stat().st_size
        except OSError:
            size = 0
        if size < self._read:  # replaced, by a copy say
            self._lines, self._read = {}, 0
        if size > self._read:
            with self.path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            number = len(self._lines)
            for line in whole.splitlines():
                number += 1
                value = self._parsed(line, number)
                self._lines.setdefault(value["name"], value)
            self._read += len(whole)
        return self._lines

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
            if not isinstance(value["name"], str):
                raise TypeError("its name is no text")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}:{number}: not the record of a run ({error})") from error
        return dict(value)


def _line(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n").encode()


def _append(path: Path, data: bytes) -> int:
    """Append and reach the disk; return where the data begin."""
    with path.open("ab") as file:
        start = file.seek(0, os.SEEK_END)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return start


def _mend(path: Path) -> None:
    """Cut off the part of a line that a kill left at the end."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _compact(queries: dict[str, Any]) -> dict[str, Any]:
    """Name the queries of a place once, and round what no test can tell apart."""
    found: dict[str, Any] = {}
    for place, measures in queries.items():
        ids = sorted(next(iter(measures.values())))
        found[place] = {"ids": ids}
        for measure, values in measures.items():
            if values:
                found[place][measure] = [None if query not in values else round(values[query], 5) for query in ids]
    return found


def _expand(places: dict[str, Any]) -> dict[str, Any]:
    def named(parts: dict[str, Any], measure: str) -> dict[str, float]:
        return {q: value for q, value in zip(parts["ids"], parts[measure], strict=True) if value is not None}

    return {
        place: {measure: named(parts, measure) for measure in parts if measure != "ids"}
        for place, parts in places.items()
    }
