"""A finished run: what it was made with, and what came out. Every table and figure is drawn from these alone."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any, Literal

from mogrid.errors import DataError

__all__ = ["FORMAT", "MEASURES", "Kind", "Result", "RunRecord", "seconds_of", "versions"]

FORMAT = 2
"""Version of the record's layout; a store of another version is refused, not guessed at."""

MEASURES = ("ndcg", "rr", "recall", "ce")
"""Of a result: nDCG@10, RR@10, R@100, and contrastive entropy in nats where there are embeddings."""

KEPT = ("ndcg", "ce")
"""Measures that are kept for every query, for intervals and paired tests."""

Kind = Literal["trained", "base", "merged", "bm25"]


@dataclass(frozen=True)
class Result:
    """How a retriever did on one split under one condition.

    Attributes
    ----------
    domain, role, condition : str
        ``clean``, or the name of what perturbed the queries.
    means : dict of measure to mean over queries
        Of `MEASURES`, those that there are.
    queries : dict of measure to dict of query id to value
        Of `KEPT`; empty where a store was read without them.
    notes : dict of str to float or bool
        Share of tied neighbours, effective dimensions, collapse, ceiling, share of perturbed texts that changed.
    """

    domain: str
    role: str
    condition: str
    means: Mapping[str, float]
    queries: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """``domain/role/condition``: what tells results of one run apart."""
        return f"{self.domain}/{self.role}/{self.condition}"

    @property
    def collapsed(self) -> bool:
        """Whether the embeddings hardly tell documents apart."""
        return bool(self.notes.get("collapsed", False))


@dataclass(frozen=True)
class RunRecord:
    """One finished run.

    Attributes
    ----------
    name : str
        Ends in a hash of the recipe, the data and the parents; equal names mean equal runs.
    label : str
        What the run is called beside others of its scale: a mix, a solver, ``BM25``.
    kind : "trained", "base", "merged" or "bm25"
    seed : int
    model : str
        The base model, such as ``all-MiniLM-L6-v2, 2 layers``.
    parameters : int
        N, without embeddings.
    mix : dict of objective to share
        Sums to 1; empty where nothing was trained.
    spend, solver : str
    pairs : dict of objective to int
        D_k, rows drawn of each objective; a row seen twice counts twice.
    steps : int
        Optimiser steps.
    best : dict
        Of a training that kept its best weights: ``step``, whose they are, and ``history``, (step, nDCG@10 by
        objective) of all evaluations; as many steps would have been enough. Else empty.
    flops : dict of kind to float
        Of the training: ``forward``, ``backward``, ``crafting``, their ``total``, and by objective under ``by``.
    seconds : dict of stage to float
    objectives : dict of objective to dict of metric to float
        What the recipe's ``judged`` measured on select-role data: ``ce`` and ``ndcg``.
    results : tuple of Result
    temperature : float
        Calibrated on select-role data; contrastive entropies are at it.
    recipe : dict
        That the run is made anew from, defaults left out.
    data : str
        Fingerprint of everything it was trained and judged on.
    parents : dict of run name to share
        Whose weights a merged model averages; an empty name is the base model.
    attacks : tuple of dict
    versions : dict of package to version
    """

    name: str
    label: str
    kind: Kind
    seed: int
    model: str
    data: str
    recipe: Mapping[str, Any]
    parameters: int = 0
    mix: Mapping[str, float] = field(default_factory=dict)
    spend: str = ""
    solver: str = ""
    pairs: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0
    best: Mapping[str, Any] = field(default_factory=dict)
    flops: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    objectives: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    temperature: float = 1.0
    parents: Mapping[str, float] = field(default_factory=dict)
    attacks: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def total_flops(self) -> float:
        return float(self.flops.get("total", 0.0))

    @property
    def collapsed(self) -> bool:
        """Whether any of its embeddings hardly tell documents apart."""
        return any(result.collapsed for result in self.results)

    def result(self, domain: str, role: str, condition: str = "clean") -> Result | None:
        """Return one result, or None where there is none."""
        place = f"{domain}/{role}/{condition}"
        return next((result for result in self.results if result.place == place), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without those of single queries."""
        value = asdict(self)
        for result in value["results"]:
            del result["queries"]
        return value

    def queries(self) -> dict[str, Any]:
        """Return the values of single queries as plain values, by place."""
        return {
            result.place: {k: dict(v) for k, v in result.queries.items()} for result in self.results if result.queries
        }

    @classmethod
    def from_json(cls, value: Any, queries: Mapping[str, Any] | None = None) -> RunRecord:
        """Read what `to_json` and `queries` gave.

        Raises
        ------
        DataError
            The value is of another format, or lacks or has too many fields.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise DataError(f"a run of format {found!r}, this version reads {FORMAT}: use a new store")
        unknown = value.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise DataError(f"a run with a field {sorted(unknown)[0]!r}, which this version does not know")
        try:
            results = tuple(
                Result(
                    **result,
                    queries=(queries or {}).get(f"{result['domain']}/{result['role']}/{result['condition']}", {}),
                )
                for result in value.get("results", ())
            )
            return cls(**{**value, "results": results, "attacks": tuple(value.get("attacks", ()))})
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"not the record of a run ({error})") from error


def seconds_of(records: Iterable[RunRecord]) -> float:
    """Return the seconds that some runs took; those of a healing, which all runs of a base model tell of, once."""
    total, healing = 0.0, dict[str, float]()
    for record in records:
        took = dict(record.seconds)
        if "healing" in took:
            healing[record.model] = took.pop("healing")
        total += sum(took.values())
    return total + sum(healing.values())


def versions() -> dict[str, str]:
    """Return the versions of whatever can change a number."""
    names = ("mogrid", "torch", "transformers", "sentence-transformers", "faiss-cpu", "numpy", "tokenizers")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
