"""The main job: what Pareto training is worth on the model at hand, in minutes.

    python -m benchmarks.dpr                                 # upper layers of all-MiniLM-L6-v2, text that pip brings
    python -m benchmarks.dpr --encoder BAAI/bge-small-en-v1.5 --data DIR --set objectives.ood.datasets=[tldr,medquad]
    python -m benchmarks.dpr --scratch 1x64

The base model is judged; short pilots over mixes are trained at a little data; laws with exchange rates say what a pair
of each objective is worth to the others, what the full budget can reach, and which mix to choose for the preference.
That mix, effectiveness only, the equal mix, MGDA and ParetoTarget are then trained at equal FLOPs, two of them merged
with the base, and everything is judged on test-role data beside BM25. Ctrl-C stops at a checkpoint; the same command
goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from rich.console import Console

from mogrid.commands._common import parse_numbers, quiet
from mogrid.commands.plan import show as show_plan
from mogrid.errors import ConfigError, MogridError
from mogrid.files import write_json
from mogrid.frontier import Laws, Plan, fit_laws, plan, planned_front
from mogrid.progress import status
from mogrid.report import write_report
from mogrid.report.figures import COLOURS, Style, plot_front
from mogrid.report.figures.exchange import plot_exchange
from mogrid.report.html import Figure, Report
from mogrid.report.page import store_page
from mogrid.report.results import results_table
from mogrid.report.scales import front_of
from mogrid.report.table import Table, cell, printer
from mogrid.runs import RunRecord, RunStore, told_apart
from mogrid.runs.summary import summarise
from mogrid.sweep.cells import Cell, cells_of
from mogrid.sweep.grid import Sweep, SweepSettings, expand
from mogrid.sweep.measured import Measured, measured
from mogrid.sweep.planned import changes_of
from mogrid.sweep.run import drain_cells
from mogrid.training.costs import row_costs, steps_of
from mogrid.training.recipe import Recipe, read_recipe
from mogrid.training.run import default_label, materials
from mogrid.tune.verdict import gains_told

__all__ = ["main"]

RECIPE = Path(__file__).parent / "recipes" / "dpr.yaml"
_PILOTS = (0.25, 0.6)  # of the full number of pairs
_PILOT_SEEDS = 2
_MERGED = 0.5
_METRIC = "ndcg"
"""What the preference is stated in: contrastive entropy is moved by losses, too, that leave the ranking as it is."""
_LEAST = 10  # steps
_SURE = 0.95  # of the budget: the pilots measure it anew


@dataclass(frozen=True)
class Job:
    """What the command line asked for.

    Attributes
    ----------
    recipe : Recipe
        Its length is the full training's.
    base : Path
        The folder that its paths are relative to.
    preference : dict of objective to importance
    seeds : list of int
        Of the full trainings, from the recipe's on; pilots have the first two.
    out : Path
    workers : int
    """

    recipe: Recipe
    base: Path
    preference: dict[str, float]
    seeds: list[int]
    out: Path
    workers: int

    def sweep(self, recipe: Recipe, vary: Any, **settings: Any) -> Sweep:
        """Return a sweep over a recipe."""
        made = SweepSettings.model_validate({"recipe": {}, "vary": vary, "workers": self.workers, **settings})
        return expand(made, recipe, self.base)


def pilots(job: Job) -> Sweep:
    """Return short trainings over mixes, judged by the objectives' own measures alone: no test data are looked at."""
    pairs = [max(round(share * (job.recipe.training.pairs or 0)), job.recipe.training.batch_size) for share in _PILOTS]
    vary = {"pairs": pairs, "mix": ["corners", "equal"], "seed": job.seeds[:_PILOT_SEEDS]}
    return job.sweep(
        job.recipe.change({"evaluation.role": "select", "evaluation.perturb": [], "training.checkpoints": 1}),
        vary,
        rows=["base"],
        equal="pairs",
    )


def finals(job: Job, chosen: dict[str, Any]) -> list[Sweep]:
    """Return the full trainings, at one number of FLOPs, and the merges with the base."""
    first = next(iter(job.recipe.objectives))
    at = job.recipe.change({"training.budget": chosen["training.budget"]})
    mixes = [chosen["mix"], first, "equal"]
    solvers = ["mgda", {"name": "pareto_target", "preference": job.preference}]
    vary = [{"mix": mixes, "seeds": job.seeds}, {"solver": solvers, "seeds": job.seeds}]
    return [
        job.sweep(at, vary, keep="models"),
        job.sweep(at, {"mix": mixes[:2], "seeds": job.seeds}, merge=[_MERGED]),
    ]


