"""The loader of a training for several objectives: a batch of each a step, or of the one whose turn it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.base.trainer import BaseTrainer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from transformers import Trainer

from mogrid.solvers import Solver
from mogrid.trainer.checks import strata_of
from mogrid.trainer.conflicts import STEERING, Conflicts
from mogrid.trainer.joint import JointBatchSampler, JointCollator, JointDataset
from mogrid.trainer.mix import Mix
from mogrid.trainer.sampler import ExclusiveBatchSampler

__all__ = ["JointLoading"]


class JointLoading(Trainer):
    """Gives any ``transformers.Trainer`` the loader of joint batches; `MultiObjectiveMixin` trains on them.

    Attributes
    ----------
    solver : Solver
        Which tells the objectives that need a batch.
    objectives : tuple of str
    mix : Mix or None
    """

    solver: Solver
    objectives: tuple[str, ...]
    mix: Mix | None
    _objectives_of: dict[str, tuple[str, ...]]

    def _active_objectives(self) -> dict[str, tuple[str, ...]]:
        """Return the objectives that need a forward, by dataset; datasets without one are left out."""
        on = dict(zip(self.objectives, self.solver.active(self.objectives), strict=True))
        active = {name: tuple(o for o in own if on[o]) for name, own in self._objectives_of.items()}
        return {name: own for name, own in active.items() if own}

    def _objective_batch_sampler(self, name: str, dataset: Dataset, batch_size: int, generator: torch.Generator) -> Any:
        losses = getattr(self, "loss", None)
        strata = strata_of(losses[name], name, dataset) if isinstance(losses, Mapping) else None
        conflicts = Conflicts.of(dataset.with_format(None), name)
        if conflicts is not None or strata is not None:
            return ExclusiveBatchSampler(
                conflicts or Conflicts.none(len(dataset)), batch_size, seed=self.args.seed, strata=strata, name=name
            )
        host: Any = self
        if not hasattr(host, "get_batch_sampler"):
            return BatchSampler(RandomSampler(dataset, generator=generator), batch_size, drop_last=True)
        return host.get_batch_sampler(  # sentence-transformers' trainers bring their own choice of batch sampler
            dataset,
            batch_size=batch_size,
            drop_last=True,
            valid_label_columns=getattr(self.data_collator, "valid_label_columns", None),
            generator=generator,
            seed=self.args.seed,
        )

    def _batch_sizes(self) -> dict[str, int]:
        """Return the rows that each dataset which is drawn from has in a batch."""
        size = self.args.train_batch_size
        if self.mix is not None and self.mix.spend == "rows":
            return self.mix.rows(size)
        sizes = getattr(self.args, "objective_batch_sizes", None) or {}
        return {name: sizes.get(name, size) for name in self._active_objectives()}

    def _micro_batches(self) -> int:
        """Return how many batches make one step."""
        return self.args.gradient_accumulation_steps * self.accelerator.num_processes

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the joint loader, prepared by accelerate."""
        self.accelerator.even_batches = False
        self._train_dataloader = self.accelerator.prepare(self.joint_dataloader())
        return self._train_dataloader

    def joint_dataloader(self) -> DataLoader[Any]:
        """Return batches of every objective, as one process would see all of them."""
        given: Any = self.train_dataset
        sizes = self._batch_sizes()
        datasets = {name: given[name] for name in sizes}
        generators = {name: torch.Generator() for name in given}
        samplers = {
            name: self._objective_batch_sampler(name, dataset, sizes[name], generators[name])
            for name, dataset in datasets.items()
        }
        division: dict[str, Any] = {}
        if self.mix is not None and self.mix.spend != "weights":
            size = self.args.train_batch_size
            division["length"] = max(sum(len(dataset) for dataset in datasets.values()) // size, 1)
            if self.mix.spend == "steps":
                division |= {"shares": tuple(self.mix.shares.values()), "micro_batches": self._micro_batches()}
                self.mix.require_turns(self.args.seed, self.args.max_steps)
        if not isinstance(self, BaseTrainer):
            datasets = {name: self._remove_unused_columns(d, "training") for name, d in datasets.items()}
        self._sampler = JointBatchSampler(samplers, generators, self.args.seed, **division)
        return DataLoader(
            JointDataset(datasets),
            batch_sampler=self._sampler,
            collate_fn=JointCollator(self.data_collator, without=STEERING),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
