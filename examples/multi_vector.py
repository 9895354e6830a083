"""ColBERT-style late interaction: a vector per token, MaxSim scores, two objectives and `backward`.

    python examples/multi_vector.py

Sentence-transformers' `MultiVectorEncoder` gives the token vectors and `maxsim` the scores; the losses are plain
tensors, so any solver weighs them. The objectives are questions in the order that training knows and in telegram style.
"""

from itertools import product

import numpy as np
import torch
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder import MultiVectorEncoder, maxsim
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn
from transformers.utils import logging

from mogrid import MGDA, backward
from mogrid.retrieval.models import build_retriever, train_tokenizer

logging.disable_progress_bar()
torch.manual_seed(0)
ANIMALS = {"otter": "a swimmer with thick fur", "falcon": "a bird of prey", "beetle": "an insect in armour"}
ANIMALS |= {
    "salmon": "a fish that climbs rivers",
    "badger": "a digger with a striped face",
    "viper": "a venomous snake",
}
TOPICS = {"eat": "food and hunting", "sleep": "rest and burrows", "breed": "eggs and young", "winter": "cold months"}
PLACES = ["Norway", "Spain", "Japan", "Kenya"]
CASES = list(product(ANIMALS, TOPICS, PLACES))
ASK = {
    "questions": [f"what is known of {animal} {topic} habits in {place}?" for animal, topic, place in CASES],
    "telegrams": [f"{place} {topic} {animal}" for animal, topic, place in CASES],
}
PAGES = [f"{ANIMALS[animal]}, seen in {place}: {TOPICS[topic]}" for animal, topic, place in CASES]
order = np.random.default_rng(0).permutation(len(CASES)).tolist()
train, held_out = order[:72], order[72:]

words = [texts[i] for texts in (*ASK.values(), PAGES) for i in train]
transformer = build_retriever("1x64", train_tokenizer(words, 250), dropout=0.0)[0]
project = Dense(64, 32, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings")
unit = Normalize(module_input_name="token_embeddings")
model = MultiVectorEncoder(modules=[transformer, project, MultiVectorMask(), unit])


def vectors(texts: list[str], task: str) -> tuple[Tensor, Tensor]:
    """Return the token vectors and which of them count."""
    features = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in model.preprocess(texts).items()}
    out = model(features, task=task)
    return out["token_embeddings"], out["attention_mask"].bool()


def losses(rows: list[int]) -> dict[str, Tensor]:
    """Return, for each way of asking, in-batch InfoNCE over MaxSim; the pages are encoded once for both."""
    pages, counts = vectors([PAGES[i] for i in rows], "document")
    found = {}
    for name, texts in ASK.items():
        asked, mask = vectors([texts[i] for i in rows], "query")
        scores = maxsim(asked, pages, mask, counts)
        found[name] = nn.functional.cross_entropy(scores, torch.arange(len(rows), device=scores.device))
    return found


with torch.no_grad():
    before = losses(held_out)
solver, optimiser = MGDA(), torch.optim.AdamW(model.parameters(), lr=2e-3)
rng, steps = np.random.default_rng(1), []
for _ in range(120):
    batch = rng.choice(train, 24, replace=False).tolist()
    steps.append(backward(losses(batch), model.parameters(), solver))
    optimiser.step()
with torch.no_grad():
    after = losses(held_out)
print(f"{'held-out loss':14} before  after  mean weight in {len(steps)} steps")
for name in ASK:
    weight = np.mean([step.weights[name] for step in steps])
    print(f"{name:14} {before[name]:6.3f} {after[name]:6.3f} {weight:12.2f}")
