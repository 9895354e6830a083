"""Data-parallel Pareto training; the solver sees the gradients of the whole batch, and the ranks stay equal.

    torchrun --nproc-per-node 2 examples/two_gpus.py

One GPU per process over NCCL where there are enough, else the CPU over gloo. `python examples/two_gpus.py` works, too.
"""

import gc
import os
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from datasets import Dataset
from transformers.utils import logging

from mogrid import ParetoTrainer, ParetoTrainingArguments
from mogrid.objectives import InfoNCE
from mogrid.retrieval.models import build_retriever, train_tokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()
world = int(os.environ.get("WORLD_SIZE", "1"))
on_gpus = torch.cuda.device_count() >= world

SHOPS = product(["open", "close"], ["Monday", "Tuesday", "Friday", "Sunday"], ["bakery", "library", "museum", "bank"])
RENTS = product(["rent", "return"], ["scooter", "canoe", "tent", "drill"], ["Rome", "Oslo", "Cairo", "Lima"])
domains = {
    "effectiveness": [
        (f"when does the {shop} {act} on {day}", f"{shop}, {day}, {act} hours") for act, day, shop in SHOPS
    ],
    "ood": [(f"{act} a {thing} in {city}", f"{city}: where to {act} any {thing}") for act, thing, city in RENTS],
}
rng = np.random.default_rng(0)
shuffled = {name: [rows[i] for i in rng.permutation(len(rows))] for name, rows in domains.items()}
train = {
    name: Dataset.from_dict({"query": [q for q, _ in rows[:24]], "document": [d for _, d in rows[:24]]})
    for name, rows in shuffled.items()
}
texts = [text for dataset in train.values() for column in ("query", "document") for text in dataset[column]]
model = build_retriever("1x64", train_tokenizer(texts, 250), normalise=True)  # seeded: equal on every rank
with TemporaryDirectory() as out:
    settings: dict[str, Any] = {"num_train_epochs": 30, "learning_rate": 2e-3, "save_strategy": "no"}
    settings |= {"ddp_backend": "nccl" if on_gpus else "gloo"} if world > 1 else {}
    arguments = ParetoTrainingArguments(
        out, use_cpu=not on_gpus, per_device_train_batch_size=12 // world, report_to="none", **settings
    )
    losses = {name: InfoNCE(model, 0.05) for name in domains}
    trainer = ParetoTrainer(model, arguments, train, loss=losses, solver={"name": "mgda", "normalise": "loss+"})

    def held_out_losses() -> dict[str, float]:
        """Return the InfoNCE loss of every objective over its held-out documents."""
        found = {}
        for name, rows in shuffled.items():
            queries, documents = (model.encode(list(c), convert_to_tensor=True) for c in zip(*rows[24:], strict=True))
            scores = queries @ documents.T / 0.05
            found[name] = float(torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)).to(scores.device)))
        return found

    before = held_out_losses()
    trainer.train()
    after, weights = held_out_losses(), trainer.last_step.weights if trainer.last_step else {}

checksum = torch.cat([p.detach().flatten() for p in model.parameters()]).double().abs().sum(0, keepdim=True)
sums = [torch.zeros_like(checksum) for _ in range(world)]
if world > 1:
    dist.all_gather(sums, checksum)
if trainer.is_world_process_zero():
    print(f"{world} process(es) on {arguments.device.type}; parameters equal: {len({float(s) for s in sums}) == 1}")
    print("held-out loss  before  after  last weight")
    for name, loss in after.items():
        print(f"{name:14} {before[name]:6.3f} {loss:6.3f} {weights[name]:12.2f}")
if world > 1:
    del trainer, losses  # they hold the group, and so gloo's threads, which can abort a process that is ending
    gc.collect()
    dist.destroy_process_group()
