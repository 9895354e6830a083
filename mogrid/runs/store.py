"""The run store: one folder a run, whole files only, readable by anything.

``STORE/runs/RUN/run.json`` exists exactly when the run is finished; until then the folder holds its checkpoint. A run's
name ends in a hash of its configuration, so a changed setting is another run and never overwrites an older one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from mogrid.errors import DataError
from mogrid.files import write_bytes, write_json

__all__ = ["FORMAT", "RunRecord", "RunStore", "run_name", "versions"]

PER_QUERY = ("ndcg", "rr", "recall", "ce")
"""Measures of a result that are kept per query, in a file beside the record; the record has their means."""

FORMAT = 1
"""Version of the record's layout; a store of another version is refused, not guessed at."""


@dataclass
class RunRecord:
    """What a run was and what came of it. Every table and figure is drawn from these alone.

    Attributes
    ----------
    name : str
    strategy : str
        What the rows of a table are: the solver or the fixed weights, by a short name.
    kind : str
        ``sweep`` (fixed weights the surrogate is fitted to), ``solver``, ``pareto`` (the chosen weights),
        ``untrained``, ``average`` or ``bm25``.
    seed : int
    config : dict
        Everything that determines the run.
    parameters, pairs, flops : N, D and the ledger
        N non-embedding parameters, D distinct training pairs, training FLOPs by kind.
    steps : int
        Optimiser steps.
    seconds : dict of float
        Wall time of training and of evaluation.
    results : list of dict
        One per test or select set and condition, with per-query values in a file beside this one.
    attacks : list of dict
    """

    name: str
    strategy: str
    kind: str
    seed: int
    config: dict[str, Any]
    data: str
    parameters: int = 0
    pairs: int = 0
    steps: int = 0
    flops: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    results: list[dict[str, Any]] = field(default_factory=list)
    attacks: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def run_name(strategy: str, seed: int, config: Mapping[str, Any]) -> str:
    """Return ``strategy-sSEED-HASH``; equal names mean equal configurations."""
    text = json.dumps(config, sort_keys=True, default=str)
    slug = "".join(c if c.isalnum() or c in "._" else "-" for c in strategy).strip("-")
    return f"{slug}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def versions() -> dict[str, str]:
    """Return the versions of whatever can change a number."""
    names = ("mogrid", "torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy", "tokenizers")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


class RunStore:
    """A folder of runs."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def folder(self, name: str) -> Path:
        """Return the folder of a run. Raises `DataError` for a name that leads elsewhere."""
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise DataError(f"{name!r} is no run's name: it must be a plain folder name")
        return self.root / "runs" / name

    def finished(self, name: str) -> bool:
        return (self.folder(name) / "run.json").is_file()

    def write(self, record: RunRecord) -> None:
        """Record a finished run: per-query values first, ``run.json`` last, since its presence means all is there."""
        folder = self.folder(record.name)
        slim = asdict(record)
        queries: dict[str, Any] = {}
        for result in slim["results"]:
            values = {measure: result.pop(measure) for measure in PER_QUERY}
            result["means"] = {m: sum(v.values()) / len(v) for m, v in values.items() if v}
            # Seven digits are all that single precision has; the rest would be most of the file.
            queries[_key(result)] = {
                m: v and {query: float(f"{number:.7g}") for query, number in v.items()} for m, v in values.items()
            }
        packed = gzip.compress(json.dumps(queries, allow_nan=False).encode(), mtime=0)
        write_bytes(folder / "queries.json.gz", packed)
        write_json(folder / "run.json", slim)
        checkpoints = folder / "training"
        if checkpoints.is_dir():
            shutil.rmtree(checkpoints)

    def read(self, name: str, *, queries: bool = True) -> RunRecord:
        """Read one run.

        Raises
        ------
        DataError
            Naming the file that is missing, damaged or of another format.
        """
        path = self.folder(name) / "run.json"
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable run record ({error})") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise DataError(f"{path}: format {found!r}, this version reads {FORMAT}; use a new --out folder")
        try:
            record = RunRecord(**value)
        except TypeError as error:
            raise DataError(f"{path}: {error}") from error
        if record.name != name:
            raise DataError(f"{path}: says that it is run {record.name!r}; the folder was renamed or the record edited")
        if queries:
            packed = self.folder(name) / "queries.json.gz"
            try:
                per_query = json.loads(gzip.decompress(packed.read_bytes()))
                for result in record.results:
                    del result["means"]
                    result |= per_query[_key(result)]
            except (OSError, EOFError, ValueError, KeyError) as error:
                raise DataError(f"{packed}: not readable ({error}); delete the run's folder to repeat it") from error
        return record

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Return the run's optimiser steps: losses, weights, gradient norms, cosines."""
        path = self.folder(name) / "steps.jsonl"
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    def __iter__(self) -> Iterator[RunRecord]:
        return self.records()

    def records(self, *, queries: bool = True) -> Iterator[RunRecord]:
        """Yield all finished runs by name; without per-query values, results have their means alone."""
        for path in sorted((self.root / "runs").glob("*/run.json")):
            yield self.read(path.parent.name, queries=queries)


def _key(result: Mapping[str, Any]) -> str:
    return f"{result['domain']}/{result['role']}/{result['condition']}"
