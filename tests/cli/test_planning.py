"""`mogrid plan` on a store as a sweep leaves it: the choice as a plan and as a recipe, and which runs to do next."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from mogrid.cli import main
from mogrid.runs import RunStore
from mogrid.sweep.grid import read_sweep
from mogrid.sweep.measured import measured
from mogrid.training.recipe import Recipe, apply_plan, read_recipe
from tests.report.stores import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("plan") / "runs"
    write_store(root, 2, seeds=1, queries=2)
    return root


def planned(store: Path, *given: str) -> int:
    return main(["plan", str(store), "--law", "exchange", "--draws", "10", *given])


@pytest.mark.parametrize(("wanted", "mix"), [("effectiveness=3,ood=1", [1.0, 0.0]), ("effectiveness=1,ood=1", None)])
def test_plan_and_recipe_say_the_same(store, tmp_path, capsys, wanted, mix) -> None:
    files = ("--out", str(tmp_path / "plan.json"), "--write", str(tmp_path / "best.yaml"))
    assert planned(store, "--budget", "1e13", "--preference", wanted, *files) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    best = read_recipe(tmp_path / "best.yaml")
    assert best.training.budget == 1e13
    if mix is None:
        assert best.shares == pytest.approx(found["plan"]["mix"], abs=1e-3)
    else:  # what is less than a row of a batch is none
        assert list(best.shares.values()) == mix
        assert 0 < found["plan"]["mix"]["ood"] < 1 / 32
        assert "note: of batches of 32 rows, 'ood' is given 0" in capsys.readouterr().out
    assert best.model.layers == int(found["plan"]["model"].split()[1])
    record = next(r for r in RunStore(store) if r.kind == "trained")
    swept = Recipe.model_validate(dict(record.recipe))
    assert apply_plan(swept, tmp_path / "plan.json").identity() == best.identity()


def test_what_rivals_need_is_in_the_json(store, capsys) -> None:
    asked = ("--budget", "1e13", "--preference", "effectiveness=3,ood=1", "--metric", "ndcg")
    assert planned(store, *asked, "--json") == 0
    needed = {rival["rival"]: rival for rival in json.loads(capsys.readouterr().out)["needed"]}
    assert needed
    assert needed.keys() <= {"effectiveness only", "equal mix"}
    assert planned(store, *asked) == 0
    out = capsys.readouterr().out
    for name, rival in needed.items():
        assert rival["low"] <= rival["value"]
        value = f"{rival['value']:.2g}" if rival["value"] is not None else "more than 10"
        assert f"{name} is foretold to need {value} [" in " ".join(out.split())
    assert planned(store, "--budget", "1e13", "--at-least", "ood=0.01", "--metric", "ndcg", "--json") == 0
    assert json.loads(capsys.readouterr().out)["needed"] == []


@pytest.mark.parametrize("budget", [(), ("--budget", "1e14", "--preference", "effectiveness=3,ood=1")])
def test_proposed_runs_are_a_sweep_of_the_same_recipe(store, tmp_path, capsys, budget) -> None:
    path = tmp_path / "next.yaml"
    assert planned(store, "--experiments", "4", "--write", str(path), "--json", *budget) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["runs"]) == 4
    assert told["flops"] == pytest.approx(sum(row["training.budget"] for row in told["runs"]), rel=1e-4)
    assert all(told["after"][name] < told["before"][name] for name in told["before"])
    assert list(told["before"]) == (["choice"] if budget else ["effectiveness", "ood"])
    recipes = [point.recipe for point in read_sweep(path).points]
    given = measured(RunStore(store))
    assert {recipe.family() for recipe in recipes} == {given.recipe.family()}
    assert [recipe.training.budget for recipe in recipes] == [row["training.budget"] for row in told["runs"]]
    mixes = [np.array([recipe.shares[name] for name in given.measurements.objectives]) for recipe in recipes]
    done = [(r.model, r.seed, np.array(list(r.mix.values()))) for r in given.records]
    for recipe, mix in zip(recipes, mixes, strict=True):
        assert not [
            1 for model, seed, own in done if (model, seed) == (recipe.model.label, recipe.seed) and (own == mix).all()
        ]


def test_proposed_runs_are_shown_and_cost_no_more_than_asked(store, capsys) -> None:
    assert planned(store, "--experiments", "1e13", "--json") == 0
    assert 0 < json.loads(capsys.readouterr().out)["flops"] <= 1e13
    assert planned(store, "--experiments", "2") == 0
    out = capsys.readouterr().out
    assert "2 runs to do next" in out
    assert "log loss of ood" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--experiments", "0"], "--experiments 0: expected a number of runs, or of FLOPs above 1000"),
        (["--experiments", "inf"], "--experiments inf: expected a number of runs, or of FLOPs above 1000"),
        (["--experiments", "nan"], "--experiments nan: expected a number of runs, or of FLOPs above 1000"),
        (["--experiments", "2", "--budget", "0"], "a budget must be a positive number of FLOPs"),
        (["--budget", "1e13", "--price", "3"], "--price is of an hour that --money buys, which is missing"),
        (["--budget", "1e13", "--at-least", "ood=base0.005"], "expected NAME=VALUE, a number, base, or base-0.005"),
        (["--budget", "1e13", "--at-least", "ood=.1", "--at-least", "ood=.2"], "'ood' has a bound already, 0.1"),
        (["--budget", "1e13", "--preference", "ood=1,ood=0"], "'ood' is named twice"),
        (["--experiments", "2.5"], "expected a number of runs, or of FLOPs above 1000"),
        (["--experiments", "2000"], "does not buy the cheapest run"),
        (["--experiments", "2", "--out", "plan.json"], "--out is for a plan"),
        (["--experiments", "2", "--method", "knee"], "for a choice by --method weighted"),
        (["--experiments", "2", "--model", "mini, 1 layer"], "did you mean 'mini, 1 layers'?"),
        (["--budget", "1e13", "--hours", "2"], "give one of --budget FLOPS, --hours and --money"),
        (["--budget", "1e13", "--preference", "effectivness=1"], "did you mean 'effectiveness'?"),
        (["--budget", "1e13", "--at-least", "odo=.4"], "did you mean 'ood'?"),
        (["--budget", "1e13", "--metric", "ndgc"], "did you mean 'ndcg'?"),
        (["--budget", "1e13", "--where", "solvr=mgda"], "no recipe of"),
        (["--budget", "nan"], "a budget must be a positive number of FLOPs"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(store, tmp_path, monkeypatch, capsys, given, said) -> None:
    monkeypatch.chdir(tmp_path)
    assert planned(store, *given) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert said in last
    assert all(line.startswith("reading the runs: ") for line in before)  # where that took its time
    assert not list(tmp_path.iterdir())


def test_of_tables_without_flops_a_budget_is_in_dearest_runs(tmp_path, capsys) -> None:
    rng, mixes = np.random.default_rng(0), [(1, 0), (0.5, 0.5), (0, 1)]
    runs = [(f"{i}-{pairs}", a, b, pairs) for pairs in (1000, 4000, 16000) for i, (a, b) in enumerate(mixes)]
    losses = [(1 + 9 * (500 + n * (a + 0.3 * b)) ** -0.3, 2 + 9 * (900 + n * b) ** -0.3) for _, a, b, n in runs]
    rows = ["run,a,b,pairs", *(",".join(map(str, row)) for row in runs)]
    (tmp_path / "ratios.csv").write_text("\n".join(rows))
    values = np.array(losses) * np.exp(0.003 * rng.normal(size=(9, 2)))
    rows = ["run,a,b", *(f"{run[0]},{one},{two}" for run, (one, two) in zip(runs, values, strict=True))]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    assert planned(tmp_path, "--json") == 0
    assert sum(json.loads(capsys.readouterr().out)["pairs"].values()) == pytest.approx(16000, rel=1e-3)
    assert planned(tmp_path, "--budget", "0.5") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "a budget of 0.5, in dearest runs (FLOPs are not known: runs cost N times pairs): 1 (N = 1)" in out
    assert "what a pair of each is worth to this one, in pairs of its own" in out
    assert "90 %. Of one more pair, at " in out
    assert planned(tmp_path, "--experiments", "2") == 0
    assert "dearest runs in all" in capsys.readouterr().out


def test_a_sweep_belongs_where_its_recipe_came_from(tmp_path, capsys) -> None:
    write_store(tmp_path / "runs", 2, seeds=1, queries=2)
    (tmp_path / "runs" / "cache").mkdir()
    (tmp_path / "runs" / "cache" / "base.json").write_text(json.dumps({"base": str(tmp_path)}))
    (tmp_path / "other").mkdir()
    away = tmp_path / "other" / "next.yaml"
    assert planned(tmp_path / "runs", "--experiments", "1", "--write", str(away)) == 2
    assert f"belongs into {tmp_path}" in capsys.readouterr().err
    assert not away.exists()
    assert planned(tmp_path / "runs", "--experiments", "1", "--write", str(tmp_path / "next.yaml")) == 0
    assert yaml.safe_load((tmp_path / "next.yaml").read_text())["rows"] == []


def test_a_plan_says_what_its_rivals_would_need_but_not_past_a_bound(store, capsys) -> None:
    asked = ("--budget", "1e13", "--preference", "effectiveness=1,ood=1")
    assert planned(store, *asked) == 0
    assert capsys.readouterr().out.count("is foretold to need") >= 1
    assert planned(store, *asked, "--metric", "ndcg", "--at-least", "ood=.01") == 0
    assert "is foretold to need" not in capsys.readouterr().out


def test_a_front_says_of_what_it_is(store, tmp_path, capsys) -> None:
    assert main(["frontier", str(store)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^Front in CE \(nats\), lower is better: mini, 1 layers, [0-9.e+]+ FLOPs a run$", out, re.M)
    (hypervolume,) = re.findall(r"^hypervolume .*$", out, re.M)
    assert "[" not in hypervolume
    assert "over seeds" not in out
    (others,) = re.findall(r"^one of 6 scales of the store; others: (.*)$", out, re.M)
    assert len(others.split("; ")) == 5
    asked = shlex.split(others.split("; ")[-1])
    assert main(["frontier", str(store), *asked, "--metric", "ndcg", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["metric"], found["better"], found["model"]) == ("ndcg", "higher", asked[1])
    assert found["flops"] == pytest.approx(float(asked[3]), rel=0.01)
    assert found["hypervolume"][1:] == [None, None]
    assert len(found["other_scales"]) == 5
    write_store(tmp_path, 2, layers=(1,), totals=(1280,), solvers=(), queries=2)
    assert main(["frontier", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"hypervolume \S+ \[\S+, \S+\] of these runs \(95 % over seeds\)", out)
    assert "one of" not in out


@pytest.mark.parametrize("flops", ["0", "-1", "nan", "inf"])
def test_flops_that_no_run_has_are_one_line(store, capsys, flops) -> None:
    assert main(["frontier", str(store), f"--flops={flops}"]) == 2
    assert "--flops must be a number above 0" in capsys.readouterr().err
