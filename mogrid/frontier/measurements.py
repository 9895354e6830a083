"""What laws are fitted to: one row a run, with its base model, pairs, mix, FLOPs and the values it reached."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import DataError, nearest

__all__ = ["SPENDS", "Floats", "Measurements", "is_loss"]

Floats = NDArray[np.float64]

SPENDS = ("weights", "rows", "steps")
"""How a run's mix was spent: as loss weights over equal batches, as rows of every batch, or as whole steps."""
_LOSSES = ("ce", "loss")
_NAMED = ("run", "run_id", "name", "index", "")
_ABOUT = ("model", "parameters", "pairs", "flops", "seed", "spend")


def is_loss(metric: str) -> bool:
    """Return whether a metric is a positive loss, lower is better (``ce``); any other is a score in [0, 1]."""
    return metric in _LOSSES


@dataclass(frozen=True)
class Measurements:
    """Runs of static mixes over objectives, base models and data.

    Attributes
    ----------
    objectives : tuple of K str
    labels : tuple of R str
        Names of the runs, for messages.
    models : tuple of R str
        The base model each run started from.
    parameters : ndarray, shape (R,)
        N, non-embedding parameters; one value for each model.
    mix : ndarray, shape (R, K)
        λ, on the simplex.
    pairs : ndarray, shape (R, K)
        D_k, pairs seen of each objective; 0 where it had none.
    flops : ndarray, shape (R,)
        Of the training.
    values : dict of metric to ndarray, shape (R, K)
        What each objective's own measure says of the run: ``ce`` is a positive loss, any other a score in [0, 1].
    seeds : tuple of R int
    spend : tuple of R str
        Of `SPENDS`.
    base : dict of metric to (dict of model to ndarray, shape (K,))
        What the models reach as they come, at D = 0, where it is known.

    Raises
    ------
    DataError
        Shapes disagree, there is no run, or a number is out of its range; names the run and the field.
    """

    objectives: tuple[str, ...]
    labels: tuple[str, ...]
    models: tuple[str, ...]
    parameters: Floats
    mix: Floats
    pairs: Floats
    flops: Floats
    values: dict[str, Floats]
    seeds: tuple[int, ...]
    spend: tuple[str, ...]
    base: dict[str, dict[str, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        runs, count = len(self.labels), len(self.objectives)
        if not runs:
            raise DataError("laws need runs, got none: run the sweep first")
        if not self.values:
            raise DataError("runs without a metric: laws need values of at least one, such as 'ce' or 'ndcg'")
        for name in ("models", "seeds", "spend"):
            if len(getattr(self, name)) != runs:
                raise DataError(f"{name}: expected {runs}, got {len(getattr(self, name))}")
        tables = {"mix": self.mix, "pairs": self.pairs, **{f"values of {m!r}": t for m, t in self.values.items()}}
        for what, table in tables.items():
            if table.shape != (runs, count):
                raise DataError(f"{what}: expected shape {(runs, count)}, got {table.shape}")
        for what, column in (("parameters", self.parameters), ("flops", self.flops)):
            if column.shape != (runs,):
                raise DataError(f"{what}: expected shape {(runs,)}, got {column.shape}")
            self._check(what, column[:, None], column[:, None] > 0, "must be finite and positive")
        self._check("pairs", self.pairs, self.pairs >= 0, "must be finite and at least 0")
        self._check("mix", self.mix, self.mix >= 0, "must be at least 0")
        for metric, table in self.values.items():
            if is_loss(metric):
                self._check(metric, table, table > 0, "must be a finite and positive loss")
            else:
                self._check(metric, table, (table >= 0) & (table <= 1), "must be a score from 0 to 1")
        self._rows()

    def _rows(self) -> None:
        of: dict[str, float] = {}
        for row, label in enumerate(self.labels):
            if abs(self.mix[row].sum() - 1) > 1e-6:
                raise DataError(f"run {label}: mix {self.mix[row].tolist()} does not sum to 1")
            if not self.pairs[row].sum() > 0:
                raise DataError(f"run {label}: it has seen no pairs of any objective")
            if self.spend[row] not in SPENDS:
                raise DataError(
                    f"run {label}: no way to spend a mix {self.spend[row]!r}{nearest(self.spend[row], SPENDS)}"
                )
            model, size = self.models[row], float(self.parameters[row])
            if of.setdefault(model, size) != size:
                raise DataError(
                    f"run {label}: model {model!r} has {size:g} parameters here and {of[model]:g} elsewhere"
                )
        for metric, known in self.base.items():
            for model, values in known.items():
                good = np.shape(values) == (len(self.objectives),) and np.isfinite(values).all()
                if (
                    not good
                    or (np.asarray(values) < 0).any()
                    or (not is_loss(metric) and (np.asarray(values) > 1).any())
                ):
                    raise DataError(f"base {model!r}: {metric!r} must be {len(self.objectives)} values, got {values}")

    def _check(self, what: str, table: Floats, good: NDArray[np.bool_], should: str) -> None:
        bad = np.argwhere(~(np.isfinite(table) & good))
        if len(bad):
            row, column = bad[0]
            of = f" of {self.objectives[column]!r}" if table.shape[1] == len(self.objectives) > 1 else ""
            raise DataError(f"run {self.labels[row]}: {what}{of} is {table[row, column]}; it {should}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def effort(self) -> Floats:
        """Pairs (R, K) that work for each objective: those it saw, or, of loss weights, its weight's part of all."""
        weighted = np.array([spend == "weights" for spend in self.spend])[:, None]
        return np.where(weighted, self.mix * self.pairs.sum(axis=1, keepdims=True), self.pairs)

    @property
    def cells(self) -> NDArray[np.intp]:
        """The distinct (N, D, mix) each run is a seed of, shape (R,)."""
        table = np.column_stack([np.log(self.parameters), np.log1p(self.pairs), self.mix]).round(4)
        return np.asarray(np.unique(table, axis=0, return_inverse=True)[1]).ravel()

    @property
    def sizes(self) -> dict[str, float]:
        """N of each base model, smallest first."""
        return dict(sorted(zip(self.models, self.parameters.tolist(), strict=True), key=lambda item: item[1]))

    def only(self, mask: ArrayLike) -> Measurements:
        """Return the runs of a mask (R,)."""
        keep = np.flatnonzero(np.asarray(mask, dtype=bool))

        def some(column: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(column[i] for i in keep)

        return Measurements(
            self.objectives,
            some(self.labels),
            some(self.models),
            self.parameters[keep],
            self.mix[keep],
            self.pairs[keep],
            self.flops[keep],
            {metric: table[keep] for metric, table in self.values.items()},
            some(self.seeds),
            some(self.spend),
            self.base,
        )

    def save(self, path: Path) -> None:
        """Write one JSON line a run, and one a base model: all that laws, plans and their figures are drawn from."""
        lines = [self._line(row) for row in range(len(self))]
        for model in dict.fromkeys(model for known in self.base.values() for model in known):
            values = {m: self._named(known[model]) for m, known in self.base.items() if model in known}
            lines.append({"base": model, "values": values})
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), "utf-8")
        os.replace(draft, path)

    def _named(self, values: Floats) -> dict[str, float]:
        return dict(zip(self.objectives, np.asarray(values, dtype=np.float64).tolist(), strict=True))

    def _line(self, row: int) -> dict[str, Any]:
        return {
            "run": self.labels[row],
            "model": self.models[row],
            "parameters": float(self.parameters[row]),
            "spend": self.spend[row],
            "mix": self._named(self.mix[row]),
            "pairs": self._named(self.pairs[row]),
            "flops": float(self.flops[row]),
            "seed": self.seeds[row],
            "values": {metric: self._named(table[row]) for metric, table in self.values.items()},
        }

    @staticmethod
    def load(path: Path) -> Measurements:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            Naming the file and line that cannot be read or is of another format.
        """
        rows: list[dict[str, Any]] = []
        base: dict[str, dict[str, Floats]] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        names: tuple[str, ...] = ()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                names = names or tuple(row["mix"])
                if "base" in row:
                    for metric, values in row["values"].items():
                        base.setdefault(metric, {})[str(row["base"])] = np.array([float(values[n]) for n in names])
                    continue
                if set(row["mix"]) != set(names):
                    raise ValueError(f"objectives differ from those of line 1, {list(names)}")
                if rows and set(row["values"]) != set(rows[0]["values"]):
                    raise ValueError(f"metrics differ from those of line 1, {list(rows[0]['values'])}")
                for key in ("run", "model", "parameters", "spend", "flops", "seed"):
                    row[key]
                for table in (row["mix"], row["pairs"], *row["values"].values()):
                    [float(table[n]) for n in names]
                rows.append(row)
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{path}:{number}: not a run as `Measurements.save` writes it ({error})") from error
        return Measurements.of(names, rows, base)

    @staticmethod
    def of(
        objectives: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        base: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    ) -> Measurements:
        """Return the measurements of some rows.

        Parameters
        ----------
        objectives : sequence of K str
        rows : sequence of mappings
            Each with ``run``, ``model``, ``parameters``, ``spend``, ``flops``, ``seed``; ``mix`` and ``pairs`` by
            objective; and ``values`` by metric, then by objective. All have the metrics of the first.
        base : mapping of metric to (mapping of model to K values), optional

        Raises
        ------
        DataError
            As `Measurements`, or a row lacks a field.
        """
        names = tuple(objectives)
        if not rows:
            raise DataError("laws need runs, got none: run the sweep first")

        def table(read: Any) -> Floats:
            return np.array([[read(row)[n] for n in names] for row in rows], dtype=np.float64)

        def column(key: str) -> Floats:
            return np.array([row[key] for row in rows], dtype=np.float64)

        try:
            metrics = tuple(rows[0]["values"])
            mix = table(lambda row: row["mix"])
            total = mix.sum(axis=1, keepdims=True)
            return Measurements(
                names,
                tuple(str(row["run"]) for row in rows),
                tuple(str(row["model"]) for row in rows),
                column("parameters"),
                # Shares as people write them, .33 each, are off by rounding; more than that is refused.
                np.where(np.abs(total - 1) < 0.02, mix / np.maximum(total, 1e-12), mix),
                table(lambda row: row["pairs"]),
                column("flops"),
                {metric: table(lambda row, m=metric: row["values"][m]) for metric in metrics},
                tuple(int(row["seed"]) for row in rows),
                tuple(str(row["spend"]) for row in rows),
                {m: {k: np.asarray(v, dtype=np.float64) for k, v in of.items()} for m, of in (base or {}).items()},
            )
        except KeyError as error:
            raise DataError(f"a run lacks {error}") from error

    @staticmethod
    def from_csv(
        ratios: Path, metrics: Path, *, metric: str = "ce", judged: Mapping[str, str] | None = None, spend: str = "rows"
    ) -> Measurements:
        """Read runs that other tools made: two tables with a row a run, joined by their column ``run`` or ``run_id``.

        Parameters
        ----------
        ratios : Path
            Besides the run a column of shares for each objective, and where they are known ``model``, ``parameters``,
            ``pairs`` (in all), ``flops``, ``seed`` and ``spend``; what is missing is taken to be the same for all runs.
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
            A file, column or run is missing, or a cell is no number; names file and line.
        """
        shares, values = _table(ratios), _table(metrics)
        names = [n for n in next(iter(shares.values()))[1] if n not in (*_NAMED, *_ABOUT)]
        names = [name for name in names if not name.startswith("Unnamed")]
        columns = {name: (judged or {}).get(name, name) for name in names}
        rows = []
        for run, (line, row) in shares.items():
            if run not in values:
                raise DataError(f"{metrics}: no run {run!r}, which {ratios}:{line} has")
            at, found = values[run]
            for name, column in columns.items():
                if column not in found:
                    raise DataError(f"{metrics}: no column for {name!r}{nearest(column, found)}")
            mix = {name: _number(row[name], f"{ratios}:{line}", name) for name in names}
            about = {
                key: _number(row[key], f"{ratios}:{line}", key) if row.get(key) else 1.0
                for key in ("parameters", "pairs", "flops")
            }
            rows.append(
                {
                    "run": run,
                    "model": row.get("model") or f"{about['parameters']:g}",
                    "parameters": about["parameters"],
                    "spend": row.get("spend") or spend,
                    "mix": mix,
                    "pairs": {name: share * about["pairs"] for name, share in mix.items()},
                    "flops": about["flops"],
                    "seed": int(_number(row.get("seed") or "0", f"{ratios}:{line}", "seed")),
                    "values": {metric: {n: _number(found[c], f"{metrics}:{at}", c) for n, c in columns.items()}},
                }
            )
        return Measurements.of(names, rows)


def _table(path: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """Return line and cells of each run of a CSV file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    key = next((name for name in ("run", "run_id") if rows and name in rows[0][1]), None)
    if key is None:
        raise DataError(f"{path}: no runs with a column 'run' or 'run_id'")
    found: dict[str, tuple[int, dict[str, str]]] = {}
    for line, row in rows:
        if row[key] in found:
            raise DataError(f"{path}:{line}: run {row[key]!r} stands here and in line {found[row[key]][0]}")
        found[row[key]] = line, row
    return found


def _number(text: str, place: str, name: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise DataError(f"{place}: {name} is {text!r}, not a number") from None
