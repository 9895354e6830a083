"""Several objectives and a solver for any trainer over ``transformers.Trainer``, without forking its loop.

The mixin replaces the training data loader (one batch of every objective a step) and ``training_step`` (per-objective
gradients, solve, combine). Everything else - accumulation, clipping, mixed precision, schedulers, callbacks,
checkpoints, evaluation - is the host trainer's.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from datasets import Dataset, DatasetDict
from sentence_transformers.base.trainer import BaseTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.files import load_state, save_state, write_json
from mogrid.flops import FlopLedger, charge_to
from mogrid.gradients import Engine, StepReport, make_engine
from mogrid.solvers import FixedWeights, Solver, from_config
from mogrid.solvers._mixed import Mixed
from mogrid.trainer.checks import checked_datasets, checked_mix, objectives_by_dataset, require_trainable
from mogrid.trainer.loading import JointLoading
from mogrid.trainer.mix import Spend
from mogrid.trainer.record import StepsRecord

__all__ = ["MultiObjectiveMixin"]

SOLVER_STATE = "solver.safetensors"
TRACKED_STATE = "tracked_gradients.safetensors"
LOSS_STATE = "losses.safetensors"
SPENT = "spent.json"
STEPS_FILE = "steps.jsonl"


class MultiObjectiveMixin(JointLoading):
    """Several objectives and a solver for any ``transformers.Trainer``; put it before the trainer class.

    ``class ParetoSparseTrainer(MultiObjectiveMixin, SparseEncoderTrainer)`` needs no body. The host's ``compute_loss``
    is called once per dataset with that dataset's batch; while it runs, `current_dataset` names the dataset.

    Parameters
    ----------
    model, args, eval_dataset, ...
        As for the host.
    train_dataset : dict of str to datasets.Dataset
        One dataset per objective, or per set of objectives (`terms`).
    loss : dict of str to loss, optional
        One per dataset, for the trainers of sentence-transformers. A bare ``transformers.Trainer`` takes none: its
        model, or a ``compute_loss`` of your own, computes the losses.
    solver : Solver, str or dict, optional
        ``MGDA()``, ``"mgda"`` or ``{"name": "pareto_target", "preference": {...}}``. May be left out where there is a
        `mix`: its weights are fixed then.
    mix : dict of str to float, optional
        Each dataset's share λ of the training's effort, non-negative and summing to 1. A share of zero costs nothing.
    spend : "rows", "weights" or "steps", optional
        What the shares are shares of, where there is a `mix`; "rows" if left out. The batch size is
        ``per_device_train_batch_size``.

        "rows": one batch a step, its rows divided by largest remainder; losses count by their rows, so the step is that
        of the mean over the batch. "weights": a whole batch of every dataset, and λ are the losses' weights. In both, a
        solver other than fixed weighs the parts λ_k L_k of that sum, on top of the mix. The terms of one dataset have
        equal parts of its share.

        "steps": each step is one dataset's, with a whole batch and one backward. Whose turn it is follows from the seed
        and the step alone, and after any number of steps each has had its share to within a few. Micro-batches of one
        step, and the processes of a training, share its dataset. Solvers other than fixed have nothing to weigh there.

        Of rows and steps, an epoch draws as many rows as the datasets hold together; else it is as long as the longest.
    terms : dict of str to sequence of str, optional
        For datasets whose loss returns a dict of scalars, such as ``SpladeLoss``: the keys of that dict. Each is an
        objective of its own, called ``dataset/term``, and all of them share one forward. Without it such terms are
        summed, as sentence-transformers does.

    Attributes
    ----------
    objectives : tuple of str
        In the order of the Jacobian's rows; those that a mix gives nothing are not among them.
    current_dataset : str or None
    pairs_seen : dict of str to int
        D_k: rows drawn so far by dataset, over all processes.
    flops : FlopLedger
        What this process has spent so far, by dataset too. It goes on from a checkpoint as `pairs_seen` does.

    Raises
    ------
    ConfigError, DataError, SolverError
        An objective lacks a dataset, rows or a loss; names do not match; the solver's settings are wrong.
    """

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        train_dataset: Mapping[str, Dataset] | None = None,
        eval_dataset: Any = None,
        loss: Mapping[str, Any] | None = None,
        *,
        solver: Solver | str | Mapping[str, Any] | None = None,
        mix: Mapping[str, float] | None = None,
        spend: Spend | None = None,
        terms: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        datasets = checked_datasets(train_dataset, loss, takes_losses=isinstance(self, BaseTrainer))
        objectives_of = objectives_by_dataset(datasets, terms or {})
        sizes = getattr(args, "objective_batch_sizes", None) or {}
        for name in sizes:
            if name not in datasets:
                raise ConfigError(f"objective_batch_sizes: no dataset {name!r}{nearest(name, datasets)}")
        self.mix = checked_mix(mix, spend, datasets, solver, sizes)
        if loss is not None:
            kwargs["loss"] = dict(loss)
        super().__init__(
            model=model,
            args=args,
            # The base trainer adds columns to the datasets it is given, in place: hand it shallow copies.
            train_dataset=DatasetDict({name: dataset.with_format(None) for name, dataset in datasets.items()}),
            eval_dataset=eval_dataset,
            **kwargs,
        )
        self._set_up_objectives(solver, objectives_of)

    def _set_up_objectives(
        self, solver: Solver | str | Mapping[str, Any] | None, objectives_of: dict[str, tuple[str, ...]]
    ) -> None:
        given = solver if isinstance(solver, Solver) else from_config("fixed" if solver is None else solver)
        if self.mix is not None:
            objectives_of = {name: own for name, own in objectives_of.items() if name in self.mix.shares}
            given = self._mixed(given, objectives_of)
        self.solver = given
        self._objectives_of = objectives_of
        self.objectives = tuple(name for names in objectives_of.values() for name in names)
        self.solver.active(self.objectives)  # names that do not fit are an error now, not after the first forward
        self._untouched = copy.deepcopy(self.solver.state_dict())
        self._untouched_losses = {name: tensor.detach().clone() for name, tensor in self._loss_state().items()}
        self.last_step: StepReport | None = None
        self.current_dataset: str | None = None
        self._terms: dict[str, Tensor] | None = None
        self._engines: dict[str | None, Engine] = {}
        self._begin()

    def _mixed(self, solver: Solver, objectives_of: Mapping[str, tuple[str, ...]]) -> Solver:
        """Return what weighs the objectives of a mix."""
        assert self.mix is not None
        if solver.sets_weights:
            raise ConfigError(f"mix: the solver {solver.name!r} has weights of its own; give one of the two")
        if self.mix.spend == "steps" and not isinstance(solver, FixedWeights):
            raise ConfigError(
                f"spend: steps have one objective each, which leaves the solver {solver.name!r} nothing to weigh; "
                "spend rows or weights"
            )
        shares = self.mix.shares
        if self.mix.spend == "rows":
            size = self.args.train_batch_size
            shares = {name: rows / size for name, rows in self.mix.rows(size).items()}
        parts = {objective: shares[name] / len(own) for name, own in objectives_of.items() for objective in own}
        return FixedWeights(parts) if isinstance(solver, FixedWeights) else Mixed(solver, parts)

    def _begin(self) -> None:
        """Forget what a training before this one left behind: a new one starts from a fresh solver.

        Losses forget what they keep as buffers, weights on domains say. Their parameters are trained with the model,
        and go on as it does, or begin anew with it in a search over hyperparameters (`model_init`).
        """
        self.solver.load_state_dict(copy.deepcopy(self._untouched))
        with torch.no_grad():
            for name, tensor in self._loss_state().items():
                if name in self._untouched_losses and (
                    self.model_init is not None or not isinstance(tensor, nn.Parameter)
                ):
                    tensor.copy_(self._untouched_losses[name])
        given: Any = self.train_dataset
        model: Any = self.model
        self.pairs_seen: dict[str, int] = dict.fromkeys(given, 0)
        self.flops = FlopLedger(model)
        self._steps = StepsRecord(Path(str(self.args.output_dir)) / STEPS_FILE, self.is_world_process_zero())

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Begin anew, or where the checkpoint ended; then the host's own loop."""
        losses = getattr(self, "loss", None)
        require_trainable(self.model, *(losses.values() if isinstance(losses, Mapping) else ()))
        self._begin()
        if kwargs.get("resume_from_checkpoint") is None:
            self._steps.begin()
        with self.flops:
            return super()._inner_training_loop(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the joint loader, prepared by accelerate."""
        self._engines.clear()  # a new training has a new optimiser
        return super().get_train_dataloader()

    # -- per-objective gradients, weights, combination -------------------------------------------------------------

    def _gradient_engine(self, alone: str | None = None) -> Engine:
        """Return the engine of all objectives, or of those of the one dataset that has this step to itself."""
        if alone not in self._engines:
            optimiser: Any = self.optimizer
            model: Any = self.model
            self._engines[alone] = make_engine(
                getattr(self.args, "gradients", "exact"),
                model,
                [p for group in optimiser.param_groups for p in group["params"]],
                self.objectives if alone is None else self._objectives_of[alone],
                self.solver if alone is None else FixedWeights(),
                gradient_statistics=getattr(self.args, "gradient_statistics", True),
                reduce=self.accelerator.num_processes > 1,
            )
        engine = self._engines[alone]
        engine.step = self.state.global_step
        return engine

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Take per-objective gradients of one joint batch; on the last micro-batch write their combination."""
        if self.accelerator.distributed_type not in (
            DistributedType.NO,
            DistributedType.MULTI_CPU,
            DistributedType.MULTI_GPU,
        ):
            raise ConfigError(
                f"ParetoTrainer needs whole gradients on every rank; {self.accelerator.distributed_type} shards them: "
                "use DDP (torchrun) or one process, or fully_shard and mogrid.gradients in a loop of your own"
            )
        model.train()
        optimiser: Any = self.optimizer
        if callable(getattr(optimiser, "train", None)):
            optimiser.train()
        inputs = self._prepare_inputs(inputs)
        alone = next(iter(inputs)) if self.mix is not None and self.mix.spend == "steps" else None
        before = charge_to(None)
        scaler = getattr(self.accelerator, "scaler", None)
        try:
            # Gradients are averaged over ranks per objective by the engine, so DDP must not average any itself.
            with self.accelerator.no_sync(model) if self.accelerator.num_processes > 1 else contextlib.nullcontext():
                report = self._gradient_engine(alone).accumulate(
                    self._losses(model, inputs),
                    final=self.accelerator.sync_gradients,
                    divisor=float(self.current_gradient_accumulation_steps),
                    run_backward=self.accelerator.backward,
                    loss_scale=1.0 if scaler is None else float(scaler.get_scale()),
                    shared_graph=[name for own in self._active_objectives().values() for name in own[:-1]],
                )
        finally:
            charge_to(before)
        sizes = self._batch_sizes()
        for name in inputs:
            self.pairs_seen[name] += sizes[name] * self.accelerator.num_processes
        if report is None:
            return torch.zeros((), device=self.args.device)
        self._record(report, alone)
        total = sum(report.weights[name] * loss for name, loss in report.losses.items())
        return torch.tensor(total, device=self.args.device)

    def _losses(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Callable[[], Tensor]]:
        """Return, by objective, what runs its forward; objectives of one dataset share it."""
        losses: dict[str, Callable[[], Tensor]] = {}
        for name in inputs:
            forward = functools.cache(partial(self._forward, model, inputs, name))
            losses |= {objective: partial(_item, forward, objective) for objective in self._objectives_of[name]}
        return losses

    def _forward(self, model: nn.Module, inputs: dict[str, Any], name: str) -> dict[str, Tensor]:
        """Return the losses of one dataset's batch by objective."""
        self.current_dataset = name
        charge_to(name)
        try:
            with self.compute_loss_context_manager():
                loss: Any = self.compute_loss(model, inputs[name])
            terms = loss if isinstance(loss, Mapping) else self._terms
        finally:
            self.current_dataset = self._terms = None
        parts = list(loss.values()) if isinstance(loss, Mapping) else [loss]
        if not any(isinstance(part, Tensor) and part.requires_grad for part in parts):
            raise ConfigError(
                f"objective {name!r}: its loss has no gradient: what it returns is no function of a trained parameter"
            )
        objectives = self._objectives_of[name]
        if objectives == (name,):
            if isinstance(loss, Mapping):
                loss = torch.stack([term.mean() for term in loss.values()]).sum()
            assert isinstance(loss, Tensor)
            return {name: loss.mean()}
        found = {f"{name}/{term}": value.mean() for term, value in (terms or {}).items()}
        if found.keys() != set(objectives):
            returned = ", ".join(map(repr, terms)) if terms else "a single scalar"
            declared = ", ".join(repr(objective.removeprefix(f"{name}/")) for objective in objectives)
            raise ConfigError(f"terms: the loss of {name!r} returned {returned}; terms names {declared}")
        return found

    def track_loss_components(self, loss: dict[str, Tensor]) -> None:
        """Catch the terms of a dict-valued loss: sentence-transformers shows them here before it sums them."""
        self._terms = loss
        host: Any = super()
        host.track_loss_components(loss)

    # -- log, checkpoints ------------------------------------------------------------------------------------------

    def _record(self, report: StepReport, alone: str | None) -> None:
        self.last_step = report
        resting: tuple[str, ...] = () if self.mix is None else self.mix.idle
        if alone is not None:
            resting += self.objectives
        whose = {} if alone is None else {"objective": alone}
        values = {f"weight/{name}": 0.0 for name in resting} | report.flat()
        self._steps.add(self.state.global_step + 1, values, **whose)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last log of every objective's loss, weight, gradient norm and cosines."""
        if "loss" in logs:
            logs = logs | self._steps.means()
        super().log(logs, start_time)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            save_state(Path(output_dir) / SOLVER_STATE, self.solver.state_dict())
            save_state(Path(output_dir) / TRACKED_STATE, self._gradient_engine().state_dict())
            save_state(Path(output_dir) / LOSS_STATE, self._loss_state())
            write_json(Path(output_dir) / SPENT, {"pairs": self.pairs_seen, "flops": self.flops.state_dict()})

    def _loss_state(self) -> dict[str, Tensor]:
        """Return what losses keep besides the model: weights on domains, a classifier's parameters."""
        losses = getattr(self, "loss", None)
        if not isinstance(losses, Mapping):
            return {}
        model: Any = self.model
        known = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        found: dict[str, Tensor] = {}
        for objective, loss in losses.items():
            if isinstance(loss, nn.Module):
                for name, tensor in (*loss.named_parameters(), *loss.named_buffers()):
                    if id(tensor) not in known:
                        known.add(id(tensor))
                        found[f"{objective}/{name}"] = tensor
        return found

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        state = Path(checkpoint) / SOLVER_STATE
        if not state.is_file():
            raise DataError(f"{state}: missing; this checkpoint was not written by a trainer with a solver")
        self.solver.load_state_dict(load_state(state))
        self._gradient_engine().load_state_dict(load_state(Path(checkpoint) / TRACKED_STATE))
        saved = load_state(Path(checkpoint) / LOSS_STATE)
        with torch.no_grad():
            for name, tensor in self._loss_state().items():
                if name not in saved:
                    raise DataError(f"{checkpoint}: has no state {name!r}; it was written with other losses")
                tensor.copy_(saved[name])
        spent = json.loads((Path(checkpoint) / SPENT).read_text("utf-8"))
        self.pairs_seen = dict.fromkeys(self.pairs_seen, 0) | spent["pairs"]
        self.flops.load_state_dict(spent["flops"])
        # Not self.state, which the first transformers 5 has not yet read here.
        done = json.loads((Path(checkpoint) / "trainer_state.json").read_text("utf-8"))["global_step"]
        self._steps.go_on(done)
        # transformers sets a sampler's epoch, but on several ranks not through the batches it skips in the first.
        steps = math.ceil(len(self._train_dataloader) / self.args.gradient_accumulation_steps)
        self._sampler.set_epoch(done // max(steps, 1))


def _item(forward: Callable[[], Mapping[str, Tensor]], objective: str) -> Tensor:
    return forward()[objective]
