"""The page of a tune: verdict, costs, path of the choice, merges; and what a store's page has of its runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mogrid.frontier import Choice
from mogrid.frontier.merges import Merges
from mogrid.report import write_report
from mogrid.report.figures.merges import plot_merges
from mogrid.report.html import Figure, Report
from mogrid.report.page import store_page
from mogrid.report.table import Table
from mogrid.runs import RunStore

__all__ = ["write_page"]


def write_page(
    store: Path,
    lines: Sequence[str],
    tables: Sequence[Table],
    choice: Choice,
    merges: Merges,
    row: int,
    preference: Mapping[str, float],
) -> None:
    """Write ``tune.html``.

    Parameters
    ----------
    store : Path
        Of the tune's runs.
    lines : sequence of str
        The verdict in words.
    tables : sequence of Table
    choice : Choice
    merges : Merges
    row : int
        Of the merge that was chosen.
    preference : mapping of objective to float
    """
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "merges.png"
        plot_merges(drawn, merges, row)
        runs = store_page(RunStore(store), choice.laws or choice.why, Path(scratch), preference=preference)
        parts = [*tables, Figure("Merges with the base", drawn, "On select-role data."), *runs.parts[:-1]]
        write_report(store / "tune.html", Report(store.resolve().name, list(lines), parts, runs.provenance))
