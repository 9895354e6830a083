"""A study is redrawn from its records, wherever its data are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.study import ROOT, main, show_study


def test_without_its_data_a_study_shows_all_but_gains_by_the_preference(tmp_path, capsys) -> None:
    console = Console(width=400)
    show_study("stopping", ROOT / "results" / "stopping", console, tmp_path / "nowhere")
    said = capsys.readouterr().out
    assert f"note: gains by the preference are left out: {tmp_path / 'nowhere'}: no such file or folder" in said
    assert "effectiveness only, keep best" in said
    assert "by the preference 2" not in said


def test_what_is_no_study_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["stoping", "--show"]) == 2
    assert capsys.readouterr().err == "benchmarks.study: no study 'stoping'; did you mean 'stopping'?\n"
    assert main(["stopping", "--show", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("no finished run; leave --show out to make some\n")
