"""Show the front that the runs of a store reached at one scale, and its hypervolume.

Values are what the recipe's objectives are judged by, on select-role data. Without --model and --flops, the scale with
most strategies; the others are named below it.

example: mogrid frontier runs --flops 1e13 --figure front.png
"""

from __future__ import annotations

import argparse
import json
import shlex
from math import inf, log
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from mogrid.report.scales import Scale
    from mogrid.runs import RunStore

__all__ = ["add_arguments", "run"]

_MOST = 8  # scales that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of runs")
    parser.add_argument("--model", metavar="LABEL", help="base model, as tables call it")
    parser.add_argument("--flops", type=float, metavar="FLOPS", help="training FLOPs of a run; the nearest there are")
    parser.add_argument(
        "--metric", default="ce", choices=["ce", "ndcg"], help="ce: lower is better; ndcg: higher (default: ce)"
    )
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the front")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from mogrid.frontier import Front, bootstrap_hypervolume
    from mogrid.report.figures import COLOURS, Style, plot_front
    from mogrid.report.figures.laws import UNITS
    from mogrid.report.scales import front_of
    from mogrid.report.table import Table, cell, printer
    from mogrid.runs import RunStore

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    if arguments.flops is not None and not 0 < arguments.flops < inf:
        raise ConfigError(f"--flops must be a number above 0, got {arguments.flops:g}")
    scale, scales = scale_of(RunStore(arguments.store), arguments.model, arguments.flops)
    front = front_of(scale.trained, arguments.metric)
    names, means, widths = front.means()
    together = Front(front.objectives, means, names, (0,) * len(names))
    best = together.non_dominated()
    ideal, nadir = means.min(axis=0), means.max(axis=0)
    volume = bootstrap_hypervolume(front, ideal, nadir) if (ideal < nadir).all() else None
    seeded = bool(np.isfinite(widths).all())  # one run has no interval, nor has a volume that it is a part of
    better = "lower" if arguments.metric == "ce" else "higher"
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
        hv = None if volume is None else [volume.value, *((volume.low, volume.high) if seeded else (None, None))]
        about = {"metric": arguments.metric, "better": better, "model": scale.model, "flops": scale.flops}
        others = [{"model": other.model, "flops": other.flops} for other in scales if other is not scale]
        print(json.dumps({**about, "points": rows, "hypervolume": hv, "other_scales": others}, indent=1))
        return 0
    lines = []
    for i in np.argsort(means.sum(axis=1)):
        lines.append((names[i], *map(cell, shown[i], widths[i]), "front" if best[i] else ""))
    title = f"Front in {UNITS[arguments.metric]}, {better} is better: {scale.name}"
    note = "± half of a 95 % interval over seeds." if np.isfinite(widths).any() else ""
    printer().print(Table(title, ("run", *front.objectives, ""), lines, note, left=frozenset({0, len(lines[0]) - 1})))
    if volume is not None:
        interval = f" [{volume.low:.3f}, {volume.high:.3f}]" if seeded else ""
        print(f"hypervolume {volume.value:.3f}{interval} of these runs{' (95 % over seeds)' if seeded else ''}")
    if len(scales) > 1:
        asked = [f"--model {shlex.quote(o.model)} --flops {o.flops:.3g}" for o in scales if o is not scale]
        more = f"; and {len(asked) - _MOST} more" if len(asked) > _MOST else ""
        print(f"one of {len(scales)} scales of the store; others: {'; '.join(asked[:_MOST])}{more}")
    return 0


def scale_of(store: RunStore, model: str | None, flops: float | None) -> tuple[Scale, list[Scale]]:
    """Return the scale asked for, or the one with most strategies, and all that there are."""
    from mogrid.report.scales import scales_of

    try:
        scales = able = scales_of(list(store.records(queries=False)))
    except DataError as error:
        raise DataError(f"{store.root}: {error}") from error
    if model is not None:
        models = {scale.model for scale in able}
        if model not in models:
            raise ConfigError(f"--model {model!r}: not in the store{nearest(model, models)}")
        able = [scale for scale in able if scale.model == model]
    return able[0] if flops is None else min(able, key=lambda scale: abs(log(scale.flops / flops))), scales
