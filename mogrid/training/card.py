"""The card of a trained model: what it was made of, what came out beside the base and BM25, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mogrid.errors import DataError
from mogrid.evaluation.intervals import bootstrap_interval
from mogrid.files import write_text
from mogrid.report.figures.path import plot_path
from mogrid.report.figures.systems import plot_systems
from mogrid.report.results import results_table
from mogrid.report.table import Table, cell, markdown_text
from mogrid.runs import RunRecord
from mogrid.runs.summary import summarise
from mogrid.trainer.keep import broken
from mogrid.training.recipe import Recipe

__all__ = ["said_of_bounds", "write_card"]

_LAST = 0.1  # of the steps, whose mean is what a training ended at


def write_card(out: Path, recipe: Recipe, record: RunRecord, others: Sequence[RunRecord]) -> None:
    """Write ``model/README.md`` and its figures.

    Parameters
    ----------
    out : Path
        The run's folder, with ``model/`` and ``steps.jsonl``.
    recipe : Recipe
    record : RunRecord
    others : sequence of RunRecord
        The base model and BM25 on the same data; none where nothing but the objectives was judged.
    """
    model, title = out / "model", out.name
    steps = _steps(out / "steps.jsonl")
    names = tuple(recipe.objectives)
    plot_path(model / "training.png", steps, names, title="Losses and weights of the training")
    head = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "mogrid", "dense-retrieval", "multi-objective"],
        **({"base_model": recipe.model.path} if recipe.model.path else {}),
    }
    shares = ", ".join(f"{name} {share:.3g}" for name, share in record.mix.items())
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        "",
        f"# {markdown_text(title)}",
        "",
        f"A dense retriever trained with mogrid from {markdown_text(record.model)}: {record.parameters:,} "
        f"non-embedding parameters, {record.steps:,} steps, {record.total_flops:.3g} training FLOPs"
        f"{_healed(record)}. "
        f"Mix: {markdown_text(shares)}, spent as {record.spend}; solver `{record.solver}`.",
        "",
        *_kept(recipe, record),
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{markdown_text(title)}/model")',
        "```",
        "",
        "## Objectives",
        "",
        _objectives(recipe, record, _ended(steps, names)).markdown(),
        "![Losses against each other over the training, and weights](training.png)",
        "",
    ]
    if others:
        role = recipe.evaluation.role if recipe.evaluation is not None else "select"
        plot_systems(model / "results.png", _rows([record, *others], role), f"{title}: {role} data")
        lines += [
            f"## Results on {role}-role data",
            "",
            results_table(
                summarise([record, *others], role),
                about=(),
                name=lambda row: "model" if row.kind == "trained" else row.label,
            ).markdown(),
            "![nDCG@10](results.png)",
            "",
        ]
    lines += ["## Recipe", "", "```yaml"]
    lines += [yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False).strip(), "```", ""]
    made = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines += [f"Made with {made}.", ""]
    write_text(model / "README.md", "\n".join(lines))


def said_of_bounds(recipe: Recipe, record: RunRecord) -> list[str]:
    """Return a line where no evaluation of a training kept all its bounds; then those are broken least by what is kept.

    Parameters
    ----------
    recipe : Recipe
    record : RunRecord
    """
    if not record.best:
        return []
    step, history = int(record.best["step"]), dict(record.best["history"])
    found = broken(history[step], history[0], recipe.at_least)
    if not found:
        return []
    told = ", ".join(
        f"{name} {value:.4f} where at least {least:.4f} was asked" for name, (value, least) in found.items()
    )
    return [f"no evaluation keeps at_least: the one that breaks it least, of step {step:,}, has {told}"]


def _kept(recipe: Recipe, record: RunRecord) -> list[str]:
    if not record.best:
        return []
    step, history = int(record.best["step"]), record.best["history"]
    rows = [(f"{at:,}", *(cell(value) for value in values.values())) for at, values in history]
    table = Table(
        "", ("step", *history[0][1]), rows, "nDCG@10 on select-role data; step 0 is the base model",
        highlight=frozenset(i for i, (at, _) in enumerate(history) if at == step), left=frozenset(),
    )  # fmt: skip
    return [
        f"Weights of step {step:,}, chosen among those evaluated: {step:,} steps would have been enough.",
        "",
        *(part for line in said_of_bounds(recipe, record) for part in (f"**Note**: {line}.", "")),
        table.markdown(),
    ]


def _healed(record: RunRecord) -> str:
    flops = record.flops.get("healing")
    return "" if flops is None else f" after a healing of {flops:.3g}"


def _steps(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not the record of a training ({error})") from error


def _ended(steps: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Return by objective: first loss, last loss, mean weight; means over a tenth of the steps."""
    count = max(1, round(_LAST * len(steps)))
    found = {}
    for name in names:
        losses = [step[f"loss/{name}"] for step in steps if f"loss/{name}" in step]
        weights = [step.get(f"weight/{name}", 0.0) for step in steps]
        if losses:
            found[name] = (
                float(np.mean(losses[:count])),
                float(np.mean(losses[-count:])),
                float(np.mean(weights)),
            )
    return found


def _objectives(recipe: Recipe, record: RunRecord, ended: Mapping[str, tuple[float, float, float]]) -> Table:
    rows = []
    for name, objective in recipe.objectives.items():
        sets = ", ".join(entry.path for entry in objective.datasets)
        first, last, weight = (f"{value:.3f}" for value in ended[name]) if name in ended else ("-", "-", "0")
        judged = record.objectives.get(name, {})
        values = [cell(judged[m]) if m in judged else "-" for m in ("ndcg", "ce")]
        rows.append((name, sets, objective.loss_name, f"{record.pairs.get(name, 0):,}", first, last, weight, *values))
    columns = (
        "objective", "training sets", "loss", "pairs drawn", "first loss", "last loss", "mean weight", "nDCG@10", "CE"
    )  # fmt: skip
    note = "nDCG@10 and CE on the select-role data that the objective is judged by."
    return Table("", columns, rows, note, left=frozenset({0, 1, 2}))


def _rows(records: Sequence[RunRecord], role: str) -> list[dict[str, Any]]:
    """Return a line a domain, condition and system, for the figure."""
    return [
        {
            "domain": result.domain,
            "condition": result.condition,
            "system": "model" if record.kind == "trained" else record.label,
            "ndcg": result.means["ndcg"],
            "ndcg_interval": bootstrap_interval(list(result.queries["ndcg"].values())),
        }
        for record in records
        for result in record.results
        if result.role == role
    ]
