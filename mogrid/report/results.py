"""The table of results: a row a strategy, nDCG@10 with intervals, and marks against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mogrid.frontier import Laws
from mogrid.report.table import Table, cell, mark
from mogrid.runs.summary import Row, Summary

__all__ = ["results_table", "said_of_laws"]

_ABOUT: Mapping[str, Callable[[Row], str]] = {
    "seeds": lambda row: str(row.seeds),
    "steps": lambda row: f"{row.steps:,}" if row.steps else "",
    "FLOPs": lambda row: f"{row.flops:.2g}" if row.flops else "",
}


def results_table(
    summary: Summary,
    title: str = "",
    *,
    about: Sequence[str] = ("seeds", "steps"),
    entropies: bool = False,
    name: Callable[[Row], str] = lambda row: row.label,
) -> Table:
    """Return a summary as a table.

    Parameters
    ----------
    summary : Summary
        A row of it is a row of the table.
    title : str
    about : sequence of str
        Columns before the measures: of ``seeds``, ``steps`` and ``FLOPs``.
    entropies : bool
        Whether contrastive entropies are shown, too.
    name : callable of a row
        Gives its first cell.
    """
    measures = [measure for measure in summary.measures if measure.key == "ndcg" or entropies]
    rows = []
    for row in summary.rows:
        cells = []
        for measure in measures:
            test = row.tests.get(measure.name)
            sign = "" if test is None else mark(test.difference, test.p_value)
            known = measure.name in row.values
            half = row.widths.get(measure.name) or None  # one query of one seed has nothing to resample
            cells.append(cell(row.values[measure.name], half, mark=sign) if known else "-")
        collapsed = " (collapsed)" if row.collapsed else ""
        rows.append((f"{name(row)}{collapsed}", *(_ABOUT[key](row) for key in about), *cells))
    note = "± half of a 95 % interval over queries and, of several, seeds."
    if any(row.tests for row in summary.rows):
        note += f" ▲ ▼: better or worse than {summary.baseline} (paired, Holm-corrected over rows, p < .05)."
    columns = ("", *about, *(f"{measure.name} {'↑' if measure.larger else '↓'}" for measure in measures))
    return Table(title, columns, rows, note)


def said_of_laws(laws: Laws, metric: str) -> list[str]:
    """Return a line an objective: which law, how well it fits, and how far off it is on what is held out (median)."""
    lines = []
    for name, fit in zip(laws.objectives, laws.fits[metric], strict=True):
        held = ""
        for axis, out in fit.held_out[fit.name].items():
            error = float(np.median(out.errors))
            held += f", {f'{error:.1%}' if metric == 'ce' else f'{error:.3f}'} off at {axis} held out"
        lines.append(f"{name}: {fit.name}, R² {fit.fitted.r2:.3f}{held}")
    return lines
