"""Run a study file and draw its tables: ``python -m benchmarks.study NAME [--data DIR] [--show]``.

A study is a sweep (`mogrid.sweep`) with a few words on what to show of it. Its records lie in
``benchmarks/results/NAME``, from which ``--show`` redraws everything without training. Any number of processes may work
on one study; Ctrl-C stops at checkpoints, and the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pydantic import Field
from rich.console import Console

from benchmarks.figures import plot_regime, trails_of
from mogrid.commands._common import quiet
from mogrid.config import Strict, YamlFile, read_yaml
from mogrid.errors import ConfigError, DataError, MogridError, nearest
from mogrid.frontier import fit_laws, foretold_front
from mogrid.report.figures.exchange import plot_exchange
from mogrid.report.results import results_table, said_of_laws
from mogrid.report.scales import Scale, scales_of
from mogrid.report.table import printer
from mogrid.runs import RunRecord, RunStore, told_apart
from mogrid.runs.summary import summarise
from mogrid.sweep.grid import Sweep, sweep_of
from mogrid.sweep.measured import measured
from mogrid.sweep.merging import Places
from mogrid.sweep.run import run_sweep
from mogrid.training.run import materials
from mogrid.tune.verdict import gain_of, gains_told, p_told

__all__ = ["Study", "main", "read_study", "run_study"]

ROOT = Path(__file__).parent
STUDIES = ROOT / "studies"


class Show(Strict):
    """What is drawn of a study's records."""

    role: str = "test"
    baseline: str = "base"
    regime: bool = Field(default=False, description="draw gains in domain against changes elsewhere")
    preference: dict[str, float] | None = Field(default=None, description="gains by it, over the baseline, are told")
    against: list[str] = Field(default_factory=list, description="gains over these are told, too")
    together: bool = Field(default=False, description="one table of all runs, whatever their FLOPs")
    laws: bool = Field(default=False, description="draw exchange rates, and say what laws hold")
    where: list[str] = Field(default_factory=list)


class Study(Strict):
    """A sweep and what to show of it."""

    title: str
    sweep: dict[str, Any]
    show: Show = Show()


def read_study(name: str, changes: Sequence[str] = (), data: Path | None = None) -> tuple[Study, Sweep]:
    """Return a study and its sweep; `data` takes the place of the recipe's own folder."""
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"no study {name!r}{nearest(name, [p.stem for p in STUDIES.glob('*.yaml')])}")
    file = read_yaml(path)
    study = file.parse(Study)
    lines = {key[1:]: line for key, line in file.lines.items() if key[:1] == ("sweep",)}
    moved = [] if data is None else [f"recipe.data={data.resolve()}"]
    return study, sweep_of(YamlFile(path, study.sweep, lines), ROOT, [*changes, *moved])


def run_study(name: str, store: Path, console: Console, *, data: Path | None, changes: Sequence[str] = ()) -> None:
    """Train what of a study is not in its store yet."""
    _, sweep = read_study(name, changes, data)
    run_sweep(sweep, store, console)


def show_study(name: str, store: Path, console: Console, data: Path | None = None) -> None:
    """Draw the tables, laws and figures of a study from its records; gains by a preference ask what its data are."""
    study, sweep = read_study(name, data=data)
    runs = RunStore(store)
    records = told_apart(list(runs.records()))
    if not records:
        raise DataError(f"{store}: no finished run; leave --show out to make some")
    console.print(study.title, style="bold")
    scales = sorted(scales_of(records), key=lambda scale: (scale.trained[0].parameters, scale.flops))
    tables = {scale.name: scale.rows(records) for scale in scales}
    places = _places(sweep, console) if study.show.preference else {}
    for title, rows in {study.title: records}.items() if study.show.together else tables.items():
        if study.show.baseline not in {record.label for record in rows}:
            console.print(f"no run at {title} is called {study.show.baseline!r}: nothing is tested")
        summary = summarise(rows, study.show.role, baseline=study.show.baseline, draws=400)
        console.print(results_table(summary, f"{title}, {study.show.role}-role data", about=("FLOPs", "seeds")))
        labels = list(dict.fromkeys(record.label for record in rows))
        for other in (study.show.baseline, *study.show.against):
            for label in labels:
                if study.show.preference and places and other in labels and label != other:
                    gain = gains_told(rows, label, other, places, study.show.preference, study.show.role)
                    console.print(gain, highlight=False)
    if study.show.preference and places and not study.show.together:
        for line in _lengthened(scales, records, places, study.show):
            console.print(line, highlight=False)
    if study.show.regime:
        plot_regime(store / "regime.png", trails_of(records, study.show.role), title=study.title)
    if not study.show.laws:
        return
    laws = fit_laws(measured(runs, study.show.where).measurements)
    for metric in laws.metrics:
        plot_exchange(store / f"exchange-{metric}.png", laws.exchange(metric), title=f"{study.title}: {metric}")
        for line in said_of_laws(laws, metric):
            console.print(f"{metric} of {line}", highlight=False)
    with suppress(DataError):  # of one length
        console.print(str(foretold_front(laws)), highlight=False)


def _places(sweep: Sweep, console: Console) -> Places:
    """Return what stands for the objectives; nothing, and a line that says so, where the study's data are not here."""
    try:
        return materials(sweep.recipe, sweep.base).judging.objectives
    except MogridError as error:
        console.print(f"note: gains by the preference are left out: {error}", highlight=False)
        return {}


def _lengthened(scales: Sequence[Scale], records: list[RunRecord], places: Places, show: Show) -> list[str]:
    """Say what longer runs of one label gain by the preference over shorter ones, over the seeds of both."""
    said = []
    for short, long in combinations(scales, 2):
        factor = long.flops / short.flops
        if factor < 2 or short.model != long.model:
            continue
        runs: list[dict[str, list[RunRecord]]] = [{}, {}]
        for own, scale in zip(runs, (short, long), strict=True):
            names = {record.name for record in scale.trained}
            for record in (record for record in records if record.name in names):
                own.setdefault(record.label, []).append(record)
        for label in (name for name in runs[0] if name in runs[1]):
            seeds = {r.seed for r in runs[0][label]} & {r.seed for r in runs[1][label]}
            before, after = ([r for r in own[label] if r.seed in seeds] for own in runs)
            if seeds:
                gain = gain_of(after, before, places, show.preference or {}, show.role)
                said.append(
                    f"{label} with {factor:.1f} times the FLOPs of {short.name}, seeds {sorted(seeds)}: "
                    f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], {p_told(gain.p_value)}"
                )
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Run or redraw a study; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__.split("\n")[0])
    parser.add_argument("name", help=", ".join(sorted(p.stem for p in STUDIES.glob("*.yaml"))))
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of BEIR sets (default: the study's)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="of the records (default: benchmarks/results/NAME)")
    parser.add_argument("--show", action="store_true", help="redraw from the records, train nothing")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the sweep")
    arguments = parser.parse_args(argv)
    store = arguments.store or ROOT / "results" / arguments.name
    quiet()
    try:
        if not arguments.show:
            run_study(arguments.name, store, Console(stderr=True), data=arguments.data, changes=arguments.set)
        show_study(arguments.name, store, printer(), arguments.data)
    except MogridError as error:
        print(f"benchmarks.study: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks.study: interrupted; the same command continues", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
