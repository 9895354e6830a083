"""Say which base model and which mix to spend a budget on, from the runs of a sweep.

Laws of every objective over N and the pairs of every objective are fitted to the store: they say what a pair of one is
worth to another, what the budget can reach, and whether mixing pays at all. Runs of any other trainer do as well: a
folder with ratios.csv, a row a run with the share of each data set, and metrics.csv with what each reached. With
--experiments, say instead which runs to do next: those that make the choice, or without a budget the laws, surest for
their price.

examples:
  mogrid plan runs --budget 1e14 --preference effectiveness=2,ood=1,typos=1 --write best.yaml
  mogrid plan runs --budget 1e14 --experiments 6 --write next.yaml
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from mogrid.commands._common import check_places, parse_bounds, parse_numbers
from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier import (
    METHODS,
    Laws,
    Needed,
    Plan,
    experiments,
    fit_laws,
    foretold_front,
    measurements_from_csv,
    mixing_pays,
    next_runs,
    plan,
    times_needed,
)
from mogrid.progress import status

if TYPE_CHECKING:
    from mogrid.sweep.measured import Measured

__all__ = ["add_arguments", "run"]

_BUDGETS = ("budget", "hours", "money")
_SHIFT = 2e-3  # of a share: more than rounding
_LARGE = 10  # of exchange rates: has no digits behind the point
_RUNS = 1000  # more than these are FLOPs
_RATIOS = "ratios.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", type=Path, metavar="STORE", help="folder of a sweep's runs, or of ratios.csv and metrics.csv"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="FLOPS",
        help="training FLOPs to spend; in dearest runs where no table has FLOPs",
    )
    parser.add_argument("--hours", type=float, help="budget in hours, at the speed of the store's largest model")
    parser.add_argument("--money", type=float, help="budget in money, with --price an hour")
    parser.add_argument("--price", type=float, help="of an hour")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="importance, such as effectiveness=2,ood=1")
    parser.add_argument(
        "--at-least", action="append", default=[], metavar="NAME=VALUE", help="such as ood=.45, or ood=base-0.005"
    )
    parser.add_argument("--method", default="weighted", help=", ".join(METHODS))
    parser.add_argument("--metric", help="ce or ndcg, which the choice is made in (default: the first there is)")
    parser.add_argument("--model", action="append", metavar="LABEL", help="base models to choose from (default: all)")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="of runs of several recipes")
    parser.add_argument(
        "--judged",
        action="append",
        default=[],
        metavar="SET=COLUMN",
        help="of metrics.csv, where they differ",
    )
    parser.add_argument("--law", help="one law for all objectives (default: the best on what is held out)")
    parser.add_argument("--draws", type=int, default=200, help="bootstrap draws of the laws (default: 200)")
    parser.add_argument(
        "--experiments", type=float, metavar="N", help="say which N runs to do next instead; above 1000: for N FLOPs"
    )
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the plan, for mogrid train --plan")
    parser.add_argument(
        "--write", type=Path, metavar="YAML", help="write the recipe to train, or the sweep to run next"
    )
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw what pairs are worth")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.report.table import printer
    from mogrid.runs import RunStore
    from mogrid.sweep.measured import measured
    from mogrid.sweep.planned import changes_of, write_plan, write_recipe
    from mogrid.sweep.run import base_of

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    if arguments.draws < 2:
        raise ConfigError(f"--draws must be at least 2, got {arguments.draws}")
    asked = arguments.experiments
    if asked is not None and not 1 <= asked < math.inf:
        raise ConfigError(f"--experiments {asked:g}: expected a number of runs, or of FLOPs above {_RUNS}")
    if arguments.price is not None and arguments.money is None:
        raise ConfigError("--price is of an hour that --money buys, which is missing")
    check_places(arguments, "out", "write", "figure")
    preference, least = parse_numbers("--preference", arguments.preference), parse_bounds(arguments.at_least)
    if (arguments.store / _RATIOS).is_file():
        return _imported(arguments, preference, least)
    if arguments.judged:
        raise ConfigError(f"--judged is for a folder with {_RATIOS}, and {arguments.store} has none")
    with status(Console(stderr=True), "reading the runs") as stage:
        given = measured(RunStore(arguments.store), arguments.where)
        next_ones = arguments.experiments is not None
        budget = (
            None
            if next_ones and all(getattr(arguments, flag) is None for flag in _BUDGETS)
            else flops_of(arguments, given)
        )
        for name in arguments.model or ():
            if name not in given.models:
                raise ConfigError(f"--model {name!r}: not in the store{nearest(name, given.models)}")
        stage.say("fitting laws")
        laws = fit_laws(given.measurements, form=arguments.law, draws=arguments.draws)
        wanted: dict[str, Any] = {
            "preference": preference,
            "at_least": bounds(least, laws, arguments.metric, arguments.model),
            "models": arguments.model or list(given.models),
            "metric": arguments.metric,
        }
        stage.say("choosing")
        if budget is None or next_ones:
            return _experiments(arguments, laws, given, wanted, budget)
        chosen = plan(laws, budget, **wanted, method=arguments.method, recipe=given.recipe.family())
        if arguments.out is not None:
            write_plan(arguments.out, chosen, given)
        if arguments.write is not None:
            write_recipe(arguments.write, chosen, given, base_of(arguments.store))
        if arguments.figure is not None:
            from mogrid.report.figures import plot_exchange

            title = f"Exchange rates from {arguments.store}"
            plot_exchange(arguments.figure, laws.exchange(chosen.metric, chosen.effort), title=title)
    if arguments.json:
        needed = [rival.to_json() for rival in _rivals(chosen, laws)]
        print(json.dumps({**chosen.to_json(), "needed": needed, "laws": laws.to_json()}, indent=1))
        return 0
    console = printer()
    show(console, chosen, laws, arguments.law)
    mix = changes_of(chosen, given)["mix"] if chosen.model is not None else chosen.mix
    for name, share in mix.items():
        if abs(share - chosen.mix[name]) > _SHIFT:
            rows = given.recipe.training.batch_size
            console.print(f"note: of batches of {rows} rows, {name!r} is given {share:g}", highlight=False)
    return 0


def _experiments(
    arguments: argparse.Namespace, laws: Laws, given: Measured | None, wanted: dict[str, Any], budget: float | None
) -> int:
    """Print which runs to do next; without `given`, of another trainer's tables."""
    from mogrid.report.table import Table, printer
    from mogrid.sweep.planned import able, proposed, write_sweep
    from mogrid.sweep.run import base_of

    if arguments.out is not None:
        raise ConfigError("--out is for a plan; --write YAML writes the runs of --experiments as a sweep")
    if arguments.method != "weighted":
        raise ConfigError("--experiments is for a choice by --method weighted")
    asked, models = arguments.experiments, wanted["models"]
    options = experiments(laws, models) if given is None else able(laws, given, models)
    if asked < _RUNS and asked != int(asked):
        raise ConfigError(f"--experiments {asked:g}: expected a number of runs, or of FLOPs above {_RUNS}")
    size = {"count": int(asked)} if asked < _RUNS else {"budget": asked}
    made = next_runs(laws, options, **size, final=budget, **wanted)
    if given is None:
        mixes = options.mix[list(made.rows)].tolist()
        rows: list[dict[str, Any]] = [
            {"mix": dict(zip(laws.objectives, mix, strict=True)), "seed": ""} for mix in mixes
        ]
    else:
        rows = proposed(made, options, given)
    if arguments.write is not None and given is not None:
        write_sweep(arguments.write, rows, given, base_of(arguments.store))
    if arguments.json:
        print(json.dumps({"runs": rows, "flops": made.flops, "before": made.before, "after": made.after}, indent=1))
        return 0
    lines = [
        (str(options.models[i]), *(f"{row['mix'][name]:.2f}" for name in laws.objectives),
         f"{options.pairs[i].sum():,.0f}", f"{options.flops[i]:.3g}", str(row["seed"]))
        for i, row in zip(made.rows, rows, strict=True)
    ]  # fmt: skip
    console = printer()
    note = "the most useful for its price first; shares of the mix by objective"
    unit = "FLOPs" if laws.runs.priced else "dearest runs"
    columns = ("base model", *laws.objectives, "pairs", unit, "seed")
    console.print(Table(f"{len(lines)} runs to do next, {made.flops:.3g} {unit} in all", columns, lines, note))
    for name, before in made.before.items():
        kept = " and what it must keep are not known to" if wanted["at_least"] else " by"
        of = f"the better choice{kept}" if name == "choice" else f"log loss of {name}, not known to"
        console.print(f"{of} ± {before:.2g}; with these runs ± {made.after[name]:.2g}", highlight=False)
    return 0


