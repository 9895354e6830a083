"""Runs that other tools made: a table of shares, and one of what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mogrid.errors import DataError, nearest
from mogrid.frontier.measurements import Measurements

__all__ = ["measurements_from_csv"]

_KEYS = ("run", "run_id", "index", "name", "")
_ABOUT = (*_KEYS, "model", "parameters", "pairs", "flops", "seed", "spend")


def measurements_from_csv(
    ratios: Path, metrics: Path, *, metric: str = "ce", judged: Mapping[str, str] | None = None, spend: str = "rows"
) -> Measurements:
    """Read runs that other tools made: two tables with a row a run, joined by ``run``, ``run_id``,
    ``index`` or ``name``.

    Parameters
    ----------
    ratios : Path
        Besides the run a column of shares for each objective, and where they are known ``model``, ``parameters``,
        ``pairs`` (in all), ``flops``, ``seed`` and ``spend``; what is missing is taken to be the same for all runs.
        Runs without ``flops`` cost as their ``parameters`` times ``pairs``, and the dearest of them 1.
    metrics : Path
        A column of values for each objective, named after it or as `judged` says.
    metric : str
        What the values are: ``ce`` for a loss, ``ndcg`` for a score.
    judged : mapping of objective to column, optional
        The column of `metrics` that stands for each objective.
    spend : str
        How mixes were spent, where `ratios` has no such column.

    Raises
    ------
    DataError
        A file, column or run is missing, a cell is no number, or some runs have ``flops`` and others none; names
        file and line.
    """
    shares, values = _table(ratios), _table(metrics)
    names = [n for n in next(iter(shares.values()))[1] if n not in _ABOUT and not n.startswith("Unnamed")]
    columns = {name: (judged or {}).get(name, name) for name in names}
    priced = any(row.get("flops") for _, row in shares.values())
    for name in judged or {}:
        if name not in names:
            raise DataError(f"{ratios}: no column {name!r}, which is said to be judged{nearest(name, names)}")
    rows = []
    for run, (line, row) in shares.items():
        if run not in values:
            raise DataError(f"{metrics}: no run {run!r}, which {ratios}:{line} has")
        at, found = values[run]
        for name, column in columns.items():
            if column not in found:
                of = "" if column == name else f" for {name!r}"
                raise DataError(f"{metrics}: no column {column!r}{of}{nearest(column, found)}")
        if bool(row.get("flops")) != priced:
            raise DataError(f"{ratios}:{line}: flops are missing, and other runs have them")
        known = {key: row.get(key) or "1" for key in ("parameters", "pairs", "flops", "seed")}
        number = {key: _number(cell, f"{ratios}:{line}", key) for key, cell in known.items()}
        if not number["seed"].is_integer():
            raise DataError(f"{ratios}:{line}: seed is {row['seed']!r}, not a whole number")
        mix = {name: _number(row[name], f"{ratios}:{line}", name) for name in names}
        about = {
            "run": run,
            "model": row.get("model") or f"{number['parameters']:g}",
            "spend": row.get("spend") or spend,
            "mix": mix,
            "values": {metric: {n: _number(found[c], f"{metrics}:{at}", c) for n, c in columns.items()}},
        }
        rows.append({**number, **about, "pairs": {name: share * number["pairs"] for name, share in mix.items()}})
    runs = Measurements.of(names, rows)
    price = runs.parameters * runs.pairs.sum(axis=1)
    return runs if priced else replace(runs, flops=price / price.max())


def _table(path: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """Return line and cells of each run of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    key = next((name for name in _KEYS if rows and name in rows[0][1]), None)
    if key is None:
        raise DataError(f"{path}: no runs with a column 'run', 'run_id' or 'index'")
    found: dict[str, tuple[int, dict[str, str]]] = {}
    for line, row in rows:
        if None in row:  # which is where the reader puts cells beyond the header's
            raise DataError(f"{path}:{line}: more cells than the header's {len(row) - 1}, such as after a last comma")
        if row[key] in found:
            raise DataError(f"{path}:{line}: run {row[key]!r} stands here and in line {found[row[key]][0]}")
        found[row[key]] = line, row
    return found


def _number(text: str, place: str, name: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise DataError(f"{place}: {name} is {text!r}, not a number") from None
