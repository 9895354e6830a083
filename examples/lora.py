"""Low-rank adapters (peft) on a frozen encoder: learn a second domain, and keep the first.

    pip install peft && python examples/lora.py

An encoder from scratch learns cooking first; that stands for a checkpoint. Then adapters of rank 4, which are saved
without it, learn cooking and travel, weighed by UPGrad: no step raises either loss, and weights need not sum to 1.
"""

from copy import deepcopy
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.utils import logging

from mogrid import ParetoTrainer, ParetoTrainingArguments
from mogrid.objectives import InfoNCE
from mogrid.retrieval.models import build_retriever, train_tokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()
COOKING = product(["boil", "roast", "grill", "steam"], ["fresh", "frozen", "dried"], ["rice", "fish", "beans", "corn"])
TRAVEL = product(["ferry", "train", "coach", "plane"], ["early", "late", "cheap"], ["Lisbon", "Oslo", "Rome", "Cairo"])
HOW = {"boil": "in water", "roast": "in the oven", "grill": "over fire", "steam": "above water"}
BY = {"ferry": "at the harbour", "train": "on rails", "coach": "by road", "plane": "at the airport"}
domains = {
    "cooking": [(f"how to {how} {state} {it}", f"{state} {it} {HOW[how]}: a recipe") for how, state, it in COOKING],
    "travel": [(f"any {when} {by} for {city}?", f"{city}, {when}, leaving {BY[by]}") for by, when, city in TRAVEL],
}
rng = np.random.default_rng(0)
shuffled = {name: [rows[i] for i in rng.permutation(len(rows))] for name, rows in domains.items()}
held_out = {name: rows[36:] for name, rows in shuffled.items()}
train = {n: Dataset.from_list([{"query": q, "document": d} for q, d in rows[:36]]) for n, rows in shuffled.items()}
texts = [text for dataset in train.values() for column in ("query", "document") for text in dataset[column]]
model = build_retriever("1x64", train_tokenizer(texts, 250), normalise=True)


def held_out_losses() -> dict[str, float]:
    """Return the InfoNCE loss of every domain over its held-out documents."""
    losses = {}
    for name, rows in held_out.items():
        queries, documents = (model.encode(list(column), convert_to_tensor=True) for column in zip(*rows, strict=True))
        scores = queries @ documents.T / 0.05
        losses[name] = float(torch.nn.functional.cross_entropy(scores, torch.arange(len(rows), device=scores.device)))
    return losses


def fit(names: list[str], solver: str, epochs: int) -> dict[str, float]:
    """Train whatever has gradients for some domains, and return the last weights."""
    with TemporaryDirectory() as out:
        settings: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": 3e-3, "save_strategy": "no"}
        arguments = ParetoTrainingArguments(out, per_device_train_batch_size=18, report_to="none", **settings)
        losses = {name: InfoNCE(model, 0.05) for name in names}
        trainer = ParetoTrainer(model, arguments, {name: train[name] for name in names}, loss=losses, solver=solver)
        trainer.train()
    return trainer.last_step.weights if trainer.last_step else {}


fit(["cooking"], "fixed", 40)
before = held_out_losses()
base = deepcopy(model)
model[0].model = get_peft_model(model[0].model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
weights = fit(["cooking", "travel"], "upgrad", 40)
kept = all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
print(f"adapters: {trained} of {sum(p.numel() for p in model.parameters())} parameters; the rest unchanged: {kept}")
with TemporaryDirectory() as adapters:
    model[0].model.save_pretrained(adapters)
    base[0].model = PeftModel.from_pretrained(base[0].model, adapters)
same = (base.encode("a train to Oslo") == model.encode("a train to Oslo")).all()
print(f"adapters saved, and loaded onto the first encoder: the same embeddings: {same}")
print("held-out loss  before  after  last weight")
for name, loss in held_out_losses().items():
    print(f"{name:14} {before[name]:6.3f} {loss:6.3f} {weights[name]:12.2f}")
