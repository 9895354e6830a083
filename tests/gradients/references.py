"""A small real encoder, three objectives on it, and their Jacobian the plain way."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from mogrid.solvers import MGDA, StepStatistics

NAMES = ("a", "b", "c")


class Encoder(nn.Module):
    """BERT, mean-pooled to embeddings."""

    def __init__(self, dropout: float = 0.0, layers: int = 2) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=12,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(input_ids=ids).last_hidden_state.mean(dim=1)


def encoder(dropout: float = 0.0, layers: int = 2, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(dropout, layers).train()


def batches(rows: int = 8, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 50, (rows, 10), generator=generator) for _ in NAMES]


def loss(embeddings: Tensor, k: int) -> Tensor:
    """A mean over rows, so that the loss of a union is the mean of its parts'."""
    return ((embeddings[:, k :: len(NAMES)] - 0.3 * k) ** 2).mean() * (1 + k)


def calls(model: Callable[[Tensor], Tensor], given: list[Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Closures that seed dropout, so that a second forward draws the same."""

    def call(k: int) -> Tensor:
        torch.manual_seed(100 + k)
        return loss(model(given[k]), k)

    return {name: (lambda k=k: call(k)) for k, name in enumerate(NAMES)}


def jacobian(model: nn.Module, given: list[Tensor], **context: object) -> Tensor:
    """J (K, P) from one ``backward`` after another on a copy, in float64 after the fact."""
    twin = copy.deepcopy(model)
    rows = []
    for call in calls(twin, given).values():
        twin.zero_grad()
        call().backward()
        rows.append(flat([p for p in twin.parameters() if p.requires_grad]))
    return torch.stack(rows)


def flat(parameters: list[nn.Parameter]) -> Tensor:
    """Gradients as one vector; None counts as zero."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([(g.to_dense() if g.is_sparse else g).flatten().double() for g in gradients])


def weights_of(products: Tensor) -> Tensor:
    return MGDA(normalise="l2").weights(StepStatistics(NAMES, gramian=products))
