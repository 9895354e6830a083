"""`keep: best` in a recipe: the weights that the goal wants, told in record and card, the same after any stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mogrid.cli import main
from mogrid.errors import ConfigError
from mogrid.training.fit import Interrupted
from mogrid.training.recipe import Recipe, read_recipe
from mogrid.training.run import materials, run, trained
from tests.training.tiny import settings, write_run

KEEP = {
    "training": {
        "steps": 64,
        "batch_size": 4,
        "learning_rate": 0.03,
        "schedule": "constant",
        "checkpoints": 4,
        "keep": "best",
    },
    "preference": {"effectiveness": 1},
    "at_least": {"ood": "base-0.5"},
    "solver": "fixed",
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keep")
    assert main(["train", str(write_run(folder, **KEEP))]) == 0
    return folder / "out"


def test_the_record_and_the_card_say_which_step_was_enough(kept) -> None:
    record = json.loads((kept / "run.json").read_text())
    history = dict(record["best"]["history"])
    assert list(history) == [0, 1, 2, 4, 8, 16, 32, 64]
    step = record["best"]["step"]
    assert 0 < step < 64  # at this rate it overshoots
    allowed = {at: v["effectiveness"] for at, v in history.items() if v["ood"] >= history[0]["ood"] - 0.5}
    assert allowed[step] == max(allowed.values())
    now = {name: values["ndcg"] for name, values in record["objectives"].items()}
    assert now == pytest.approx(history[step])  # what is saved and judged are the weights that were chosen
    assert record["seconds"]["stopping"] > 0
    assert record["steps"] == 64
    card = (kept / "model" / "README.md").read_text()
    assert f"{step} steps would have been enough" in card
    assert f"| **{step}** |" in card
    assert "no evaluation keeps" not in card


def test_a_bound_that_nothing_keeps_is_said_on_the_terminal_and_in_the_card(tmp_path, capsys) -> None:
    training = {**KEEP["training"], "steps": 2}
    recipe = {**KEEP, "training": training, "at_least": {"ood": 1.5, "effectiveness": "base-1"}}
    assert main(["train", str(write_run(tmp_path, **recipe))]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    step, history = record["best"]["step"], dict(record["best"]["history"])
    assert history[step]["ood"] == max(values["ood"] for values in history.values())
    said = (
        f"no evaluation keeps at_least: the one that breaks it least, of step {step}, has "
        f"ood {history[step]['ood']:.4f} where at least 1.5000 was asked"
    )
    assert f"note: {said}" in " ".join(capsys.readouterr().err.split())
    assert said in (tmp_path / "out" / "model" / "README.md").read_text()


def test_a_goal_that_chooses_nothing_is_said(tmp_path, capsys) -> None:
    training = {**KEEP["training"], "steps": 2, "keep": "last"}
    assert main(["train", str(write_run(tmp_path, **{**KEEP, "training": training}))]) == 0
    said = "note: preference and at_least:"
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_later_evaluation_that_is_hardly_worse_is_kept(tmp_path) -> None:
    recipe = {**KEEP, "training": {**KEEP["training"], "keep_within": 1.0}}
    assert main(["train", str(write_run(tmp_path, **recipe))]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    history = dict(record["best"]["history"])
    kept = [step for step, values in history.items() if values["ood"] >= history[0]["ood"] - 0.5]
    assert record["best"]["step"] == max(kept)


@pytest.mark.parametrize("stop_at", [9, 40])
def test_a_stopped_training_keeps_the_same_bits(kept, tmp_path, stop_at) -> None:
    given = materials(read_recipe(kept.parent / "run.yaml"), kept.parent)
    calls = iter([False] * stop_at + [True] * 100)
    with pytest.raises(Interrupted):
        trained(given, tmp_path, tmp_path, stop=lambda: next(calls))
    took = trained(given, tmp_path, tmp_path)
    assert took["best"]["history"] == json.loads((kept / "run.json").read_text())["best"]["history"]
    weights = [folder / "model" / "model.safetensors" for folder in (tmp_path, kept)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_kill_after_the_last_step_changes_nothing(kept, tmp_path, monkeypatch) -> None:
    given = materials(read_recipe(kept.parent / "run.yaml"), kept.parent)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(run.__globals__, "keep", killed)
        run(given, tmp_path)
    record = run(given, tmp_path).to_json()
    told = json.loads((kept / "run.json").read_text())
    assert {k: v for k, v in json.loads(json.dumps(record)).items() if k != "seconds"} == {
        k: v for k, v in told.items() if k != "seconds"
    }


def test_the_goal_is_part_of_the_recipe_where_it_chooses() -> None:
    def recipe(keep: str, **goal: object) -> Recipe:
        return Recipe.model_validate(settings(**(KEEP | goal | {"training": {**KEEP["training"], "keep": keep}})))

    assert recipe("best").digest() != recipe("last").digest()
    assert recipe("best").digest() != recipe("best", at_least={}).digest()
    assert recipe("last").digest() == recipe("last", at_least={}).digest()
    assert recipe("last").family() == recipe("last", preference=None).family()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preference": {"oodd": 1}}, "preference: no objective 'oodd'; did you mean 'ood'?"),
        ({"at_least": {"ood": "base-"}}, "'ood' must be a number, 'base', 'base-0.005' or the like"),
        ({"at_least": {"speed": 0.5}}, "at_least: no objective 'speed'"),
        ({"preference": {"ood": -1}}, "the weight of 'ood' must be a number of at least 0"),
    ],
)
def test_a_goal_that_is_none_is_an_error_of_its_file(tmp_path, changes, said) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml") as error:
        read_recipe(write_run(tmp_path, **(KEEP | changes)))
    assert said in str(error.value)