def check_length(job: Job) -> None:
    """Raise a `ConfigError` before anything is trained, where the finals' budget would buy one of them nothing."""
    cache = job.out / "pilots" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    pairs, names = job.recipe.training.pairs or 0, list(job.recipe.objectives)
    given = materials(job.recipe, job.base)
    full = job.recipe.change({"mix": None, "solver": "fixed", "spend": "weights"})
    costs = row_costs(full, given.build, given.datasets, cache, given.data)
    budget = _SURE * pairs * sum(costs.values()) / len(costs)
    for mix in ({name: float(name == one) for name in names} for one in names):
        alone = job.recipe.change({"mix": mix, "training.budget": budget})
        try:
            steps_of(alone, given.build, given.datasets, cache, given.data)
        except ConfigError as error:
            raise ConfigError(f"training.pairs: {pairs:,} are too few for {default_label(alone)}: {error}") from error


def drain(job: Job, sweeps: Sequence[Sweep], folder: str, console: Console) -> list[Cell]:
    """Run what is not finished of some sweeps that share a store; return their cells."""
    store = job.out / folder
    store.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # what a pair costs is measured once
        if folder != "pilots":
            shutil.copytree(job.out / "pilots" / "cache", store / "cache", dirs_exist_ok=True)
    with status(console, f"reading the data of the {folder}") as stage:
        found = [cell for sweep in sweeps for cell in cells_of(sweep, store, lambda said: stage.update(said=said))]
    cells: dict[str, Cell] = {}
    for one in found:
        before = cells.get(one.name)
        cells[one.name] = one if before is None or one.keep else before
    drain_cells(list(cells.values()), store, console, workers=job.workers)
    return list(cells.values())


def run(job: Job, console: Console, printed: Console) -> None:
    """Do the whole job, or what of it is left, and print what came out."""
    started = time.monotonic()
    pairs = job.recipe.training.pairs or 0
    console.print(
        f"{job.recipe.model.label}: {len(pilots(job).points)} pilots of up to {_PILOTS[-1] * pairs:,.0f} pairs, a "
        f"plan, 5 strategies x {len(job.seeds)} seeds of {pairs:,} pairs, merged and judged; {job.workers} at a time",
        highlight=False,
    )
    if not (job.out / "plan.json").is_file():
        with status(console, "measuring what a pair costs"):
            check_length(job)
    drain(job, [pilots(job)], "pilots", console)
    with status(console, "fitting laws to the pilots"):
        given = measured(RunStore(job.out / "pilots"))
        laws = fit_laws(given.measurements)
    budget = float(pairs * np.mean(laws.costs.per_pair(float(given.measurements.parameters[0]))))
    made, chosen = _kept_plan(job, laws, given, budget)
    cells = drain(job, finals(job, chosen), "finals", console)
    store = RunStore(job.out / "finals")
    own = next(c.name for c in cells if c.kind == "trained" and c.recipe.mix == chosen["mix"])
    with status(console, "reading the finals"):
        records = told_apart([store.read(name) for name in dict.fromkeys(cell.name for cell in cells)])
    label = next(record.label for record in records if record.name == own)
    _show(job, given, laws, made, records, label, printed)
    printed.print(f"{time.monotonic() - started:.0f} s; everything lies in {job.out}", highlight=False)


def _kept_plan(job: Job, laws: Laws, given: Measured, budget: float) -> tuple[Plan, dict[str, Any]]:
    """Return the plan, which is made once: what was trained does not change with what a later version would choose."""
    path = job.out / "plan.json"
    if path.is_file():
        value = json.loads(path.read_text("utf-8"))
        return Plan(**{**value["plan"], "edge": tuple(value["plan"]["edge"])}), value["set"]
    made = plan(laws, budget, preference=job.preference, metric=_METRIC, recipe=given.recipe.family())
    chosen = changes_of(made, given)
    write_json(path, {"plan": made.to_json(), "set": chosen})
    return made, chosen


def _show(
    job: Job, given: Measured, laws: Laws, made: Plan, records: list[RunRecord], label: str, console: Console
) -> None:
    show_plan(console, made, laws)
    title = "What a pair of one objective is worth to another"
    plot_exchange(job.out / "exchange.png", laws.exchange(_METRIC, made.effort), title=title)
    told = _foretold(made, [r for r in records if r.kind == "trained" and r.label == label])
    summary = summarise(records, "test", baseline="base")
    results = results_table(summary, f"{job.recipe.model.label} on test-role data", about=("FLOPs", "seeds"))
    _draw(job, laws, made, records, label)
    places, said = materials(job.recipe, job.base).judging.objectives, []
    others = [other for other in dict.fromkeys(record.label for record in records) if other != label]
    for other in others:
        said.append(gains_told(records, label, other, places, job.preference, "test"))
    for other in ("base", f"{next(iter(job.recipe.objectives))} only", "equal mix"):
        if other in others:
            said.append(_verdict(records, label, other))
    for table in (told, results):
        console.print(table)
    for line in said:
        console.print(line, highlight=False)
    with tempfile.TemporaryDirectory() as scratch:
        page = store_page(RunStore(job.out / "finals"), laws, Path(scratch), preference=job.preference)
        front = Figure("The front, foretold and measured", job.out / "front.png", "By the objectives' own measures.")
        parts = [results, told, front, *page.parts[:-1]]
        write_report(job.out / "dpr.html", Report("The main job", said, parts, page.provenance))


