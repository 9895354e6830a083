"""Measurements survive files, import other tools' tables, and name the run and the field of what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mogrid.errors import DataError
from mogrid.frontier import Measurements, measurements_from_csv
from tests.frontier.truth import sweep


def test_runs_survive_a_file(tmp_path) -> None:
    runs = sweep(rng=np.random.default_rng(0), base=True)
    runs.save(tmp_path / "runs.jsonl")
    again = Measurements.load(tmp_path / "runs.jsonl")
    for name in ("parameters", "mix", "pairs", "flops"):
        np.testing.assert_allclose(getattr(again, name), getattr(runs, name), rtol=1e-15)
    for name in ("objectives", "labels", "models", "seeds", "spend"):
        assert getattr(again, name) == getattr(runs, name)
    for metric in ("ce", "ndcg"):
        np.testing.assert_array_equal(again.values[metric], runs.values[metric])
        assert set(again.base[metric]) == set(runs.base[metric])
        for model, values in runs.base[metric].items():
            np.testing.assert_array_equal(again.base[metric][model], values)
    assert list(tmp_path.iterdir()) == [tmp_path / "runs.jsonl"]


def test_seeds_of_a_cell_are_those_of_one_model_and_one_way_to_spend() -> None:
    runs = sweep()
    half = runs.parameters > runs.parameters.min()
    models = tuple("other" if odd else "one" for odd in half)
    same = replace(runs, models=models, parameters=np.full(len(runs), 1e6), base={})
    at_one_size = len(np.unique(replace(same, models=("one",) * len(runs)).cells))
    apart = len(np.unique(same.only(half).cells)) + len(np.unique(same.only(~half).cells))
    assert len(np.unique(same.cells)) == apart > at_one_size
    spends = tuple("rows" if odd else "steps" for odd in half)
    assert len(np.unique(replace(same, models=("one",) * len(runs), spend=spends).cells)) == apart


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda row: row.pop("flops"), r"runs.jsonl:3: not a run as .*'flops'"),
        (lambda row: row["pairs"].pop("ood"), r"runs.jsonl:3: .*'ood'"),
        (lambda row: row["mix"].update(other=0.0), r"runs.jsonl:3: .*objectives differ from those of line 1"),
        (lambda row: row["values"].pop("ndcg"), r"runs.jsonl:3: .*metrics differ from those of line 1"),
    ],
)
def test_a_spoilt_line_is_named(tmp_path, spoil, message) -> None:
    path = tmp_path / "runs.jsonl"
    sweep().save(path)
    lines = path.read_text().splitlines()
    row = json.loads(lines[2])
    spoil(row)
    path.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]))
    with pytest.raises(DataError, match=message):
        Measurements.load(path)


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read"):
        Measurements.load(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="got none: run the sweep first"):
        Measurements.load(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ce", np.nan, "run run5: ce of 'effectiveness' is nan; it must be a finite and positive loss"),
        ("ndcg", 1.2, "run run5: ndcg of 'effectiveness' is 1.2; it must be a score from 0 to 1"),
        ("parameters", 0.0, "run run5: parameters is 0.0; it must be finite and positive"),
        ("flops", -1.0, "run run5: flops is -1.0"),
        ("pairs", -3.0, "run run5: pairs of 'effectiveness' is -3.0; it must be finite and at least 0"),
        ("mix", 0.9, r"run run5: mix \[0.9, 0.5, 0.5\] does not sum to 1"),
    ],
)
def test_bad_numbers_name_run_and_field(field, value, message) -> None:
    runs = sweep()
    table = (runs.values[field] if field in runs.values else getattr(runs, field)).copy()
    table.reshape(len(runs), -1)[5, 0] = value
    changed = {"values": {**runs.values, field: table}} if field in runs.values else {field: table}
    with pytest.raises(DataError, match=message):
        replace(runs, **changed)


def test_a_model_has_one_size_and_a_spend_is_known() -> None:
    runs = sweep()
    with pytest.raises(DataError, match="run run28: model '100000' has 250000 parameters, and 100000 elsewhere"):
        replace(runs, models=("100000",) * len(runs))
    with pytest.raises(DataError, match="no way to spend a mix 'row'; did you mean 'rows'"):
        replace(runs, spend=("row",) * len(runs))
    with pytest.raises(DataError, match="base '100000': 'ce' must be 3 values"):
        replace(runs, base={"ce": {"100000": np.ones(2)}})
    with pytest.raises(DataError, match=r"pairs: expected shape \(84, 3\), got \(84, 2\)"):
        replace(runs, pairs=runs.pairs[:, :2])


def test_effort_is_pairs_or_the_weight_of_all_pairs() -> None:
    rows, weights = sweep(), sweep(spend="weights")
    np.testing.assert_array_equal(rows.effort, rows.pairs)
    np.testing.assert_allclose(weights.effort, weights.mix * weights.pairs.sum(axis=1, keepdims=True))
    assert len(np.unique(rows.cells)) == 84
    assert len(np.unique(sweep(seeds=2).cells)) == 84
    assert len(rows.only(rows.parameters == 1e5)) == 28


def test_tables_of_other_tools_are_read(tmp_path) -> None:
    """`ratios.csv` and `metrics.csv` as Olmix writes them: an index column without a name, runs in any order."""
    (tmp_path / "ratios.csv").write_text(",run,name,index,web,code\n0,a,swarm-0,0,0.25,0.75\n1,b,swarm-1,1,0.6,0.4\n")
    (tmp_path / "metrics.csv").write_text(
        ",run,name,index,code,web/bpb\n0,b,swarm-1,1,1.5,2.5\n1,a,swarm-0,0,1.25,2.75\n"
    )
    runs = measurements_from_csv(tmp_path / "ratios.csv", tmp_path / "metrics.csv", judged={"web": "web/bpb"})
    assert runs.objectives == ("web", "code")
    assert runs.labels == ("a", "b")
    np.testing.assert_allclose(runs.mix, [[0.25, 0.75], [0.6, 0.4]])
    np.testing.assert_allclose(runs.values["ce"], [[2.75, 1.25], [2.5, 1.5]])
    np.testing.assert_allclose(runs.pairs, runs.mix)
    (tmp_path / "more.csv").write_text(
        "run,web,code,model,parameters,pairs,flops,seed,spend\na,1,0,small,100,640,7e9,3,steps\n"
    )
    more = measurements_from_csv(tmp_path / "more.csv", tmp_path / "metrics.csv", judged={"web": "web/bpb"})
    assert (more.models, more.seeds, more.spend) == (("small",), (3,), ("steps",))
    np.testing.assert_allclose(more.pairs, [[640, 0]])
    np.testing.assert_allclose([more.parameters[0], more.flops[0]], [100, 7e9])


def test_runs_of_no_told_flops_cost_as_their_pairs(tmp_path) -> None:
    (tmp_path / "metrics.csv").write_text("run,a,b\nx,1,2\ny,1,2\nz,1,2\n")
    (tmp_path / "ratios.csv").write_text("run,a,b,pairs\nx,1,0,100\ny,0,1,400\nz,.5,.5,800\n")
    found = measurements_from_csv(tmp_path / "ratios.csv", tmp_path / "metrics.csv")
    np.testing.assert_allclose(found.flops, [0.125, 0.5, 1])
    assert not found.priced
    table = "run,a,b,pairs,model,parameters\nx,1,0,100,s,1e6\ny,0,1,400,l,4e6\nz,.5,.5,800,s,1e6\n"
    (tmp_path / "ratios.csv").write_text(table)
    found = measurements_from_csv(tmp_path / "ratios.csv", tmp_path / "metrics.csv")
    np.testing.assert_allclose(found.flops, [1 / 16, 1, 0.5])
    assert sweep().priced


@pytest.mark.parametrize(
    ("ratios", "metrics", "message"),
    [
        ("run,a,b\nx,1,0\n", "run,a\nx,1\n", "metrics.csv: no column 'b'; "),
        ("run,a,b\nx,1,0,\n", "run,a,b\nx,1,1\n", "ratios.csv:2: more cells than the header's 3"),
        ("run,a,b\nx,1,0\n", "run,a,b\ny,1,1\nx,1,1,7\n", "metrics.csv:3: more cells than the header's 3"),
        ("run,a,b,seed\nx,1,0,nan\n", "run,a,b\nx,1,1\n", "ratios.csv:2: seed is 'nan', not a whole number"),
        ("run,a,b,seed\nx,1,0,2.5\n", "run,a,b\nx,1,1\n", "ratios.csv:2: seed is '2.5', not a whole number"),
        ("run,a,b\nx,1,0\n", "run,a,b\ny,1,1\n", "metrics.csv: no run 'x', which .*ratios.csv:2 has"),
        ("run,a,b\nx,1,zero\n", "run,a,b\nx,1,1\n", "ratios.csv:2: b is 'zero', not a number"),
        ("run,a,b\nx,1,0\nx,1,0\n", "run,a,b\nx,1,1\n", "ratios.csv:3: run 'x' stands here and in line 2"),
        ("a,b\n1,0\n", "run,a,b\nx,1,1\n", "ratios.csv: no runs with a column 'run', 'run_id' or 'index'"),
        ("run,a,b,flops\nx,1,0,9e9\ny,0,1,\n", "run,a,b\nx,1,1\ny,1,1\n", "ratios.csv:3: flops are missing, and other"),
        ("run,a,b\nx,.5,0\n", "run,a,b\nx,1,1\n", r"run x: mix \[0.5, 0.0\] does not sum to 1"),
    ],
)
def test_tables_that_do_not_fit_say_where(tmp_path, ratios, metrics, message) -> None:
    (tmp_path / "ratios.csv").write_text(ratios)
    (tmp_path / "metrics.csv").write_text(metrics)
    with pytest.raises(DataError, match=message):
        measurements_from_csv(tmp_path / "ratios.csv", tmp_path / "metrics.csv")


def test_what_is_judged_by_another_column_is_a_set_and_has_that_column(tmp_path) -> None:
    (tmp_path / "ratios.csv").write_text("run,code,web\nx,1,0\n")
    (tmp_path / "metrics.csv").write_text("run,code,web\nx,1,1\n")

    def read(**judged) -> None:
        measurements_from_csv(tmp_path / "ratios.csv", tmp_path / "metrics.csv", judged=judged)

    with pytest.raises(DataError, match=r"ratios.csv: no column 'wbe', which is said to be judged; did you mean 'web'"):
        read(wbe="web")
    with pytest.raises(DataError, match=r"metrics.csv: no column 'nope' for 'code'"):
        read(code="nope")
