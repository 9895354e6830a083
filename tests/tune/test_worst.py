"""An objective that is judged by its worst domain: bounds, shares and the verdict look at that one."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mogrid.runs import RunRecord
from mogrid.runs.record import Result
from mogrid.sweep.cells import Cell
from mogrid.training.judging import objective_values
from mogrid.training.recipe import Recipe
from mogrid.tune import run
from mogrid.tune.session import SHARES
from mogrid.tune.shares import at_worst, values_of
from mogrid.tune.stages import Budget
from tests.training.tiny import settings

PLACES = {"effectiveness": [("home", "clean")], "ood": [("x", "clean"), ("y", "clean")]}


def recipe(over: str) -> Recipe:
    ood = {"datasets": "east", "judged": {"on": ["x", "y"], "over": over}}
    objectives = {"effectiveness": {"datasets": "home"}, "ood": ood}
    return Recipe.model_validate(settings(solver="fixed", objectives=objectives, at_least={"ood": 0.3}))


def tune_of(asked: Recipe) -> Told:
    return Told(asked, asked, Path(), Path(), Budget(flops=1.0), Console(file=io.StringIO()))


def record(asked: Recipe, home: float, x: float, y: float) -> RunRecord:
    """A run with the given means on select-role domains, and beside them the same in two of role test."""
    results = []
    for domain, role, mean in (
        ("home", "select", home), ("x", "select", x), ("y", "select", y), ("s", "test", y), ("t", "test", x)
    ):  # fmt: skip
        own = {str(i): mean + 0.02 * (-1) ** i for i in range(100)}
        notes = {"home": domain == "home"}
        results.append(
            Result(domain, role, "clean", {"ndcg": float(np.mean(list(own.values())))}, {"ndcg": own}, notes)
        )
    objectives = objective_values(asked, SimpleNamespace(objectives=PLACES), results)  # type: ignore[arg-type]
    return RunRecord("a", "a", "trained", 0, "", "", {}, objectives=objectives, results=tuple(results))


class Told(run._Tune):
    """A tune whose merges are told: each has the values of the tuned model."""

    tuned: RunRecord

    def cell(self, *given: object, **more: object) -> Cell:
        return Cell("", "", "merged", self.plain, self.base, self.store)

    def stage(self, name: str, cells: object, *, counted: bool = True) -> list[RunRecord]:
        return [self.tuned] * len(SHARES)


@pytest.mark.parametrize(("over", "share", "told"), [("mean", 0.1, 0.495), ("worst", 0.0, 0.29)])
def test_a_bound_on_the_worst_domain_is_kept_by_every_domain(over, share, told, monkeypatch) -> None:
    """The mean is far above the bound, and one domain falls below it."""
    asked = recipe(over)
    monkeypatch.setattr(run, "materials", lambda *given: SimpleNamespace(judging=SimpleNamespace(objectives=PLACES)))
    one = tune_of(asked)
    base, one.tuned = record(asked, 0.5, 0.7, 0.4), record(asked, 0.6, 0.7, 0.29)
    assert one.bounds(base) == {"ood": 0.3}
    took, runs = one.share("merges", asked, one.tuned, base, {"effectiveness": 1.0}, one.bounds(base))
    assert (took, len(runs)) == (share, len(SHARES) + 2)
    shown = at_worst(values_of(one.tuned, PLACES, "select"), one.worst)
    assert np.mean(list(shown["ood"].values())) == pytest.approx(told)


def test_the_verdict_is_of_the_bases_worst_domain_and_says_so() -> None:
    asked = recipe("worst")
    one = tune_of(asked)
    for role, worst in (("select", "y"), ("test", "s")):
        places = {"ood": list(PLACES["ood"])}
        (note,) = one.narrow(places, record(asked, 0.5, 0.7, 0.4), role)
        assert places == {"ood": [(worst, "clean")]}
        assert f"on {role}-role data '{worst}'" in note
    places = {"ood": list(PLACES["ood"])}
    assert tune_of(recipe("mean")).narrow(places, record(asked, 0.5, 0.7, 0.4), "test") == []
    assert places == {"ood": PLACES["ood"]}
