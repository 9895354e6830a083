"""The run store, atomic files, and the report: whole or not at all, and nothing from data is markup."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mogrid.errors import DataError
from mogrid.files import load_state, save_state, write_bytes, write_json
from mogrid.report import Figure, Report, Table, write_report
from mogrid.runs import RunRecord, RunStore, run_name


def record(name: str) -> RunRecord:
    result = {
        "domain": "d", "role": "test", "condition": "clean", "ndcg": {"q1": 0.5, "q2": 1.0}, "rr": {"q1": 1.0, "q2": 0.0},
        "recall": {"q1": 1.0, "q2": 1.0}, "ce": None,
    }  # fmt: skip
    return RunRecord(name, "MGDA", "solver", 0, {"a": 1}, "hash", results=[result])


def test_round_trip(tmp_path) -> None:
    store = RunStore(tmp_path)
    assert not store.finished("r")
    store.write(record("r"))
    assert store.finished("r")
    assert store.read("r").results[0]["ndcg"] == {"q1": 0.5, "q2": 1.0}
    assert [r.name for r in store] == ["r"]
    slim = json.loads((tmp_path / "runs/r/run.json").read_text())
    assert slim["results"][0]["means"] == {"ndcg": 0.75, "rr": 0.5, "recall": 1.0}


def test_damage_is_named(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.write(record("r"))
    path = tmp_path / "runs/r/run.json"
    whole = path.read_text()
    path.write_text(whole.replace('"format": 1', '"format": 99'))
    with pytest.raises(DataError, match=r"run\.json: format 99, this version reads 1"):
        store.read("r")
    path.write_text(whole[:50])
    with pytest.raises(DataError, match=r"run\.json: not a readable run record"):
        store.read("r")
    path.write_text(whole)
    (tmp_path / "runs/r/queries.json.gz").write_bytes(b"nope")
    with pytest.raises(DataError, match=r"queries\.json\.gz: not readable"):
        store.read("r")


def test_names_follow_the_configuration() -> None:
    assert run_name("a/b c", 3, {"x": 1}) == run_name("a/b c", 3, {"x": 1})
    assert run_name("a", 3, {"x": 1}) != run_name("a", 3, {"x": 2})
    assert "/" not in run_name("a/b", 0, {})


def test_a_failed_write_leaves_the_old_file_and_no_leftovers(tmp_path, monkeypatch) -> None:
    path = tmp_path / "f.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_state_round_trip_and_truncation(tmp_path) -> None:
    path = tmp_path / "s.safetensors"
    state = {"t": torch.tensor([1.5, float("inf")], dtype=torch.float64), "n": 3, "xs": [1, 2], "s": "x"}
    save_state(path, state)
    loaded = load_state(path)
    assert torch.equal(loaded.pop("t"), state.pop("t"))
    assert loaded == state
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"s\.safetensors: not a readable state file"):
        load_state(path)


def test_report_is_self_contained_and_escapes(tmp_path) -> None:
    from mogrid.frontier import Front
    from mogrid.report.figures import Style, plot_front

    front = Front(("a", "b"), torch.rand(4, 2).double().numpy(), ("x", "y", "x", "y"), (0, 0, 1, 1))
    plot_front(tmp_path / "f.png", front, {"x": Style("#0072B2")}, {"a": "a (nats)", "b": "b (nats)"})
    evil = "<script>alert(1)</script>"
    report = Report(
        evil, [evil], [Table(evil, ["c"], [[evil]], note=evil), Figure("f", tmp_path / "f.png")], {"k": evil}
    )
    write_report(tmp_path / "r.html", report)
    page = (tmp_path / "r.html").read_text()
    assert "<script" not in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert Path(tmp_path / "r.html").stat().st_size < 2_000_000
