"""Train a retriever for several objectives from one YAML file; the same command goes on where it was cut short.

Writes a folder: model/, which SentenceTransformer loads, with its card; steps.jsonl, a line a step; and run.json.

example: mogrid train run.yaml --set solver.name=mgda
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from mogrid.commands._common import quiet
from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", metavar="YAML", help="the training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the file")
    parser.add_argument("--print-config", action="store_true", help="print all settings, defaults filled in, and stop")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the file, for editors, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print the finished run's record as JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.training.recipe import TrainSettings, read_settings

    if arguments.schema:
        print(json.dumps(TrainSettings.model_json_schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("name the YAML file of the training; mogrid train --help shows an example")
    settings = read_settings(arguments.config, arguments.set)
    if arguments.print_config:
        import yaml

        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
        return 0
    quiet()
    from rich.console import Console

    from mogrid.training import train_from_settings

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    out = train_from_settings(settings, arguments.config.resolve().parent, Console(stderr=True, quiet=not first))
    if arguments.json and first:
        print((out / "run.json").read_text("utf-8"), end="")
    return 0
