"""What laws are fitted to: one row a run, with its base model, pairs, mix, FLOPs and the values it reached."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import DataError, nearest

__all__ = ["SPENDS", "Measurements", "as_losses", "is_loss"]

Floats = NDArray[np.float64]

SPENDS = ("weights", "rows", "steps")
"""How a run's mix was spent: as loss weights over equal batches, as rows of every batch, or as whole steps."""
_LOSSES = ("ce", "loss")


def is_loss(metric: str) -> bool:
    """Return whether a metric is a positive loss, lower is better (``ce``); any other is a score in [0, 1]."""
    return metric in _LOSSES


def _range(metric: str) -> tuple[float, float, str]:
    """Return the least and the largest value of a metric, and how to say it."""
    return (
        (np.nextafter(0, 1), np.finfo(float).max, "a finite and positive loss")
        if is_loss(metric)
        else (0.0, 1.0, "a score from 0 to 1")
    )


def as_losses(values: Floats, metric: str) -> Floats:
    """Return values of a metric as what is to be lowered: a loss itself, or what a score misses, 1 − v."""
    return values if is_loss(metric) else 1 - values


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
        Of the training; where they are not known, its price in dearest runs.
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
        shapes = {"models": (runs,), "seeds": (runs,), "spend": (runs,), "parameters": (runs,), "flops": (runs,)}
        for name, shape in {**shapes, "mix": (runs, count), "pairs": (runs, count)}.items():
            if np.shape(getattr(self, name)) != shape:
                raise DataError(f"{name}: expected shape {shape}, got {np.shape(getattr(self, name))}")
        for metric, table in self.values.items():
            if table.shape != (runs, count):
                raise DataError(f"values of {metric!r}: expected shape {(runs, count)}, got {table.shape}")
        for name in ("parameters", "flops"):
            self._check(name, getattr(self, name)[:, None], np.nextafter(0, 1), np.inf, "finite and positive")
        self._check("pairs", self.pairs, 0, np.inf, "finite and at least 0")
        self._check("mix", self.mix, 0, 1, "from 0 to 1")
        for metric, table in self.values.items():
            self._check(metric, table, *_range(metric))
        self._check_rows()

    def _check(self, what: str, table: Floats, least: float, most: float, should: str) -> None:
        bad = np.argwhere(~(np.isfinite(table) & (table >= least) & (table <= most)))
        if len(bad):
            row, column = bad[0]
            of = f" of {self.objectives[column]!r}" if table.shape[1] == len(self.objectives) > 1 else ""
            raise DataError(f"run {self.labels[row]}: {what}{of} is {table[row, column]}; it must be {should}")

    def _check_rows(self) -> None:
        sizes: dict[str, float] = {}
        rows = zip(self.labels, self.models, self.parameters.tolist(), self.mix, self.pairs, self.spend, strict=True)
        for label, model, size, mix, pairs, spend in rows:
            if abs(mix.sum() - 1) > 1e-6:
                raise DataError(f"run {label}: mix {mix.tolist()} does not sum to 1")
            if not pairs.sum() > 0:
                raise DataError(f"run {label}: it has seen no pairs of any objective")
            if spend not in SPENDS:
                raise DataError(f"run {label}: no way to spend a mix {spend!r}{nearest(spend, SPENDS)}")
            if (known := sizes.setdefault(model, size)) != size:
                raise DataError(f"run {label}: model {model!r} has {size:g} parameters, and {known:g} elsewhere")
        for metric, by in self.base.items():
            least, most, should = _range(metric)
            for model, values in by.items():
                if np.shape(values) != (len(self.objectives),) or not all(least <= v <= most for v in values):
                    raise DataError(f"base {model!r}: {metric!r} must be {len(self.objectives)} values, each {should}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def effort(self) -> Floats:
        """Pairs (R, K) that work for each objective: those it saw, or, of loss weights, its weight's part of all."""
        weighted = np.array([spend == "weights" for spend in self.spend])[:, None]
        return np.where(weighted, self.mix * self.pairs.sum(axis=1, keepdims=True), self.pairs)

    @property
    def priced(self) -> bool:
        """Whether FLOPs are known: else they are prices, the dearest run's 1."""
        return float(self.flops.max()) != 1.0

    @property
    def cells(self) -> NDArray[np.intp]:
        """The distinct (model, D, mix and how it was spent) each run is a seed of, shape (R,)."""
        named = [np.unique(names, return_inverse=True)[1] for names in (self.models, self.spend)]
        table = np.column_stack([np.log(self.parameters), np.log1p(self.pairs), self.mix, *named]).round(4)
        return np.asarray(np.unique(table, axis=0, return_inverse=True)[1]).ravel()

    @property
    def sizes(self) -> dict[str, float]:
        """N of each base model, smallest first."""
        return dict(sorted(zip(self.models, self.parameters.tolist(), strict=True), key=lambda item: item[1]))

    def only(self, mask: ArrayLike) -> Measurements:
        """Return the runs of a mask (R,)."""
        keep = np.flatnonzero(np.asarray(mask, dtype=bool))
        columns = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("objectives", "values", "base")
        }
        some: dict[str, Any] = {
            name: column[keep] if isinstance(column, np.ndarray) else tuple(column[i] for i in keep)
            for name, column in columns.items()
        }
        return replace(self, values={metric: table[keep] for metric, table in self.values.items()}, **some)

    def save(self, path: Path) -> None:
        """Write one JSON line a run, and one a base model: all that laws, plans and their figures are drawn from."""

        def named(values: Floats) -> dict[str, float]:
            return dict(zip(self.objectives, np.asarray(values, dtype=np.float64).tolist(), strict=True))

        lines: list[dict[str, Any]] = [
            {
                "run": self.labels[row],
                "model": self.models[row],
                "parameters": float(self.parameters[row]),
                "spend": self.spend[row],
                "mix": named(self.mix[row]),
                "pairs": named(self.pairs[row]),
                "flops": float(self.flops[row]),
                "seed": self.seeds[row],
                "values": {metric: named(table[row]) for metric, table in self.values.items()},
            }
            for row in range(len(self))
        ]
        for model in dict.fromkeys(model for known in self.base.values() for model in known):
            values = {metric: named(known[model]) for metric, known in self.base.items() if model in known}
            lines.append({"base": model, "values": values})
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), "utf-8")
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> Measurements:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            Naming the file and line that cannot be read or is of another format.
        """
        rows: list[dict[str, Any]] = []
        base: dict[str, dict[str, list[float]]] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if "base" in row:
                    for metric, values in row["values"].items():
                        base.setdefault(metric, {})[row["base"]] = [values[name] for name in rows[0]["mix"]]
                    continue
                rows.append(row)
                for what, first, here in (
                    ("objectives", rows[0]["mix"], row["mix"]),
                    ("metrics", rows[0]["values"], row["values"]),
                ):
                    if set(first) != set(here):
                        raise DataError(f"{what} differ from those of line 1, {list(first)}")
                Measurements.of(tuple(rows[0]["mix"]), [row])
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise DataError(f"{path}:{number}: not a run as `Measurements.save` writes it ({error})") from error
        return Measurements.of(tuple(rows[0]["mix"]) if rows else (), rows, base)

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
            Give the columns their order.
        rows : sequence of mappings
            Each with ``run``, ``model``, ``parameters``, ``spend``, ``flops``, ``seed``; ``mix`` and ``pairs`` by
            objective; and ``values`` by metric, then by objective. All have the metrics of the first.
        base : mapping of metric to (mapping of model to K values), optional
            What base models reach untrained, where it is known.

        Raises
        ------
        DataError
            As `Measurements`, or a row lacks a field.
        """
        names = tuple(objectives)

        def numbers(values: Any) -> Floats:
            return np.array(list(values), dtype=np.float64)

        def named(tables: Any) -> Floats:
            return numbers([table[name] for name in names] for table in tables)

        try:
            mix = named(row["mix"] for row in rows) if rows else np.empty((0, len(names)))
            total = mix.sum(axis=1, keepdims=True)
            return Measurements(
                names,
                tuple(str(row["run"]) for row in rows),
                tuple(str(row["model"]) for row in rows),
                numbers(row["parameters"] for row in rows),
                # Shares as people write them, .33 each, are off by rounding; more than that is refused.
                np.where(np.abs(total - 1) < 0.02, mix / np.maximum(total, 1e-12), mix),
                named(row["pairs"] for row in rows),
                numbers(row["flops"] for row in rows),
                {
                    metric: named(row["values"][metric] for row in rows)
                    for metric in (rows[0]["values"] if rows else ())
                },
                tuple(int(row["seed"]) for row in rows),
                tuple(str(row["spend"]) for row in rows),
                {m: {model: numbers(values) for model, values in by.items()} for m, by in (base or {}).items()},
            )
        except KeyError as error:
            raise DataError(f"a run lacks {error}") from error
