"""The comparison of laws, from committed records alone."""

from __future__ import annotations

from benchmarks.laws import RESULTS, main


def test_forms_and_intervals_are_told_of_a_store(capsys, tmp_path) -> None:
    assert main([f"{RESULTS / 'tldr'}:training.learning_rate=1e-4"]) == 0
    said = capsys.readouterr().out
    errors = {line.split("  ")[0]: float(line.split()[-1]) for line in said.splitlines() if "  ." in line}
    assert 0 < errors["exchange"] < errors["quadratic"] < 0.1
    assert "values of the longest runs in their 90 % intervals" in said
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
