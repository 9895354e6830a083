"""The chooser of `mogrid tune` against others, live: ``python -m benchmarks.live RECIPE [--repetitions N] [--show]``.

Each repetition is one seed. Every method of `benchmarks.choosers` gets the FLOPs of 1.2 final trainings for pilots,
trains and judges those that it asks for on select-role data, and names one of sixteen mixes; the final training of
that mix is judged on test-role data. Methods that ask for the same pilot of one seed get the same run, and each pays
for it; a mix that two of them name is trained once. What is compared is the preference's mean of nDCG@10, over queries
and seeds. The model is one healed layer, unless ``--set`` says otherwise.

Everything lies in a store, so that the same call goes on with it, and several at a time share the work (``--only``);
``--show`` draws the table and trains nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from pydantic import Field
from rich.console import Console

from benchmarks.choosers import METHODS, Bench, Floats
from mogrid.commands._common import parse_numbers, quiet
from mogrid.config import Strict
from mogrid.errors import ConfigError, DataError, MogridError, nearest
from mogrid.frontier import Measurements
from mogrid.frontier.measurements import as_losses
from mogrid.frontier.search import lattice
from mogrid.progress import Progress
from mogrid.report.table import Table, printer
from mogrid.runs import Kind, RunRecord, RunStore
from mogrid.sweep.cells import Cell, run_cell
from mogrid.sweep.drain import drain
from mogrid.sweep.measured import measured
from mogrid.training.costs import row_costs
from mogrid.training.fit import Interrupted
from mogrid.training.recipe import Recipe, read_recipe
from mogrid.training.run import default_label, materials
from mogrid.training.train import Stop
from mogrid.tune.stages import spendable
from mogrid.tune.verdict import gain_of, p_told

__all__ = ["Live", "Named", "main", "shown"]

ROOT = Path(__file__).parent
RECIPES = ROOT / "recipes"
SETTINGS = (
    "model={path: all-MiniLM-L6-v2, layers: 1, heal: {texts: 4000}, max_length: 64}", "training.learning_rate=3e-4",
    "training.pairs=5120", "training.batch_size=16",
)  # fmt: skip
"""Put over a recipe: a model that makes a repetition affordable, and a length that has pilots of twelve steps and more.
"""
PILOTS = 1.2
"""FLOPs for pilots, in final trainings: three tenths of a budget of four of them."""
_LEVELS = (0.04, 0.08, 0.16)
"""Lengths of pilots, in final trainings: those of `mogrid tune` at that budget."""
_AGAIN = 1000  # what another seed of a pilot has more
_CHOICES = "choices.jsonl"
_EQUAL, _ALONE = "the equal mix", "what counts most"


class Named(Strict):
    """What one method came to in one repetition."""

    asked: str = Field(description="of which recipe and preference: another one has another store")
    repetition: int
    method: str
    mix: dict[str, float]
    pilots: int = Field(description="trainings that it asked for")
    flops: float = Field(description="of these, in final trainings")
    final: str = Field(description="the run of the final training")


class Live(Bench):
    """Trainings of one recipe and seed, run when they are asked for.

    Parameters
    ----------
    recipe : Recipe
        Its length in pairs is that of the final training.
    base, store : Path
        Folders that the recipe's paths are relative to, and of the runs.
    seed : int
    bar : Progress
        Says what is at hand.
    stop : Stop

    Attributes
    ----------
    trained : dict of name to RunRecord
        What it was asked to train, whoever asked first.
    """

    metric = "ndcg"

    def __init__(self, recipe: Recipe, base: Path, store: Path, seed: int, bar: Progress, stop: Stop) -> None:
        pilots = {"evaluation.role": "select", "evaluation.perturb": []}
        self.recipe, self.plain = recipe, recipe.change({**pilots, "seed": seed})
        self.base, self.store, self.seed = base, store, seed
        self._bar, self._stop = bar, stop
        self._lengths = _flops(recipe, base, store) * np.array([*_LEVELS, 1.0])
        names = self.objectives
        rows = [spendable(dict(zip(names, map(float, row), strict=True)), recipe) for row in lattice(len(names), 15)]
        self._mixes = np.unique(np.array([[row[name] for name in names] for row in rows]), axis=0)
        self._names: list[str] = []
        self._cells: list[tuple[tuple[float, ...], int]] = []
        self._known: Measurements | None = None
        self.trained: dict[str, RunRecord] = {}

    @property
    def objectives(self) -> tuple[str, ...]:
        return tuple(self.recipe.objectives)

    @property
    def mixes(self) -> Floats:
        return self._mixes

    @property
    def lengths(self) -> Floats:
        return self._lengths

    def known(self) -> Measurements:
        """Return the runs that this bench was asked for, in that order."""
        assert self._known is not None
        return self._known

    def cells(self, level: int) -> list[Floats]:
        """Return the mixes: all can be run at every length."""
        return list(self._mixes)

    def left(self, mix: Floats, level: int, rows: Collection[int]) -> bool:
        """Return whether there can be another run: two seeds of one pilot tell what there is to be told."""
        return len(self._same(mix, level, rows)) < 2

    def one(
        self, mix: Floats, level: int, budget: float, rng: np.random.Generator, rows: Collection[int]
    ) -> int | None:
        """Train and judge a pilot."""
        if self._lengths[level] > budget:
            return None
        seed = self.seed + _AGAIN * len(self._same(mix, level, rows))
        record = self.run(self._sized(mix, self._lengths[level]).change({"seed": seed}))
        if record.name not in self._names:
            self._names.append(record.name)
            self._cells.append((tuple(mix.round(4)), level))
            self._known = measured(RunStore(self.store), names=self._names).measurements
        return self._names.index(record.name)

    def merges(self, budget: float, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
        """Train each objective alone with its part of the budget, and judge the merges at every mix."""
        corners = np.eye(len(self.objectives))
        recipes = [self._sized(mix, budget / len(corners)) for mix in corners]
        trained = [self.run(recipe, keep=True) for recipe in recipes]
        found = [(corner, self._lost(record)) for corner, record in zip(corners, trained, strict=True)]
        for mix in (mix for mix in self._mixes if mix.max() < 1):
            parents = tuple(
                (record.name, float(share)) for record, share in zip(trained, mix, strict=True) if share > 0
            )
            found.append((mix, self._lost(self.run(recipes[0], "merged", parents))))
        return found

    def final(self, mix: Floats) -> RunRecord:
        """Train and judge a mix at full length, on test-role data."""
        changes = {"mix": self._named(mix), "training.budget": _digits(self._lengths[-1]), "seed": self.seed}
        return self.run(self.recipe.change(changes))

    def run(
        self, recipe: Recipe, kind: Kind = "trained", parents: tuple[tuple[str, float], ...] = (), *, keep: bool = False
    ) -> RunRecord:
        """Run one cell, or read what it came to."""
        label = default_label(recipe) if not parents else "merged " + "/".join(f"{s:.2g}" for _, s in parents)
        name = materials(recipe, self.base).name(label, kind, dict(parents))
        cell = Cell(name, label, kind, recipe, self.base, self.store, parents, keep)
        self._bar.say(f"seed {recipe.seed}, {label}")
        drain([cell], run_cell, self._stop)
        record = RunStore(self.store).read(name, queries=False)
        if kind == "trained":
            self.trained[name] = record
        return record

    def _same(self, mix: Floats, level: int, rows: Collection[int]) -> list[int]:
        return [row for row in rows if self._cells[row] == (tuple(mix.round(4)), level)]

    def _named(self, mix: Floats) -> dict[str, float]:
        return dict(zip(self.objectives, map(float, mix), strict=True))

    def _sized(self, mix: Floats, flops: float) -> Recipe:
        return self.plain.change({"mix": self._named(mix), "training.budget": _digits(flops)})

    def _lost(self, record: RunRecord) -> Floats:
        return as_losses(np.array([record.objectives[name][self.metric] for name in self.objectives]), self.metric)


def _digits(flops: float) -> float:
    return float(f"{flops:.4g}")


def _flops(recipe: Recipe, base: Path, store: Path) -> float:
    """Return the FLOPs of the recipe's pairs, at what a row costs on average."""
    given = materials(recipe, base)
    (store / "cache").mkdir(parents=True, exist_ok=True)
    costs = row_costs(recipe.change({"mix": None}), given.build, given.datasets, store / "cache", given.data)
    return float(recipe.training.pairs or 0) * sum(costs.values()) / len(costs)


