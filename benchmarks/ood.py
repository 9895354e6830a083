"""Whether objectives over training domains beat balanced sampling, on domains that nobody has seen, at equal FLOPs.

    python -m benchmarks.ood --data DATA

A 1x64 encoder from scratch on debian-desc with half the weight on four other training domains: balanced ERM, smooth
worst domain, GroupDRO, iDRO and a rotating unseen domain; effectiveness alone beside them. What a method computes on
the side is in its FLOPs. Three seeds; finished runs are kept. ``--show`` redraws the table from records, without DATA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.dpr import _quiet

__all__ = ["main"]

BASE = "balanced ERM"
_LABELS = {
    "balanced": BASE,
    "worst": "smooth worst domain",
    "group_dro": "GroupDRO",
    "idro": "iDRO",
    "unseen": "rotating unseen domain",
}
_BUDGET = 1.2e12
_WEIGHTS = [{"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
_HALF = {"effectiveness": 0.5, "ood": 0.5}
DOMAINS = Path(__file__).parent / "domains" / "ood.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, print the table and write it as JSON; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ood", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of BEIR folders")
    parser.add_argument("--domains", type=Path, default=DOMAINS)
    parser.add_argument("--store", type=Path, default=Path("benchmarks/results/ood"))
    parser.add_argument("--budget", type=float, default=_BUDGET, help="training FLOPs of one run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="only the table of the runs there are")
    arguments = parser.parse_args(argv)
    _quiet()
    from mogrid.errors import MogridError

    try:
        if not arguments.show:
            _train(arguments)
        _show(arguments.store)
    except MogridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished runs and checkpoints are kept; the same command continues", file=sys.stderr)
        return 3
    return 0


def _train(arguments: argparse.Namespace) -> None:
    from benchmarks.running import run_cells
    from mogrid.errors import ConfigError
    from mogrid.experiment.cells import DataSource, tokenizer_of
    from mogrid.experiment.plan import Plan
    from mogrid.experiment.settings import ExperimentSettings
    from mogrid.training.leaks import kept_leaks

    if arguments.data is None:
        raise ConfigError("--data: name the folder of BEIR folders, or --show what is in the store")
    source = DataSource(arguments.data, arguments.domains)
    collection = source.load()
    (arguments.store / "runs").mkdir(parents=True, exist_ok=True)
    kept_leaks(collection, arguments.store)
    cells = []
    for ood, label in _LABELS.items():
        settings = ExperimentSettings.model_validate(
            {
                "encoder": {"size": "1x64", "towers": 1, "dropout": 0.0},
                "training": {
                    "budget": arguments.budget,
                    "batch_size": 32,
                    "learning_rate": 1e-2,
                    "warmup": 0.05,
                    "ood": ood,
                },
                "evaluation": {"max_documents": 3000, "max_queries": 1000, "attack_targets": 0},
                "seeds": list(range(arguments.seeds)),
                "weights": _WEIGHTS,
            }
        )
        tokenizer_of(collection, settings, arguments.store)
        plan = Plan(settings, source, collection, arguments.store)
        cells += plan.fixed_cells(_HALF, "solver", label)
        if ood == "balanced":
            cells += plan.fixed_cells({"effectiveness": 1.0}, "solver", "effectiveness only")
    run_cells(cells, arguments.workers)


def _show(store: Path) -> None:
    """Print means over seeds and unseen domains, and tests against balanced ERM; write them beside the runs."""
    from mogrid.errors import DataError
    from mogrid.experiment.summary import summarise
    from mogrid.files import write_json
    from mogrid.runs import RunStore

    records = list(RunStore(store))
    if not any(record.strategy == BASE for record in records):
        raise DataError(f"{store}: no finished run of {BASE!r}")
    source = records[0].results[0]["domain"]
    summary = summarise(records, source, baseline=BASE, draws=1000)
    table = Table("objective", "steps", "nDCG@10", "OOD nDCG@10", "OOD worst", "p of OOD against it", show_edge=False)
    rows = []
    for row in sorted(summary.rows, key=lambda row: -row.values["OOD nDCG@10"]):
        test = row.tests.get("OOD nDCG@10")
        shown = [f"{row.values[m]:.3f} ±{row.widths[m]:.3f}" for m in ("nDCG@10", "OOD nDCG@10", "OOD worst")]
        table.add_row(row.strategy, str(row.steps), *shown, "" if test is None else f"{test.p_value:.3f}")
        rows.append(
            {
                "strategy": row.strategy,
                "seeds": row.seeds,
                "steps": row.steps,
                "flops": row.flops,
                "values": row.values,
                "widths": row.widths,
                "ood_difference": None if test is None else [test.difference, test.low, test.high, test.p_value],
            }
        )
    write_json(store / "table.json", {"command": f"python -m benchmarks.ood --store {store} --show", "rows": rows})
    console = Console()
    console.print(table)
    flops = float(np.mean([row.flops for row in summary.rows]))
    console.print(
        f"{flops:.2g} training FLOPs a run; ± half of a 95 % interval over queries and seeds; p: paired, Holm"
    )


if __name__ == "__main__":
    raise SystemExit(main())
