"""Everything about one retriever: its domains, clean and perturbed, beside BM25 and both together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mogrid.data.domain import Collection, Role
from mogrid.errors import DataError, RoleError
from mogrid.evaluation.fusion import interpolate, tune_interpolation
from mogrid.evaluation.intervals import PairedTest, bootstrap_interval, compare, corrected
from mogrid.evaluation.judge import Cell, JudgedSplit, judging
from mogrid.evaluation.measured import by_bm25, evaluate_run
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.evaluation.sample import sample_domain
from mogrid.files import write_json
from mogrid.retrieval.types import Run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks.base import Attack

__all__ = ["BM25", "MODEL", "Evaluation", "evaluate_retriever"]

MODEL, BM25, FUSED = "model", "BM25", "BM25 + model"
_FORMAT = 1
_WHOLE = 0.9995  # what is shown as 1.000


@dataclass(frozen=True)
class Evaluation:
    """The record of one evaluation, of which a table, JSON and a figure are views.

    Attributes
    ----------
    model : str
        Its name or folder.
    data : str
        Fingerprint of the collection.
    source : str
        The in-domain set.
    role : str
    weight : float or None
        Of BM25 in the fusion, tuned on the source's select split; None where there is no such split, or no fusion.
    systems : dict of str to list of SplitResult
        One result a domain and condition.
    """

    model: str
    data: str
    source: str
    role: str
    weight: float | None
    systems: dict[str, list[SplitResult]]

    @property
    def collapsed(self) -> bool:
        """Whether the model's embeddings tie so often that they tell little apart, anywhere."""
        return any(result.collapsed for result in self.systems[MODEL])

    def summary(self) -> dict[str, dict[str, float]]:
        """Return, by system: ``ndcg`` in domain, ``ood_ndcg`` and ``ood_worst_ndcg`` (clean), and of each condition."""
        found: dict[str, dict[str, float]] = {}
        for system, results in self.systems.items():
            values: dict[str, float] = {}
            for condition in dict.fromkeys(result.condition for result in results):
                own = [r for r in results if r.condition == condition]
                prefix = "" if condition == CLEAN else f"{condition}_"
                values |= {f"{prefix}ndcg": r.means["ndcg"] for r in own if r.domain == self.source}
                others = [r.means["ndcg"] for r in own if r.domain != self.source]
                if others:
                    values[f"{prefix}ood_ndcg"], values[f"{prefix}ood_worst_ndcg"] = fmean(others), min(others)
            found[system] = values
        return found

    def tests(self) -> dict[tuple[str, str], PairedTest]:
        """Return, by (domain, condition), the model against BM25 on nDCG@10; Holm-corrected over all of them."""
        if BM25 not in self.systems:
            return {}
        base = {(r.domain, r.condition): r.ndcg for r in self.systems[BM25]}
        found: dict[tuple[str, str], PairedTest] = {}
        for result in self.systems[MODEL]:
            key = result.domain, result.condition
            found[key] = compare({"model": result.ndcg}, base[key])["model"]
        return corrected(found)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a domain, condition and system, with 95 % intervals over queries."""
        tests = self.tests()
        rows = []
        for system, results in self.systems.items():
            for result in results:
                row: dict[str, Any] = {"domain": result.domain, "condition": result.condition, "system": system}
                for measure, values in (("ndcg", result.ndcg), ("rr", result.rr), ("recall", result.recall)):
                    row[measure] = fmean(values.values())
                    row[f"{measure}_interval"] = list(bootstrap_interval(list(values.values())))
                row["ce"] = None if result.ce is None else fmean(result.ce.values())
                row |= {"queries": result.queries, "changed": result.changed, "ceiling": result.ceiling}
                test = tests.get((result.domain, result.condition)) if system == MODEL else None
                row["p_against_bm25"] = None if test is None else test.p_value
                rows.append(row)
        order = {result.domain: i for i, result in enumerate(self.systems[MODEL])}
        return sorted(rows, key=lambda row: (order[row["domain"]], row["condition"] != CLEAN, row["condition"]))

    def notes(self) -> list[str]:
        """Return what has to be said of the numbers, a line each."""
        clean = [result for result in self.systems[MODEL] if result.condition == CLEAN]
        found = []
        if all(result.ce is None for result in clean):
            found.append("contrastive entropy is left out: there is no select split to calibrate a temperature on")
        if BM25 in self.systems and FUSED not in self.systems:
            found.append("the fusion with BM25 is left out: there is no select split to tune its weight on")
        if self.weight is not None:
            found.append(f"weight of BM25 in the fusion, tuned on select-role data: {self.weight:.1f}")
        for result in clean:
            if result.ceiling < _WHOLE:
                found.append(
                    f"{result.domain}: nDCG@10 cannot pass {result.ceiling:.3f}: to the model, relevant documents "
                    "read the same as others that are not judged, and ties count against the system"
                )
            if result.self_hits:
                found.append(
                    f"{result.domain}: {result.self_hits} queries stand in the corpus under their own id; they are no "
                    "results of themselves"
                )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dictionary that ``json.dumps`` takes."""
        systems = {name: [result.to_json() for result in results] for name, results in self.systems.items()}
        return {**{k: getattr(self, k) for k in ("model", "data", "source", "role", "weight")}, "systems": systems,
                "format": _FORMAT}  # fmt: skip

    def save(self, path: Path | str) -> None:
        """Write the record as JSON, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> Evaluation:
        """Read what `save` wrote. Raises `DataError` naming the file."""
        try:
            value = json.loads(Path(path).read_text("utf-8"))
            if not isinstance(value, dict) or value.pop("format", None) != _FORMAT:
                raise DataError(f"{path}: not an evaluation of format {_FORMAT}")
            systems = {k: [SplitResult.from_json(r) for r in rows] for k, rows in value.pop("systems").items()}
            return cls(**value, systems=systems)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not the record of an evaluation ({error})") from error


def evaluate_retriever(
    model: SentenceTransformer,
    collection: Collection,
    role: Role = Role.SELECT,
    *,
    name: str = MODEL,
    perturbations: Mapping[str, Attack] | None = None,
    baselines: bool = True,
    max_queries: int | None = None,
    max_documents: int | None = None,
    seed: int = 0,
    observe: Callable[[Cell], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Evaluation:
    """Judge a retriever on the source and on every other domain of a role.

    Parameters
    ----------
    model : SentenceTransformer
        Scored by the similarity that it names itself (cosine or dot).
    collection : Collection
        Its select splits, where there are any, are what the temperature is calibrated and the fusion tuned on.
    role : Role
        ``select`` while anything may still be chosen, ``test`` once.
    name : str
        For the record.
    perturbations : mapping of str to Attack, optional
        Of queries, of the role that goes with `role`; none when left out.
    baselines : bool
        Judge BM25 too, and its interpolation with the model, whose weight is tuned on the source's select split.
    max_queries, max_documents : int, optional
        Judge a sample: see `sample_domain`.
    seed : int
        Of perturbations and negatives.
    observe : callable of Cell, optional
        Told each cell of the model as it is judged: to write its run, say.
    progress : callable of (what is judged, share done), optional

    Raises
    ------
    RoleError
        A perturbation's role does not go with `role`, or no domain has such a split.
    EvaluationError
        Embeddings are not finite.
    """
    source = collection.source.name
    domains = [sample_domain(d, max_queries, max_documents) for d in collection.domains]
    domains = [domain for domain in domains if {role, Role.SELECT} & set(domain.splits)]
    if not any(role in domain.splits for domain in domains):
        raise RoleError(f"none of the data sets has a {role} split")
    # The source comes first, and its select split before its test split: the fusion is tuned on it.
    asked = [JudgedSplit(domain, Role.SELECT) for domain in domains if Role.SELECT in domain.splits]
    asked += [JudgedSplit(domain, role, perturbations or {}) for domain in domains if role in domain.splits]
    weight = None
    systems: dict[str, list[SplitResult]] = {name: [] for name in (MODEL, *((BM25, FUSED) if baselines else ()))}
    for cell in judging(model, asked, seed=seed, progress=progress):
        place = cell.domain.name, str(cell.role)
        tunes = (*place, cell.condition) == (source, Role.SELECT, CLEAN)
        if not (cell.role is role or (tunes and baselines)):
            continue
        lexical: Run = {}
        if baselines:
            lexical, by_words = by_bm25(cell.domain, cell.role, cell.condition, cell.queries, seed)
            if tunes:
                weight = tune_interpolation(lexical, cell.run, cell.domain.split(cell.role).qrels, "select")
        if cell.role is not role:
            continue
        if observe is not None:
            observe(cell)
        result = cell.result
        systems[MODEL].append(result)
        if baselines:
            systems[BM25].append(replace(by_words, changed=result.changed))
        if weight is not None:
            qrels, fused = cell.domain.split(role).qrels, interpolate(lexical, cell.run, weight)
            both = evaluate_run(fused, qrels, *place, condition=cell.condition, seed=seed, best=result.ceiling)
            systems[FUSED].append(replace(both, changed=result.changed))
    systems = {name: results for name, results in systems.items() if results}
    return Evaluation(name, collection.fingerprint, source, str(role), weight, systems)
