"""Runs that can be compared: those of one base model at about the same FLOPs, and their points in objective space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mogrid.errors import DataError
from mogrid.frontier import Front
from mogrid.runs import RunRecord, told_apart
from mogrid.runs.apart import by_scale

__all__ = ["Scale", "front_of", "scales_of"]


@dataclass(frozen=True)
class Scale:
    """Runs of one base model at about the same FLOPs.

    Attributes
    ----------
    model : str
    flops : float
        Median training FLOPs.
    trained : tuple of RunRecord
    others : tuple of RunRecord
        The base model itself, and what trained models were merged into.
    """

    model: str
    flops: float
    trained: tuple[RunRecord, ...]
    others: tuple[RunRecord, ...] = ()

    @property
    def name(self) -> str:
        """Say it to people."""
        return f"{self.model}, {self.flops:.3g} FLOPs a run"

    def rows(self, records: Sequence[RunRecord]) -> list[RunRecord]:
        """Return what stands in a table of this scale: BM25 of all records, the base, the trained and the merged."""
        base, merged = ([r for r in self.others if r.kind == kind] for kind in ("base", "merged"))
        bm25 = (r for r in told_apart(records) if r.kind == "bm25")
        return [*bm25, *base, *self.trained, *merged]


def scales_of(records: Sequence[RunRecord]) -> list[Scale]:
    """Group runs into scales, the one with most strategies first, then by size and FLOPs.

    Runs of one label that are no seeds of one recipe come back with labels that tell them apart, see `told_apart`.

    Raises
    ------
    DataError
        Nothing was trained.
    """
    records = told_apart(records)
    groups = by_scale(records)
    if not groups:
        raise DataError("no finished training")
    found = []
    for group in groups:
        names = {record.name for record in group}
        others = [
            record
            for record in records
            if (record.kind == "base" and record.model == group[0].model)
            or (record.kind == "merged" and names & record.parents.keys())
        ]
        flops = float(np.median([record.total_flops for record in group]))
        found.append(Scale(group[0].model, flops, tuple(group), tuple(others)))
    first = max(found, key=lambda scale: (len({r.label for r in scale.trained}), len(scale.trained), scale.flops))
    return [first, *(scale for scale in found if scale is not first)]


def front_of(records: Sequence[RunRecord], metric: str) -> Front:
    """Return runs as points of what their objectives are judged by on select-role data: losses, or 1 − scores.

    Raises
    ------
    DataError
        A run lacks a value of an objective, or has other objectives; it is named.
    """
    names = tuple(records[0].objectives)
    for record in records:
        lacking = next((name for name in names if metric not in record.objectives.get(name, {})), None)
        if lacking is not None or record.objectives.keys() != set(names):
            lacking = lacking or next(iter(record.objectives.keys() - set(names)))
            raise DataError(f"run {record.name}: {metric} of {lacking!r} is not in all runs of this scale")
    values = np.array([[record.objectives[name][metric] for name in names] for record in records])
    return Front(
        names,
        values if metric == "ce" else 1 - values,
        tuple(record.label for record in records),
        tuple(record.seed for record in records),
    )
