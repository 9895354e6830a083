"""What laws are fitted to: one row a run, with its model size, data size, weights, FLOPs and losses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError

if TYPE_CHECKING:
    from mogrid.runs import RunRecord, RunStore

__all__ = ["ScalingRuns", "read_runs"]

Floats = NDArray[np.float64]
_COLUMNS = ("sizes", "pairs", "flops")


@dataclass(frozen=True)
class ScalingRuns:
    """Runs of fixed weights over model and data sizes.

    Attributes
    ----------
    objectives : tuple of K str
    sizes : ndarray, shape (n,)
        N, non-embedding parameters.
    pairs : ndarray, shape (n,)
        D, training pairs seen by each objective with a weight above 0: steps times batch size. A run that saves the
        batches of an objective of weight 0 sees the more of the others at the same FLOPs.
    weights : ndarray, shape (n, K)
        On the simplex.
    values : ndarray, shape (n, K)
        Positive losses: contrastive entropies, or 1 − nDCG@10.
    flops : ndarray, shape (n,)
        Of the training.
    seeds : tuple of n int
    labels : tuple of n str
        Names of the runs, for messages.

    Raises
    ------
    DataError
        Shapes disagree, there is no run, a metric is not finite or not positive, a size is not positive, or weights do
        not sum to 1. Names the run.
    """

    objectives: tuple[str, ...]
    sizes: Floats
    pairs: Floats
    weights: Floats
    values: Floats
    flops: Floats
    seeds: tuple[int, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        n, count = len(self.labels), len(self.objectives)
        if not n:
            raise DataError("laws need runs, got none: run the sweep first")
        shapes = {"weights": (n, count), "values": (n, count), **dict.fromkeys(_COLUMNS, (n,))}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise DataError(f"{name}: expected shape {shape} for {n} runs, got {getattr(self, name).shape}")
        if len(self.seeds) != n:
            raise DataError(f"seeds: expected {n}, got {len(self.seeds)}")
        for name in _COLUMNS:
            self._check(name, getattr(self, name)[:, None], (name,))
        self._check("loss", self.values, self.objectives)
        off = np.flatnonzero(~((self.weights >= 0).all(axis=1) & (np.abs(self.weights.sum(axis=1) - 1) < 1e-6)))
        if len(off):
            row = int(off[0])
            raise DataError(f"run {self.labels[row]}: weights {self.weights[row].tolist()} do not lie on the simplex")

    def _check(self, what: str, table: Floats, names: Sequence[str]) -> None:
        bad = np.argwhere(~(np.isfinite(table) & (table > 0)))
        if len(bad):
            row, column = bad[0]
            value, name = table[row, column], names[column]
            raise DataError(f"run {self.labels[row]}: {what} {name!r} is {value}; it must be finite and positive")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def cells(self) -> NDArray[np.intp]:
        """The distinct (N, D, weights) each run is a seed of, shape (n,)."""
        table = np.column_stack([np.log(self.sizes), np.log(self.pairs), self.weights]).round(6)
        return np.asarray(np.unique(table, axis=0, return_inverse=True)[1]).ravel()

    def only(self, mask: NDArray[np.bool_]) -> ScalingRuns:
        """Return the runs of a mask (n,)."""
        keep = np.flatnonzero(mask)
        return ScalingRuns(
            self.objectives,
            self.sizes[keep],
            self.pairs[keep],
            self.weights[keep],
            self.values[keep],
            self.flops[keep],
            tuple(self.seeds[i] for i in keep),
            tuple(self.labels[i] for i in keep),
        )

    def save(self, path: Path) -> None:
        """Write one JSON line a run: all that laws, plans and their figures are drawn from."""
        from mogrid.files import write_text

        rows = (
            {
                "run": self.labels[i],
                "seed": self.seeds[i],
                "size": self.sizes[i],
                "pairs": self.pairs[i],
                "flops": self.flops[i],
                "weights": dict(zip(self.objectives, self.weights[i].tolist(), strict=True)),
                "losses": dict(zip(self.objectives, self.values[i].tolist(), strict=True)),
            }
            for i in range(len(self))
        )
        write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))

    @staticmethod
    def load(path: Path) -> ScalingRuns:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            Naming the file and line that cannot be read or is of another format.
        """
        rows: list[dict[str, Any]] = []
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                rows.append({k: row[k] for k in ("run", "seed", "size", "pairs", "flops", "weights", "losses")})
                if list(row["weights"]) != list(rows[0]["weights"]) or list(row["losses"]) != list(rows[0]["weights"]):
                    raise ValueError(f"objectives differ from those of line 1, {list(rows[0]['weights'])}")
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(f"{path}:{number}: not a run as `ScalingRuns.save` writes it ({error})") from error
        names = tuple(rows[0]["weights"]) if rows else ()
        return _from_rows(names, rows)


def _from_rows(objectives: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> ScalingRuns:
    def column(key: str) -> Floats:
        return np.array([row[key] for row in rows], dtype=np.float64)

    def table(key: str) -> Floats:
        values = [[row[key][name] for name in objectives] for row in rows]
        return np.array(values, dtype=np.float64).reshape(len(rows), len(objectives))

    weights = table("weights")
    return ScalingRuns(
        objectives,
        column("size"),
        column("pairs"),
        weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12),
        table("losses"),
        column("flops"),
        tuple(int(row["seed"]) for row in rows),
        tuple(str(row["run"]) for row in rows),
    )


def read_runs(store: RunStore, values: Callable[[RunRecord, str], Floats] | None = None) -> ScalingRuns:
    """Read the sweep's runs of fixed weights from a store.

    Parameters
    ----------
    store : RunStore
    values : callable of (record, name of the source), optional
        The losses of a run (K,); contrastive entropies on select-role data when left out.

    Raises
    ------
    DataError
        No such run, runs on different data (two hashes are named), or a record that cannot be read.
    """
    from mogrid.experiment.settings import OBJECTIVES
    from mogrid.experiment.summary import select_values

    measure = values or select_values
    rows: list[dict[str, Any]] = []
    data: dict[str, str] = {}
    for record in store.records(queries=False):
        if record.kind != "sweep":
            continue
        data.setdefault(record.data, record.name)
        if len(data) > 1:
            (first, one), (second, other) = data.items()
            raise DataError(
                f"{store.root}: runs on different data, {one} on {first[:12]} and {other} on {second[:12]}; "
                "one store a data set"
            )
        weights = record.config["solver"]["weights"]
        source = record.results[0]["domain"] if record.results else ""
        rows.append(
            {
                "run": record.name,
                "seed": record.seed,
                "size": record.parameters,
                "pairs": record.steps * record.config["settings"]["training"]["batch_size"],
                "flops": record.flops.get("total", np.nan),
                "weights": {name: weights.get(name, 0.0) for name in OBJECTIVES},
                "losses": dict(zip(OBJECTIVES, measure(record, source), strict=True)),
            }
        )
    if not rows:
        raise DataError(f"{store.root}: no finished run of kind 'sweep'")
    return _from_rows(OBJECTIVES, rows)