def compare(
    recipe: Recipe, base: Path, store: Path, preference: Mapping[str, float], repetitions: int,
    only: Sequence[str], console: Console,
) -> None:  # fmt: skip
    """Let every method choose and train, repetition by repetition; what is known already is not done again."""
    p = np.array([preference.get(name, 0.0) for name in recipe.objectives])
    asked = _asked(recipe, preference)
    known = {(one.repetition, one.method) for one in choices(store, asked)}
    tasks = [(i, name) for i in range(repetitions) for name in only]
    store.mkdir(parents=True, exist_ok=True)
    with Progress(console, "comparing choosers", total=len(tasks)) as bar, Stop() as stop:
        for place, (i, name) in enumerate(tasks):
            bar.update(place, said=f"repetition {i}, {name}")
            if (i, name) in known:
                continue
            bench = Live(recipe, base, store, recipe.seed + i, bar, stop)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # BoTorch's, on few data
                scores = METHODS[name](bench, PILOTS * float(bench.lengths[-1]), p / p.sum(), np.random.default_rng(i))
            flops = sum(record.total_flops for record in bench.trained.values())
            pilots = len(bench.trained)
            final = bench.final(bench.mixes[int(np.argmin(scores))])
            one = Named(
                asked=asked, repetition=i, method=name, mix=dict(final.mix), pilots=pilots,
                flops=round(flops / float(bench.lengths[-1]), 3), final=final.name,
            )  # fmt: skip
            with (store / _CHOICES).open("a", encoding="utf-8") as file:
                file.write(one.model_dump_json() + "\n")
        bar.update(len(tasks))


