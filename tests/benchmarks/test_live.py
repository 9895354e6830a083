"""The live comparison of choosers: real pilots and trainings, each once, a store that goes on, and bad input."""

from __future__ import annotations

import json

import pytest

from benchmarks.live import main
from tests.tune.tiny import write_recipe

SHORT = [
    "--set", "model={size: 1x32, max_length: 16}", "--set", "training.pairs=1600", "--set", "training.batch_size=6",
    "--preference", "effectiveness=2,ood=1",
]  # fmt: skip


@pytest.mark.slow
def test_methods_share_runs_and_a_store_goes_on(tmp_path, capsys) -> None:
    where = [str(write_recipe(tmp_path)), *SHORT, "--out", str(tmp_path), "--repetitions", "1"]
    assert main([*where, "--only", "grid", "--only", "the equal mix", "--only", "merged corners"]) == 0
    first = [json.loads(line) for line in (tmp_path / "choices.jsonl").read_text().splitlines()]
    assert [one["method"] for one in first] == ["grid", "the equal mix", "merged corners"]
    grid, equal, corners = first
    assert 0.7 < grid["flops"] <= 1.25
    assert grid["pilots"] >= 4
    assert equal["pilots"] == 0
    assert corners["pilots"] == 2
    assert abs(max(equal["mix"].values()) - 1 / 2) < 0.01
    ran = len((tmp_path / "runs.jsonl").read_text().splitlines())
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert kinds.count("merged") == 3  # all mixes of two objectives but the corners
    assert "against the equal mix" in capsys.readouterr().out
    assert main([*where, "--only", "random search"]) == 0
    # What the grid had trained was not trained again, though both paid for it.
    more = len((tmp_path / "runs.jsonl").read_text().splitlines()) - ran
    last = json.loads((tmp_path / "choices.jsonl").read_text().splitlines()[-1])
    assert last["method"] == "random search"
    assert more < last["pilots"] + 1
    before = (tmp_path / "runs.jsonl").read_bytes()
    assert main([*where, "--only", "grid"]) == 0
    assert main([*where, "--show"]) == 0
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    assert main([*where, "--show", "--preference", "effectiveness=1"]) == 2
    assert "choices.jsonl:1: of another recipe or preference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["debain"], "no recipe 'debain'; did you mean 'debian'?"),
        (["dpr", "--only", "gird"], "no method 'gird'; did you mean 'grid'?"),
        (["dpr", "--preference", "speed=1"], "weighs none of the objectives effectiveness, ood, typos"),
        (["dpr", "--show"], "nothing is finished; leave --show out to train"),
        (["dpr", "--set", "training.steps=10"], "training.pairs: give the length of the final training in pairs"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, capsys) -> None:
    assert main([*arguments, "--out", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "store").exists()
