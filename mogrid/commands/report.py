"""Write one HTML page of a store's runs: front, laws, weights and conflict over time, tables, provenance.

The page holds everything: it opens without a network, in light and dark, on a phone.

example: mogrid report runs --out report.html
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of runs")
    parser.add_argument("--out", type=Path, metavar="HTML", help="the page (default: STORE/report.html)")
    parser.add_argument("--draws", type=int, default=300, help="bootstrap draws (default: 300)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: argparse.Namespace) -> int:
    import tempfile

    from mogrid.experiment.page import store_report
    from mogrid.report import write_report
    from mogrid.runs import RunStore

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    if arguments.draws < 2:
        raise ConfigError(f"--draws must be at least 2, got {arguments.draws}")
    out = arguments.out or arguments.store / "report.html"
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        write_report(out, store_report(RunStore(arguments.store), Path(scratch), draws=arguments.draws))
    print(json.dumps({"report": str(out)}) if arguments.json else out)
    return 0
