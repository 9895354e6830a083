"""sweep, frontier and plan: on records of known laws, and on a real little sweep."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mogrid import cli
from mogrid.experiment.settings import OBJECTIVES
from mogrid.runs import RunRecord, RunStore, versions
from tests.scaling.known import added_law, sweep


def run(capsys, *argv) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def result(domain: str, condition: str, value: float) -> dict:
    values = {"q1": value * 1.01, "q2": value * 0.99}
    return {
        "domain": domain, "role": "select", "condition": condition, "ndcg": {"q1": 0.5, "q2": 0.4},
        "rr": {"q1": 0.5, "q2": 0.4}, "recall": {"q1": 1.0, "q2": 1.0}, "ce": values, "tie_fraction": 0.0,
        "temperature": 1.0, "negatives": 256, "redraws": 10, "seed": 0, "seconds": 0.1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    runs = sweep(added_law, sizes=(1e4, 1e5, 1e6), pairs=(4e3, 2e4, 1e5), rng=np.random.default_rng(1))
    for i in range(len(runs)):
        weights = dict(zip(OBJECTIVES, runs.weights[i].tolist(), strict=True))
        values = runs.values[i]
        budget = float(runs.sizes[i] * runs.pairs[i])
        settings = {"encoder": {"size": f"1x{int(runs.sizes[i])}"}, "training": {"batch_size": 10, "budget": budget}}
        record = RunRecord(
            name=f"run{i}", strategy="/".join(f"{w:.2g}" for w in weights.values()), kind="sweep", seed=0,
            config={"settings": settings, "solver": {"name": "fixed", "weights": weights}}, data="d" * 64,
            parameters=int(runs.sizes[i]), steps=int(runs.pairs[i] / 10), flops={"total": float(runs.flops[i])},
            seconds={"training": float(runs.flops[i]) / 1e9}, versions=versions(),
            results=[result("in", "clean", values[0]), result("else", "clean", values[1]), result("in", "typos", values[2])],
        )  # fmt: skip
        RunStore(root).folder(record.name).mkdir(parents=True)
        RunStore(root).write(record)
    return root, runs


@pytest.fixture
def quick(monkeypatch) -> None:
    """A coarse search: what is tested here is not pymoo."""
    from mogrid.scaling import planning

    monkeypatch.setattr(planning, "_GENERATIONS", 4)
    monkeypatch.setattr(planning, "_LADDER", 4.0)


def test_plan(store, capsys, tmp_path, quick) -> None:
    root, runs = store
    argv = ("plan", root, "--draws", 20, "--law", "added mixing law")
    code, out, err = run(capsys, *argv, "--budget", runs.flops.max(), "--figure", tmp_path / "laws.png")
    assert code == 0, err
    for word in ("N =", "weights  by preference", "effectiveness", "predicted CE", "added mixing law, R² 0.9"):
        assert word in out
    assert (tmp_path / "laws.png").stat().st_size > 20_000
    code, out, _ = run(
        capsys, *argv, "--budget", runs.flops.max(), "--preference", "effectiveness=9,ood=1,adversarial=1", "--json"
    )
    towards = json.loads(out)
    code, out, _ = run(
        capsys, *argv, "--budget", runs.flops.max(), "--preference", "effectiveness=1,ood=1,adversarial=9", "--json"
    )
    away = json.loads(out)
    assert towards["predicted"]["effectiveness"] < away["predicted"]["effectiveness"]
    assert towards["predicted"]["adversarial"] > away["predicted"]["adversarial"]


def test_budgets_in_hours_and_money(store) -> None:
    from argparse import Namespace

    from mogrid.commands.plan import _budget

    root, runs = store
    hours = float(runs.flops.max()) / 1e9 / 3600
    for given in ({"hours": hours}, {"money": 3 * hours, "price": 3.0}, {"budget": float(runs.flops.max())}):
        asked = Namespace(**{"hours": None, "money": None, "price": None, "budget": None, **given})
        assert _budget(asked, RunStore(root)) == pytest.approx(float(runs.flops.max()))


def test_proposals_and_extrapolation(store, capsys, quick) -> None:
    root, runs = store
    argv = ("plan", root, "--draws", 5, "--law", "added mixing law")
    code, out, err = run(capsys, *argv, "--experiments", runs.flops.max())
    assert code == 0, err
    assert "error of predicted ood" in out
    code, out, _ = run(capsys, *argv, "--experiments", runs.flops.max(), "--json")
    record = json.loads(out)
    assert sum(row["flops"] for row in record["runs"]) <= runs.flops.max() * 1.001
    assert all(record["after"][k] < record["before"][k] for k in OBJECTIVES)
    code, out, _ = run(capsys, *argv, "--budget", 30 * runs.flops.max())
    assert code == 0
    assert "warning:" in out
    assert "extrapolated" in out


def test_frontier(store, capsys, tmp_path) -> None:
    root, _ = store
    code, out, err = run(capsys, "frontier", root, "--size", "1x10000", "--figure", tmp_path / "front.png")
    assert code == 0, err
    for word in ("strategy", "front", "hypervolume", "knee", "equal regret"):
        assert word in out
    assert (tmp_path / "front.png").stat().st_size > 20_000
    code, out, _ = run(
        capsys, "frontier", root, "--size", "1x10000", "--json", "--preference", "effectiveness=1,ood=1,adversarial=9"
    )
    record = json.loads(out)
    assert any(not point["dominated"] for point in record["points"])
    chosen = record["choices"]["preference"]["weights"]
    assert chosen["adversarial"] > chosen["effectiveness"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("plan", "STORE"), "give one of --budget FLOPS, --hours and --money"),
        (("plan", "STORE", "--budget", "1", "--hours", "2"), "give one of"),
        (("plan", "STORE", "--money", "2"), "needs --price"),
        (("plan", "STORE", "--budget", "1e2", "--draws", "2"), "below the sweep's cheapest run"),
        (("plan", "STORE", "--budget", "1e15", "--law", "capacty"), "did you mean 'capacity'"),
        (("plan", "STORE", "--budget", "1e15", "--preference", "ood"), "expected NAME=NUMBER"),
        (("plan", "STORE/none", "--budget", "1e15"), "no such folder"),
        (("plan", "EMPTY", "--budget", "1e15"), "no finished run"),
        (("frontier", "EMPTY"), "no finished training run"),
        (("frontier", "STORE", "--size", "1x1000"), "did you mean '1x10000'"),
        (("sweep", "STORE/none.yaml", "--store", "EMPTY"), "none.yaml: cannot be read"),
        (("sweep", "YAML", "--store", "EMPTY"), "unknown key 'sizes'; did you mean 'scales'"),
        (("sweep", "YAML", "--store", "EMPTY", "--set", "workers"), "expected KEY=VALUE"),
    ],
)
def test_bad_input(store, tmp_path, capsys, argv, message) -> None:
    root, _ = store
    (tmp_path / "empty").mkdir()
    (tmp_path / "s.yaml").write_text("sizes: [1x32]\n")
    known = {
        "STORE": root, "STORE/none": root / "none", "EMPTY": tmp_path / "empty", "STORE/none.yaml": root / "none.yaml",
        "YAML": tmp_path / "s.yaml",
    }  # fmt: skip
    code, out, err = run(capsys, *(known.get(a, a) for a in argv))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def edited(root, tmp_path, change) -> str:
    """Return a copy of the store, one record of which is changed."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    path = copy / "runs" / "run3" / "run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return str(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=0), "run3/run.json: format 0, this version reads 1"),
        (lambda r: r.update(data="e" * 64), "one store a data set"),
        (lambda r: r["results"][0]["means"].update(ce=float("nan")), "run run3: loss 'effectiveness' is nan"),
        (lambda r: r["results"][0]["means"].update(ce=0.0), "run run3: loss 'effectiveness' is 0.0"),
        (lambda r: r["flops"].clear(), "run run3: flops 'flops' is nan"),
        (lambda r: r.update(name="other"), "says that it is run 'other'"),
        (lambda r: r["results"].pop(1), "run 'run3' has no select-role value of 'ood'"),
        (lambda r: r.pop("seed"), "run3/run.json"),
    ],
)
def test_damaged_records_are_named(store, tmp_path, capsys, change, message) -> None:
    root, _ = store
    code, out, err = run(capsys, "plan", edited(root, tmp_path, change), "--budget", "1e15", "--draws", "2")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_grids_schema_and_settings(tmp_path, capsys) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    grid = {
        "weights": [{"effectiveness": 1.0}],
        "scales": [{"size": "1x32", "learning_rate": 0.01, "pairs": [64]}],
    }
    code, out, _ = run(capsys, "sweep", "--schema")
    assert code == 0
    jsonschema.validate(grid, json.loads(out))
    with pytest.raises(jsonschema.ValidationError, match="scale"):
        jsonschema.validate({"weights": grid["weights"]}, json.loads(out))
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(grid))
    code, first, err = run(capsys, "sweep", path, "--print-config", "--set", "workers=3")
    assert (code, err) == (0, "")
    path.write_text(first)
    assert run(capsys, "sweep", path, "--print-config")[1] == first
    assert yaml.safe_load(first)["workers"] == 3
    assert run(capsys, "sweep", path)[2] == "mogrid: --store DIR: name the folder of runs\n"
