"""Sweeps end to end: cells are recipes, a cell and `mogrid train` are one function, and whatever happens in between."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from torch import nn

from mogrid.cli import main
from mogrid.retrieval.models import build_retriever
from mogrid.runs import RunStore
from mogrid.sweep.cells import cells_of
from mogrid.sweep.grid import read_sweep
from mogrid.sweep.measured import measured
from mogrid.sweep.run import drain_cells
from mogrid.training.costs import row_costs, steps_of
from mogrid.training.fit import fit
from mogrid.training.run import materials
from tests.training.tiny import settings, write_data, write_set


def write_sweep(folder: Path, *, recipe: dict | None = None, **changes: object) -> Path:
    if not (folder / "data").exists():
        write_data(folder / "data")
    value = settings(**{"solver": "fixed", "spend": "rows", **(recipe or {})})
    value["training"] = {"pairs": 72, "batch_size": 6, "learning_rate": 1.0e-2, "checkpoints": 4}
    value["evaluation"] = {"role": "test", "redraws": 2}
    (folder / "run.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    path = folder / "sweep.yaml"
    sweep = {"recipe": "run.yaml", "vary": {"mix": ["equal", "effectiveness"]}, "workers": 1}
    path.write_text(yaml.safe_dump(sweep | changes, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A sweep in a process of its own; the other tests run their cells in this one."""
    folder = tmp_path_factory.mktemp("sweep")
    path = write_sweep(folder, merge=[0.5])
    assert main(["sweep", str(path), "--store", str(folder / "runs")]) == 0
    return folder


def test_records_know_what_was_done(swept) -> None:
    found = {record.label: record for record in RunStore(swept / "runs")}
    assert found.keys() == {
        "equal mix", "effectiveness only", "base", "BM25", "equal mix, merged 0.5 with base",
        "effectiveness only, merged 0.5 with base",
    }  # fmt: skip
    equal, only = found["equal mix"], found["effectiveness only"]
    assert equal.pairs == dict.fromkeys(("effectiveness", "ood", "typos"), 2 * equal.steps)
    assert only.mix == {"effectiveness": 1.0, "ood": 0.0, "typos": 0.0}
    assert only.pairs["ood"] == 0
    assert only.total_flops == pytest.approx(equal.total_flops, rel=0.08)  # a step is 8 %
    assert set(equal.objectives) == {"effectiveness", "ood", "typos"}
    assert equal.objectives["effectiveness"]["ndcg"] == equal.result("home", "select").means["ndcg"]
    assert equal.objectives["ood"]["ce"] == equal.result("north", "select").means["ce"]
    assert equal.objectives["typos"]["ndcg"] == equal.result("home", "select", "typos").means["ndcg"]
    assert "ce" not in found["BM25"].objectives["effectiveness"]
    assert found["base"].parameters == equal.parameters == 12768
    merged = found["equal mix, merged 0.5 with base"]
    assert merged.parents == {equal.name: 0.5, "": 0.5}
    assert merged.objectives != equal.objectives


def test_runs_of_one_length_take_the_same_flops(tmp_path) -> None:
    """A third of a batch is padded less than a whole one, so that a row of it is cheaper."""
    path = write_sweep(tmp_path, recipe={"model": {"size": "1x32", "towers": 1, "vocabulary": 300, "max_length": 64}})
    corpus = tmp_path / "data" / "home" / "corpus.jsonl"
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["text"] = " ".join([row["text"]] * (7 if number % 4 == 0 else 1))
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sweep = read_sweep(path, ["vary.pairs=[720]", "recipe.training.batch_size=12", "rows=[]"])
    given = [(cell, materials(cell.recipe, sweep.base)) for cell in cells_of(sweep, tmp_path / "runs")]
    taken = {}
    for cell, made in given:
        steps = steps_of(cell.recipe, made.build, made.datasets, tmp_path / "runs" / "cache", made.data)
        done = fit(cell.recipe, made.build(), made.datasets, tmp_path / cell.name, steps)
        taken[cell.label] = done["flops"]["total"] / cell.recipe.training.budget
    assert taken == pytest.approx({"equal mix": 1.0, "effectiveness only": 1.0}, rel=0.04)


def test_a_gradient_cache_has_the_budget_of_all_others(tmp_path) -> None:
    path = write_sweep(tmp_path)
    budgets = []
    for gradients in ("exact", "{mode: cached, mini_batch_size: 4}"):
        sweep = read_sweep(path, ["vary.pairs=[720]", f"recipe.training.gradients={gradients}", "rows=[]"])
        budgets.append({cell.recipe.training.budget for cell in cells_of(sweep, tmp_path / "runs")})
    assert budgets[0] == budgets[1]


