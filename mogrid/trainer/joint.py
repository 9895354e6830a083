"""Joint batches: one batch of every objective a step, or of one in turn, through an ordinary ``DataLoader``.

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
from mogrid.trainer.mix import turns

__all__ = ["JointBatchSampler", "JointCollator", "JointDataset", "passes"]

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
    """Yield, every step, one batch of each objective - or of one of them, in turns.

    What an objective draws is one endless stream of batches, pass after pass over its rows, each with its own shuffle:
    a function of the seed, and of how many of its batches came before. Epochs only cut it into pieces.

    Parameters
    ----------
    samplers : mapping of objective to a batch sampler with ``__len__``, ``__iter__`` and ``set_epoch``
        Each draws the rows of its objective.
    generators : mapping of objective to torch.Generator
        The generator each sampler shuffles with; seeded anew for every pass. Objectives that draw nothing may be among
        them: they keep the others' shuffles what they are in their presence.
    seed : int
        With the pass, it decides every shuffle; where a mix is spent as steps, also whose turn it is.
    length : int, optional
        Batches of an epoch; by default it is as long as the longest of the samplers.
    shares : sequence of float, optional
        One a sampler, summing to 1: a step is the batch of one objective, and this is the share of steps that are.
    micro_batches : int
        With `shares`: consecutive batches that make one step, over accumulation and processes, hence one objective's.

    Raises
    ------
    DataError
        An objective yields no batch at all.
    """

    def __init__(
        self,
        samplers: Mapping[str, Any],
        generators: Mapping[str, torch.Generator],
        seed: int,
        *,
        length: int | None = None,
        shares: Sequence[float] | None = None,
        micro_batches: int = 1,
    ) -> None:
        self.samplers = dict(samplers)
        self.generators = dict(generators)
        self.seed = seed
        self.epoch = 0
        self.shares = shares
        self.micro_batches = micro_batches
        for name, sampler in self.samplers.items():
            if len(sampler) == 0:
                raise DataError(f"objective {name!r}: its dataset does not fill one batch of {sampler.batch_size}")
        self.length = length or max(len(sampler) for sampler in self.samplers.values())
        if shares is not None:  # whole steps
            self.length = -(-self.length // micro_batches) * micro_batches
        # accelerate tells a whole batch from a last, shorter one by these two
        sizes = [sampler.batch_size for sampler in self.samplers.values()]
        self.batch_size = sum(sizes) if shares is None else sizes[0]
        self.drop_last = True

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Key]]:  # type: ignore[override]
        before = self.epoch * self.length
        if self.shares is None:
            streams = {name: self._stream(name, before) for name in self.samplers}
            for _ in range(self.length):
                yield [(name, row) for name, stream in streams.items() for row in next(stream)]
            return
        steps = (before + self.length) // self.micro_batches
        whose = np.repeat(turns(self.shares, self.seed, steps), self.micro_batches)
        drawn = np.bincount(whose[:before], minlength=len(self.samplers)).tolist()
        names = tuple(self.samplers)
        streams = {name: self._stream(name, start) for name, start in zip(names, drawn, strict=True)}
        for k in whose[before:].tolist():
            yield [(names[k], row) for row in next(streams[names[k]])]

    def _stream(self, name: str, start: int) -> Iterator[list[int]]:
        """Batches of one objective without end, from the `start`-th on."""
        position = list(self.generators).index(name)
        return passes(self.samplers[name], self.generators[name], [self.seed, position], start, f"objective {name!r}")


def passes(
    sampler: Any, generator: torch.Generator | None, seed: Sequence[int], start: int, name: str
) -> Iterator[list[int]]:
    """Yield a batch sampler's batches without end, pass after pass, each with a shuffle of its own.

    Parameters
    ----------
    sampler : a batch sampler with ``__len__`` and ``__iter__``, and perhaps ``set_epoch``
        What is gone through again and again.
    generator : torch.Generator or None
        The one it shuffles with.
    seed : sequence of int
        With the number of the pass, it determines the shuffle.
    start : int
        Batches that were drawn before.
    name : str
        For messages.
    """
    first, skipped = divmod(start, len(sampler))
    for number in itertools.count(first):
        if generator is not None:
            # numpy's SeedSequence mixes the parts, so neighbouring seeds do not share shuffles
            state = np.random.SeedSequence([*seed, number]).generate_state(1, np.uint64)[0]
            generator.manual_seed(int(state) >> 1)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(number)
        empty = True
        for batch in sampler:
            empty = False
            if skipped:
                skipped -= 1
            else:
                yield batch
        skipped = 0
        if empty:
            raise DataError(f"{name}: its batch sampler yielded nothing")


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
