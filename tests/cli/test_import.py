"""Runs that another tool made, as two tables, plan like our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mogrid.cli import main
from mogrid.frontier.search import lattice


def write_tables(folder: Path, *, key: str = "run", prefix: str = "") -> Path:
    """Write a swarm of one size and length, as mixing tools do: code helps text, text hardly helps code."""
    rng = np.random.default_rng(0)
    mixes = lattice(2, 14)
    losses = 2 + np.array([[0.6, 0.5], [0.05, 1.0]]) @ mixes.T * -0.8 + 0.5 * (mixes**2).sum(axis=1)
    noisy = losses.T * np.exp(0.002 * rng.normal(size=mixes.shape))
    for name, table, columns in (
        ("ratios", mixes, ("text", "code")),
        ("metrics", noisy, (f"{prefix}text", f"{prefix}code")),
    ):
        rows = [",".join([key, *columns]), *(f"{i},{a},{b}" for i, (a, b) in enumerate(table))]
        (folder / f"{name}.csv").write_text("\n".join(rows))
    return folder


def planned(capsys, *argv: str) -> dict:
    assert main(["plan", *argv, "--draws", "30", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_swarm_of_another_tool_is_planned_from(tmp_path, capsys) -> None:
    folder = str(write_tables(tmp_path))
    both = planned(capsys, folder)
    assert sum(both["mix"].values()) == pytest.approx(1)
    assert planned(capsys, folder, "--preference", "code=1")["mix"]["code"] > both["mix"]["code"] - 1e-6
    assert planned(capsys, folder, "--preference", "text=1")["mix"]["text"] > both["mix"]["text"] - 1e-6
    assert main(["plan", folder, "--draws", "30", "--out", str(tmp_path / "plan.json")]) == 0
    assert json.loads((tmp_path / "plan.json").read_text())["mix"] == both["mix"]
    assert "law of code" in capsys.readouterr().out


def test_what_to_run_next_is_said_of_a_swarm(tmp_path, capsys) -> None:
    folder = str(write_tables(tmp_path))
    told = planned(capsys, folder, "--experiments", "3", "--preference", "code=2,text=1")
    assert len(told["runs"]) == 3
    assert all(sum(run["mix"].values()) == pytest.approx(1) for run in told["runs"])
    assert told["after"]["choice"] < told["before"]["choice"]
    assert main(["plan", folder, "--draws", "30", "--experiments", "2"]) == 0
    assert "2 runs to do next" in capsys.readouterr().out


def test_columns_may_have_names_of_their_own(tmp_path, capsys) -> None:
    folder = str(write_tables(tmp_path, key="index", prefix="valid_"))
    assert planned(capsys, folder, "--judged", "text=valid_text", "--judged", "code=valid_code")["mix"]
    assert main(["plan", folder]) == 2
    assert "metrics.csv: no column 'text'; did you mean 'valid_text'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hours", "2"], "--hours is for runs that mogrid made"),
        (["--judged", "text"], "expected SET=COLUMN"),
        (["--judged", "txt=code"], "ratios.csv: no column 'txt', which is said to be judged; did you mean 'text'?"),
        (["--price", "3"], "--price is of an hour that --money buys, which is missing"),
        (["--at-least", "code"], "--at-least 'code': expected NAME=VALUE, a number, base, or base-0.005"),
        (["--at-least", "code=base"], "no run of the base model is among these"),
        (["--preference", "cde=1"], "did you mean 'code'?"),
    ],
)
def test_what_tables_cannot_tell_is_one_line(tmp_path, capsys, flags, said) -> None:
    assert main(["plan", str(write_tables(tmp_path)), *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
