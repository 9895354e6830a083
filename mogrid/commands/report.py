"""Write one HTML page of a store's runs: fronts, exchange rates, laws, plans, weights over time, tables, provenance.

The page holds everything: it opens without a network, in light and dark, on a phone.

example: mogrid report runs --preference effectiveness=2,ood=1 --out report.html
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from mogrid.commands._common import parse_numbers
from mogrid.errors import ConfigError, MogridError

__all__ = ["add_arguments", "run"]

_DRAWS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of runs")
    parser.add_argument("--out", type=Path, metavar="HTML", help="the page (default: STORE/report.html)")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="importance, for the plans (default: equal)")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="of runs of several recipes")
    parser.add_argument("--draws", type=int, default=_DRAWS, help=f"bootstrap draws (default: {_DRAWS})")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.frontier import Laws, fit_laws
    from mogrid.progress import status
    from mogrid.report import write_report
    from mogrid.report.page import store_page
    from mogrid.runs import RunStore
    from mogrid.sweep.measured import measured

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    if arguments.draws < 2:
        raise ConfigError(f"--draws must be at least 2, got {arguments.draws}")
    store, out = RunStore(arguments.store), arguments.out or arguments.store / "report.html"
    preference = parse_numbers("--preference", arguments.preference)
    with status(Console(stderr=True), "reading the runs") as stage, tempfile.TemporaryDirectory() as scratch:
        laws: Laws | str
        try:
            given = measured(store, arguments.where).measurements
            stage.say("fitting laws")
            laws = fit_laws(given, draws=arguments.draws)
        except MogridError as error:
            laws = str(error)
        stage.say("drawing")
        options = [part for where in arguments.where for part in ("--where", where)]
        options += [] if arguments.draws == _DRAWS else ["--draws", str(arguments.draws)]
        page = store_page(store, laws, Path(scratch), preference=preference, draws=arguments.draws, options=options)
        write_report(out, page)
    print(json.dumps({"report": str(out)}) if arguments.json else out)
    return 0
