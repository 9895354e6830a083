"""Which law foretells best what it has not seen, and how often the intervals of the chosen ones hold.

    python -m benchmarks.laws [STORE[:KEY=VALUE,...] ...]

Of every store laws are fitted with mixes held out, fold by fold, or, where runs have three lengths or models, the
longest or the largest; errors are of contrastive entropy as parts of it, and of nDCG@10. Then laws of all runs but the
longest say what these reached: the share of single values, of all objectives, in their 90 % prediction intervals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mogrid.errors import MogridError
from mogrid.frontier import fit_laws
from mogrid.frontier.foretold import longest
from mogrid.report.table import Table, cell, printer
from mogrid.runs import RunStore
from mogrid.sweep.measured import measured

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
_RATE = "training.learning_rate=1e-4"
STORES = (
    *(f"{RESULTS / 'scaling'}:model.layers={layers}" for layers in (1, 2, 3)),
    *(f"{RESULTS / 'depth'}:model.layers={layers}" for layers in (1, 2)),
    f"{RESULTS / 'scaling'}:model.heal.texts=10000",
    *(f"{RESULTS / name}:{_RATE}" for name in ("debian", "squad", "medquad", "tldr")),
    f"{RESULTS / 'lengths'}",
)
_DIGITS = {"ce": 3, "ndcg": 4}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__.split("\n")[0])
    parser.add_argument("stores", nargs="*", default=STORES, metavar="STORE[:KEY=VALUE,...]")
    errors: dict[str, dict[str, dict[str, list[float]]]] = {}
    covered: list[tuple[str, ...]] = []
    try:
        for given in parser.parse_args(argv).stores:
            path, _, where = given.partition(":")
            runs = measured(RunStore(Path(path)), where.split(",") if where else []).measurements
            laws = fit_laws(runs, draws=2)
            for metric, fits in laws.fits.items():
                for fit in fits:
                    for form, told in fit.held_out.items():
                        for axis, held in told.items():
                            by = errors.setdefault(metric, {}).setdefault(form, {})
                            by.setdefault(axis, []).append(float(np.abs(held.errors).mean()))
            last = longest(runs)
            short, seen = fit_laws(runs.only(~last), draws=100), runs.only(last)
            row = [" ".join(part for part in (Path(path).name, where) if part), f"{(~last).sum()}", f"{last.sum()}"]
            for metric in short.metrics:
                ends, values = short.interval(seen.parameters, seen.effort, metric, confidence=0.9), seen.values[metric]
                row.append(f"{((ends[..., 0] <= values) & (values <= ends[..., 1])).mean():.0%}")
            covered.append(tuple(row))
    except MogridError as error:
        print(f"benchmarks.laws: {error}", file=sys.stderr)
        return 2
    for metric, forms in errors.items():
        axes = sorted({axis for by in forms.values() for axis in by})
        rows = [
            (form, *(cell(float(np.mean(by[axis])), digits=_DIGITS[metric]) if axis in by else "" for axis in axes))
            for form, by in forms.items()
        ]
        counts = {axis: max(len(by.get(axis, [])) for by in forms.values()) for axis in axes}
        said = ", ".join(f"{axis} held out {count}" for axis, count in counts.items())
        printer().print(Table(f"{metric}: mean error", ("law", *axes), rows, f"means over laws of objectives: {said}"))
    columns = ("store", "runs", "longest runs", *errors)
    printer().print(Table("values of the longest runs in their 90 % intervals", columns, covered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
