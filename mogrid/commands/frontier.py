"""Show the front that the runs of a store reached at one scale, its hypervolume, and what each way to choose picks.

Values are contrastive entropies on select-role data; lower is better. Without --size and --flops, the scale with most
runs. A surrogate over the weights fills the front between the runs.

example: mogrid frontier runs --size 1x64 --preference effectiveness=2,ood=1,adversarial=1 --figure front.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.commands.plan import parse_preference
from mogrid.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from mogrid.frontier import Front
    from mogrid.runs import RunRecord

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of runs")
    parser.add_argument("--size", help="model size, such as 1x64")
    parser.add_argument("--flops", type=float, metavar="FLOPS", help="budget of a run; the nearest there is")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="such as effectiveness=2,ood=1,adversarial=1")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the front")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.experiment.settings import OBJECTIVES
    from mogrid.experiment.summary import front_of
    from mogrid.frontier import bootstrap_hypervolume
    from mogrid.runs import RunStore

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    preference = parse_preference(arguments.preference)
    records = _scale(RunStore(arguments.store), arguments)
    source = records[0].results[0]["domain"]
    front = front_of(records, source)
    names, means, widths = front.means()
    from mogrid.frontier import Front

    together = Front(front.objectives, means, names, (0,) * len(names))
    best = together.non_dominated()
    ideal, nadir = means.min(axis=0), means.max(axis=0)
    volume = bootstrap_hypervolume(front, ideal, nadir) if (ideal < nadir).all() else None
    choices = _choices(records, source, preference)
    if arguments.figure is not None:
        from mogrid.report.figures import COLOURS, Style, plot_front

        plot_front(
            arguments.figure, front, {name: Style(COLOURS[0], group="runs") for name in names},
            {name: f"{name}, CE (nats)" for name in OBJECTIVES}, title=str(arguments.store),
        )  # fmt: skip
    if arguments.json:
        rows = [
            {"strategy": name, "values": dict(zip(OBJECTIVES, row.tolist(), strict=True)), "dominated": not bool(on)}
            for name, row, on in zip(names, means, best, strict=True)
        ]
        hv = None if volume is None else [volume.value, volume.low, volume.high]
        print(json.dumps({"points": rows, "hypervolume": hv, "choices": choices}, indent=1))
        return 0
    _show(front, means, widths, best)
    if volume is not None:
        print(f"hypervolume {volume.value:.3f} [{volume.low:.3f}, {volume.high:.3f}] of these runs (95 % over seeds)")
    for method, choice in choices.items():
        shown = ", ".join(f"{k} {w:.2f}" for k, w in choice["weights"].items())
        print(f"{method:15s} {shown}   ({choice['probability']:.0%} of draws)")
    return 0


def _scale(store: Any, arguments: argparse.Namespace) -> list[RunRecord]:
    groups: dict[tuple[str, float], list[RunRecord]] = {}
    for record in store.records(queries=False):
        if record.kind in ("sweep", "solver", "pareto"):
            settings = record.config["settings"]
            key = settings["encoder"]["size"], float(settings["training"]["budget"])
            groups.setdefault(key, []).append(record)
    if not groups:
        raise DataError(f"{store.root}: no finished training run")
    sizes = sorted({size for size, _ in groups})
    if arguments.size is not None and arguments.size not in sizes:
        raise ConfigError(f"--size {arguments.size!r}: not in the store{nearest(arguments.size, sizes)}")
    able = {key: rows for key, rows in groups.items() if arguments.size in (None, key[0])}
    if arguments.flops is not None:
        chosen = min(able, key=lambda key: abs(key[1] - arguments.flops))
    else:
        chosen = max(able, key=lambda key: (len(able[key]), key[1]))
    return able[chosen]


def _choices(records: list[RunRecord], source: str, preference: dict[str, float] | None) -> dict[str, Any]:
    """Return what every method picks of a surrogate's front; nothing where there are too few weightings."""
    import numpy as np

    from mogrid.experiment.settings import OBJECTIVES
    from mogrid.experiment.summary import select_values
    from mogrid.frontier import METHODS, choose, fit_surrogate, search_front

    fixed = [r for r in records if r.kind == "sweep" and min(_weights(r)) > 0]
    weights = np.array([_weights(r) for r in fixed]).reshape(len(fixed), len(OBJECTIVES))
    if len(np.unique(weights.round(6), axis=0)) < 7:
        return {}
    weights = weights / weights.sum(axis=1, keepdims=True)
    surrogate = fit_surrogate(OBJECTIVES, weights, np.stack([select_values(r, source) for r in fixed]), draws=200)
    front = search_front(surrogate, weights)
    found = {}
    method: Any
    for method in METHODS:
        asked = preference if method == "preference" else None
        found[method] = choose(surrogate, front, asked, method=method).to_json()
    return found


def _weights(record: RunRecord) -> list[float]:
    from mogrid.experiment.settings import OBJECTIVES

    return [float(record.config["solver"]["weights"].get(name, 0.0)) for name in OBJECTIVES]


def _show(front: Front, means: Any, widths: Any, best: Any) -> None:
    import numpy as np
    from rich.console import Console

    from mogrid.report.table import Table, cell

    names = list(dict.fromkeys(front.labels))
    rows = [
        (
            names[i],
            *(cell(value, half) for value, half in zip(means[i], widths[i], strict=True)),
            "front" * bool(best[i]),
        )
        for i in np.argsort(means.sum(axis=1))
    ]
    Console().print(Table("", ("strategy", *front.objectives, ""), rows))
