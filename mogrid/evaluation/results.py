"""The typed record of one evaluation, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from statistics import fmean
from typing import Any

from mogrid.errors import DataError
from mogrid.evaluation.measures import COLLAPSE_DIMENSIONS, COLLAPSE_TIES

__all__ = ["CLEAN", "SplitResult", "read_fields"]

CLEAN = "clean"
"""The condition without a perturbation."""


@dataclass(frozen=True)
class SplitResult:
    """What one retriever did on one split of one domain under one condition.

    Attributes
    ----------
    domain, role : str
        ``role`` is ``"train"``, ``"select"`` or ``"test"``.
    condition : str
        ``"clean"``, or the name under which a perturbation of the queries was asked for.
    ndcg, rr, recall : dict of str to float
        nDCG@10, RR@10 and R@100 of each judged query id; ties broken against the system.
    ce : dict of str to float, or None
        Contrastive entropy of each query in nats, the mean over its relevant documents; None where there are no
        embeddings (BM25), or no select split to calibrate a temperature on.
    tie_fraction : float
        Share of neighbouring results that tie although they read differently to the model.
    temperature : float
        Of the contrastive entropy.
    negatives, redraws, seed : int
        Of the contrastive entropy's draws and of the perturbations.
    seconds : float
        Wall clock of the condition's queries: encoding, search and measures; encoding the corpus is not included.
    dimensions : float or None
        Of the documents' embeddings, effectively: see `effective_dimensions`. None where there are none.
    changed : float or None
        Share of the queries whose text the perturbation really changed; None of clean ones.
    calls, flops : int and float
        What crafting the perturbation asked of the model: see `mogrid.attacks.Cost`.
    self_hits : int
        Results left out because the query itself stands in the corpus under its own id.
    ceiling : float
        Mean nDCG@10 of the best ranking there is: below 1 where relevant documents have exact duplicates that are not
        judged. See `mogrid.evaluation.measures.ceiling`.
    kept : dict of str to float, or None
        Number of queries and means by measure, of a record that was written without values per query.
    """

    domain: str
    role: str
    condition: str
    ndcg: dict[str, float]
    rr: dict[str, float]
    recall: dict[str, float]
    ce: dict[str, float] | None
    tie_fraction: float
    temperature: float
    negatives: int
    redraws: int
    seed: int
    seconds: float
    dimensions: float | None = None
    changed: float | None = None
    calls: int = 0
    flops: float = 0.0
    self_hits: int = 0
    ceiling: float = 1.0
    kept: dict[str, float] | None = None

    @property
    def queries(self) -> int:
        """Number of judged queries."""
        return len(self.ndcg) if self.kept is None else int(self.kept["queries"])

    @property
    def means(self) -> dict[str, float]:
        """Means over queries by measure: ``ndcg``, ``rr``, ``recall`` and, where there are embeddings, ``ce``."""
        if self.kept is not None:
            return {name: value for name, value in self.kept.items() if name != "queries"}
        measures = {"ndcg": self.ndcg, "rr": self.rr, "recall": self.recall, "ce": self.ce}
        return {name: fmean(values.values()) for name, values in measures.items() if values is not None}

    @property
    def collapsed(self) -> bool:
        """Whether embeddings tell little apart: over 1 % of neighbouring results tie, or they lie near one line."""
        if self.dimensions is None:  # of BM25, whose scores tie by their nature; or of an old record
            return self.ce is not None and self.tie_fraction > COLLAPSE_TIES
        return self.dimensions < COLLAPSE_DIMENSIONS or self.tie_fraction > COLLAPSE_TIES

    def to_json(self, *, queries: bool = True) -> dict[str, Any]:
        """Return the record as a dictionary that ``json.dumps`` takes: with values per query, or their means alone."""
        slim = {"ndcg": {}, "rr": {}, "recall": {}, "ce": None, "kept": {"queries": self.queries, **self.means}}
        return asdict(self) if queries else asdict(self) | slim

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SplitResult:
        """Read what `to_json` gave. Raises `DataError` where fields are missing or unknown."""
        return cls(**read_fields(cls, record, "an evaluation"))


def read_fields(cls: Any, record: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return a record if it holds the fields of a dataclass, those with a default or not. Raises `DataError`."""
    expected = {field.name for field in fields(cls)}
    needed = {field.name for field in fields(cls) if field.default is MISSING}
    if not needed <= set(record) <= expected:
        odd = ", ".join(sorted((needed - set(record)) | (set(record) - expected)))
        raise DataError(f"not the record of {what}: fields missing or unknown: {odd}")
    return record
