"""Table, figures and JSON of `benchmarks.scaling`, from run records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.scaling_claims import Finding, Scale, Sweep, chosen_weights, claims, efficient, read_sweep, scale_values
from mogrid.experiment.settings import OBJECTIVES
from mogrid.files import write_json
from mogrid.report.figures import Trace, plot_attainment, plot_joint, plot_laws, plot_weights_over_scale
from mogrid.runs import RunStore

__all__ = ["show"]

COMMAND = "python -m benchmarks.scaling --store {store} --show"
_TITLES = {
    1: "Robustness follows a law",
    2: "Exponents differ; what reacts to N, what to D",
    3: "Weights trace a front",
    4: "Strategies that are not efficient scale worse",
    5: "What the chosen weights are worth in N or D",
    6: "Do the best weights move with scale?",
    7: "Strategies at equal FLOPs",
}
_AXES = {name: f"{name}, CE (nats)" for name in OBJECTIVES}


def show(store: Path, console: Console, *, draws: int = 1000) -> None:
    """Print the table, write ``claims.json`` and the figures into the store."""
    with console.status("fitting laws"):
        sweep = read_sweep(RunStore(store), draws=draws)
        found = claims(sweep)
    for claim, title in _TITLES.items():
        rows = [finding for finding in found if finding.claim == claim]
        if rows:
            console.print(_table(f"{claim}. {title}", rows))
    command = COMMAND.format(store=store)
    console.print(f"intervals: 90 % unless said otherwise; all of it again: {command}")
    sweep.entropy.runs.save(store / "entropy.jsonl")
    sweep.ranking.runs.save(store / "ranking.jsonl")
    record = {
        "command": command,
        "findings": [_plain(finding) for finding in found],
        "laws": {"CE": sweep.entropy.to_json(), "1 - nDCG@10": sweep.ranking.to_json()},
        "scales": [{"size": s.size, "pairs": s.pairs, "flops": s.flops, "runs": len(s.records)} for s in sweep.scales],
    }
    write_json(store / "claims.json", record)
    with console.status("drawing"):
        _draw(sweep, store)


def _plain(finding: Finding) -> dict[str, object]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(finding).items()}


def _table(title: str, rows: Sequence[Finding]) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column("what", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("interval", justify="right")
    table.add_column("note", overflow="fold", style="dim")
    for row in rows:
        interval = "" if math.isnan(row.low) else f"{row.low:.3g} to {row.high:.3g}"
        table.add_row(
            row.what, "" if math.isnan(row.value) else f"{row.value:.3g} {row.unit}".strip(), interval, row.note
        )
    return table


def _draw(sweep: Sweep, store: Path) -> None:
    plot_laws(store / "laws.png", sweep.entropy, title="Laws of contrastive entropy")
    plot_laws(store / "laws-ndcg.png", sweep.ranking, unit="1 − nDCG@10", title="Laws of 1 − nDCG@10")
    seeded = {s.name: scale_values(s, sweep.source) for s in sweep.largest.values() if _seeds(s) > 1}
    if seeded:
        plot_attainment(store / "fronts.png", seeded, _AXES, title="Fronts of fixed weights; band: over seeds")
    rows = [
        (scale.size, scale.flops, {k: (c.weights[k], c.weight_low[k], c.weight_high[k]) for k in OBJECTIVES})
        for scale in sweep.scales
        if (c := chosen_weights(scale, sweep.source)) is not None
    ]
    if rows:
        title = "Weights chosen for the preference 2 : 1 : 1, by scale"
        plot_weights_over_scale(store / "weights.png", rows, OBJECTIVES, title=title)
    labels = ("effectiveness, CE (nats)", "robustness: mean of OOD and adversarial CE (nats)")
    plot_joint(store / "joint.png", _traces(sweep), labels, title="Strategies over D, at each N; lower left is better")


def _seeds(scale: Scale) -> int:
    return len({record.seed for record in scale.sweep})


def _traces(sweep: Sweep) -> dict[str, dict[str, Trace]]:
    good = efficient(sweep)
    panels: dict[str, dict[str, Trace]] = {}
    for size in sweep.largest:
        own = [scale for scale in sweep.scales if scale.size == size]
        points: dict[str, list[tuple[float, float, float]]] = {}
        for scale in own:
            names, means, _ = scale_values(scale, sweep.source).means()
            for name, values in zip(names, means, strict=True):
                points.setdefault(name, []).append((scale.flops, float(values[0]), float(values[1:].mean())))
        panels[f"size {size}"] = {}
        for name, rows in sorted(points.items()):
            flops, first, second = np.array(rows).T
            panels[f"size {size}"][name] = Trace(flops, first, second, name in good)
    return panels