def _imported(arguments: argparse.Namespace, preference: dict[str, float] | None, least: dict[str, float | str]) -> int:
    """Plan from runs that another trainer made; a budget is told in dearest runs where no table has FLOPs."""
    from mogrid.files import write_text
    from mogrid.report.figures import plot_exchange
    from mogrid.report.table import printer

    for flag in ("hours", "money", "write", "where"):
        if getattr(arguments, flag) not in (None, []):
            raise ConfigError(f"--{flag} is for runs that mogrid made; of {_RATIOS} only mixes and values are known")
    judged = dict(text.split("=", 1) for text in arguments.judged if "=" in text)
    if len(judged) < len(arguments.judged):
        raise ConfigError(f"--judged {arguments.judged}: expected SET=COLUMN, and each set once")
    metric = arguments.metric or "ce"
    folder = arguments.store
    runs = measurements_from_csv(folder / _RATIOS, folder / "metrics.csv", metric=metric, judged=judged)
    laws = fit_laws(runs, form=arguments.law, draws=arguments.draws)
    wanted: dict[str, Any] = {
        "preference": preference,
        "at_least": bounds(least, laws, metric, arguments.model),
        "models": arguments.model or list(runs.sizes),
    }
    budget = arguments.budget if arguments.budget is not None else float(runs.flops.max())
    if arguments.experiments is not None:
        return _experiments(arguments, laws, None, wanted, budget)
    chosen = plan(laws, budget, **wanted, method=arguments.method)
    told = json.dumps({**chosen.to_json(), "laws": laws.to_json()}, indent=1)
    if arguments.out is not None:
        write_text(arguments.out, told)
    if arguments.figure is not None:
        title = f"Exchange rates from {folder}"
        plot_exchange(arguments.figure, laws.exchange(metric, chosen.effort), title=title)
    if arguments.json:
        print(told)
    else:
        show(printer(), chosen, laws, arguments.law)
    return 0


