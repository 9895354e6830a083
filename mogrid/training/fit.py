"""From a recipe's datasets to a trained model: base, losses, trainer, length, and a fit that goes on after any end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import get_device_name
from transformers import PrinterCallback, TrainerCallback

from mogrid.errors import ConfigError
from mogrid.files import KEPT, latest_checkpoint, load_state, save_state, seal, write_json
from mogrid.flops import FlopLedger, non_embedding_parameters
from mogrid.objectives.registry import loss_from_config
from mogrid.retrieval.adapters import sparse_embeddings
from mogrid.retrieval.encode import prompt_of, similarity
from mogrid.retrieval.linear import fast_products
from mogrid.retrieval.models import ROUTES, Heal, base_model
from mogrid.retrieval.tokens import remembering
from mogrid.trainer import KeepBest, ParetoTrainer, ParetoTrainingArguments
from mogrid.trainer.mixin import SPENT
from mogrid.training.library import located
from mogrid.training.recipe import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Interrupted", "build_base", "fit", "ranks", "steps_of"]

Progress = Callable[[float, str], None]
"""Told the share done, and a word on how it goes."""

_PROBED = 4  # full batches' rows of each objective, to know what one costs
_LARGEST = 64  # rows of a batch that is probed
_MOST = 24  # batches
_COSINE = 0.05  # temperature, the usual one of unit embeddings
_WEIGHTS = "weights.safetensors"
_LEAST = 10  # optimiser steps: fewer are no training


class Interrupted(Exception):
    """The training stopped early on request; its checkpoint is on disk."""


def ranks() -> int:
    """Return how many processes train together; each sees batches of its own, of like cost."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def build_base(
    recipe: Recipe, datasets: Mapping[str, Dataset], base: Path, progress: Progress = lambda share, said: None
) -> SentenceTransformer:
    """Return the model before training: from a folder or Hub id, thinned and healed or whole, or from scratch.

    Parameters
    ----------
    recipe : Recipe
    datasets : mapping of objective to dataset
        Whose texts a vocabulary or a healing learns from: training-role text alone.
    base : Path
        The folder that the recipe's paths are relative to.
    progress : callable
        Told how far a healing is.
    """
    chosen = recipe.model
    path = chosen.path
    if path is not None:
        folder = located(base, path)
        path = str(folder) if folder.is_dir() else path
    columns = ("query", "document")
    model = base_model(
        path,
        size=chosen.size,
        vocabulary=chosen.vocabulary,
        texts=(text for rows in datasets.values() for column in columns for text in rows[column]),
        max_length=chosen.max_length,
        layers=chosen.layers,
        dropout=chosen.dropout,
        heal=None if chosen.heal is None else Heal(**chosen.heal.model_dump()),
        lora=None if chosen.lora is None else chosen.lora.model_dump(),
        freeze=chosen.freeze,
        seed=recipe.seed,
        progress=lambda share: progress(0.0, f"healing {share:.0%}"),
        towers=chosen.towers,
        pooling=chosen.pooling,
        normalise=chosen.normalise,
        query_prompt=chosen.query_prompt,
    )
    return model.to(get_device_name())  # weights are drawn on the processor, so that they are the same everywhere


