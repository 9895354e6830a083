"""Train what a configuration says, whatever happens in between: one folder, whole files, the same bits."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mogrid.errors import ConfigError, DataError
from mogrid.files import KEPT, held, latest_checkpoint, naming_a_full_disk, write_json
from mogrid.runs import versions
from mogrid.training.datasets import check_roles, evaluation_collection, located, objective_datasets

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from mogrid.trainer import ParetoTrainer, ParetoTrainingArguments
    from mogrid.training.recipe import TrainSettings

__all__ = ["train_from_settings"]

_MAX_LENGTH = 64  # tokens, from scratch
_SETTINGS, _TRAINED, _RUN = "settings.json", "trained.json", "run.json"


def train_from_settings(settings: TrainSettings, base: Path, console: Console) -> Path:
    """Train, judge and describe a model; go on where an earlier call was cut short.

    Parameters
    ----------
    settings : TrainSettings
    base : Path
        The folder that the paths in the settings are relative to.
    console : Console

    Returns
    -------
    Path
        The run's folder: ``model/``, which ``SentenceTransformer`` loads, with its card; ``steps.jsonl``, a line an
        optimiser step; ``run.json``.

    Raises
    ------
    ConfigError
        The folder holds a training with other settings.
    Busy
        Another process is at it.
    KeyboardInterrupt
        Ctrl-C or SIGTERM, after a checkpoint.
    """
    out = located(base, settings.output)
    with ExitStack() as stack:
        if _rank() == 0:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(naming_a_full_disk(out))
            stack.enter_context(held(out / ".lock"))
            _check_settings(out, settings)
        if (out / _RUN).is_file():
            console.print(f"{out}: finished already", highlight=False)
            return out
        with console.status("reading the data"):
            datasets = objective_datasets(settings, base)
            collection = evaluation_collection(settings, base)
            if collection is not None:
                check_roles(settings, datasets, collection)
        if _rank() == 0:
            write_json(out / _SETTINGS, _identity(settings))
        sizes = ", ".join(f"{name} {len(rows):,} rows" for name, rows in datasets.items())
        console.print(f"objectives: {sizes}", highlight=False)
        if not (out / _TRAINED).is_file():
            _train(settings, datasets, base, out, console)
    if _rank() == 0:
        from mogrid.training.card import finish

        finish(settings, collection, out, console)
    return out


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _ranks() -> int:
    """Return how many processes train together; each sees batches of its own, of like cost."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _identity(settings: TrainSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"output"})


def _check_settings(out: Path, settings: TrainSettings) -> None:
    path = out / _SETTINGS
    if not path.is_file():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove {out} to begin anew") from error
    changed = _difference(there, _identity(settings))
    if changed is not None:
        raise ConfigError(f"{out} holds a training with another {changed}; name another output, or remove the folder")