def _foretold(made: Plan, own: list[RunRecord]) -> Table:
    """Return what the plan foretold beside what its training measured, on select-role data."""
    rows = []
    for name in made.mix:
        row = [name]
        for metric in made.predicted:
            told = made.predicted[metric][name]
            seen = float(np.mean([record.objectives[name][metric] for record in own]))
            row += [f"{cell(told['value'])} [{cell(told['low'])}, {cell(told['high'])}]", cell(seen)]
        rows.append(row)
    columns = ["", *(f"{metric}, {what}" for metric in made.predicted for what in ("foretold", "measured"))]
    return Table("the plan's mix, select role", columns, rows, "90 % intervals of one run; measured: mean over seeds")


def _draw(job: Job, laws: Laws, made: Plan, records: list[RunRecord], label: str) -> None:
    drawn = [record for record in records if record.kind != "bm25"]
    front = front_of(drawn, _METRIC)
    foretold = planned_front(laws, made.budget, metric=_METRIC)
    styles = {record.label: Style(COLOURS[0], group=record.kind) for record in drawn}
    styles[label] = Style(COLOURS[1], group="the plan's choice")
    axes = {name: f"{name}, 1 − nDCG@10" for name in front.objectives}
    title = "Objectives on select-role data; small dots: the front foretold from the pilots"
    plot_front(job.out / "front.png", front, styles, axes, predicted=foretold.losses(_METRIC), title=title)


def _verdict(records: list[RunRecord], label: str, baseline: str) -> str:
    """Say what was gained and lost, only as far as the tests carry."""
    summary = summarise(records, "test", baseline=baseline)
    row = summary.row(label)
    said: dict[str, list[str]] = {"gains": [], "loses": [], "shows no difference in": []}
    for measure, test in row.tests.items():
        verb = "shows no difference in" if test.p_value >= 0.05 else "gains" if test.difference > 0 else "loses"
        amount = "" if test.p_value >= 0.05 else f" {abs(test.difference):.3f} [{test.low:+.3f}, {test.high:+.3f}]"
        said[verb].append(f"{measure}{amount}")
    parts = [f"{verb} {', '.join(found)}" for verb, found in said.items() if found]
    return f"{label} against {baseline}: {'; '.join(parts)} (p < .05, paired, Holm)."


def _job(arguments: argparse.Namespace) -> Job:
    base, changes = RECIPE.parent, list[str]()
    if arguments.scratch is not None:
        changes += ["model={size: " + arguments.scratch + "}", "training.learning_rate=1.0e-2"]
    elif arguments.encoder is not None:
        changes.append(f"model={{path: {arguments.encoder}, max_length: 64}}")
    if arguments.data is not None:
        changes.append(f"data={arguments.data.resolve()}")
    if arguments.domains is not None:
        changes.append(f"evaluation.domains={arguments.domains.resolve()}")
    recipe = read_recipe(arguments.recipe or RECIPE, [*changes, *arguments.set])
    if recipe.training.pairs is None:
        raise ConfigError("training.pairs: the job's length is given in pairs that a full training draws")
    if recipe.training.pairs < _LEAST * recipe.training.batch_size:
        raise ConfigError(f"training.pairs: {recipe.training.pairs:,} are fewer than {_LEAST} steps")
    names = list(recipe.objectives)
    preference = parse_numbers("--preference", arguments.preference) or {
        name: 2.0 if i == 0 else 1.0 for i, name in enumerate(names)
    }
    base = (arguments.recipe or RECIPE).resolve().parent
    return Job(
        recipe,
        base,
        preference,
        list(range(recipe.seed, recipe.seed + arguments.seeds)),
        arguments.out,
        arguments.workers,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the process's exit code: 0 done, 2 bad input, 3 interrupted and resumable."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dpr", description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", type=Path, metavar="YAML", help="(default: benchmarks/recipes/dpr.yaml)")
    parser.add_argument("--encoder", metavar="MODEL", help="a folder or Hub id, whole, in place of the recipe's")
    parser.add_argument("--scratch", metavar="SIZE", help="from scratch instead, such as 1x64")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data sets (default: the embedded data)")
    parser.add_argument("--domains", type=Path, metavar="YAML", help="what is what of them")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="(default: the first objective counts twice)")
    parser.add_argument("--seeds", type=int, default=3, help="of the full trainings (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time, one thread each (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("results/dpr"), metavar="DIR", help="(default: results/dpr)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the recipe")
    arguments = parser.parse_args(argv)
    quiet()
    try:
        run(_job(arguments), Console(stderr=True), printer())
    except MogridError as error:
        print(f"benchmarks.dpr: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks.dpr: interrupted; the same command continues", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