def bounds(
    given: dict[str, float | str], laws: Laws, metric: str | None, models: list[str] | None
) -> dict[str, float] | None:
    """Return numbers, and what is counted from the base model, as values of a metric."""
    if not given:
        return None
    from mogrid.trainer.keep import bound

    metric, runs, found = laws.metric(metric), laws.runs, {}
    for name, value in given.items():
        if name not in laws.objectives:
            raise ConfigError(f"--at-least: no objective {name!r}{nearest(name, laws.objectives)}")
        relative, number = bound(name, value)
        if relative:
            known = runs.base.get(metric, {})
            own = [known[model] for model in (models or known) if model in known]
            if not own:
                raise ConfigError(
                    f"--at-least {name}={value}: no run of the base model is among these, which a sweep makes with "
                    "rows: [base]; give a number"
                )
            # Of several base models the best one is the bar.
            column = laws.objectives.index(name)
            values = [float(row[column]) for row in own]
            number += min(values) if metric == "ce" else max(values)
        found[name] = number
    return found


def flops_of(arguments: argparse.Namespace, given: Measured) -> float:
    """Return a budget in FLOPs; hours and money at the speed that runs of the largest model had."""
    named = [name for name in _BUDGETS if getattr(arguments, name) is not None]
    if len(named) != 1:
        raise ConfigError("give one of --budget FLOPS, --hours and --money")
    if arguments.budget is not None:
        return float(arguments.budget)
    hours = arguments.hours
    if arguments.money is not None:
        if not arguments.price or arguments.price <= 0:
            raise ConfigError("--money needs --price of an hour, above 0")
        hours = arguments.money / arguments.price
    timed = [record for record in given.records if record.seconds.get("training")]
    if not timed:
        raise ConfigError("no run of the store says how long it took; give --budget FLOPS")
    largest = max(record.parameters for record in timed)
    speeds = sorted(r.total_flops / r.seconds["training"] for r in timed if r.parameters == largest)
    return float(hours * 3600 * speeds[len(speeds) // 2])


def _rivals(chosen: Plan, laws: Laws) -> list[Needed]:
    """Return how many times the FLOPs the objective that counts most alone, and the equal mix, need.

    Nothing where they cannot be asked: rivals would break bounds.
    """
    if chosen.method != "weighted" or chosen.model is None or chosen.at_least:
        return []
    names, preference = laws.objectives, chosen.preference or {}
    first = max(names, key=lambda name: preference.get(name, 0.0))
    mixes = {f"{first} only": {first: 1.0}, "equal mix": dict.fromkeys(names, 1 / len(names))}
    others = {
        label: mix for label, mix in mixes.items() if max(abs(mix.get(n, 0.0) - chosen.mix[n]) for n in names) > _SHIFT
    }
    goal: dict[str, Any] = {"preference": chosen.preference, "metric": chosen.metric}
    return times_needed(laws, str(chosen.model), chosen.budget, chosen.mix, others, **goal)


def show(console: Console, chosen: Plan, laws: Laws, form: str | None = None) -> None:
    """Print a plan for people."""
    from mogrid.report.results import said_of_laws
    from mogrid.report.table import Table, cell

    def within(value: float, low: float, high: float, digits: int = 3) -> str:
        return f"{cell(value, digits=digits)} [{cell(low, digits=digits)}, {cell(high, digits=digits)}]"

    def rate(*told: float, digits: int = 2) -> str:
        if np.isnan(told[0]):
            return "-"
        value, low, high = (f"{one:,.0f}" if abs(one) >= _LARGE else cell(one, digits=digits) for one in told)
        return f"{value} [{low}, {high}]"

    priced = f"{chosen.budget:.3g} FLOPs, {chosen.extrapolation:.2g} times the dearest run"
    as_pairs = f"a budget of {chosen.budget:.3g}, in dearest runs (FLOPs are not known: runs cost N times pairs)"
    console.print(
        f"{priced if laws.runs.priced else as_pairs}: "
        f"[bold]{chosen.model or 'a model'}[/bold] (N = {chosen.parameters:,.0f}), chosen by {chosen.method} in "
        f"{chosen.metric}; {chosen.probability:.0%} of the bootstrap draws choose about this mix",
        highlight=False,
    )
    columns = ["objective", "mix", "pairs"]
    for metric in chosen.predicted:
        columns.append({"ce": "predicted CE", "ndcg": "predicted nDCG@10"}.get(metric, f"predicted {metric}"))
    rows = []
    for name in laws.objectives:
        share = f"{chosen.mix[name]:.2f} [{chosen.mix_low[name]:.2f}, {chosen.mix_high[name]:.2f}]"
        shown = [within(by[name]["value"], by[name]["low"], by[name]["high"]) for by in chosen.predicted.values()]
        rows.append((name, share, f"{chosen.pairs[name]:,.0f}", *shown))
    console.print(Table("", columns, rows, "90 % intervals, of one run"))
    with suppress(DataError):  # of one objective, or one mix
        rates = laws.exchange(chosen.metric, chosen.effort)
        rows = []
        for i, name in enumerate(laws.objectives):
            told = zip(rates.value[i], rates.low[i], rates.high[i], strict=True)
            worth = ["1" if i == j else rate(*found) for j, found in enumerate(told)]
            rows.append((name, *worth, rate(rates.base[i], rates.base_low[i], rates.base_high[i], digits=0)))
        note = (
            f"a row: what a pair of each is worth to this one, in pairs of its own; base: what it brings, in pairs; "
            f"90 %. Of {rates.said}"
        )
        console.print(Table("exchange rates", ("", *laws.objectives, "base"), rows, note))
        if chosen.method == "weighted" and chosen.model is not None:
            pays = mixing_pays(laws, chosen.model, chosen.budget, chosen.preference, metric=chosen.metric)
            console.print(str(pays), highlight=False)
    for rival in _rivals(chosen, laws):
        console.print(str(rival), highlight=False)
    for line in said_of_laws(laws, chosen.metric):
        console.print(f"law of {line}", highlight=False)
    with suppress(DataError):  # of one length, or of losses alone
        console.print(str(foretold_front(laws, form=form)), highlight=False)
    for note in chosen.edge:
        console.print(f"note: {note}", highlight=False)
