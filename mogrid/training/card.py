"""After a training: the judgement of the model, and the card that tells others what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from rich.console import Console

from mogrid.errors import DataError
from mogrid.files import write_json, write_text
from mogrid.report.table import Table, cell, markdown_text

if TYPE_CHECKING:
    from mogrid.data import Collection
    from mogrid.evaluation import Evaluation
    from mogrid.training.recipe import TrainSettings

__all__ = ["finish", "write_card"]

_LAST = 0.1  # of the steps, whose mean is what a training ended at


def finish(settings: TrainSettings, collection: Collection | None, out: Path, console: Console) -> None:
    """Judge the model where the settings ask for it, write its card and figures, and last ``run.json``."""
    trained = json.loads((out / "trained.json").read_text("utf-8"))
    steps = _steps(out / "steps.jsonl")
    found = None if collection is None else _judge(settings, collection, out, console)
    from mogrid.report.figures import plot_path
    from mogrid.report.figures.systems import plot_systems

    model = out / "model"
    plot_path(model / "training.png", steps, tuple(settings.objectives), title="Losses and weights of the training")
    if found is not None:
        plot_systems(model / "results.png", found.rows(), f"{found.model}: {found.role} data")
    write_card(model / "README.md", settings, trained, _ended(steps, tuple(settings.objectives)), found)
    summary = None if found is None else found.summary()
    write_json(out / "run.json", {**trained, "settings": settings.model_dump(mode="json"), "results": summary})
    console.print(f"model: {model} ({trained['steps']} steps, {trained['flops']['total']:.3g} FLOPs)", highlight=False)


def _judge(settings: TrainSettings, collection: Collection, out: Path, console: Console) -> Evaluation:
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks import SELECT_TYPOS, TEST_TYPOS
    from mogrid.attacks.registry import attack_from_config
    from mogrid.data import Role
    from mogrid.evaluation import Evaluation, evaluate_retriever
    from mogrid.training.leaks import kept_leaks

    assert settings.evaluation is not None
    path = out / "evaluation.json"
    if path.is_file():
        return Evaluation.load(path)
    leaks = kept_leaks(collection, out)
    measured = sum(total for _, total in leaks.counts.values())
    console.print(f"near-duplicates of training text among what is measured: {leaks.leaks} of {measured:,} texts")
    role = Role(settings.evaluation.role)
    perturbations: dict[str, Any] = {}
    for name in settings.evaluation.perturb:
        typos = TEST_TYPOS if role is Role.TEST else SELECT_TYPOS
        perturbations[name] = typos if name == "typos" else attack_from_config({"name": name, "role": str(role)})
    model = SentenceTransformer(str(out / "model"), device="cpu")
    with console.status("judging") as status:
        found = evaluate_retriever(
            model,
            collection,
            role,
            name=Path(settings.output).name,
            perturbations=perturbations,
            seed=settings.seed,
            progress=lambda what, share: status.update(f"judging {what}: {share:.0%}"),
        )
    found.save(path)
    return found


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


def write_card(
    path: Path,
    settings: TrainSettings,
    trained: Mapping[str, Any],
    ended: Mapping[str, tuple[float, float, float]],
    found: Evaluation | None,
) -> None:
    """Write the model card: objectives, solver, weights, results, figures, how to load it, how to make it again."""
    head = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "mogrid", "dense-retrieval", "multi-objective"],
        **({"base_model": settings.model.path} if settings.model.path else {}),
    }
    solver = settings.solver if isinstance(settings.solver, str) else settings.solver["name"]
    base = settings.model.path or f"a BERT of {settings.model.size} from scratch"
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        "",
        f"# {markdown_text(Path(settings.output).name)}",
        "",
        f"A dense retriever trained with mogrid for {len(settings.objectives)} "
        f"objective(s) at once, weighted by `{solver}`, from {markdown_text(base)}: {trained['parameters']:,} "
        f"non-embedding parameters, {trained['steps']:,} steps, {trained['flops']['total']:.3g} training FLOPs.",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{markdown_text(Path(settings.output).name)}/model")',
        "```",
        "",
        "## Objectives",
        "",
    ]
    rows = []
    for name, objective in settings.objectives.items():
        sets = ", ".join(entry.path for entry in objective.datasets)
        loss = objective.loss if isinstance(objective.loss, str) else objective.loss["name"]
        first, last, weight = (f"{value:.3f}" for value in ended[name]) if name in ended else ("-", "-", "0")
        rows.append((name, sets, f"{trained['rows'][name]:,}", loss, first, last, weight))
    columns = ("objective", "training sets", "rows", "loss", "first loss", "last loss", "mean weight")
    lines += [Table("", columns, rows, left=frozenset({0, 1, 3})).markdown()]
    lines += ["![Losses against each other over the training, and weights](training.png)", ""]
    if found is not None:
        lines += _results(found)
    lines += ["## Settings", "", "```yaml"]
    lines += [yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False).strip(), "```", ""]
    made = ", ".join(f"{name} {version}" for name, version in trained["versions"].items())
    lines += [f"Made with {made}.", ""]
    write_text(path, "\n".join(lines))


def _results(found: Evaluation) -> list[str]:
    rows = []
    for row in found.rows():
        low, high = row["ndcg_interval"]
        ndcg = cell(row["ndcg"], (high - low) / 2)
        rows.append((row["domain"], row["condition"], row["system"], ndcg, cell(row["rr"]), cell(row["recall"])))
    columns = ("domain", "condition", "system", "nDCG@10", "RR@10", "R@100")
    table = Table("", columns, rows, "± half of a 95 % interval over queries.", left=frozenset({0, 1, 2}))
    return [f"## Results on {found.role}-role data", "", table.markdown(), "![nDCG@10](results.png)", ""]