def fit(
    recipe: Recipe,
    model: SentenceTransformer,
    datasets: Mapping[str, Dataset],
    folder: Path,
    steps: int,
    *,
    keeping: KeepBest | None = None,
    progress: Progress = lambda share, said: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train in place, from the folder's checkpoint where there is one; return what it took, for the record.

    Parameters
    ----------
    keeping : KeepBest, optional
        Chooses whose step's weights the model has in the end.

    Raises
    ------
    Interrupted
        `stop` became true; a checkpoint was written first.
    """
    trainer = build_trainer(recipe, model, datasets, folder, steps)
    last = latest_checkpoint(folder)
    if last is None and folder.is_dir() and int(os.environ.get("RANK", "0")) == 0:
        shutil.rmtree(folder)
    started, before = time.perf_counter(), float(last[1].get("seconds", 0.0)) if last else 0.0
    watch = _Watch(trainer, folder, progress, stop, before)
    for callback in (keeping, watch):  # a checkpoint is sealed when all of it is there
        if callback is not None:
            trainer.add_callback(callback)
    with sparse_embeddings(model), fast_products(model):
        _go_on(trainer, last[0] if last else None, keeping)
    if watch.stopped:
        raise Interrupted
    flops = trainer.flops
    best: dict[str, Any] = {}
    if keeping is not None:
        history = [list(evaluated) for evaluated in keeping.history]
        best = {"best": {"step": keeping.step, "history": history, "seconds": round(keeping.seconds, 3)}}
    return {
        "steps": steps,
        **best,
        "flops": _over_ranks({**flops.entries(), "by": dict(flops.by_objective)}),
        "pairs": dict(trainer.pairs_seen),
        "seconds": before + time.perf_counter() - started,
        "parameters": non_embedding_parameters(model),
    }


def _over_ranks(flops: Any) -> Any:
    """Scale what one process counted to all of them."""
    if isinstance(flops, Mapping):
        return {name: _over_ranks(value) for name, value in flops.items()}
    return flops * ranks()


def steps_of(
    recipe: Recipe, model: Callable[[], SentenceTransformer], datasets: Mapping[str, Dataset], cache: Path, data: str
) -> int:
    """Return the optimiser steps that a recipe's length comes to.

    Parameters
    ----------
    recipe : Recipe
    model : callable
        Gives the base model, where a budget has to be measured on it.
    datasets : mapping of objective to dataset
        Batches of which are probed for what a step costs.
    cache : Path
        A folder that keeps what rows of this model and data cost.
    data : str
        Fingerprint of the data.

    Raises
    ------
    ConfigError
        A budget buys fewer than ten steps.
    """
    training, rows = recipe.training, recipe.rows()
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        return max(1, math.ceil(training.epochs * min(len(datasets[name]) / (n * ranks()) for name, n in rows.items())))
    if training.pairs is not None:
        return max(1, round(training.pairs / (sum(rows.values()) * ranks())))
    costs = row_costs(recipe, model, datasets, cache, data)
    price = sum(costs[name] * n for name, n in rows.items()) * ranks()
    steps = round((training.budget or 0.0) / price)
    if steps < _LEAST:
        raise ConfigError(
            f"training.budget {training.budget:g} FLOPs buys {steps} steps of {price:.3g}; "
            f"{_LEAST} need {_LEAST * price:.3g}"
        )
    return steps


def row_costs(
    recipe: Recipe, model: Callable[[], SentenceTransformer], datasets: Mapping[str, Dataset], cache: Path, data: str
) -> dict[str, float]:
    """Return the training FLOPs of one row of every objective: measured once, over batches of a real loader.

    They are measured at the rows that the recipe's batches have of each, since a smaller batch is padded less. They
    depend on lengths of texts and sizes of tensors alone, so that every process and machine measures the same. Runs get
    equal FLOPs through this: one that spends nothing on a dear objective takes more steps.
    """
    model_settings = recipe.model.model_dump(mode="json")
    objectives = {n: o.model_dump(mode="json", exclude={"judged"}) for n, o in recipe.objectives.items()}
    sizes = _batches(recipe)
    key = json.dumps([model_settings, objectives, sizes, data], sort_keys=True)
    path = cache / f"costs-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    with suppress(OSError, ValueError, KeyError):
        return {name: float(json.loads(path.read_text("utf-8"))[name]) for name in recipe.objectives}
    plain = recipe.change({
        "mix": None, "spend": "weights", "solver": "fixed", "seed": 0, "training.steps": 1,
        "training.batch_sizes": sizes, "training.accumulation": 1, "training.report_to": [],
    })  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        trainer = build_trainer(plain, model(), datasets, Path(scratch), 1)
        full = min(recipe.training.batch_size, _LARGEST)
        batches = min(_PROBED * max(round(full / min(sizes.values())), 1), _MOST)
        costs = {name: flops / sizes[name] for name, flops in _batch_costs(trainer, batches).items()}
    write_json(path, costs)
    return costs


def _batches(recipe: Recipe) -> dict[str, int]:
    """Return the rows of every objective in a batch that has some of it; as many as the fewest where a mix has none."""
    training = recipe.training
    if recipe.spend == "steps":
        sizes = {name: training.batch_size for name, rows in recipe.rows().items() if rows}
    else:
        sizes = {name: round(rows / training.accumulation) for name, rows in recipe.rows().items() if rows}
    fewest = min(sizes.values())
    return {name: min(sizes.get(name, fewest), _LARGEST) for name in recipe.objectives}


def _batch_costs(trainer: ParetoTrainer, batches: int) -> dict[str, float]:
    """Return the mean training FLOPs of a batch of every objective; nothing is trained."""
    model: Any = trainer.model
    costs: dict[str, float] = {}
    loader = iter(trainer.get_train_dataloader())
    model.train()
    for _ in range(batches):
        batch = next(loader, None)
        if batch is None:
            loader = iter(trainer.get_train_dataloader())
            batch = next(loader)
        for name in batch:
            with FlopLedger(model) as ledger:
                inputs: dict[str, Any] = trainer._prepare_inputs(batch)
                loss: Any = trainer.compute_loss(model, inputs[name])
                loss.backward()
            costs[name] = costs.get(name, 0.0) + ledger.total / batches
    model.zero_grad()
    return costs


def build_trainer(
    recipe: Recipe, model: SentenceTransformer, datasets: Mapping[str, Dataset], folder: Path, steps: int
) -> ParetoTrainer:
    """Return the trainer of a recipe."""
    temperature = recipe.training.temperature or (_COSINE if similarity(model) == "cosine" else 1.0)
    losses = {
        name: loss_from_config(objective.loss, model, domains=len(objective.datasets), temperature=temperature)
        for name, objective in recipe.objectives.items()
    }
    fixed = recipe.solver_name == "fixed"
    weighing: dict[str, Any] = {} if fixed else {"solver": recipe.solver}
    if fixed or recipe.spend != "weights":
        weighing |= {"mix": recipe.shares, "spend": recipe.spend}
    trainer = _QuietTrainer(
        model=model,
        args=_arguments(recipe, model, datasets, folder, steps),
        train_dataset=dict(datasets),
        loss=losses,
        **weighing,
    )
    trainer.remove_callback(PrinterCallback)
    collator: Any = trainer.data_collator
    collator.preprocess_fn = remembering(model)
    return trainer


class _QuietTrainer(ParetoTrainer):
    """The run's card is written by us: no examples are computed for another, nothing is printed."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        loss = super().training_step(*given, **named)
        for parameter in self.model.parameters():  # clipping and AdamW want one that is whole, once a step
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.to_dense()
        return loss

    # A checkpoint holds the weights by their names in this very model: with adapters in it, no other could load them.

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        model: Any = self.model
        state = {name: value.clone() for name, value in model.state_dict().items()}  # towers may share some
        save_state(Path(str(output_dir or self.args.output_dir)) / _WEIGHTS, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        own: Any = self.model
        own.load_state_dict(load_state(Path(resume_from_checkpoint) / _WEIGHTS))


def _arguments(
    recipe: Recipe, model: SentenceTransformer, datasets: Mapping[str, Dataset], folder: Path, steps: int
) -> ParetoTrainingArguments:
    training = recipe.training
    try:
        return ParetoTrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=training.batch_size,
            objective_batch_sizes=training.batch_sizes or None,
            gradient_accumulation_steps=training.accumulation,
            gradients=training.gradients,
            learning_rate=training.learning_rate,
            lr_scheduler_type=training.schedule,
            warmup_steps=training.warmup,
            weight_decay=training.weight_decay,
            max_grad_norm=training.max_grad_norm,
            bf16=training.bf16,
            use_cpu=not torch.accelerator.is_available(),  # transformers allows bf16 on a CPU only where told so
            seed=recipe.seed,
            data_seed=recipe.seed,
            logging_steps=max(steps // 50, 1),
            save_strategy="steps",
            save_steps=max(steps // training.checkpoints, 1),
            save_total_limit=KEPT,
            report_to=training.report_to or "none",
            disable_tqdm=True,
            router_mapping=ROUTES if recipe.model.towers == 2 else {},
            prompts=_prompts(datasets, model),
            dataloader_pin_memory=False,
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(f"training: {str(error).splitlines()[0]}") from error


def _prompts(datasets: Mapping[str, Dataset], model: SentenceTransformer) -> dict[str, str] | None:
    """Return by column what the model wants in front of a text, as it will have it when it is used."""
    columns = {name for rows in datasets.values() for name in rows.column_names}
    documents = ["document", *(name for name in columns if name.startswith("negative_"))]
    found = dict.fromkeys(("query", "perturbed"), prompt_of(model, "query"))
    found |= dict.fromkeys(documents, prompt_of(model, "document"))
    return {column: prompt for column, prompt in found.items() if prompt} or None


def _go_on(trainer: ParetoTrainer, checkpoint: Path | None, keeping: KeepBest | None) -> None:
    """Train from a checkpoint to the end; of the last step's, take the model: there is nothing left to train."""
    if checkpoint is not None and int(checkpoint.name.rpartition("-")[2]) >= trainer.args.max_steps:
        trainer._load_from_checkpoint(str(checkpoint))
        if keeping is not None:
            model: Any = trainer.model
            keeping.restore(checkpoint)
            keeping.fill(model)
        spent = json.loads((checkpoint / SPENT).read_text("utf-8"))
        trainer.pairs_seen |= spent["pairs"]
        trainer.flops.load_state_dict(spent["flops"])
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


class _Watch(TrainerCallback):
    """Report progress, seal every checkpoint, stop with one when asked."""

    def __init__(
        self,
        trainer: ParetoTrainer,
        folder: Path,
        progress: Progress,
        stop: Callable[[], bool],
        before: float,
    ) -> None:
        self.trainer, self.folder = trainer, folder
        self.progress, self.stop, self.before = progress, stop, before
        self.started = time.perf_counter()
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        report = self.trainer.last_step
        said = "" if report is None else "  ".join(f"{name} {loss:.3f}" for name, loss in report.losses.items())
        self.progress(state.global_step / state.max_steps, said)
        if self.stop() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            seconds = self.before + time.perf_counter() - self.started
            checkpoint = self.folder / f"checkpoint-{state.global_step}"
            seal(checkpoint, seconds=round(seconds, 3))
