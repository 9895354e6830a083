"""Everything about one retriever: its domains, clean and perturbed, beside BM25 and both together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mogrid.data.domain import Collection, Role
from mogrid.errors import DataError
from mogrid.evaluation.fusion import interpolate, tune_interpolation
from mogrid.evaluation.intervals import PairedTest, bootstrap_interval, compare, holm
from mogrid.evaluation.judge import JudgedSplit, by_bm25, evaluate_run, judging
from mogrid.evaluation.results import CLEAN, SplitResult
from mogrid.evaluation.trec import write_run
from mogrid.files import write_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks.base import Attack

__all__ = ["BM25", "MODEL", "Evaluation", "evaluate_retriever"]

MODEL, BM25, FUSED = "model", "BM25", "BM25 + model"
_FORMAT = 1


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
    weight : float
        Of BM25 in the fusion, tuned on the source's select split.
    systems : dict of str to list of SplitResult
        One result a domain and condition.
    """

    model: str
    data: str
    source: str
    role: str
    weight: float
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
                prefix = "" if condition == "clean" else f"{condition}_"
                values[f"{prefix}ndcg"] = next(r.means["ndcg"] for r in own if r.domain == self.source)
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
        corrected = holm([test.p_value for test in found.values()])
        return {key: replace(t, p_value=float(p)) for (key, t), p in zip(found.items(), corrected, strict=True)}

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
                row["queries"] = result.queries
                test = tests.get((result.domain, result.condition)) if system == MODEL else None
                row["p_against_bm25"] = None if test is None else test.p_value
                rows.append(row)
        order = {result.domain: i for i, result in enumerate(self.systems[MODEL])}
        return sorted(rows, key=lambda row: (order[row["domain"]], row["condition"] != "clean", row["condition"]))

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
    seed: int = 0,
    runs: Path | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Evaluation:
    """Judge a retriever on the source and on every other domain of a role.

    Parameters
    ----------
    model : SentenceTransformer
        Scored by the similarity that it names itself (cosine or dot).
    collection : Collection
    role : Role
        ``select`` while anything may still be chosen, ``test`` once.
    name : str
        For the record.
    perturbations : mapping of str to Attack, optional
        Of queries, of the role that goes with `role`; none when left out.
    baselines : bool
        Judge BM25 too, and its interpolation with the model, whose weight is tuned on the source's select split.
    seed : int
        Of perturbations and negatives.
    runs : Path, optional
        Folder for TREC run files, one a domain and condition.
    progress : callable of (what is judged, share done), optional

    Raises
    ------
    RoleError
        A perturbation's role does not go with `role`, or the source has no such split.
    EvaluationError
        Embeddings are not finite.
    """
    source = collection.source
    perturbed = perturbations or {}
    # First the split that the weight of BM25 is tuned on; all select splits, whose temperature that of the test is.
    asked = [JudgedSplit(domain, Role.SELECT) for domain in (source, *collection.ood_with(Role.SELECT))]
    asked += [JudgedSplit(domain, role, perturbed) for domain in (source, *collection.ood_with(role))]
    weight = 0.0
    systems: dict[str, list[SplitResult]] = {name: [] for name in (MODEL, *((BM25, FUSED) if baselines else ()))}
    for cell in judging(model, asked, seed=seed, progress=progress):
        result, qrels = cell.result, cell.domain.split(cell.role).qrels
        tunes = baselines and cell.domain is source and cell.role is Role.SELECT and cell.condition == CLEAN
        if cell.role is not role and not tunes:
            continue
        lexical, by_words = (
            by_bm25(cell.domain, cell.role, cell.condition, cell.queries, seed) if baselines else ({}, None)
        )
        if tunes:
            weight = tune_interpolation(lexical, cell.run, qrels, "select")
        if cell.role is not role:
            continue
        systems[MODEL].append(result)
        if runs is not None:
            runs.mkdir(parents=True, exist_ok=True)
            write_run(runs / f"{result.domain}.{role}.{result.condition}.run", cell.run)
        if by_words is not None:
            systems[BM25].append(replace(by_words, changed=result.changed))
            place = result.domain, result.role
            fused = evaluate_run(
                interpolate(lexical, cell.run, weight), qrels, *place, condition=result.condition, seed=seed,
                best=result.ceiling,
            )  # fmt: skip
            systems[FUSED].append(replace(fused, changed=result.changed))
    return Evaluation(name, collection.fingerprint, source.name, str(role), weight, systems)
