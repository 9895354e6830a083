"""Batches whose rows are not known to be relevant to one another, and which leave no row out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import BatchSampler

from mogrid.errors import DataError
from mogrid.trainer.conflicts import Conflicts, Ints
from mogrid.trainer.seating import Part

__all__ = ["ExclusiveBatchSampler"]


class ExclusiveBatchSampler(BatchSampler):
    """Yield full batches of rows that do not exclude each other, every row once an epoch.

    Where the rows do not fill the last batch, rows of other batches do. Rows that exclude each other are dealt out
    first, those with the most conflicts before the others, each to one of the emptiest batches that can take it; what
    fits none makes up to a tenth more batches.

    Parameters
    ----------
    conflicts : Conflicts
        Which rows must not meet in a batch.
    batch_size : int
        Rows of every batch.
    seed : int
        With the epoch, it determines the batches.
    strata : sequence, optional
        One value a row. Every batch holds ``batch_size // number of strata`` rows of each, the remainder going to
        strata in turn; only rows of one stratum can exclude each other. An epoch ends with the stratum that fills the
        most batches; the others start again.
    name : str
        For messages.

    Raises
    ------
    DataError
        No batch can be filled: nearly all rows exclude each other.

    Warns
    -----
    UserWarning
        More than one row in a hundred is left out of an epoch.
    """

    def __init__(
        self, conflicts: Conflicts, batch_size: int, *, seed: int, strata: Sequence[Any] | None = None, name: str = ""
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.drop_last = True
        marks: Ints = np.zeros(len(conflicts), dtype=np.int64)
        values = [None]
        if strata is not None:
            try:
                values, marks = np.unique(np.asarray(strata[:]), return_inverse=True)  # type: ignore[assignment]
            except (TypeError, ValueError):
                values = []
            if len(marks) != len(conflicts) or len(values) == 0:
                raise DataError(f"dataset {name!r}: a stratum is a number or a text, one a row")
        if batch_size < len(values):
            raise DataError(f"dataset {name!r}: {len(values)} labels do not fit into a batch of {batch_size}")
        base, extra = divmod(batch_size, len(values))
        parts = [np.flatnonzero(marks == k) for k in range(len(values))]
        of = [f"dataset {name!r}" + ("" if strata is None else f", label {value}") for value in values]
        self.parts = [Part(conflicts, rows, base + (k < extra), of[k]) for k, rows in enumerate(parts)]
        for k, part in enumerate(self.parts):
            part.settle(np.random.default_rng([seed, 0, k]))
        self._length = max(part.batches for part in self.parts)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        streams = [
            part.without_end(np.random.default_rng([self.seed, self.epoch, k])) for k, part in enumerate(self.parts)
        ]
        for _ in range(len(self)):
            yield [row for stream in streams for row in next(stream)]
