"""How often a bound that select-role domains say is kept is kept on domains that nobody has seen.

    python -m benchmarks.bounds [--slack .005] [STORE ...]

Of every training and merge of some stores it is asked, as `mogrid tune` asks before it takes one, whether the mean of
the other domains surely does not fall below the base model's by more than the slack, on select-role data; and then
whether it does on test-role data, which are other domains. Runs of one store are judged on the same domains: four
stores are nearer to four draws than to hundreds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mogrid.errors import MogridError
from mogrid.report.table import Table, printer
from mogrid.runs import RunRecord, RunStore
from mogrid.sweep.merging import Places
from mogrid.tune.shares import keeps, values_of

__all__ = ["main"]

STORES = [Path(__file__).parent / "results" / name for name in ("debian", "squad", "medquad", "tldr")]


def others(record: RunRecord, role: str) -> Places:
    """Return the domains of a role that are not the source, as one objective."""
    found = [(r.domain, r.condition) for r in record.results if r.role == role and not r.notes.get("home")]
    return {"ood": found}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounds", description=__doc__.split("\n")[0])
    parser.add_argument("stores", nargs="*", type=Path, default=STORES, metavar="STORE")
    parser.add_argument("--slack", type=float, default=0.005, help="what may be lost (default: .005)")
    arguments = parser.parse_args(argv)
    rows, allowed, kept = [], 0, 0
    try:
        for path in arguments.stores:
            records = list(RunStore(path).records())
            base = next(record for record in records if record.kind == "base")
            told = {role: values_of(base, others(base, role), role)["ood"] for role in ("select", "test")}
            least = {role: float(np.mean(list(own.values()))) - arguments.slack for role, own in told.items()}
            models = [record for record in records if record.kind in ("trained", "merged")]
            sure = [
                record
                for record in models
                if keeps(values_of(record, others(base, "select"), "select")["ood"], told["select"], least["select"])
            ]
            reached = [np.mean(list(values_of(r, others(base, "test"), "test")["ood"].values())) for r in sure]
            good = sum(bool(value >= least["test"]) for value in reached)
            worst = f"{min(reached) - least['test'] - arguments.slack:+.4f}" if reached else ""
            rows.append((path.name, str(len(models)), str(len(sure)), str(good), worst))
            allowed, kept = allowed + len(sure), kept + good
    except MogridError as error:
        print(f"benchmarks.bounds: {error}", file=sys.stderr)
        return 2
    columns = ("store", "models", "sure to keep it", "keep it", "the worst")
    note = f"together: {kept} of {allowed} keep it on unseen domains"
    printer().print(Table(f"other domains no worse than the base's - {arguments.slack:g}", columns, rows, note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
