"""Robustness measured inside sentence-transformers' trainer and ours."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers.evaluation import SentenceEvaluator

from mogrid.attacks.base import Attack
from mogrid.attacks.typos import SELECT_TYPOS
from mogrid.data.domain import Collection, Role
from mogrid.errors import RoleError
from mogrid.evaluation.judge import JudgedSplit, judge
from mogrid.evaluation.results import CLEAN

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RobustnessEvaluator"]


class RobustnessEvaluator(SentenceEvaluator):
    """Effectiveness, OOD and adversarial robustness of a model in training, as named metrics.

    Give it as ``evaluator=`` to ``SentenceTransformerTrainer`` or ``ParetoTrainer``. On select-role data: what is
    looked at while training steers it, so test-role data is refused.

    Metrics are ``ndcg``, ``typo_ndcg``, ``ood_ndcg`` (mean), ``ood_worst_ndcg`` and the contrastive entropies ``ce``,
    ``typo_ce``, ``ood_ce``; the primary one, for ``metric_for_best_model``, is the mean of the first three.

    Parameters
    ----------
    collection : Collection
    perturbation : Attack, optional
        Of queries, with the role ``select``; typos when left out.
    role : Role
    name : str
        Put before the metrics' names.
    write_csv : bool
        Append a row a call to ``robustness_evaluation_NAME.csv`` in the output folder.

    Raises
    ------
    RoleError
        The role is not ``select``, or the perturbation's is not.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        perturbation: Attack | None = None,
        role: Role = Role.SELECT,
        name: str = "",
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        if role is not Role.SELECT:
            raise RoleError(f"what is looked at while training steers it: the role is 'select', not {str(role)!r}")
        self.perturbation: Attack = perturbation or SELECT_TYPOS
        if self.perturbation.role is not Role.SELECT:
            raise RoleError(f"attack {self.perturbation.name!r} has role {self.perturbation.role}, not 'select'")
        self.collection = collection
        self.role = role
        self.name = name
        self.write_csv = write_csv
        self.primary_metric = "robustness"

    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        source = self.collection.source
        splits = [JudgedSplit(source, self.role, {"typo": self.perturbation})]
        splits += [JudgedSplit(domain, self.role) for domain in self.collection.ood_with(self.role)]
        found = {(r.domain, r.condition): r for r in judge(model, splits, temperature=1.0)}
        clean, typos = found[source.name, CLEAN], found[source.name, "typo"]
        others = [r for (name, condition), r in found.items() if name != source.name and condition == CLEAN]
        metrics = {"ndcg": clean.means["ndcg"], "ce": clean.means["ce"]}
        metrics |= {"typo_ndcg": typos.means["ndcg"], "typo_ce": typos.means["ce"]}
        if others:
            values = [result.means["ndcg"] for result in others]
            metrics |= {"ood_ndcg": sum(values) / len(values), "ood_worst_ndcg": min(values)}
            metrics["ood_ce"] = sum(result.means["ce"] for result in others) / len(others)
        parts = [metrics[key] for key in ("ndcg", "typo_ndcg", "ood_ndcg") if key in metrics]
        metrics["robustness"] = sum(parts) / len(parts)
        if output_path is not None and self.write_csv:
            self._append(Path(output_path), metrics, epoch, steps)
        named: dict[str, float] = self.prefix_name_to_metrics(metrics, self.name)
        self.store_metrics_in_model_card_data(model, named, epoch, steps)
        return named

    def _append(self, folder: Path, metrics: dict[str, float], epoch: int, steps: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"robustness_evaluation{'_' * bool(self.name)}{self.name}.csv"
        new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer: Any = csv.writer(file)
            if new:
                writer.writerow(["epoch", "steps", *metrics])
            writer.writerow([epoch, steps, *metrics.values()])
