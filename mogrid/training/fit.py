"""From a recipe's datasets to a trained model: base, losses, trainer, length, and a fit that goes on after any end."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import get_device_name
from transformers import PrinterCallback, TrainerCallback

from mogrid.errors import ConfigError
from mogrid.files import KEPT, latest_checkpoint, load_state, save_state, seal
from mogrid.flops import non_embedding_parameters
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

__all__ = ["Interrupted", "build_base", "build_trainer", "fit", "ranks"]

Progress = Callable[[float, str], None]
"""Told the share done, and a word on how it goes."""

_COSINE = 0.05  # temperature, the usual one of unit embeddings
_WEIGHTS = "weights.safetensors"


class Interrupted(Exception):
    """The training stopped early on request; its checkpoint is on disk."""


def ranks() -> int:
    """Return how many processes train together; each sees batches of its own, of like cost."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def path_of(path: str, base: Path) -> str:
    """Return a recipe's `model.path` as it is from here: a folder that is there, or what else it says, a Hub id say.

    Parameters
    ----------
    path : str
    base : Path
        The folder that the recipe's paths are relative to.
    """
    folder = located(base, path)
    return str(folder) if folder.is_dir() else path


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
    path = None if chosen.path is None else path_of(chosen.path, base)
    columns = ("query", "document")
    model = base_model(
        path,
        size=chosen.size,
        vocabulary=chosen.vocabulary,
        # A column at once: text by text takes seconds.
        texts=(text for rows in datasets.values() for column in columns for text in rows[column][:]),
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
