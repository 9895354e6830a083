"""Joint batches: one batch of every objective a step, through an ordinary ``DataLoader``.

The joint batch is a list of (objective, row) keys, so accelerate's sharding over processes and its skipping of batches
on resume work on it as on any batch sampler.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset

from mogrid.errors import DataError

__all__ = ["JointBatchSampler", "JointCollator", "JointDataset"]

Key = tuple[str, int]


class JointDataset(Dataset[tuple[str, dict[str, Any]]]):
    """Rows of several datasets, addressed by (objective, row index)."""

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self.datasets = dict(datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets.values())

    def __getitem__(self, key: Key) -> tuple[str, dict[str, Any]]:
        name, row = key
        return name, self.datasets[name][row]

    def __getitems__(self, keys: Sequence[Key]) -> list[tuple[str, dict[str, Any]]]:
        """Fetch a whole batch: one read per objective, much faster than row by row from an Arrow table."""
        rows: dict[str, list[int]] = {}
        for name, row in keys:
            rows.setdefault(name, []).append(row)
        return [
            (name, record) for name, indices in rows.items() for record in self.datasets[name].__getitems__(indices)
        ]


class JointBatchSampler(BatchSampler):
    """Yield, every step, one batch of each objective; a shorter objective starts again with a fresh shuffle.

    Parameters
    ----------
    samplers : mapping of objective to a batch sampler with ``__len__``, ``__iter__`` and ``set_epoch``
        An epoch is as long as the longest of them.
    generators : mapping of objective to torch.Generator
        The generator each sampler shuffles with; seeded anew for every pass from (seed, epoch, pass), so that an
        epoch's batches do not depend on the epochs before it and a resumed training sees the same ones.
    seed : int

    Raises
    ------
    DataError
        An objective yields no batch at all.
    """

    def __init__(self, samplers: Mapping[str, Any], generators: Mapping[str, torch.Generator], seed: int) -> None:
        self.samplers = dict(samplers)
        self.generators = dict(generators)
        self.seed = seed
        self.epoch = 0
        for name, sampler in self.samplers.items():
            if len(sampler) == 0:
                raise DataError(f"objective {name!r}: its dataset does not fill one batch of {sampler.batch_size}")
        self.length = max(len(sampler) for sampler in self.samplers.values())
        # accelerate tells a whole batch from a last, shorter one by these two
        self.batch_size = sum(sampler.batch_size for sampler in self.samplers.values())
        self.drop_last = True

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Key]]:  # type: ignore[override]
        streams = {name: self._stream(name, position) for position, name in enumerate(self.samplers)}
        for _ in range(self.length):
            yield [(name, row) for name, stream in streams.items() for row in next(stream)]

    def _stream(self, name: str, position: int) -> Iterator[list[int]]:
        """Batches of one objective without end: pass after pass, each with its own shuffle."""
        sampler = self.samplers[name]
        passes_per_epoch = -(-self.length // len(sampler)) + 1
        for i in itertools.count():
            number = self.epoch * passes_per_epoch + i
            # numpy's SeedSequence mixes the parts, so neighbouring seeds do not share shuffles
            state = np.random.SeedSequence([self.seed, position, number]).generate_state(1, np.uint64)[0]
            self.generators[name].manual_seed(int(state) >> 1)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(number)
            empty = True
            for batch in sampler:
                empty = False
                yield batch
            if empty:
                raise DataError(f"objective {name!r}: its batch sampler yielded nothing")


class JointCollator:
    """Collate each objective's rows with the trainer's own collator into ``{objective: features}``.

    Parameters
    ----------
    collate : callable
        The collator of the wrapped trainer.
    without : tuple of str
        Columns that steer sampling and are no model input.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any], without: tuple[str, ...] = ()) -> None:
        self.collate = collate
        self.without = without

    def __call__(self, rows: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        grouped: dict[str, list[dict[str, Any]]] = {}
        for name, row in rows:
            grouped.setdefault(name, []).append({k: v for k, v in row.items() if k not in self.without})
        return {name: self.collate(batch) for name, batch in grouped.items()}
