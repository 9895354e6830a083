"""Batches whose rows are not known to be relevant to one another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler

from mogrid.errors import DataError

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Yield batches of rows with pairwise distinct groups, and equally many rows of each label where there are labels.

    Parameters
    ----------
    groups : sequence of int
        One a row.
    batch_size : int
    seed : int
        With the epoch, it determines the batches.
    labels : sequence of int, optional
        Every batch holds ``batch_size // number of labels`` rows of each, the remainder going to labels in turn:
        balanced sampling, whatever the labels' sizes. An epoch then ends with the largest label; smaller ones repeat.
    name : str
        For messages.

    Raises
    ------
    DataError
        Fewer distinct groups than rows of a batch, of one label or of all.
    """

    def __init__(
        self,
        groups: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        labels: Sequence[int] | None = None,
        name: str = "",
    ) -> None:
        self.groups = np.asarray(groups[:], dtype=np.int64)  # a datasets column is slow row by row
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.drop_last = True
        marks = np.zeros(len(self.groups), dtype=np.int64) if labels is None else np.asarray(labels[:])
        self.rows = {int(label): np.flatnonzero(marks == label) for label in np.unique(marks)}
        if batch_size < len(self.rows):
            raise DataError(f"dataset {name!r}: {len(self.rows)} labels do not fit into a batch of {batch_size}")
        base, extra = divmod(batch_size, len(self.rows))
        self.share = {label: base + (i < extra) for i, label in enumerate(self.rows)}
        for label, rows in self.rows.items():
            distinct = len(np.unique(self.groups[rows]))
            if distinct < self.share[label]:
                of = f" of label {label}" if labels is not None else ""
                raise DataError(
                    f"dataset {name!r}: {distinct} groups{of} < {self.share[label]} rows a batch; "
                    "rows of one group are positives of each other and cannot share a batch: use a smaller batch"
                )
        self._length = max(len(rows) // self.share[label] for label, rows in self.rows.items())

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return max(self._length, 1)

    def __iter__(self) -> Iterator[list[int]]:
        streams = {
            label: self._stream(rows, self.share[label], np.random.default_rng([self.seed, self.epoch, label & 0xFFFF]))
            for label, rows in self.rows.items()
        }
        for _ in range(len(self)):
            yield [row for stream in streams.values() for row in next(stream)]

    def _stream(self, rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Parts of a batch without end, shuffle after shuffle; a row whose group is taken waits for the next part."""
        while True:
            waiting: dict[int, list[int]] = defaultdict(list)
            part: list[int] = []
            taken: set[int] = set()
            for row in rng.permutation(rows).tolist():
                group = int(self.groups[row])
                if group in taken:
                    waiting[group].append(row)
                    continue
                part.append(row)
                taken.add(group)
                if len(part) == size:
                    yield part
                    part, taken = [], set()
                    for other in [g for g in waiting if len(part) < size - 1]:
                        part.append(waiting[other].pop())
                        taken.add(other)
                        if not waiting[other]:
                            del waiting[other]
