"""Runs of one label that are no seeds of one recipe are told apart wherever records are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mogrid.cli import main
from mogrid.report.scales import scales_of
from mogrid.runs import RunRecord, RunStore, told_apart
from mogrid.sweep.measured import measured
from tests.runs.test_store import record

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OBJECTIVES = {"hb": {"datasets": [{"path": "x"}]}, "ch": {"datasets": [{"path": "y"}], "judged": {"on": ["z"]}}}


def made(name: str, *, flops: float = 1e9, recipe: dict[str, Any] | None = None, **changes: Any) -> RunRecord:
    own = {"objectives": OBJECTIVES, "training": {"steps": 6}, **(recipe or {})}
    values = {"ce": 1.0, "ndcg": 0.5}
    plain = {
        "model": "1x32", "parameters": 100, "mix": {"hb": 0.5, "ch": 0.5}, "pairs": {"hb": 9, "ch": 9}, "spend": "rows",
        "solver": "fixed", "flops": {"total": flops}, "objectives": {"hb": values, "ch": values}, "recipe": own,
    }  # fmt: skip
    return record(name, **(plain | changes))


def labels(*records: RunRecord) -> list[str]:
    apart = told_apart(records)
    assert told_apart(apart) == apart
    return [one.label for one in apart]


def models(*records: RunRecord) -> list[str]:
    return [one.model for one in told_apart(records)]


def solved(name: str, solver: dict[str, Any]) -> RunRecord:
    return made(name, label=solver["name"], solver=solver["name"], recipe={"solver": solver})


def test_settings_of_solvers() -> None:
    targets = [solved(str(hb), {"name": "pareto_target", "preference": {"hb": hb, "ch": 6.0 - hb}}) for hb in (5.0, 1)]
    assert labels(*targets) == ["pareto_target, preference 5 : 1", "pareto_target, preference 1 : 5"]
    inner = [{"name": "mgda"}, {"name": "cagrad", "alpha": 0.25}, {"name": "cagrad", "alpha": 0.5}]
    found = labels(*(solved(str(i), {"name": "every_n", "n": 2, "solver": one}) for i, one in enumerate(inner)))
    assert found == [
        f"every_n, solver {said}" for said in ("mgda", "cagrad, solver alpha 0.25", "cagrad, solver alpha 0.5")
    ]
    short, long = ({"name": "ema", "solver": one} for one in ("mgda", {"name": "mgda"}))
    assert labels(solved("a", short), solved("b", long)) == ["ema", "ema"]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"pooling": "cls"}, {}, ["1x32, pooling cls", "1x32, pooling default"]),
        ({"normalise": True, "dropout": 0.5}, {"dropout": 0.1},
         ["1x32, normalise on, dropout 0.5", "1x32, normalise default, dropout 0.1"]),
        ({"lora": {"rank": 8, "alpha": 4.0}}, {"lora": {"rank": 8}}, ["1x32, lora alpha 4", "1x32, lora alpha default"]),
    ],
)  # fmt: skip
def test_base_models(one: dict[str, Any], other: dict[str, Any], said: list[str]) -> None:
    runs = [made(name, recipe={"model": own}) for name, own in (("a", one), ("b", other))]
    bases = [made(f"base-{r.name}", kind="base", label="base", recipe=dict(r.recipe)) for r in runs]
    assert models(*runs, *bases) == [*said, *said]
    assert labels(*runs, *bases) == ["equal mix", "equal mix", "base", "base"]  # each is alone at its scale
    assert len(scales_of([*runs, *bases])) == 2


def test_base_models_of_one_folder_name() -> None:
    def called(*paths: str) -> list[str]:
        return models(*(made(p, model="model, 2 layers", recipe={"model": {"path": p, "layers": 2}}) for p in paths))

    assert called("/out/r/model", "/out/k2/model") == ["r/model, 2 layers", "k2/model, 2 layers"]
    assert called("/a/r/model", "/b/r/model") == ["a/r/model, 2 layers", "b/r/model, 2 layers"]
    assert called("/a/r/model") == ["model, 2 layers"]


def test_lengths_that_are_one_scale() -> None:
    def long(*steps: int) -> list[str]:
        return labels(*(made(str(n), flops=1e7 * n, recipe={"training": {"steps": n}}) for n in steps))

    assert long(40, 50) == ["equal mix, steps 40", "equal mix, steps 50"]
    assert long(40, 400) == ["equal mix", "equal mix"]


def test_seeds_of_one_recipe_stay_together() -> None:
    recipes = [
        {"seed": 0, "training": {"budget": 1.00e9}, "evaluation": {"domains": "a.yaml"}, "mix": {"hb": 0.5, "ch": 0.5}},
        {
            "seed": 1,
            "training": {"budget": 1.02e9},
            "evaluation": {"domains": "b.yaml"},
            "data": "there",
            "output": "o",
        },
    ]
    seeds = [made(str(i), seed=i, recipe=one) for i, one in enumerate(recipes)]
    assert labels(*seeds) == ["equal mix", "equal mix"]
    dearer = made("2", recipe={"training": {"budget": 1.2e9}, "evaluation": {}})
    assert labels(*seeds, dearer) == [*["equal mix, budget 1e+09"] * 2, "equal mix, budget 1.2e+09"]
    assert labels(made("a"), made("b", data="e" * 64)) == ["equal mix, data ffffffff", "equal mix, data eeeeeeee"]


def test_what_is_not_trained_depends_on_less() -> None:
    changed = {name: {**value, "negatives": {"count": 3}} for name, value in OBJECTIVES.items()}
    recipes: list[dict[str, Any]] = [{}, {"objectives": changed, "training": {"budget": 1e12}, "solver": "mgda"}]
    for kind in ("base", "bm25"):
        assert labels(*(made(str(i), kind=kind, label=kind, recipe=r) for i, r in enumerate(recipes))) == [kind, kind]
    sampled = made("2", kind="base", label="base", recipe={"evaluation": {"max_queries": 9}})
    other = made("3", kind="base", label="base")
    assert labels(sampled, other) == ["base, evaluation max queries 9", "base, evaluation max queries default"]


def test_values_that_are_cut_short_are_still_told_apart() -> None:
    runs = [
        made(str(i), recipe={"model": {"query_prompt": f"a long instruction in front of query {i}"}}) for i in (1, 2)
    ]
    first, second = models(*runs)
    assert first != second
    assert first.startswith("1x32, query prompt a long instruction in")


def test_every_reader_tells_them_apart(tmp_path, capsys) -> None:
    """A front, a page and measurements of two strategies and two base models that were given one name."""
    store = RunStore(tmp_path)
    for i, path in enumerate(("/out/r/model", "/out/k2/model")):
        for steps in (40, 50):
            recipe = {"model": {"path": path}, "training": {"steps": steps}}
            losses = {name: {"ce": 1 + steps / 100 + i, "ndcg": 0.5} for name in OBJECTIVES}
            store.add(
                made(f"{i}-{steps}", model="model", flops=1e7 * steps, recipe=recipe, steps=steps, objectives=losses)
            )
    found = measured(store)
    paths = {label: recipe.model.path for label, recipe in found.models.items()}
    assert paths == {"r/model": "/out/r/model", "k2/model": "/out/k2/model"}
    assert main(["frontier", str(tmp_path), "--model", "k2/model", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert {p["label"]: p["values"]["hb"] for p in points} == pytest.approx(
        {"equal mix, steps 40": 2.4, "equal mix, steps 50": 2.5}
    )
    assert main(["report", str(tmp_path), "--draws", "5"]) == 0
    capsys.readouterr()
    text = (tmp_path / "report.html").read_text()
    assert ">equal mix, steps 40 (collapsed)</td>" in text
    assert ">equal mix, steps 50 (collapsed)</td>" in text


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("runs.jsonl")), ids=lambda path: path.parent.name)
def test_stores_of_studies_come_back_as_they_are(path: Path) -> None:
    records = list(RunStore(path.parent).records(queries=False))
    assert told_apart(records) == records