def _difference(there: Any, given: Any, key: str = "") -> str | None:
    """Return the first key at which two configurations differ, with both values."""
    if isinstance(there, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*there, *given]):
            found = _difference(there.get(name), given.get(name), f"{key}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    return None if there == given else f"{key} ({there!r}, now {given!r})"


# -- training --------------------------------------------------------------------------------------------------------


def _train(settings: TrainSettings, datasets: Mapping[str, Dataset], base: Path, out: Path, console: Console) -> None:
    from mogrid.experiment.training import TrainingWatch, go_on
    from mogrid.flops import FlopLedger, non_embedding_parameters

    folder = out / "training"
    model = _model(settings, datasets, base)
    steps = _steps(settings, model, datasets, out, console)
    trainer = _trainer(settings, model, datasets, folder, steps)
    last = latest_checkpoint(folder)
    if last is None and folder.is_dir() and _rank() == 0:
        shutil.rmtree(folder)
    elif last is not None:
        console.print(f"going on from {last[0].name}", highlight=False)
    started = time.perf_counter()
    columns = ("{task.description}", BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    bar = Progress(*columns, TimeElapsedColumn(), "left", TimeRemainingColumn(), console=console, expand=True)
    with bar, _Stop() as stop, FlopLedger(model) as ledger:
        for kind, flops in (last[1]["flops"] if last else {}).items():
            setattr(ledger, kind, flops)
        task = bar.add_task("steps", total=steps, said="")

        def show(share: float) -> None:
            report = trainer.last_step
            said = "" if report is None else "  ".join(f"{k} {v:.3f}" for k, v in report.losses.items())
            bar.update(task, completed=round(share * steps), said=said)

        watch = TrainingWatch(ledger, folder, show, lambda: stop.asked)
        trainer.add_callback(watch)
        go_on(trainer, last[0] if last else None)
    if watch.stopped:
        raise KeyboardInterrupt
    if _rank() != 0:
        return
    from mogrid.experiment.cells import save_model

    save_model(model, out / "model")
    shutil.copyfile(folder / "steps.jsonl", out / "steps.jsonl.partial")
    (out / "steps.jsonl.partial").replace(out / "steps.jsonl")
    if (folder / "runs").is_dir():  # what a tracker wrote
        shutil.rmtree(out / "runs", ignore_errors=True)
        (folder / "runs").replace(out / "runs")
    write_json(
        out / _TRAINED,
        {
            "steps": steps,
            "flops": {kind: flops * _ranks() for kind, flops in ledger.entries().items()},
            "seconds": time.perf_counter() - started,
            "parameters": non_embedding_parameters(model),
            "rows": {name: len(rows) for name, rows in datasets.items()},
            "versions": versions(),
        },
    )
    shutil.rmtree(folder)


def _model(settings: TrainSettings, datasets: Mapping[str, Dataset], base: Path) -> SentenceTransformer:
    """Return the retriever before training: from a folder or Hub id, or from scratch with a vocabulary of its own."""
    from mogrid.retrieval.models import build_retriever, load_retriever, train_tokenizer

    encoder = settings.model
    if encoder.path is not None:
        folder = located(base, encoder.path)
        chosen = str(folder) if folder.is_dir() else encoder.path
        model = load_retriever(chosen, max_length=encoder.max_length, **encoder.style())
    else:
        texts = (text for rows in datasets.values() for column in ("query", "document") for text in rows[column])
        tokenizer = train_tokenizer(texts, encoder.vocabulary, encoder.max_length or _MAX_LENGTH)
        model = build_retriever(encoder.size, tokenizer, dropout=encoder.dropout, seed=settings.seed, **encoder.style())
    return model


def _losses(settings: TrainSettings, model: SentenceTransformer) -> dict[str, Any]:
    from mogrid.objectives.registry import loss_from_config

    return {
        name: loss_from_config(
            objective.loss, model, domains=len(objective.datasets), temperature=settings.training.temperature
        )
        for name, objective in settings.objectives.items()
    }


def _trainer(
    settings: TrainSettings, model: SentenceTransformer, datasets: Mapping[str, Dataset], folder: Path, steps: int
) -> ParetoTrainer:
    from transformers import PrinterCallback

    from mogrid.experiment.training import QuietTrainer

    trainer = QuietTrainer(
        model=model,
        args=_arguments(settings, model, folder, steps),
        train_dataset=datasets,
        loss=_losses(settings, model),
        solver=settings.solver,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _prompts(settings: TrainSettings, model: SentenceTransformer) -> dict[str, str] | None:
    """Return by column what the model wants in front of a text, as it will have it when it is used."""
    from mogrid.retrieval.encode import prompt_of

    count = max(objective.negatives for objective in settings.objectives.values())
    documents = ["document", *(f"negative_{n + 1}" for n in range(count))]
    found = dict.fromkeys(("query", "perturbed"), prompt_of(model, "query"))
    found |= dict.fromkeys(documents, prompt_of(model, "document"))
    return {column: prompt for column, prompt in found.items() if prompt} or None


def _arguments(
    settings: TrainSettings, model: SentenceTransformer, folder: Path, steps: int
) -> ParetoTrainingArguments:
    import torch

    from mogrid.retrieval.models import ROUTES
    from mogrid.trainer import ParetoTrainingArguments

    training = settings.training
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
            use_cpu=not torch.accelerator.is_available(),
            seed=settings.seed,
            data_seed=settings.seed,
            logging_steps=max(steps // 50, 1),
            save_strategy="steps",
            save_steps=max(steps // training.checkpoints, 1),
            save_total_limit=KEPT,
            report_to=training.report_to or "none",
            disable_tqdm=True,
            router_mapping=ROUTES if settings.model.towers == 2 else {},
            prompts=_prompts(settings, model),
            dataloader_pin_memory=False,
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(f"training: {str(error).splitlines()[0]}") from error


def _steps(
    settings: TrainSettings, model: SentenceTransformer, datasets: Mapping[str, Dataset], out: Path, console: Console
) -> int:
    """Return the optimiser steps; a budget is measured once, so that a training that goes on has the same length."""
    training = settings.training
    if training.steps is not None:
        return training.steps
    if training.epochs is not None:
        batches = [
            len(rows) / (training.batch_sizes.get(name, training.batch_size) * training.accumulation * _ranks())
            for name, rows in datasets.items()
        ]
        return max(1, math.ceil(training.epochs * min(batches)))
    path = out / "steps.json"
    if not path.is_file():
        import tempfile

        from mogrid.experiment.training import PROBE_BATCHES, batch_costs

        with console.status("measuring what a step costs"), tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
            costs = batch_costs(_trainer(settings, model, datasets, Path(scratch), PROBE_BATCHES))
        price = sum(costs.values()) * training.accumulation * _ranks()
        steps = round((training.budget or 0.0) / price)
        if steps < 1:
            raise ConfigError(f"training.budget {training.budget:g} buys no step; one costs {price:.3g}")
        write_json(path, {"steps": steps, "flops of a batch": costs})
    return int(json.loads(path.read_text("utf-8"))["steps"])


class _Stop:
    """Ctrl-C and SIGTERM ask for a checkpoint; a second one does not wait for it.

    Ranks of a distributed training would not stop at one step: there, signals are left as they are, and the next start
    goes on from the last checkpoint.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: list[Any] = []

    def __enter__(self) -> _Stop:
        if _ranks() == 1:
            self._before = [signal.signal(number, self._ask) for number in self.SIGNALS]
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in zip(self.SIGNALS, self._before, strict=False):
            signal.signal(number, before)

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
