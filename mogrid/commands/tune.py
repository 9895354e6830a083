"""Spend a budget on a recipe: pilots, laws, the mix that your preference or bounds want, its training, a verdict.

Pilots take at most 30 % of it. The model in DIR/model is the final training's kept weights, merged with the base as far
as that is sure to pay on select-role data - or the base itself, where fine-tuning does not. Test-role data are looked
at once. Ctrl-C stops at a checkpoint (exit code 3); the same command goes on, also after a kill.

example: mogrid tune run.yaml --hours 3 --maximise effectiveness --at-least ood=base-0.005 --out tuned
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mogrid.commands._common import add_settings, parse_bounds, parse_numbers, printed, quiet
from mogrid.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, "the recipe; its mix and length are what is looked for")
    parser.add_argument("--budget", type=float, metavar="FLOPS", help="training FLOPs, pilots and all")
    parser.add_argument("--hours", type=float, help="budget in hours by the clock, judging and all")
    parser.add_argument("--money", type=float, help="budget in money, with --price an hour of this machine")
    parser.add_argument("--price", type=float, help="of an hour")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="importance, such as effectiveness=2,ood=1")
    parser.add_argument("--maximise", metavar="NAME", help="the one objective that counts, in place of --preference")
    parser.add_argument(
        "--at-least", action="append", default=[], metavar="NAME=VALUE",
        help="least nDCG@10, such as ood=base-0.005, typos=base or ood=.45",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the runs and the model (default: the recipe's output, with -tune after its name)",
    )
    parser.add_argument(
        "--rivals",
        action="store_true",
        help="train one objective alone and the equal mix, too, with the whole budget each, uncounted",
    )
    parser.add_argument("--workers", type=int, default=1, help="runs at the same time (default: 1, with all threads)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show the plan with what each stage will cost, and stop; of hours, after a first short training",
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.report.table import printer
    from mogrid.training import Recipe, read_recipe
    from mogrid.training.library import located
    from mogrid.tune import tune

    if arguments.schema:
        print(json.dumps(Recipe.model_json_schema(), indent=1))
        return 0
    if arguments.config is None:
        raise ConfigError("name the YAML file of the recipe; mogrid tune --help shows an example")
    recipe = read_recipe(arguments.config, arguments.set).change(_goal(arguments))
    if arguments.print_config:
        print(printed(recipe), end="")
        return 0
    base = arguments.config.resolve().parent
    if arguments.out is None and recipe.output is None:
        raise ConfigError("--out DIR: name the folder of the runs and the model")
    # mogrid train writes its model to the recipe's folder: one recipe serves both.
    out = arguments.out if arguments.out is not None else Path(f"{located(base, recipe.output or '')}-tune")
    budget = _budget(arguments)
    quiet()
    screen = Console(stderr=True) if arguments.json else printer()
    outcome = tune(
        recipe, base, out, budget, Console(stderr=True), rivals=arguments.rivals, dry_run=arguments.dry_run,
        show=screen.print,
    )  # fmt: skip
    if outcome is None:
        return 0
    if arguments.json:
        print(json.dumps(outcome.to_json(), indent=1))
        return 0
    for table in outcome.tables():
        screen.print(table)
    for line in outcome.lines:
        print(line)
    print(f"model: {out / 'model'}; page: {out / 'tune.html'}")
    return 0


def _goal(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what of the recipe the goal on the command line sets."""
    found: dict[str, Any] = {}
    if arguments.maximise is not None and arguments.preference is not None:
        raise ConfigError("--maximise and --preference are two ways to say what counts: give one")
    if arguments.maximise is not None:
        found["preference"] = {arguments.maximise: 1.0}
    elif arguments.preference is not None:
        found["preference"] = parse_numbers("--preference", arguments.preference)
    bounds = parse_bounds(arguments.at_least)
    return {**found, "at_least": bounds} if bounds else found


def _budget(arguments: argparse.Namespace) -> Any:
    from mogrid.tune import Budget

    given = [name for name in ("budget", "hours", "money") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise ConfigError("give one of --budget FLOPS, --hours and --money")
    if arguments.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {arguments.workers}")
    hours = arguments.hours
    if arguments.price is not None and arguments.money is None:
        raise ConfigError("--price is of an hour that --money buys, which is missing")
    if arguments.money is not None:
        if not arguments.price or arguments.price <= 0:
            raise ConfigError("--money needs --price of an hour, above 0")
        hours = arguments.money / arguments.price
    return Budget(arguments.budget, hours, arguments.workers, arguments.price)
