"""Train every cell of a grid over a recipe - models, data sizes, mixes, solvers, seeds - into a store of runs.

Any number of these processes may work on one store. Ctrl-C stops at a checkpoint (exit code 3); the same command goes
on, also after a kill.

example: mogrid sweep sweep.yaml --store runs --workers 2
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

from mogrid.commands._common import add_settings, printed, quiet
from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "the grid")
    parser.add_argument("--store", type=Path, metavar="DIR", help="folder of runs")
    parser.add_argument("--workers", type=int, help="runs at the same time (default: the file's)")
    parser.add_argument("--executor", default="processes", help="what runs the workers: processes or ray")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help="of a Ray cluster whose nodes share the store")
    parser.add_argument("--dry-run", action="store_true", help="say which runs there would be, and stop")
    parser.add_argument("--json", action="store_true", help="print the runs' names as JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.sweep.cells import cells_of
    from mogrid.sweep.grid import SweepSettings, read_sweep
    from mogrid.sweep.run import run_sweep

    if arguments.schema:
        print(json.dumps(SweepSettings.model_json_schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("name the YAML file of the grid; mogrid sweep --help shows an example")
    given = [*arguments.set, *([f"workers={arguments.workers}"] if arguments.workers is not None else [])]
    sweep = read_sweep(arguments.config, given)
    if arguments.print_config:
        print(printed(sweep.settings), end="")
        return 0
    if arguments.store is None:
        raise ConfigError("--store DIR: name the folder of runs")
    quiet()
    console = Console(stderr=True)
    if arguments.dry_run:
        for cell in cells_of(sweep, arguments.store):
            print(cell.name)
        return 0
    signal.signal(signal.SIGTERM, _as_interrupt)
    records = run_sweep(sweep, arguments.store, console, executor=arguments.executor, ray_address=arguments.ray_address)
    if arguments.json:
        print(json.dumps({"store": str(arguments.store), "runs": [record.name for record in records]}, indent=1))
    else:
        print(f"{len(records)} runs in {arguments.store}")
    return 0


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