def test_an_objective_without_a_share_costs_nothing_and_is_not_measured(tmp_path) -> None:
    """Two rows, as the mix gives the others, would be too few of one that is balanced over three domains."""
    objectives = settings()["objectives"]
    objectives["ood"] = {"datasets": ["east", "west", "far"], "loss": "balanced_erm", "judged": "north"}
    path = write_sweep(tmp_path, recipe={"objectives": objectives})
    write_set(tmp_path / "data" / "far", 5, splits=("train",))
    changes = ["vary.mix=[{effectiveness: .8, typos: .2}]", "recipe.training.batch_size=10", "vary.pairs=[400]"]
    sweep = read_sweep(path, [*changes, "rows=[]"])
    (cell,) = cells_of(sweep, tmp_path / "runs")
    made = materials(cell.recipe, sweep.base)
    costs = row_costs(cell.recipe, made.build, made.datasets, tmp_path / "runs" / "cache", made.data)
    assert costs.keys() == {"effectiveness", "typos"}


@pytest.mark.parametrize("towers", [1, 2])
def test_a_row_is_priced_at_all_layers_though_it_passes_one(tmp_path, monkeypatch, towers) -> None:
    """Consistency, a teacher's forwards, crafted embeddings: what each costs does not hang on what layers compute."""
    objectives = settings()["objectives"]
    objectives["distil"] = {"datasets": ["east"], "loss": "distil", "judged": "north"}
    objectives["fgm"] = {"datasets": ["west"], "loss": "fgm", "judged": "north"}
    model = {"size": "3x32", "towers": towers, "vocabulary": 300, "max_length": 16}
    path = write_sweep(tmp_path, recipe={"objectives": objectives, "model": model})
    sweep = read_sweep(path, ["recipe.spend=weights"])
    recipe = sweep.recipe
    made = materials(recipe, sweep.base)
    built = made.build()
    names = [name for name, _ in built.named_parameters()]
    given = row_costs(recipe, lambda: built, made.datasets, _folder(tmp_path / "one"), made.data)
    assert [name for name, _ in built.named_parameters()] == names
    assert {type(m) for m in built.modules() if isinstance(m, nn.ModuleList)} == {nn.ModuleList}
    monkeypatch.setattr("mogrid.training.costs._shallow", lambda model: nullcontext())
    assert row_costs(recipe, made.build, made.datasets, _folder(tmp_path / "all"), made.data) == given


def _folder(path):
    path.mkdir()
    return path


def test_runs_go_on_where_the_same_data_lie_elsewhere(swept, tmp_path) -> None:
    store, moved = RunStore(swept / "runs"), RunStore(tmp_path / "moved")
    for record in store:
        if record.kind == "trained":
            recipe = {**record.recipe, "data": f"/{record.seed}/{record.label}"}
            recipe["evaluation"] = {**recipe["evaluation"], "domains": f"/{record.label}/roles.yaml"}
            moved.add(dataclasses.replace(record, recipe=recipe))
    assert len(measured(moved).measurements) == 2


def test_a_cell_is_what_mogrid_train_makes_of_its_recipe(swept, tmp_path) -> None:
    store = RunStore(swept / "runs")
    cell = next(record for record in store if record.label == "equal mix")
    recipe = {**cell.recipe, "data": str(swept / "data"), "output": "out"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(tmp_path / "run.yaml")]) == 0
    alone = json.loads((tmp_path / "out" / "run.json").read_text())
    again = json.loads(json.dumps(cell.to_json()))
    for key in ("seconds", "recipe"):
        del alone[key], again[key]
    assert alone == again
    kept = (store.folder(cell.name) / "steps.jsonl").read_text()
    assert (tmp_path / "out" / "steps.jsonl").read_text() == kept


