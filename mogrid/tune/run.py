"""One budget, from leaks to verdict. Every stage is cells of one store, and its records alone decide what is next."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from mogrid.errors import ConfigError
from mogrid.files import held, naming_a_full_disk, withdrawn
from mogrid.frontier import Choice, choose_mix, next_pilots
from mogrid.progress import status
from mogrid.report.table import Table
from mogrid.runs import Kind, RunRecord, RunStore
from mogrid.sweep.cells import Cell
from mogrid.sweep.measured import measured
from mogrid.trainer.keep import best_of, bound
from mogrid.training.leaks import kept_leaks
from mogrid.training.recipe import Recipe
from mogrid.training.run import materials
from mogrid.tune.handing import hand_back, hand_back_again, handed_back
from mogrid.tune.outcome import Asked, Outcome, check_folder, keep_outcome, known_outcome, lines_of
from mogrid.tune.session import MOST, SHARES, Session
from mogrid.tune.shares import choose_share, values_of
from mogrid.tune.stages import LEAST, Budget, Stages, candidates, importance_of, learned, pilot_mixes, spendable
from mogrid.tune.verdict import Verdict, testing_recipe, verdict_of

__all__ = ["tune"]

_EXPLORED = (1.0, 2.0, 4.0)  # lengths of pilots that the first ones ask for
# Of a folder: what a command that ends in bad input leaves there, and else what it takes away if it brought it.
_WORTH = ("work/*/training", "work/*/steps.jsonl", "tune.json")
_MAKES = (".lock", ".runs.lock", "cache", "claims", "leaks-*.json", "queries.jsonl.gz", "runs.jsonl", "work")
_BESIDE: tuple[tuple[Kind, str], ...] = (("base", "base"), ("bm25", "BM25"))


def tune(
    recipe: Recipe,
    base: Path,
    out: Path,
    budget: Budget,
    console: Console,
    *,
    rivals: bool = False,
    dry_run: bool = False,
    show: Callable[[Table], None] = lambda table: None,
) -> Outcome | None:
    """Spend a budget on the model that a recipe's preference and bounds want, beginning with pilots.

    Parameters
    ----------
    recipe : Recipe
        Its objectives, base model and training; mix and length are what is found.
    base : Path
        The folder that the recipe's paths are relative to.
    out : Path
        Folder of the runs, of ``model/`` in the end, and of ``tune.json`` and ``tune.html``. The same call goes on
        where an earlier one ended; when it is finished, it returns what came of it.
    budget : Budget
    console : Console
    rivals : bool
        Train one objective alone and the equal mix with the whole budget, too, for the verdict; not counted.
    dry_run : bool
        Stop once the plan is shown: before anything is spent, or, of hours, after the training that says what an hour
        does, which is kept in `out`.
    show : callable
        Called with the plan before it is spent.

    Returns
    -------
    Outcome, or None of a dry run

    Raises
    ------
    ConfigError
        The budget is below three pilots, the base breaks a bound, or `out` holds another tune or what another command
        made.
    KeyboardInterrupt
        Ctrl-C or SIGTERM, after a checkpoint.
    """
    for name, asked in recipe.at_least.items():
        relative, number = bound(name, asked)
        if relative and number > 0:
            raise ConfigError(f"at least {name}={asked}: the base model breaks it as it is; base can be kept")
    plain = _plain(recipe)
    check_folder(out)
    started = time.perf_counter()
    with status(console, "reading the data"):
        given = materials(plain, base)
        given.judging.check()
    request = {
        "recipe": plain.identity(), "data": given.data, "preference": importance_of(recipe),
        "at_least": recipe.at_least, "budget": {"flops": budget.flops, "hours": budget.hours}, "rivals": rivals,
    }  # fmt: skip
    known = known_outcome(out, request)
    if known is not None:
        if not (dry_run or handed_back(out)):
            with naming_a_full_disk(out), held(out / ".lock"):
                hand_back_again(_Tune(recipe, plain, base, out, budget, console), known)
        return known
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        read = time.perf_counter() - started
        early = _Tune(recipe, plain, base, Path(scratch), budget, console, beside=read)
        if (out / "cache").is_dir():
            shutil.copytree(out / "cache", early.store / "cache")
        if budget.flops is not None:  # what cannot be afforded is said before anything is written
            stages = early.divided(budget.flops)
            if dry_run:
                show(early.plan(stages))
                return None
        with withdrawn(out, *_WORTH, makes=_MAKES), naming_a_full_disk(out):
            out.mkdir(parents=True, exist_ok=True)
            with held(out / ".lock"):
                if (early.store / "cache").is_dir():  # what rows cost is known
                    shutil.copytree(early.store / "cache", out / "cache", dirs_exist_ok=True)
                session = _Tune(recipe, plain, base, out, budget, console, beside=early.beside)
                if dry_run:  # one training said what an hour does; it is kept for the tune that follows
                    show(session.plan(session.planned()))
                    return None
                return session.spend(request, rivals, show)


def _plain(recipe: Recipe) -> Recipe:
    """Return the recipe that pilots are made of: judged by its objectives on select-role data."""
    if recipe.solver_name != "fixed":
        raise ConfigError(f"solver {recipe.solver_name!r}: tune looks for a mix; leave the solver out")
    judged = {"evaluation.role": "select", "evaluation.perturb": []} if recipe.evaluation is not None else {}
    first = next(iter(recipe.objectives))
    return recipe.change({
        "mix": {first: 1.0}, "preference": None, "at_least": {}, "training.keep": "last", "training.steps": LEAST,
        **judged,
    })  # fmt: skip


class _Tune(Session):
    """The stages, each run or read from the store."""

    def spend(self, request: Mapping[str, Any], rivals: bool, show: Callable[[Table], None]) -> Outcome:
        preference = importance_of(self.recipe)
        given = materials(self.plain, self.base)
        collection = given.library.collection
        if collection is not None:
            with self.aside("looking for leaks"):
                found = kept_leaks(collection, self.store)
            total = sum(total for _, total in found.counts.values())
            self.console.print(f"near-duplicates of training text in what is measured: {found.leaks} of {total:,}")
        base, _ = self.stage("baselines", [self.cell(self.plain, label, kind) for kind, label in _BESIDE])
        bounds = self.bounds(base)
        stages = self.planned()
        show(self.plan(stages))
        rate = self.rate(stages, preference, bounds)
        choice, path, pilots = self.mix(stages, rate, preference, bounds)
        final_recipe = self.plain.change({
            "mix": spendable(choice.mix, self.plain), "training.budget": float(f"{self.rest():.4g}"),
            "training.learning_rate": rate, "training.keep": "best", "preference": preference, "at_least": bounds,
        })  # fmt: skip
        (final,) = self.stage("final training", [self.cell(final_recipe, keep=True)])
        share, merges = self.share("merges", final_recipe, final, base, preference, bounds)
        others = self.rivals(stages.total, rate, preference) if rivals else {}
        keep_outcome(self.store, request, None)
        verdict, name, notes = self.verdict(final_recipe, final, share, others, preference)
        asked = Asked(dict(preference), dict(self.recipe.at_least), self.recipe.seed, rate, stages.rates)
        runs = {"model": [name], "merges": merges, "pilots": pilots}
        took = [*self.costs, ("data, leaks, prices, laws", 0, 0.0, round(self.beside, 1))]
        outcome = Outcome(verdict, share, [], took, path, asked, runs)
        outcome.lines = [*lines_of(outcome, final, keeps=choice.keeps), *notes]
        hand_back(self, outcome, choice.laws)
        keep_outcome(self.store, request, outcome)
        return outcome

    def bounds(self, base: RunRecord) -> dict[str, float]:
        """Return the least nDCG@10 of each objective that has one; none may be above the base's."""
        found = {}
        for name, asked in self.recipe.at_least.items():
            own = base.objectives[name]["ndcg"]
            relative, number = bound(name, asked)
            found[name] = number + (own if relative else 0.0)
            if found[name] > own + 1e-12:
                most = math.floor(own * 1e4) / 1e4  # not rounded up: what is said to be kept has to be
                raise ConfigError(
                    f"at least {name}={asked}: the base model has {most:.4f} on select-role data, and breaks it as it "
                    f"is; any bound up to {most:.4f} can be kept"
                )
        return found

    def rate(self, stages: Stages, preference: Mapping[str, float], bounds: Mapping[str, float]) -> float:
        """Return the learning rate that serves the equal mix best."""
        if not stages.rates:
            return self.plain.training.learning_rate
        equal = pilot_mixes(self.plain)[0]
        records = self.stage(
            "learning rates", [self.pilot(equal, rate, stages.rate_flops, tries=True) for rate in stages.rates]
        )
        values = [{name: own["ndcg"] for name, own in record.objectives.items()} for record in records]
        return stages.rates[best_of(preference, bounds)(values)]

    def mix(
        self, stages: Stages, rate: float, preference: Mapping[str, float], bounds: Mapping[str, float]
    ) -> tuple[Choice, list[tuple[str, dict[str, float], str]], list[str]]:
        """Return the mix of the final training, how the choice came about, and the pilots that it is of."""
        needed = {name: least for name, least in bounds.items() if least > 0}  # nothing is below 0
        goal: dict[str, Any] = {"preference": preference, "at_least": needed}
        if not stages.mixes:
            only = Choice(pilot_mixes(self.plain)[0], 0.0, 1.0, True, True, None, None, "there is one objective")
            return only, [("baselines", only.mix, only.why)], []
        cells = [self.pilot(mix, rate, flops) for flops in stages.levels for mix in stages.mixes]
        self.stage("mixes", cells)
        if rate in stages.rates:
            cells.insert(0, self.pilot(stages.mixes[0], rate, stages.rate_flops, tries=True))
        path = []
        for after in ("mixes", "more pilots"):
            names = list(dict.fromkeys(cell.name for cell in cells))
            runs = measured(RunStore(self.store), names=names).measurements
            with self.aside("fitting laws"):
                choice = choose_mix(runs, stages.final, **goal)
            path.append((after, spendable(choice.mix, self.plain), choice.why))
            lengths = [times * stages.unit for times in _EXPLORED]
            mixes = candidates(self.plain, choice.mix)
            wanted = next_pilots(choice, lengths, mixes, stages.explore, stages.final, **goal)[:MOST]
            if after == "more pilots" or not wanted:
                break
            more: list[Cell] = []
            for own, flops in wanted:
                again = 0
                while (cell := self.pilot(own, rate, flops, again)).name in {c.name for c in (*cells, *more)}:
                    again += 1
                more.append(cell)
            self.stage("more pilots", more)
            cells += more
        return choice, path, names

    def share(
        self, stage: str, recipe: Recipe, trained: RunRecord, base: RunRecord, preference: Mapping[str, float],
        bounds: Mapping[str, float], *, counted: bool = True,
    ) -> tuple[float, list[str]]:  # fmt: skip
        """Return how much of a trained model to take, by merges with the base on select-role data, and these runs."""
        cells = [
            self.cell(
                recipe, f"{trained.label}, merged {share:g} with base", "merged", parents=_parents(trained, share)
            )
            for share in SHARES
        ]
        records = [base, *self.stage(stage, cells, counted=counted), trained]
        places = materials(self.plain, self.base).judging.objectives
        values = [values_of(record, places, "select") for record in records]
        share = (0.0, *SHARES, 1.0)[choose_share(values, preference, bounds, self.worst)]
        return share, [record.name for record in records]

    def rivals(
        self, total: float, rate: float, preference: Mapping[str, float]
    ) -> dict[str, tuple[Recipe, tuple[tuple[str, float], ...]]]:
        """Train the objective that counts most alone, and the equal mix, with the whole budget."""
        first = max(preference, key=lambda name: preference[name])
        wanted = (pilot_mixes(self.plain)[0], {**dict.fromkeys(self.plain.objectives, 0.0), first: 1.0})
        length = {"training.budget": float(f"{total:.4g}"), "training.learning_rate": rate}
        recipes = [self.plain.change({"mix": mix, **length}) for mix in wanted]
        records = self.stage("rivals", [self.cell(recipe, keep=True) for recipe in recipes], counted=False)
        found = {r.label: (recipe, _parents(r, 1.0)) for r, recipe in zip(records, recipes, strict=True)}
        single = records[-1]
        found[f"{single.label}, half merged with base"] = recipes[-1], _parents(single, 0.5)
        return found

    def verdict(
        self, recipe: Recipe, final: RunRecord, share: float,
        others: Mapping[str, tuple[Recipe, tuple[tuple[str, float], ...]]], preference: Mapping[str, float],
    ) -> tuple[Verdict, str, list[str]]:  # fmt: skip
        """Judge the model, base, BM25 and rivals on test-role data; return also the run with the model, and notes.

        One domain stands for an objective that is judged by its worst: the base's worst, for all systems alike.
        """
        given = materials(self.plain, self.base)
        role = "select" if testing_recipe(recipe, given) is None else "test"

        def judged(recipe: Recipe) -> Recipe:
            return testing_recipe(recipe, given) or recipe

        cells = {"model": self.cell(judged(recipe), "model", "merged", parents=_parents(final, share), keep=True)}
        cells |= {label: self.cell(judged(self.plain), label, kind) for kind, label in _BESIDE}
        for label, (own, parents) in others.items():
            cells[label] = self.cell(judged(own), label, "merged", parents=parents)
        records = dict(zip(cells, self.stage("verdict", list(cells.values())), strict=True))
        shown = {*learned(self.plain), *preference, *self.recipe.at_least}
        places = {name: own for name, own in given.judging.objectives.items() if name in shown}
        notes = self.narrow(places, records["base"], role)
        return verdict_of(records, places, preference, role), cells["model"].name, notes


def _parents(trained: RunRecord, share: float) -> tuple[tuple[str, float], ...]:
    both = ((trained.name, share), ("", round(1 - share, 12)))
    return tuple((name, part) for name, part in both if part > 0)
