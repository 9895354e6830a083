"""What training cheaply saves, measured on a model and data of a second."""

from __future__ import annotations

import json

import pytest
import yaml

from benchmarks import savings
from mogrid.retrieval.models import build_retriever
from tests.training.tiny import settings, write_data


@pytest.fixture
def recipe(tmp_path, tokenizer):
    write_data(tmp_path / "data")
    build_retriever("2x32", tokenizer, seed=0).save_pretrained(str(tmp_path / "base"))
    value = settings(model={"path": "base", "freeze": 1, "max_length": 16}, solver="fixed", spend="rows")
    value["training"] = {"steps": 8, "batch_size": 6}
    value["evaluation"] = {"role": "test", "domains": "data/domains.yaml"}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def test_a_saving_is_a_row_of_the_table_and_of_the_record(recipe, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "savings.json"
    options = ["--recipe", str(recipe), "--out", str(out), "--rounds", "2"]
    assert savings.main([*options, "--only", "layers-known", "--only", "sparse"]) == 0
    said = capsys.readouterr().out
    assert "frozen layers remembered, texts known" in said
    record = json.loads(out.read_text())
    assert list(record["savings"]) == ["layers-known", "sparse"]
    for row in record["savings"].values():
        assert row["range"][0] <= row["ratio"] <= row["range"][1]
        assert row["rate"] > 0
        assert row["difference"] < savings.NEAR
        assert [len(own) for own in row["seconds"].values()] == [2, 2]


def test_a_saving_that_changes_what_comes_out_is_an_error(recipe, tmp_path, capsys, monkeypatch) -> None:
    batches = savings._unsorted
    monkeypatch.setattr(savings, "_unsorted", lambda *given: ((rows[::-1], b) for rows, b in batches(*given)))
    options = ["--recipe", str(recipe), "--out", str(tmp_path / "savings.json"), "--rounds", "1"]
    assert savings.main([*options, "--only", "length"]) == 1
    assert capsys.readouterr().err.startswith("savings: length changes what comes out, by ")
    assert savings.main(["--recipe", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.startswith("savings: ")
