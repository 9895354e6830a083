"""Show the front that the runs of a store reached at one scale, and its hypervolume.

Values are what the recipe's objectives are judged by, on select-role data. Without --model and --flops, the scale with
most runs.

example: mogrid frontier runs --flops 1e13 --figure front.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier import Front, bootstrap_hypervolume
from mogrid.report.figures import COLOURS, Style, plot_front
from mogrid.report.table import Table, cell
from mogrid.runs import RunRecord, RunStore

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of runs")
    parser.add_argument("--model", metavar="LABEL", help="base model, as tables call it")
    parser.add_argument("--flops", type=float, metavar="FLOPS", help="training FLOPs of a run; the nearest there are")
    parser.add_argument("--metric", default="ce", choices=["ce", "ndcg"], help="(default: ce)")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the front")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    front = front_of(scale_of(RunStore(arguments.store), arguments.model, arguments.flops), arguments.metric)
    names, means, widths = front.means()
    together = Front(front.objectives, means, names, (0,) * len(names))
    best = together.non_dominated()
    ideal, nadir = means.min(axis=0), means.max(axis=0)
    volume = bootstrap_hypervolume(front, ideal, nadir) if (ideal < nadir).all() else None
    sign = -1.0 if arguments.metric == "ndcg" else 1.0
    offset = 1.0 if arguments.metric == "ndcg" else 0.0
    if arguments.figure is not None:
        unit = "1 − nDCG@10" if arguments.metric == "ndcg" else "CE (nats)"
        plot_front(
            arguments.figure, front, {name: Style(COLOURS[0], group="runs") for name in names},
            {name: f"{name}, {unit}" for name in front.objectives}, title=str(arguments.store),
        )  # fmt: skip
    shown = offset + sign * means
    if arguments.json:
        rows = [
            {"label": name, "values": dict(zip(front.objectives, row.tolist(), strict=True)), "dominated": not bool(on)}
            for name, row, on in zip(names, shown, best, strict=True)
        ]
        hv = None if volume is None else [volume.value, volume.low, volume.high]
        print(json.dumps({"points": rows, "hypervolume": hv}, indent=1))
        return 0
    rows = []
    for i in np.argsort(means.sum(axis=1)):
        rows.append((names[i], *map(cell, shown[i], widths[i]), "front" if best[i] else ""))
    Console().print(Table("", ("run", *front.objectives, ""), rows))
    if volume is not None:
        print(f"hypervolume {volume.value:.3f} [{volume.low:.3f}, {volume.high:.3f}] of these runs (95 % over seeds)")
    return 0


def scale_of(store: RunStore, model: str | None, flops: float | None) -> list[RunRecord]:
    """Return the trainings of one base model at about one number of FLOPs: those asked for, or where there are most."""
    trained = [record for record in store.records(queries=False) if record.kind == "trained"]
    if not trained:
        raise DataError(f"{store.root}: no finished training")
    models = list(dict.fromkeys(record.model for record in trained))
    if model is not None and model not in models:
        raise ConfigError(f"--model {model!r}: not in the store{nearest(model, models)}")
    able = [record for record in trained if model in (None, record.model)]
    groups: list[list[RunRecord]] = []
    for record in sorted(able, key=lambda r: (r.model, r.total_flops)):
        near = groups and groups[-1][0].model == record.model and record.total_flops <= 1.3 * groups[-1][0].total_flops
        groups[-1].append(record) if near else groups.append([record])
    if flops is not None:
        return min(groups, key=lambda group: abs(np.log(group[0].total_flops / flops)))
    return max(groups, key=lambda group: (len(group), group[0].total_flops))


def front_of(records: list[RunRecord], metric: str) -> Front:
    """Return runs as points, lower is better."""
    names = tuple(records[0].objectives)
    values = np.array([[record.objectives[name][metric] for name in names] for record in records])
    return Front(
        names,
        1 - values if metric == "ndcg" else values,
        tuple(record.label for record in records),
        tuple(record.seed for record in records),
    )
