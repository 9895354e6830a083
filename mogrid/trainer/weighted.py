"""Weights and a temperature for the data sets of any sentence-transformers trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch.utils.data import BatchSampler, ConcatDataset

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.trainer.joint import passes
from mogrid.trainer.mix import turns

__all__ = ["WeightedBatchSampler"]


class WeightedBatchSampler(MultiDatasetDefaultBatchSampler):
    """Draw each data set's batches in proportion to weight^(1/temperature), for a plain ``SentenceTransformerTrainer``.

    Batches are spread evenly: after any number of them, every data set has had its share to within a few. A data set
    that is used up starts again with a fresh shuffle, whatever batch sampler it has; an epoch has as many batches as
    all data sets together. What is drawn is a function of the seed, so a resumed training goes on as if never stopped.

    Parameters
    ----------
    dataset, batch_samplers, generator, seed
        Given by the trainer.
    weights : mapping of data set to float, or sequence of float, optional
        By name, or in the order of the data sets. Zero leaves one out. By default the numbers of their batches.
    temperature : float
        1 takes the weights as they are; above, small data sets are drawn more often, up to equal shares for all.

    Raises
    ------
    ConfigError
        Weights do not fit the data sets, or are negative or all zero; or the temperature is not positive.
    DataError
        A data set to be drawn from does not fill a batch.

    Examples
    --------
    >>> from functools import partial
    >>> args = SentenceTransformerTrainingArguments(  # doctest: +SKIP
    ...     "out", multi_dataset_batch_sampler=partial(WeightedBatchSampler, weights={"nq": 3, "msmarco": 1})
    ... )
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        batch_samplers: list[BatchSampler],
        generator: torch.Generator | None = None,
        seed: int = 0,
        *,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(dataset, batch_samplers=batch_samplers, generator=generator, seed=seed)
        if not temperature > 0:
            raise ConfigError(f"temperature must be positive, got {temperature!r}")
        lengths = [len(sampler) for sampler in batch_samplers]
        given = _in_order(weights, dataset, lengths)
        # As differences of logarithms: a power of a large number would overflow at a low temperature.
        with np.errstate(divide="ignore"):
            shares = np.exp((np.log(given) - np.log(max(given))) / temperature)
        self.shares: list[float] = (shares / shares.sum()).tolist()
        self._drawn = [i for i, share in enumerate(self.shares) if share > 0]
        for i, length in enumerate(lengths):
            if length == 0 and (weights is None or self.shares[i] > 0):
                raise DataError(f"data set {i + 1} of {len(lengths)} does not fill one batch of {self.batch_size}")
        self._length = sum(lengths[i] for i in self._drawn)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        before = self.epoch * self._length
        whose = turns([self.shares[i] for i in self._drawn], self.seed, before + self._length)
        drawn = np.bincount(whose[:before], minlength=len(self._drawn)).tolist()
        offsets = [0, *self.dataset.cumulative_sizes]
        streams = [
            passes(self.batch_samplers[i], self.generator, [self.seed, i], start, f"data set {i + 1}")
            for i, start in zip(self._drawn, drawn, strict=True)
        ]
        for k in whose[before:].tolist():
            offset = offsets[self._drawn[k]]
            yield [row + offset for row in next(streams[k])]


def _in_order(
    weights: Mapping[str, float] | Sequence[float] | None, dataset: ConcatDataset, lengths: list[int]
) -> list[float]:
    if weights is None:
        values: list[float] = list(map(float, lengths))
    elif isinstance(weights, Mapping):
        names = [part[0].get("dataset_name") if len(part) else None for part in dataset.datasets]  # type: ignore[arg-type]
        if None in names:
            raise ConfigError(
                "weights: the trainer names its data sets only where each has a loss of its own; give the weights as a "
                "list, in the order of the data sets"
            )
        for name in weights:
            if name not in names:
                raise ConfigError(f"weights: no data set {name!r}{nearest(str(name), map(str, names))}")
        missing = next((name for name in names if name not in weights), None)
        if missing is not None:
            raise ConfigError(f"weights: data set {missing!r} has none; 0 leaves it out")
        values = [weights[str(name)] for name in names]
    else:
        values = list(weights)
        if len(values) != len(lengths):
            raise ConfigError(f"weights: {len(values)} for {len(lengths)} data sets")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(f"weights must be numbers of at least 0, got {value!r}")
    if sum(values) <= 0:
        raise ConfigError("weights: all of them are zero")
    return values
