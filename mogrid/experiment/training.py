"""Train one retriever for the three objectives with one strategy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, TrainerCallback

from mogrid.attacks.training import perturbed_pairs
from mogrid.attacks.typos import TRAIN_TYPOS
from mogrid.data import Collection, Domain, Role, training_pairs
from mogrid.errors import DataError
from mogrid.experiment.settings import ExperimentSettings
from mogrid.files import KEPT, latest_checkpoint, seal
from mogrid.flops import FlopLedger
from mogrid.retrieval.models import ROUTES
from mogrid.retrieval.tokens import remembering
from mogrid.trainer import ParetoTrainer, ParetoTrainingArguments

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn

__all__ = [
    "Interrupted",
    "TrainingWatch",
    "batch_costs",
    "build_losses",
    "objective_costs",
    "train",
    "training_datasets",
]

PROBE_BATCHES = 16
_PASSED_OVER = 20  # results beyond the negatives wanted, some of which are positives
_MINED: dict[tuple[str, int], Dataset] = {}  # all cells of a worker train on the same


class Interrupted(Exception):
    """The training stopped early on request; its checkpoint is on disk."""


def training_datasets(collection: Collection, settings: ExperimentSettings, seed: int) -> dict[str, Dataset]:
    """Return one dataset per objective; only training-role text is in them (`RoleError` otherwise)."""
    from datasets import concatenate_datasets

    pairs = _pairs(collection.source, settings)
    limit = settings.training.max_pairs
    if limit is not None and limit < len(pairs):
        # The same rows for every seed and strategy: D is a property of the experiment, not of a run.
        pairs = pairs.shuffle(seed=0).select(range(limit))
    domains = collection.ood_with(Role.TRAIN)
    if not domains:
        raise DataError("no OOD domain has the role 'train': the objective 'ood' has nothing to train on")
    other = [
        rows.add_column("label", [i] * len(rows))
        for i, rows in enumerate(_pairs(domain, settings) for domain in domains)
    ]
    # groups are numbered per domain: shift them so that no two domains share one
    shifted, offset = [], 0
    for rows in other:
        groups = [g + offset for g in rows["group"]]
        offset = max(groups) + 1
        shifted.append(rows.remove_columns("group").add_column("group", groups))
    if settings.training.adversarial == "typos":
        adversarial = perturbed_pairs(pairs, TRAIN_TYPOS, seed=seed, variants=settings.training.typo_variants)
    else:
        adversarial = pairs
    return {"effectiveness": pairs, "ood": concatenate_datasets(shifted), "adversarial": adversarial}


def _pairs(domain: Domain, settings: ExperimentSettings) -> Dataset:
    """Return the domain's training pairs, with hard negatives where these are asked for."""
    if not settings.training.negatives:
        return training_pairs(domain)
    from mogrid.retrieval import mine_hard_negatives

    count = settings.training.negatives
    key = domain.fingerprint, count
    if key not in _MINED:
        _MINED[key] = mine_hard_negatives("bm25", domain, negatives=count, depth=count + _PASSED_OVER)
    return _MINED[key]


def build_losses(model: SentenceTransformer, settings: ExperimentSettings, domains: int = 2) -> dict[str, nn.Module]:
    """Return one loss per objective on one model, with so many OOD training domains."""
    from mogrid.objectives import (
        FGM,
        IDRO,
        BalancedERM,
        GroupDRO,
        InfoNCE,
        PerturbationConsistency,
        RotatingUnseenDomain,
        SmoothWorstDomain,
    )

    training = settings.training
    contrastive = InfoNCE(model, training.temperature)
    other: dict[str, Callable[[], nn.Module]] = {
        "worst": lambda: SmoothWorstDomain(contrastive, training.ood_temperature),
        "balanced": lambda: BalancedERM(contrastive),
        "group_dro": lambda: GroupDRO(contrastive, domains),
        "idro": lambda: IDRO(contrastive, domains),
        "unseen": lambda: RotatingUnseenDomain(contrastive, domains),
    }
    adversarial = (
        PerturbationConsistency(model, training.temperature, training.consistency)
        if training.adversarial == "typos"
        else FGM(contrastive, training.epsilon)
    )
    return {
        "effectiveness": contrastive,
        "ood": other[training.ood](),
        "adversarial": adversarial,
    }