def choices(store: Path, asked: str) -> list[Named]:
    """Return what methods came to in a store, each once.

    Raises
    ------
    DataError
        The store is of another recipe or preference.
    """
    path, found = store / _CHOICES, dict[tuple[int, str], Named]()
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.is_file() else [], 1):
        try:
            one = Named.model_validate_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: no choice: {str(error).splitlines()[-2].strip()}") from error
        if one.asked != asked:
            raise DataError(f"{path}:{number}: of another recipe or preference; name another folder with --out")
        found.setdefault((one.repetition, one.method), one)
    return list(found.values())


def _asked(recipe: Recipe, preference: Mapping[str, float]) -> str:
    text = json.dumps([recipe.identity(), dict(sorted(preference.items())), PILOTS, _LEVELS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shown(recipe: Recipe, base: Path, store: Path, preference: Mapping[str, float]) -> Table:
    """Return the table of a store: what each method's final trainings reach, and are better by than two that look at
    nothing.
    """
    named = choices(store, _asked(recipe, preference))
    if not named:
        raise DataError(f"{store}: nothing is finished; leave --show out to train")
    records = {record.name: record for record in RunStore(store).records()}
    finals = {name: [one for one in named if one.method == name] for name in METHODS}
    places = materials(recipe, base).judging.objectives

    def gain(name: str, other: str) -> str:
        both = {one.repetition for one in finals[name]} & {one.repetition for one in finals[other]}
        if name == other or not both:
            return ""
        first, second = ([records[o.final] for o in finals[n] if o.repetition in both] for n in (name, other))
        test = gain_of(first, second, places, preference, "test")
        return f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], {p_told(test.p_value)}"

    rows = []
    for name, own in finals.items():
        if own:
            asked = f"{np.mean([one.pilots for one in own]):.1f}", f"{np.mean([one.flops for one in own]):.2f}"
            mean = np.mean([list(one.mix.values()) for one in own], axis=0)
            shares = "/".join(f"{share:.2g}" for share in mean)
            rows.append((name, str(len(own)), *asked, shares, gain(name, _EQUAL), gain(name, _ALONE)))
    columns = ("method", "seeds", "pilots", "their FLOPs", "mean mix", f"against {_EQUAL}", f"against {_ALONE}")
    note = (
        f"test-role nDCG@10 by the preference {' : '.join(f'{x:g}' for x in preference.values())}, final trainings of "
        f"{recipe.training.pairs:,} pairs; FLOPs of pilots in final trainings; intervals and p over queries and seeds"
    )
    return Table("Choosers, live", columns, rows, note)


def _found(recipe: str) -> Path:
    """Return the file of a recipe, given by its path or as the name of one of ours."""
    path = RECIPES / f"{recipe}.yaml"
    if path.is_file() or Path(recipe).is_file():
        return path if path.is_file() else Path(recipe)
    raise ConfigError(f"no recipe {recipe!r}{nearest(recipe, [known.stem for known in RECIPES.glob('*.yaml')])}")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare choosers, or draw the table; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help=f"a file, or {', '.join(sorted(p.stem for p in RECIPES.glob('*.yaml')))}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the store (default: benchmarks/results/live/RECIPE)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of BEIR sets (default: the recipe's)")
    parser.add_argument("--repetitions", type=int, default=10, metavar="N", help="seeds (default: 10)")
    parser.add_argument("--preference", default="effectiveness=2,ood=1,typos=1", metavar="NAME=NUMBER,...")
    parser.add_argument("--only", action="append", default=[], metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the recipe")
    parser.add_argument("--show", action="store_true", help="draw the table, train nothing")
    arguments = parser.parse_args(argv)
    store = arguments.out or ROOT / "results" / "live" / Path(arguments.recipe).stem
    quiet()
    try:
        path = _found(arguments.recipe)
        for name in arguments.only:
            if name not in METHODS:
                raise ConfigError(f"--only: no method {name!r}{nearest(name, METHODS)}")
        moved = [] if arguments.data is None else [f"data={arguments.data.resolve()}"]
        recipe = read_recipe(path, [*SETTINGS, *moved, *arguments.set])
        preference = parse_numbers("--preference", arguments.preference) or {}
        if not any(preference.get(name, 0.0) > 0 for name in recipe.objectives):
            raise ConfigError(f"--preference weighs none of the objectives {', '.join(recipe.objectives)}")
        if recipe.training.pairs is None:
            raise ConfigError("training.pairs: give the length of the final training in pairs")
        if not arguments.show:
            only = arguments.only or list(METHODS)
            compare(recipe, path.parent, store, preference, arguments.repetitions, only, Console(stderr=True))
        printer().print(shown(recipe, path.parent, store, preference))
    except MogridError as error:
        print(f"benchmarks.live: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Interrupted):
        print("benchmarks.live: interrupted; the same command continues", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
