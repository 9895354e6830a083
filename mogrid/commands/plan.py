"""Say which weights, model size and data size to spend a budget on, from the runs of a sweep.

Laws of every objective over N, D and the weights are fitted to the store; pymoo searches what the budget can reach; the
preference chooses. With --experiments, say instead which runs would make the laws surest for so many FLOPs.

example: mogrid plan runs --budget 1e14 --preference effectiveness=2,ood=1,adversarial=1
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.errors import ConfigError

if TYPE_CHECKING:
    from mogrid.runs import RunStore
    from mogrid.scaling import Laws, Plan

__all__ = ["add_arguments", "parse_preference", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of a sweep's runs")
    parser.add_argument("--budget", type=float, metavar="FLOPS", help="training FLOPs to spend")
    parser.add_argument("--hours", type=float, help="budget in hours, at the speed of the store's largest model")
    parser.add_argument("--money", type=float, help="budget in money, with --price an hour")
    parser.add_argument("--price", type=float, help="of an hour")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="such as effectiveness=2,ood=1,adversarial=1")
    parser.add_argument("--method", default="preference", help="preference, knee, hypervolume, equal regret")
    parser.add_argument("--law", help="one law for all objectives (default: the best on the largest scale held out)")
    parser.add_argument("--experiments", type=float, metavar="FLOPS", help="propose runs for so many FLOPs instead")
    parser.add_argument("--draws", type=int, default=300, help="bootstrap draws of the laws (default: 300)")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw the laws")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.runs import RunStore
    from mogrid.scaling import ExtrapolationWarning, fit_laws, plan, read_runs

    if not arguments.store.is_dir():
        raise ConfigError(f"{arguments.store}: no such folder")
    store = RunStore(arguments.store)
    preference = parse_preference(arguments.preference)
    budget = None if arguments.experiments is not None else _budget(arguments, store)
    laws = fit_laws(read_runs(store), form=arguments.law, draws=arguments.draws)
    if arguments.figure is not None:
        from mogrid.report.figures import plot_laws

        plot_laws(arguments.figure, laws, title=f"Laws from {arguments.store}")
    if budget is None:
        return _propose(laws, arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExtrapolationWarning)
        chosen = plan(laws, budget, preference, method=arguments.method)
    notes = [str(w.message) for w in caught if issubclass(w.category, ExtrapolationWarning)]
    if arguments.json:
        print(json.dumps({**chosen.to_json(), "laws": laws.to_json(), "warnings": notes}, indent=1))
    else:
        _show(chosen, laws, notes)
    return 0


def parse_preference(text: str | None) -> dict[str, float] | None:
    """Return ``effectiveness=2,ood=1`` as a mapping."""
    if text is None:
        return None
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"--preference {text!r}: expected NAME=NUMBER,..., got {part!r}") from None
        if not equals:
            raise ConfigError(f"--preference {text!r}: expected NAME=NUMBER,..., got {part!r}")
    return found


def _budget(arguments: argparse.Namespace, store: RunStore) -> float:
    given = [name for name in ("budget", "hours", "money") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise ConfigError("give one of --budget FLOPS, --hours and --money")
    if arguments.budget is not None:
        return float(arguments.budget)
    hours = arguments.hours
    if arguments.money is not None:
        if not arguments.price or arguments.price <= 0:
            raise ConfigError("--money needs --price of an hour, above 0")
        hours = arguments.money / arguments.price
    runs = [r for r in store.records(queries=False) if r.kind == "sweep" and r.seconds.get("training")]
    if not runs:
        raise ConfigError(f"{store.root}: no run whose speed is known")
    largest = max(r.parameters for r in runs)
    speeds = sorted(r.flops["total"] / r.seconds["training"] for r in runs if r.parameters == largest)
    return float(hours * 3600 * speeds[len(speeds) // 2])


def _show(chosen: Plan, laws: Laws, notes: list[str]) -> None:
    spread = "" if chosen.size_low == chosen.size_high else f" [{chosen.size_low:,.0f} to {chosen.size_high:,.0f}]"
    print(f"budget   {chosen.budget:.3g} FLOPs, {chosen.extrapolated:.2g} times the sweep's dearest run")
    print(f"size     N = {chosen.size:,.0f} non-embedding parameters{spread}")
    print(f"data     D = {chosen.pairs:,.0f} pairs of every objective with a weight")
    print(f"weights  by {chosen.method}; {chosen.probability:.0%} of the bootstrap draws choose about these")
    for name in laws.objectives:
        weight = f"{chosen.weights[name]:.2f} [{chosen.weight_low[name]:.2f}, {chosen.weight_high[name]:.2f}]"
        value = f"{chosen.predicted[name]:.3f} [{chosen.low[name]:.3f}, {chosen.high[name]:.3f}]"
        print(f"  {name:14s} {weight}   predicted CE {value}")
    print("laws     (90 % intervals)")
    for name, fit in zip(laws.objectives, laws.fits, strict=True):
        held = ", ".join(f"{axis} {error:.1%}" for axis, error in fit.held_out[fit.fitted.form.name].items())
        error = f"; error on the largest scale held out: {held}" if held else ""
        print(f"  {name:14s} {fit.fitted.form.name}, R² {fit.fitted.r2:.3f}{error}")
    for note in notes:
        print(f"warning: {note}")


def _propose(laws: Laws, arguments: argparse.Namespace) -> int:
    import numpy as np

    from mogrid.scaling import Candidates, fit_costs, propose_runs

    runs = laws.runs
    costs = fit_costs(runs)
    sizes, weights = np.unique(runs.sizes), np.unique(runs.weights.round(9), axis=0)
    grid = np.unique(runs.pairs[(runs.weights > 0).all(axis=1)])
    cells = [(n, d, w) for n in sizes for d in (*grid, 2.5 * grid.max()) for w in weights]
    flops = np.array([d * float((w > 0) @ costs.per_pair(n)) for n, d, w in cells])
    n, d, w = (np.array(column) for column in zip(*cells, strict=True))
    options = Candidates(n, d, w, flops)
    proposal = propose_runs(laws, options, arguments.experiments)
    rows = [
        {
            "size": float(options.sizes[i]),
            "pairs": float(options.pairs[i]),
            "weights": dict(zip(laws.objectives, options.weights[i].round(4).tolist(), strict=True)),
            "flops": float(options.flops[i]),
        }
        for i in proposal.rows
    ]
    if arguments.json:
        print(json.dumps({"runs": rows, "before": proposal.before, "after": proposal.after}, indent=1))
        return 0
    print(f"{len(rows)} runs for {proposal.flops:.3g} FLOPs, most useful for their price first")
    for row in rows[:40]:
        shown = "/".join(f"{w:.2g}" for w in row["weights"].values())  # type: ignore[attr-defined]
        print(f"  N = {row['size']:,.0f}  D = {row['pairs']:,.0f}  weights {shown}  {row['flops']:.2g} FLOPs")
    for name in laws.objectives:
        print(f"error of predicted {name}: {proposal.before[name]:.2%} now, {proposal.after[name]:.2%} with them")
    return 0
