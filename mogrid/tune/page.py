"""The page of a tune: verdict, costs, path of the choice, merges; and what a store's page has of its runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mogrid.frontier import Laws
from mogrid.frontier.merges import Merges
from mogrid.report import write_report
from mogrid.report.figures.merges import plot_merges
from mogrid.report.html import Figure, Report
from mogrid.report.page import store_page
from mogrid.runs import RunStore
from mogrid.tune.outcome import Outcome

__all__ = ["PAGE", "write_page"]

PAGE = "tune.html"


def write_page(store: Path, outcome: Outcome, laws: Laws | str, merges: Merges, row: int) -> None:
    """Write ``tune.html``.

    Parameters
    ----------
    store : Path
        Of the tune's runs.
    outcome : Outcome
    laws : Laws or str
        Of its pilots, or why there are none.
    merges : Merges
    row : int
        Of the merge that was chosen.
    """
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch) / "merges.png"
        plot_merges(drawn, merges, row)
        runs = store_page(RunStore(store), laws, Path(scratch), chosen=outcome.chosen())
        merged = Figure("Merges with the base", drawn, "On select-role data.")
        parts = [*outcome.tables(), merged, *runs.parts[:-1]]
        write_report(store / PAGE, Report(store.resolve().name, outcome.lines, parts, runs.provenance))
