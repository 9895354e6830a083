"""The run store: whole lines only, whatever ends a writer, and any number of them at once."""

from __future__ import annotations

import gzip
import json
import multiprocessing as mp

import pytest

from mogrid.errors import DataError
from mogrid.runs import Result, RunRecord, RunStore, run_name


def record(name: str = "a", **changes: object) -> RunRecord:
    results = (
        Result(
            "home", "test", "clean", {"ndcg": 0.5, "ce": 1.25}, {"ndcg": {"q1": 0.25, "q2": 0.75}, "ce": {"q2": 1.25}}
        ),
        Result("home", "test", "typos", {"ndcg": 0.1}, {"ndcg": {"q1": 0.0, "q2": 0.2}}, {"collapsed": True}),
    )
    values = {
        "name": name, "label": "equal mix", "kind": "trained", "seed": 0, "model": "1x32", "data": "f" * 64,
        "recipe": {"seed": 0}, "mix": {"x": 1.0}, "pairs": {"x": 12}, "objectives": {"x": {"ce": 1.25, "ndcg": 0.5}},
        "results": results, "flops": {"total": 3.0, "by": {"x": 3.0}},
    }  # fmt: skip
    return RunRecord(**(values | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    again = RunStore(tmp_path).read("a")
    assert again == record()
    assert again.collapsed
    assert again.result("home", "test", "typos").means == {"ndcg": 0.1}


def test_without_single_queries_the_means_are_there(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    (slim,) = store.records(queries=False)
    assert slim.results[0].queries == {}
    assert slim.results[0].means == {"ndcg": 0.5, "ce": 1.25}


def test_single_queries_are_read_by_anything(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record("a"))
    store.add(record("b"))
    lines = gzip.decompress(store.queries_path.read_bytes()).decode().splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["a", "b"]


def test_a_run_is_written_once(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    store.add(record(seed=7))
    assert len(store.path.read_text().splitlines()) == 1
    assert store.read("a").seed == 0


@pytest.mark.parametrize("torn", [b"{", b'{"format":2,"name":"b"', b"\x00\xff"])
def test_a_line_cut_short_is_never_read_and_taken_away(tmp_path, torn) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    with store.path.open("ab") as file:
        file.write(torn)
    assert [r.name for r in RunStore(tmp_path).records()] == ["a"]
    store.add(record("c"))
    assert [r.name for r in RunStore(tmp_path).records()] == ["a", "c"]
    assert store.path.read_bytes().count(b"\n") == 2


def test_queries_of_a_killed_writer_are_passed_over(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    with store.queries_path.open("ab") as file:
        file.write(b"half a member")
    store.add(record("c"))
    assert RunStore(tmp_path).read("c").results[0].queries["ndcg"] == {"q1": 0.25, "q2": 0.75}


def test_runs_of_other_processes_are_seen(tmp_path) -> None:
    mine, theirs = RunStore(tmp_path), RunStore(tmp_path)
    assert not mine.finished("a")
    theirs.add(record())
    assert mine.finished("a")


def _write(folder, start: int) -> None:
    store = RunStore(folder)
    for number in range(start, start + 20):
        store.add(record(f"r{number}"))


def test_many_processes_append_at_once(tmp_path) -> None:
    processes = [mp.get_context("fork").Process(target=_write, args=(tmp_path, start)) for start in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = {r.name: r for r in RunStore(tmp_path)}
    assert found.keys() == {f"r{i}" for i in range(60)}
    assert all(r.results[0].queries["ndcg"]["q2"] == 0.75 for r in found.values())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"name": "b", "format": 1}', "format 1, this version reads 2"),
        ('{"name": "b", "format": 2, "odd": 1}', "'odd'"),
        ('{"name": "b", "format": 2}', "not the record of a run"),
        ("[1]", "runs.jsonl:2: not the record"),
        ("nonsense", "runs.jsonl:2: not the record"),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, message) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        list(RunStore(tmp_path).records())


def test_damaged_queries_are_named(tmp_path) -> None:
    store = RunStore(tmp_path)
    store.add(record())
    store.queries_path.write_bytes(b"x" * 200)
    with pytest.raises(DataError, match=r"run 'a'.*queries\.jsonl\.gz"):
        RunStore(tmp_path).read("a")
    assert RunStore(tmp_path).read("a", queries=False).seed == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b"])
def test_names_that_lead_elsewhere(tmp_path, name) -> None:
    with pytest.raises(DataError, match="plain folder name"):
        RunStore(tmp_path).folder(name)


@pytest.mark.parametrize("label", ["equal mix", ".6/.2/.2", "..", "MGDA, normalised", "Ω"])
def test_a_run_name_is_a_plain_folder_name(tmp_path, label) -> None:
    name = run_name(label, 3, "0123abcd")
    assert name.endswith("-s3-0123abcd")
    assert RunStore(tmp_path).folder(name).parent == tmp_path / "work"
