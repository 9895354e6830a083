"""Train every cell of a grid - model sizes, data sizes, weights or solvers, seeds - into a store of runs.

Any number of these processes may work on one store. Ctrl-C stops at a checkpoint (exit code 3); the same command goes
on, also after a kill. Settings: see benchmarks/presets/scaling/cpu.yaml.

example: mogrid sweep sweep.yaml --store runs --data ~/beir --domains domains.yaml --workers 2
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

from mogrid.commands._common import add_data, quiet
from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", metavar="YAML", help="the grid")
    parser.add_argument("--store", type=Path, metavar="DIR", help="folder of runs")
    add_data(parser)
    parser.add_argument("--workers", type=int, help="runs at the same time (default: the config's)")
    parser.add_argument("--executor", choices=["processes", "ray"], default="processes", help="what runs the workers")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help="of a Ray cluster whose nodes share the store")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the config")
    parser.add_argument("--print-config", action="store_true", help="print all settings, defaults filled in, and stop")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the file, for editors, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the runs' names as JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.config import YamlFile, override, read_yaml
    from mogrid.experiment.sweep import SweepSettings, run_sweep

    if arguments.schema:
        print(json.dumps(SweepSettings.model_json_schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("name the YAML file of the grid; mogrid sweep --help shows an example")
    file = read_yaml(arguments.config)
    if not isinstance(file.value, dict):
        raise ConfigError(f"{arguments.config}:1: expected a mapping of settings")
    given = [*arguments.set, *([f"workers={arguments.workers}"] if arguments.workers is not None else [])]
    settings = YamlFile(file.path, override(file.value, given), file.lines).parse(SweepSettings)
    if arguments.print_config:
        import yaml

        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
        return 0
    if arguments.store is None:
        raise ConfigError("--store DIR: name the folder of runs")
    if arguments.data is None and arguments.domains is not None:
        raise ConfigError("--domains names data sets below --data DIR, which is missing")
    quiet()
    from rich.console import Console

    from mogrid.experiment.cells import DataSource

    signal.signal(signal.SIGTERM, _as_interrupt)
    records = run_sweep(
        settings,
        DataSource(arguments.data, arguments.domains),
        arguments.store,
        Console(stderr=True),
        executor=arguments.executor,
        ray_address=arguments.ray_address,
    )
    if arguments.json:
        print(json.dumps({"store": str(arguments.store), "runs": [record.name for record in records]}, indent=1))
    else:
        print(f"{len(records)} runs in {arguments.store}")
    return 0


def _as_interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
