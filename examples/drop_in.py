"""A sentence-transformers script turned into Pareto training; ``# -`` is what stood there, ``# +`` what replaced it.

    python examples/drop_in.py

Questions about a household's things must find their manual, spelled well (effectiveness) and spelled badly (typos).
"""

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers.utils import logging

# - from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from mogrid import ParetoTrainer, ParetoTrainingArguments  # +
from mogrid.attacks import Typos
from mogrid.data import Role
from mogrid.retrieval.models import build_retriever, train_tokenizer

logging.set_verbosity_error()
logging.disable_progress_bar()
THINGS = ["kettle", "toaster", "blanket", "bicycle", "radiator", "printer", "freezer", "curtain", "lantern", "hammock"]
ACTS = {"clean": "wipe dust off", "repair": "mend broken parts of", "store": "put away", "move": "carry about"}
CASES = list(product(ACTS, ["yellow", "purple", "silver", "orange"], THINGS))
questions = [f"how do I {act} my {colour} {thing}" for act, colour, thing in CASES]
manuals = [f"the {colour} {thing}: to {ACTS[act]} it, read this page" for act, colour, thing in CASES]
train, held_out = np.split(np.random.default_rng(0).permutation(len(CASES)), [120])


def misspelled(rows: np.ndarray, kinds: list[str], role: Role) -> list[str]:
    """Return the questions with typos of some kinds; those of training are not those of the test."""
    return Typos(kinds, rate=0.5, role=role).perturb([questions[i] for i in rows], None, np.random.default_rng(1))


texts, pages = [questions[i] for i in train], [manuals[i] for i in train]
slips = misspelled(train, ["swap", "delete"], Role.TRAIN)
pairs = Dataset.from_dict({"query": texts, "document": pages})
typos = Dataset.from_dict({"query": slips, "document": pages})
spelled = {"effectiveness": [questions[i] for i in held_out], "typos": misspelled(held_out, ["keyboard"], Role.TEST)}
# In place of SentenceTransformer("..."): a small encoder from scratch, so that no network is needed.
model = build_retriever("1x64", train_tokenizer([*texts, *pages], 150), normalise=True)


def held_out_loss(queries: list[str]) -> float:
    """Return the InfoNCE loss over the held-out manuals."""
    found = model.encode(queries, convert_to_tensor=True)
    scores = 20 * found @ model.encode([manuals[i] for i in held_out], convert_to_tensor=True).T
    return float(torch.nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device)))


before = {name: held_out_loss(queries) for name, queries in spelled.items()}
with TemporaryDirectory() as out:
    settings: dict[str, Any] = {"num_train_epochs": 24, "per_device_train_batch_size": 24, "learning_rate": 2e-3}
    # - trainer = SentenceTransformerTrainer(
    trainer = ParetoTrainer(  # +
        model=model,
        # - args=SentenceTransformerTrainingArguments(out, save_strategy="no", report_to="none", **settings),
        args=ParetoTrainingArguments(out, save_strategy="no", report_to="none", **settings),  # +
        # - train_dataset=pairs,
        train_dataset={"effectiveness": pairs, "typos": typos},  # +
        # - loss=MultipleNegativesRankingLoss(model),
        loss={name: MultipleNegativesRankingLoss(model) for name in ("effectiveness", "typos")},  # +
        solver={"name": "pareto_target", "preference": {"effectiveness": 1, "typos": 1}},  # +
    )
    trainer.train()
    steps = [json.loads(line) for line in (Path(out) / "steps.jsonl").read_text().splitlines()]
print(f"held-out loss  before  after  mean weight in {len(steps)} steps")
for name, queries in spelled.items():
    weight = np.mean([step[f"weight/{name}"] for step in steps])
    print(f"{name:14} {before[name]:6.3f} {held_out_loss(queries):6.3f} {weight:12.2f}")
