"""`mogrid merge`: shares chosen on select-role data, the test role looked at once, a folder that others load."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from mogrid import cli
from mogrid.retrieval.models import build_retriever
from tests.training.tiny import write_data


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """Data, a base, and two models that lie on both sides of it."""
    root = tmp_path_factory.mktemp("merge")
    write_data(root / "data")
    base = build_retriever("1x32", tokenizer, dropout=0.0, normalise=True)
    base.save_pretrained(str(root / "base"), create_model_card=False)
    generator = torch.Generator().manual_seed(0)
    step = {n: torch.randn(p.shape, generator=generator) * 0.005 for n, p in base.named_parameters()}
    for name, sign in (("left", -1), ("right", 1)):
        moved = copy.deepcopy(base)
        with torch.no_grad():
            for key, parameter in moved.named_parameters():
                parameter.add_(sign * step[key])
        moved.save_pretrained(str(root / name), create_model_card=False)
        if name == "left":
            moved.save_pretrained(str(root / "copy"), create_model_card=False)
            (root / "link").symlink_to(root / "left")
        else:
            moved.prompts = {"query": "query: ", "document": ""}
            moved.save_pretrained(str(root / "prompted"), create_model_card=False)
            moved.prompts, moved.max_seq_length = {"query": "", "document": ""}, 12
            moved.save_pretrained(str(root / "short"), create_model_card=False)
    build_retriever("1x32", tokenizer, seed=5, normalise=True).save_pretrained(
        str(root / "stranger"), create_model_card=False
    )
    return root


def merge(place, capsys, monkeypatch, *argv) -> tuple[int, str, str]:
    monkeypatch.chdir(place)
    code = cli.main(["merge", *map(str, argv), "--data", "data"])
    out, err = capsys.readouterr()
    return code, out, err


def test_two_models_are_merged_and_compared(place, capsys, monkeypatch) -> None:
    code, out, err = merge(place, capsys, monkeypatch, "left", "right", "--parts", 4, "--out", "mid",
                           "--preference", "home=1,ood=1")  # fmt: skip
    assert code == 0, err
    record = json.loads((place / "mid" / "merge.json").read_text())
    assert 5 <= len(record["points"]) <= 8  # a lattice, and what lies between
    assert set(record["points"][0]["values"]) == {"home", "typos", "ood"}
    assert len(record["test"]) == 6  # three objectives against two models
    scores = [p["values"]["home"][0] + p["values"]["ood"][0] for p in record["points"]]
    assert record["chosen"] == int(np.argmax(scores))
    model = SentenceTransformer("mid", device="cpu")
    ends = [SentenceTransformer(name, device="cpu").state_dict() for name in ("left", "right")]
    share = record["shares"]["right"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, (1 - share) * ends[0][name] + share * ends[1][name])
    card = (place / "mid" / "README.md").read_text()
    for word in ("base_model:", "left", "test-role data", "merges.png", "barrier"):
        assert word in card
    assert (place / "mid" / "merges.png").read_bytes().startswith(b"\x89PNG")
    assert "chosen" in out
    assert "against left" in out
    again = merge(place, capsys, monkeypatch, "left", "right", "--out", "mid")
    assert again[0] == 2
    assert "looked at on test-role data" in again[2]


def test_a_base_may_be_a_floor(place, capsys, monkeypatch) -> None:
    code, _, err = merge(place, capsys, monkeypatch, "left", "right", "--base", "base", "--parts", 2, "--out", "floor",
                         "--at-least", "ood=base-0.3", "--at-least", "typos=0")  # fmt: skip
    assert code == 0, err
    record = json.loads((place / "floor" / "merge.json").read_text())
    base = next(p for p in record["points"] if p["shares"]["base"] == 1)
    assert record["at_least"]["ood"] == pytest.approx(base["values"]["ood"][0] - 0.3)
    assert len(record["points"]) == 7  # the lattice of three in halves, and its centre
    assert (record["base"], record["preference"], record["knee"]) == ("base", None, False)
    card = (place / "floor" / "README.md").read_text()
    assert f"ood ≥ {record['at_least']['ood']:.4f}, typos ≥ 0.0000, on select-role data" in card
    assert [b["ends"] for b in record["basins"]] == [["base", "left"], ["base", "right"], ["left", "right"]]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--knee",), "chosen as the front's knee, on select-role data"),
        (("--preference", "home=2,ood=1"), "chosen by the preference home 2, ood 1, on select-role data"),
        ((), "chosen by the mean of home, typos, ood, on select-role data"),
    ],
)
def test_the_card_says_what_the_merge_was_chosen_by(place, capsys, monkeypatch, tmp_path, argv, said) -> None:
    code, out, err = merge(place, capsys, monkeypatch, "left", "right", "--parts", 2, *argv, "--out", tmp_path / "a")
    assert code == 0, err
    assert said in out
    assert said in (tmp_path / "a" / "README.md").read_text()
    assert json.loads((tmp_path / "a" / "merge.json").read_text())["knee"] is ("--knee" in argv)


def test_the_tuned_models_length_is_judged_and_saved(place, capsys, monkeypatch, tmp_path) -> None:
    argv = ("short", "--base", "base", "--parts", 2, "--preference", "home=1")
    code, out, err = merge(place, capsys, monkeypatch, *argv, "--out", tmp_path / "a")
    assert code == 0, err
    said = "maximum lengths differ (base 16, short 12 tokens): all are judged, and the merge is saved, with 12"
    assert said in out
    assert said in (tmp_path / "a" / "README.md").read_text()
    assert SentenceTransformer(str(tmp_path / "a"), device="cpu").max_seq_length == 12
    code, out, err = merge(place, capsys, monkeypatch, *argv, "--max-length", 8, "--out", tmp_path / "b")
    assert code == 0, err
    assert "maximum lengths" not in out


def test_a_place_that_cannot_be_written_is_said_before_anything_is_judged(place, capsys, monkeypatch) -> None:
    (place / "file").write_text("")
    code, out, err = merge(place, capsys, monkeypatch, "left", "right", "--out", "file/below")
    assert (code, out) == (2, "")
    assert err == f"mogrid: --out file/below: nothing can be written in {place / 'file'}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("left", "stranger"), "left and stranger cannot be merged: they come from different bases"),
        (("left",), "at least two models"),
        (("left", "left"), "named twice: 'left'"),
        (("left", "./left/"), "named twice: 'left' and './left/'"),
        (("left", "right", "--base", "link"), "named twice: 'link' and 'left'"),
        (("left", "copy"), "left and copy cannot be merged: their weights are equal"),
        (("left", "prompted"), "left and prompted cannot be merged: the prompt 'query' is '' and 'query: '"),
        (("left", "right", "--max-documents", "-1"), "--max-documents must be at least 1, got -1"),
        (("left", "right", "--max-queries", "0"), "--max-queries must be at least 1, got 0"),
        (("left", "right", "--at-least", "ood=base"), "say which model that is, with --base"),
        (("left", "right", "--base", "base", "--at-least", "ood=base0.005"), "a number, base, or base-0.005"),
        (("left", "right", "--at-least", "ood"), "expected NAME=VALUE, a number, base"),
        (("left", "right", "--at-least", "ood=.3", "--at-least", "ood=.1"), "'ood' has a bound already, 0.3"),
        (("left", "right", "--at-least", "odd=.3"), "no objective 'odd'; did you mean 'ood'"),
        (("left", "right", "--at-least", "ood=1.5", "--parts", "2"), "no merge keeps ood ≥ 1.5000; the most"),
        (("left", "right", "--preference", "ood"), "--preference 'ood': expected NAME=NUMBER"),
        (("left", "right", "--preference", "ood=1,ood=0"), "'ood' is named twice"),
        (("left", "right", "--preference", "ood=-1", "--parts", "1"), "at least 0"),
        (("left", "right", "--preference", "ood=1", "--knee"), "give one"),
        (("left", "nosuch"), "'nosuch': no such folder"),
        (("left", "right", "--parts", "0"), "--parts"),
        (("left", "right", "--method", "ties"), "say which model that is"),
        (("left", "right", "--method", "tyes", "--parts", "1"), "'tyes'; did you mean 'ties'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, capsys, monkeypatch, argv, message) -> None:
    code, out, err = merge(place, capsys, monkeypatch, *argv, "--out", "none")
    assert (code, out) == (2, "")
    *before, said = err.splitlines()
    assert message in said
    assert said.startswith("mogrid: ")
    assert all(line.startswith("judging merges: ") for line in before)
    assert not (place / "none").exists()