def _arguments(folder: Path, settings: ExperimentSettings, steps: int, seed: int) -> ParetoTrainingArguments:
    training, prompt = settings.training, settings.encoder.query_prompt
    return ParetoTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=training.batch_size,
        objective_batch_sizes=training.batch_sizes,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=training.warmup,
        max_grad_norm=training.max_grad_norm,
        bf16=training.bf16,
        use_cpu=not torch.accelerator.is_available(),  # transformers allows bf16 on a CPU only where told so
        seed=seed,
        data_seed=seed,
        logging_steps=max(steps // 20, 1),
        save_strategy="steps",
        save_steps=max(steps // 4, 1),
        save_total_limit=KEPT,
        report_to="none",
        disable_tqdm=True,
        router_mapping=ROUTES,
        prompts={"query": prompt, "perturbed": prompt} if prompt else None,
        dataloader_pin_memory=False,
    )


class QuietTrainer(ParetoTrainer):
    """The run's record is written by us: no examples for a model card are computed, nothing is printed."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        model: Any = self.model
        model.save_pretrained(output_dir or self.args.output_dir, create_model_card=False)


def _trainer(
    model: SentenceTransformer,
    datasets: Mapping[str, Dataset],
    settings: ExperimentSettings,
    solver: Mapping[str, Any],
    arguments: ParetoTrainingArguments,
) -> ParetoTrainer:
    losses = build_losses(model, settings, max(datasets["ood"]["label"]) + 1)
    trainer = QuietTrainer(model=model, args=arguments, train_dataset=datasets, loss=losses, solver=solver)
    trainer.remove_callback(PrinterCallback)
    collator: Any = trainer.data_collator
    collator.preprocess_fn = remembering(model)
    return trainer


def objective_costs(
    model: SentenceTransformer, datasets: Mapping[str, Dataset], settings: ExperimentSettings, scratch: Path
) -> dict[str, float]:
    """Measure the mean training FLOPs of one batch of each objective, over the first batches of a real loader.

    Strategies get equal FLOPs through this: one that spends nothing on an objective takes more steps.
    """
    equal = {"name": "fixed"}
    trainer = _trainer(model, datasets, settings, equal, _arguments(scratch, settings, PROBE_BATCHES, seed=0))
    return batch_costs(trainer)


def batch_costs(trainer: ParetoTrainer) -> dict[str, float]:
    """Return the mean training FLOPs of a batch of every active objective of a trainer; nothing is trained."""
    model: Any = trainer.model
    costs: dict[str, float] = {}
    loader = iter(trainer.get_train_dataloader())
    model.train()
    count = 0
    for batch in (next(loader) for _ in range(min(PROBE_BATCHES, len(trainer._train_dataloader)))):
        count += 1
        for name in batch:
            with FlopLedger(model) as ledger:
                inputs: dict[str, Any] = trainer._prepare_inputs(batch)
                loss: Any = trainer.compute_loss(model, inputs[name])
                loss.backward()
            costs[name] = costs.get(name, 0.0) + ledger.total
    model.zero_grad()
    return {name: cost / count for name, cost in costs.items()}


def train(
    model: SentenceTransformer,
    datasets: Mapping[str, Dataset],
    settings: ExperimentSettings,
    solver: Mapping[str, Any],
    *,
    steps: int,
    seed: int,
    folder: Path,
    progress: Callable[[float], None] = lambda share: None,
    stop: Callable[[], bool] = lambda: False,
) -> FlopLedger:
    """Train in place, resuming the folder's checkpoint if there is one; return the FLOPs of the whole training.

    Raises
    ------
    Interrupted
        `stop` became true; a checkpoint was written first.
    """
    trainer = _trainer(model, datasets, settings, solver, _arguments(folder, settings, steps, seed))
    last = latest_checkpoint(folder)
    if last is None and folder.is_dir():
        shutil.rmtree(folder)
    with FlopLedger(model) as ledger:
        for kind, flops in (last[1]["flops"] if last else {}).items():
            setattr(ledger, kind, flops)
        callback = TrainingWatch(ledger, folder, progress, stop)
        trainer.add_callback(callback)
        go_on(trainer, last[0] if last else None)
    if callback.stopped:
        raise Interrupted
    return ledger


def go_on(trainer: ParetoTrainer, checkpoint: Path | None) -> None:
    """Train from a checkpoint to the end; of the last step's, take the model: there is nothing left to train."""
    from sentence_transformers import SentenceTransformer

    if checkpoint is not None and int(checkpoint.name.rpartition("-")[2]) >= trainer.args.max_steps:
        model: Any = trainer.model
        model.load_state_dict(SentenceTransformer(str(checkpoint), device="cpu").state_dict())
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


class TrainingWatch(TrainerCallback):
    """Report progress, seal every checkpoint with the ledger in it, stop with a checkpoint when asked."""

    def __init__(
        self, ledger: FlopLedger, folder: Path, progress: Callable[[float], None], stop: Callable[[], bool]
    ) -> None:
        self.ledger = ledger
        self.folder = folder
        self.progress = progress
        self.stop = stop
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step / state.max_steps)
        if self.stop() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        flops = {kind: getattr(self.ledger, kind) for kind in ("forward", "backward", "crafting")}
        seal(self.folder / f"checkpoint-{state.global_step}", flops=flops)
