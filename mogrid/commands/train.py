"""Train a retriever for several objectives from one recipe; the same command goes on where it was cut short.

Writes a folder: model/, which SentenceTransformer loads, with its card; steps.jsonl, a line a step; and run.json.

example: mogrid train run.yaml --set solver=mgda
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from mogrid.commands._common import add_settings, printed, quiet
from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "the recipe")
    parser.add_argument(
        "--plan", type=Path, metavar="JSON", help="what mogrid plan --out wrote: its mix, model and length"
    )
    parser.add_argument("--json", action="store_true", help="print the finished run's record as JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.training import Recipe, read_recipe, train_from_recipe
    from mogrid.training.recipe import apply_plan

    if arguments.schema:
        print(json.dumps(Recipe.model_json_schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("name the YAML file of the recipe; mogrid train --help shows an example")
    recipe = read_recipe(arguments.config, arguments.set)
    if arguments.plan is not None:
        recipe = apply_plan(recipe, arguments.plan)
    if arguments.print_config:
        print(printed(recipe), end="")
        return 0
    quiet()
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    out = train_from_recipe(recipe, arguments.config.resolve().parent, Console(stderr=True, quiet=not first))
    if arguments.json and first:
        print((out / "run.json").read_text("utf-8"), end="")
    return 0