def test_a_finished_sweep_runs_nothing_again(swept, capsys) -> None:
    before = (swept / "runs" / "runs.jsonl").read_bytes()
    assert main(["sweep", str(swept / "sweep.yaml"), "--store", str(swept / "runs"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 6
    assert (swept / "runs" / "runs.jsonl").read_bytes() == before


def test_models_are_dropped_unless_they_are_asked_for(tmp_path, in_process) -> None:
    path = write_sweep(tmp_path, vary={"mix": ["effectiveness"]}, rows=[])
    assert main(["sweep", str(path), "--store", str(tmp_path / "runs")]) == 0
    (record,) = RunStore(tmp_path / "runs")
    assert not (RunStore(tmp_path / "runs").folder(record.name) / "model").exists()
    assert main(["sweep", str(path), "--store", str(tmp_path / "kept"), "--set", "keep=models"]) == 0
    assert (RunStore(tmp_path / "kept").folder(record.name) / "model" / "model.safetensors").is_file()


def test_a_dry_run_names_the_runs(swept, capsys) -> None:
    assert main(["sweep", str(swept / "sweep.yaml"), "--store", str(swept / "runs"), "--dry-run"]) == 0
    assert set(capsys.readouterr().out.split()) == {record.name for record in RunStore(swept / "runs")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": {"objectives": {"a": {"datasets": "hom"}}}}, "did you mean 'home'?"),
        ({"recipe": {"objectives": {"a": {"datasets": "home", "judged": "south/test"}}}}, "whose role is test"),
        (
            {"recipe": {"objectives": {"a": {"datasets": "home", "judged": "home/test"}}}},
            "whose role is test",
        ),
        ({"recipe": {"objectives": {"a": {"datasets": "home", "judged": "nort/dev"}}}}, "did you mean 'north'?"),
        ({"recipe": {"objectives": {"a": {"datasets": "south"}}}}, "has the role test, and is not trained on"),
        ({"recipe": {"objectives": {"a": {"datasets": "../data/home"}}}}, "'../data/home'"),
        ({"vary": {"training.budget": [10.0]}}, "10 need"),
        (
            {"vary": [{"steps": [2]}, {"steps": [2], "models": ["no/such/model"]}]},
            "model 'no/such/model': no such folder",
        ),
    ],
)
def test_bad_data_are_one_line_before_anything_runs(tmp_path, capsys, in_process, changes, said) -> None:
    recipe = changes.get("recipe")
    vary = changes.get("vary", {"seeds": [0]})
    path = write_sweep(tmp_path, recipe=recipe, vary=vary)
    assert main(["sweep", str(path), "--store", str(tmp_path / "runs")]) == 2
    err = capsys.readouterr().err.splitlines()
    assert said in err[-1]
    assert not (tmp_path / "runs" / "runs.jsonl").exists()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_bits_beside_another(tmp_path) -> None:
    path = write_sweep(tmp_path, vary={"mix": ["equal", "corners"]}, rows=[])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mogrid", "sweep", str(path), "--store", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
    while not list((tmp_path / "runs" / "work").glob("*/training/checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) for _ in range(2)]
    assert [one.wait(timeout=300) for one in both] == [0, 0]
    assert main(["sweep", str(path), "--store", str(tmp_path / "whole")]) == 0

    def kept(folder: str) -> dict[str, object]:
        found = {r.name: r.to_json() for r in RunStore(tmp_path / folder)}
        return {name: {k: v for k, v in value.items() if k != "seconds"} for name, value in found.items()}

    assert kept("runs") == kept("whole")
    assert len(kept("whole")) == 4


def test_corners_merge_as_every_mix_divides_the_effort(tmp_path) -> None:
    mixes = ["equal", {"effectiveness": 0.5, "ood": 0.5}, "effectiveness", "ood"]
    path = write_sweep(tmp_path, vary={"mix": mixes, "seed": [0, 1], "pairs": [72, 144]}, merge=[0.5, "corners"])
    cells = cells_of(read_sweep(path), tmp_path / "runs")
    names = {(c.label, c.recipe.seed, c.recipe.training.budget): c.name for c in cells if c.kind == "trained"}
    merged = [cell for cell in cells if cell.label.endswith("of merged corners")]
    assert len(merged) == 4  # the equal mix has a third of typos, which no run was given alone
    for cell in merged:
        assert cell.label == ".5/.5/0, of merged corners"
        seed, budget = cell.recipe.seed, cell.recipe.training.budget
        assert dict(cell.parents) == {
            names["effectiveness only", seed, budget]: 0.5, names["ood only", seed, budget]: 0.5,
        }  # fmt: skip
        assert cell.after == 1
    assert all(cell.keep for cell in cells if cell.kind == "trained")
    assert sum(cell.label.endswith("with base") for cell in cells) == 16


def test_a_thinned_model_is_healed_once_before_the_workers_start(tmp_path, tokenizer, monkeypatch) -> None:
    monkeypatch.setenv("MOGRID_CACHE", str(tmp_path / "cache"))
    build_retriever("2x32", tokenizer, normalise=True).save_pretrained(str(tmp_path / "whole"), create_model_card=False)
    model = {"path": "whole", "layers": 1, "heal": {"texts": 100, "batch_size": 16}}
    path = write_sweep(tmp_path, recipe={"model": model}, vary={"mix": ["effectiveness"], "seed": [0, 1]})
    cells, quiet = cells_of(read_sweep(path), tmp_path / "runs"), Console(file=io.StringIO())
    seen: list[bool] = []

    def workers(cells, *args, **named) -> None:
        seen.extend(folder.name == "healing.json" for folder in (tmp_path / "cache" / "healed").rglob("healing.json"))

    monkeypatch.setattr("mogrid.sweep.run.run_in_processes", workers)
    for count in (2, 1):
        drain_cells(cells, tmp_path / "runs", quiet, workers=count)
    assert seen == [True, True]
    monkeypatch.setattr("mogrid.retrieval.healing.heal", lambda *args: pytest.fail("healed twice"))
    drain_cells(cells, tmp_path / "runs", quiet, workers=2)
