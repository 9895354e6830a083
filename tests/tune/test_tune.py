"""`mogrid tune` as a user meets it: a plan, a model, a verdict; one look at test-role data; one line for what is wrong."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from mogrid.cli import main
from mogrid.runs import RunStore
from tests.tune.tiny import BUDGET, write_recipe


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    command = ["tune", str(write_recipe(folder)), "--budget", BUDGET, "--out", str(folder / "out"), "--rivals"]
    assert main([*command, "--preference", "ood=2,effectiveness=1"]) == 0
    return folder


def again(folder: Path, *more: str) -> list[str]:
    command = ["tune", str(folder / "run.yaml"), "--budget", BUDGET, "--out", str(folder / "out"), "--rivals"]
    return [*command, "--preference", "ood=2,effectiveness=1", *more]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pilots_are_a_small_part_of_what_is_counted(tuned) -> None:
    outcome = json.loads((tuned / "out" / "tune.json").read_text())["outcome"]
    costs = {name: flops for name, _, flops, _ in outcome["stages"]}
    beside = "data, leaks, prices, laws"
    assert list(costs) == ["baselines", "mixes", "final training", "merges", "rivals", "verdict", beside]
    assert outcome["stages"][-1][3] > 0
    assert 0.2 < costs["mixes"] / float(BUDGET) < 0.32
    assert costs["mixes"] + costs["final training"] == pytest.approx(float(BUDGET), rel=0.05)
    (final,) = (r for r in RunStore(tuned / "out") if r.best)
    assert final.recipe["preference"] == {"ood": 2, "effectiveness": 1}
    assert final.recipe["training"]["keep"] == "best"


def test_the_model_is_in_place_with_card_and_page(tuned) -> None:
    model = SentenceTransformer(str(tuned / "out" / "model"), device="cpu")
    assert model.encode("bada gi").shape == (32,)
    card = (tuned / "out" / "model" / "README.md").read_text()
    page = (tuned / "out" / "tune.html").read_text()
    for title in ("Verdict", "What each stage cost", "The path of the choice"):
        assert f"## {title}" in card
        assert f"<h2>{title}</h2>" in page
    assert "<h2>Merges with the base</h2>" in page
    assert "Front in nDCG@10" in page


def test_test_role_data_are_looked_at_in_the_verdict_alone(tuned) -> None:
    outcome = json.loads((tuned / "out" / "tune.json").read_text())["outcome"]
    seen = [r for r in RunStore(tuned / "out") if any(result.role == "test" for result in r.results)]
    single = "effectiveness only" if "ood only" not in outcome["verdict"]["systems"] else "ood only"
    assert list(outcome["verdict"]["systems"]) == [
        "model", "base", "BM25", "equal mix", single, f"{single}, half merged with base"
    ]  # fmt: skip
    assert {r.label for r in seen} == set(outcome["verdict"]["systems"])
    tests = outcome["verdict"]["tests"]
    assert tests.keys() == set(outcome["verdict"]["systems"]) - {"model"}
    assert tests["base"].keys() == {"effectiveness", "ood", "all, by the preference"}
    model, base = (outcome["verdict"]["systems"][name]["ood"][0] for name in ("model", "base"))
    assert tests["base"]["ood"]["difference"] == pytest.approx(model - base)
    shown = next(r for r in seen if r.label == "model")
    assert model == pytest.approx(shown.result("south", "test").means["ndcg"], abs=1e-5)


def test_a_second_look_is_read_from_the_record_or_refused(tuned, capsys) -> None:
    before = (tuned / "out" / "runs.jsonl").read_bytes()
    assert main(again(tuned, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"]["role"] == "test"
    assert main(again(tuned, "--at-least", "effectiveness=base")) == 2
    err = capsys.readouterr().err
    assert "has been looked at on test-role data, with another at_least.effectiveness" in err
    assert err.count("\n") == 1
    assert (tuned / "out" / "runs.jsonl").read_bytes() == before


def test_what_was_asked_is_told_on_card_page_and_record(tuned) -> None:
    outcome = json.loads((tuned / "out" / "tune.json").read_text())["outcome"]
    assert outcome["asked"]["preference"] == {"ood": 2, "effectiveness": 1}
    assert outcome["asked"]["rate"] == 0.02
    asked = "asked for: preference ood 2, effectiveness 1; seed 3"
    rate = "learning rate: 0.02, the recipe's; no other was tried"
    assert outcome["lines"][:2] == [asked, rate]
    card = (tuned / "out" / "model" / "README.md").read_text()
    page = html.unescape((tuned / "out" / "tune.html").read_text())
    for said in (asked, rate):
        assert said in card
        assert said in page


def test_what_was_removed_is_made_again_or_what_is_missing_is_said(tuned, tmp_path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tuned, copy)
    out, records = copy / "out", (copy / "out" / "runs.jsonl").read_bytes()
    before = files(out)
    shutil.rmtree(out / "model")
    (out / "tune.html").unlink()
    assert main(again(copy)) == 0
    assert (out / "runs.jsonl").read_bytes() == records
    assert files(out / "model") == {name[6:]: value for name, value in before.items() if name.startswith("model/")}
    page = before["tune.html"].decode().replace(str(tuned), str(copy))
    assert (out / "tune.html").read_text() == page
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "work")
    assert main(again(copy)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"mogrid: {out}: there is no model/, nor {out}/work/model-.*, which it is made of; .*", said)


def test_other_data_are_another_tune(tuned, tmp_path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tuned, copy)
    corpus = copy / "data" / "south" / "corpus.jsonl"  # test-role data
    corpus.write_text(corpus.read_text().replace("ba", "bo"))
    assert main(again(copy)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"mogrid: {copy / 'out'} holds a tune on other data; name another folder"
    )


def test_of_one_objective_a_rate_is_found_and_told(tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path, objectives={"topic": {"datasets": "home"}})
    command = ["tune", str(recipe), "--budget", BUDGET, "--out", str(tmp_path / "out"), "--at-least", "topic=base"]
    assert main([*command, "--rivals"]) == 0
    outcome = json.loads((tmp_path / "out" / "tune.json").read_text())["outcome"]
    assert "equal mix" not in outcome["verdict"]["systems"]
    assert {"topic only", "topic only, half merged with base"} < outcome["verdict"]["systems"].keys()
    asked = outcome["asked"]
    labels = {record.label for record in RunStore(tmp_path / "out")}
    assert {f"topic only, learning rate {rate:g}" for rate in asked["rates"]} < labels
    assert len(asked["rates"]) == 3
    final = next(record for record in RunStore(tmp_path / "out") if record.best)
    assert final.recipe["training"]["learning_rate"] == asked["rate"]
    said = capsys.readouterr().out
    assert f"learning rate: {asked['rate']:g}, the best of 0.00667, 0.02, 0.06, by pilots\n" in said
    assert "asked for: preference topic 1; at least topic=base; seed 3\n" in said
    assert re.search(r"\non test-role data, at least topic=base: (kept|broken)(, not surely)? \(.* the base\)\n", said)


def test_a_dry_run_says_what_each_stage_costs_and_writes_nothing(tmp_path, capsys) -> None:
    command = ["tune", str(write_recipe(tmp_path)), "--dry-run", "--out", str(tmp_path / "out")]
    assert main([*command, "--budget", "3e10"]) == 0
    shown = capsys.readouterr().out
    for stage in ("baselines", "learning rates", "mixes", "more pilots", "final training", "merges", "verdict"):
        assert stage in shown
    assert "70%" in shown
    assert not (tmp_path / "out").exists()


def test_hours_are_planned_after_one_training_which_is_kept(tmp_path, capsys) -> None:
    command = ["tune", str(write_recipe(tmp_path)), "--dry-run", "--out", str(tmp_path / "out")]
    assert main([*command, "--money", "1", "--price", "20"]) == 0
    shown = capsys.readouterr().out
    assert "The plan: 0.05 hours, 1 in money" in shown
    assert shown.count("money") == 2  # a column, too, whose head may be broken
    (record,) = RunStore(tmp_path / "out").records()
    assert record.kind == "trained"
    trained = (tmp_path / "out" / "runs.jsonl").read_bytes()
    assert main([*command, "--hours", "0.04"]) == 0
    assert (tmp_path / "out" / "runs.jsonl").read_bytes() == trained


def test_one_recipe_trains_and_tunes_into_folders_of_their_own(tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path)
    assert main(["train", str(recipe)]) == 0
    weights = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    assert main(["tune", str(recipe), "--budget", BUDGET]) == 0
    assert f"model: {tmp_path / 'out-tune' / 'model'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == weights
    assert main(["train", str(recipe)]) == 0  # finished already


def test_what_another_command_made_is_refused_and_left_as_it_is(tuned, tmp_path, capsys) -> None:
    recipe, before = tuned / "run.yaml", files(tuned / "out")
    assert main(["train", str(recipe), "--set", f"output={tuned / 'out'}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"mogrid: {tuned / 'out'} holds tune.json and work/ and model/, which mogrid train did not")
    assert files(tuned / "out") == before
    for name in ("recipe.json", "run.json", "model/weights"):
        path = tmp_path / name.replace("/", "-") / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        own = tmp_path / name.replace("/", "-")
        assert main(["tune", str(recipe), "--budget", BUDGET, "--out", str(own)]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"mogrid: {own} holds {name.replace('weights', '')}, which mogrid tune did not make; ")
        assert list(files(own)) == [name]
        if name != "recipe.json":  # that of another training is told by what differs
            assert main(["train", str(recipe), "--set", f"output={own}"]) == 2
            assert "which mogrid train did not make; name another folder" in capsys.readouterr().err.splitlines()[-1]
            assert list(files(own)) == [name]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget", "1e7"], "a budget of 1e+07 FLOPs is too small: 3 pilots of 12 steps"),
        (
            ["--budget", "1e9", "--maximise", "efectiveness"],
            "no objective 'efectiveness'; did you mean 'effectiveness'?",
        ),
        (["--budget", "1e9", "--at-least", "oood=base"], "mogrid: at_least: no objective 'oood'; did you mean 'ood'?"),
        (["--budget", "1e9", "--at-least", "ood"], "--at-least 'ood': expected NAME=VALUE"),
        (
            ["--budget", "1e9", "--at-least", "ood=base-"],
            "'ood=base-': expected NAME=VALUE, a number, base, or base-0.005",
        ),
        (["--budget", "1e9", "--at-least", "ood=base+0.1"], "at least ood=base+0.1: the base model breaks it as it is"),
        (["--budget", "1e9", "--price", "3"], "--price is of an hour that --money buys, which is missing"),
        (["--budget", "1e9", "--preference", "ood=0"], "no value has a weight above 0"),
        (["--budget", "nan"], "a budget is a positive number"),
        (["--hours", "1e-9"], "1e-09 hours are over before anything is trained"),
        ([], "give one of --budget FLOPS, --hours and --money"),
        (["--money", "3"], "--money needs --price"),
        (["--budget", "1e9", "--set", "solver=mgda"], "solver 'mgda': tune looks for a mix"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, flags, said) -> None:
    recipe = str(write_recipe(tmp_path))
    assert main(["tune", recipe, *flags, "--out", str(tmp_path / "new" / "out")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    assert main(["tune", recipe, *flags, "--out", str(tmp_path / "old")]) == 2
    assert list((tmp_path / "old").iterdir()) == []


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_a_file_is_no_folder(tmp_path, capsys, more) -> None:
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/inner"):
        command = ["tune", str(write_recipe(tmp_path)), "--budget", "3e10", "--out", str(tmp_path / out)]
        assert main([*command, *more]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"mogrid: {tmp_path / 'file'} is a file; name a folder with --out DIR"


def test_a_bound_that_the_base_breaks_is_said_before_anything_is_trained(tmp_path, capsys) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    command = ["tune", str(write_recipe(tmp_path)), "--budget", BUDGET, "--out", str(tmp_path / "out")]
    assert main([*command, "--at-least", "ood=.9"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"mogrid: at least ood=0.9: the base model has (.*) on .* up to \1 can be kept", said)
    assert list(files(tmp_path / "out")) == ["mine"]


def test_where_fine_tuning_does_not_pay_the_base_is_handed_back(tuned, tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path, model={"path": str(tuned / "out" / "model")})
    command = ["tune", str(recipe), "--budget", BUDGET, "--out", str(tmp_path / "out"), "--maximise", "effectiveness"]
    assert main([*command, "--set", "training.learning_rate=1e-12"]) == 0
    assert "fine-tuning does not pay here" in capsys.readouterr().out
    states = [SentenceTransformer(str(f / "out" / "model"), device="cpu").state_dict() for f in (tuned, tmp_path)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
