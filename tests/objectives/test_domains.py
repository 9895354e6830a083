"""Objectives over training domains: against hand computation, their weights, their bad input, their FLOPs."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mogrid.errors import ConfigError, DataError
from mogrid.flops import FlopLedger
from mogrid.objectives import IDRO, BalancedERM, DomainDRO, InfoNCE, RotatingUnseenDomain, SmoothWorstDomain
from mogrid.retrieval.adapters import sparse_embeddings
from mogrid.retrieval.models import build_retriever
from tests.objectives.test_objectives import columns


class Known(nn.Module):
    """Σ over rows of value · θ[row's first feature], so that each domain has a loss and a gradient of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ParameterDict({"theta": nn.Parameter(torch.tensor([1.0, 2.0]))})

    def forward(self, features, labels):
        return (features[0]["values"] @ self.model["theta"]).mean()


VALUES = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
LABELS = torch.tensor([0, 0, 1, 2, 2, 2])
LOSSES = torch.tensor([1.0, 2.0, 4.0])
GRADIENTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])


def value(loss: nn.Module, rows=slice(None)) -> torch.Tensor:
    return loss([{"values": VALUES[rows]}], LABELS[rows])


def gradient(loss: nn.Module, result: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(result, loss.model["theta"])[0]


def test_balanced_erm_counts_domains_not_rows() -> None:
    loss = BalancedERM(Known())
    result = value(loss)
    torch.testing.assert_close(result, LOSSES.mean())
    torch.testing.assert_close(gradient(loss, result), GRADIENTS.mean(dim=0))


def test_group_dro_by_hand() -> None:
    loss = DomainDRO(Known(), domains=3, step_size=0.1)
    weights = torch.full((3,), 1 / 3)
    for _ in range(3):
        weights = weights * (0.1 * LOSSES).exp()
        weights /= weights.sum()
        result = value(loss)
        torch.testing.assert_close(result, (weights * LOSSES).sum())
        torch.testing.assert_close(gradient(loss, result), weights @ GRADIENTS)
        torch.testing.assert_close(loss.weights, weights)
    assert loss.weights.argmax() == LOSSES.argmax()


def test_group_dro_leaves_absent_domains_and_evaluation_alone() -> None:
    loss = DomainDRO(Known(), domains=4, step_size=0.5)
    before = loss.weights.clone()
    first = value(loss, slice(0, 3))  # domains 0 and 1 alone
    ratio = loss.weights / before
    assert float(ratio[2]) == pytest.approx(float(ratio[3]))
    assert float(ratio[1] / ratio[0]) == pytest.approx(math.exp(0.5 * (2 - 1)))
    pair = loss.weights[:2] / loss.weights[:2].sum()
    torch.testing.assert_close(first, (pair * LOSSES[:2]).sum())
    loss.eval()
    kept = loss.log_weights.clone()
    value(loss)
    with torch.no_grad():
        loss.train()
        value(loss)
    assert torch.equal(loss.log_weights, kept)


def test_group_dro_survives_a_loss_that_overflowed() -> None:
    loss = DomainDRO(Known(), domains=3)
    with torch.no_grad():
        loss.model["theta"][0] = math.inf
    value(loss)
    assert torch.isfinite(loss.log_weights).all()


def test_idro_by_hand() -> None:
    loss = IDRO(Known(), domains=3, temperature=0.5, power=0.5, floor=0.02)
    unit = GRADIENTS / GRADIENTS.norm(dim=1, keepdim=True)
    size = LOSSES.sqrt()
    gain = (size[:, None] * size * (unit @ unit.T)).mean(dim=1)
    weights = torch.full((3,), 1 / 3)
    for _ in range(2):
        weights = weights * (gain / 0.5).exp()
        weights = 0.02 + (1 - 3 * 0.02) * weights / weights.sum()
        result = value(loss)
        torch.testing.assert_close(result, (weights * LOSSES).sum())
        torch.testing.assert_close(gradient(loss, result), weights @ GRADIENTS)
    assert loss.weights.argmax() == 2  # high, and it helps both others
    assert float(loss.weights.min()) >= 0.02


def test_idro_moves_as_far_where_gradients_of_embeddings_are_sparse(model, texts) -> None:
    """As a training on a processor has them, see `sparse_embeddings`."""
    features, labels = columns(model, texts[:6], texts[1:7]), torch.tensor([0, 0, 0, 1, 1, 1])
    model.train()
    moved = []
    for sparse in (nullcontext(), sparse_embeddings(model)):
        loss = IDRO(InfoNCE(model, temperature=0.1), 2)
        with sparse:
            loss(features, labels)
        moved.append(loss.weights)
    torch.testing.assert_close(*moved)
    assert float((moved[0] - 0.5).abs().max()) > 1e-4


def test_idro_does_not_chase_a_domain_that_helps_nobody() -> None:
    """DomainDRO's weight goes to the largest loss; iDRO's to those whose gradients agree."""

    class Noisy(Known):
        def forward(self, features, labels):
            return super().forward(features, labels) + 3 * (features[0]["values"][:, 1] == 5).float().mean()

    values = torch.tensor([[1.0, 0.1], [1.0, 0.0], [-1.0, 5.0]])
    labels = torch.arange(3)
    dro, idro = DomainDRO(Noisy(), 3, step_size=0.5), IDRO(Noisy(), 3)
    for _ in range(5):
        dro([{"values": values}], labels)
        idro([{"values": values}], labels)
    assert dro.weights.argmax() == 2
    assert float(idro.weights[2]) < float(dro.weights[2])


def test_unseen_domain_by_hand_and_in_turn() -> None:
    """A linear loss has constant gradients: the trial step takes α g·g_u off the held-out loss."""
    loss = RotatingUnseenDomain(Known(), domains=3, trial_step=0.1, weight=2.0)
    for held in (0, 1, 2, 0):
        seen = [d for d in range(3) if d != held]
        mean, g = LOSSES[seen].mean(), GRADIENTS[seen].mean(dim=0)
        result = value(loss)
        torch.testing.assert_close(result, mean + 2.0 * (LOSSES[held] - 0.1 * g @ GRADIENTS[held]))
        torch.testing.assert_close(gradient(loss, result), g + 2.0 * GRADIENTS[held])
    assert int(loss.turn) == 1


def test_unseen_domain_skips_who_is_not_there() -> None:
    loss = RotatingUnseenDomain(Known(), domains=4, trial_step=0.0)
    loss.turn.fill_(3)
    value(loss)  # 3 is absent: 0 is next
    assert int(loss.turn) == 1
    torch.testing.assert_close(value(loss, slice(3, 6)), LOSSES[2])
    assert int(loss.turn) == 1  # one domain alone cannot be held out


def test_wrapped_losses_see_one_domain_at_a_time(model, texts) -> None:
    queries, documents = zip(*texts[:9], strict=True)
    labels = torch.arange(9) % 3
    features = columns(model, queries, documents)
    inner = InfoNCE(model)
    parts = []
    for d in range(3):
        q, doc = zip(*[t for t, label in zip(texts[:9], labels.tolist(), strict=True) if label == d], strict=True)
        parts.append(inner(columns(model, q, doc), None))
    expected = torch.stack(parts)
    model.eval()
    for loss, weights in ((BalancedERM(inner), [1 / 3] * 3), (DomainDRO(inner, 3), [1 / 3] * 3)):
        torch.testing.assert_close(loss(features, labels), expected @ torch.tensor(weights), rtol=1e-5, atol=1e-5)


def eager(tokenizer):
    model = build_retriever("2x128", tokenizer, dropout=0.0).train()
    for module in model.modules():
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("name", ["balanced", "worst", "dro", "idro", "unseen"])
def test_ledger_is_exact(tokenizer, texts, name) -> None:
    """Within 1 % of torch's own count; gradients that a method takes on the side are in it."""
    from torch.utils.flop_counter import FlopCounterMode

    model = eager(tokenizer)
    inner = InfoNCE(model)
    loss = {
        "balanced": lambda: BalancedERM(inner),
        "worst": lambda: SmoothWorstDomain(inner),
        "dro": lambda: DomainDRO(inner, 2),
        "idro": lambda: IDRO(inner, 2),
        "unseen": lambda: RotatingUnseenDomain(inner, 2),
    }[name]()
    queries, documents = zip(*texts[:12], strict=True)
    features = columns(model, queries, documents)
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        loss(features, torch.arange(12) % 2).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DomainDRO(Known(), 0), "domains must be at least 1"),
        (lambda: DomainDRO(Known(), 3, step_size=0), "step_size must be positive"),
        (lambda: IDRO(Known(), 3, temperature=0), "temperature > 0"),
        (lambda: IDRO(Known(), 3, floor=0.4), r"floor must lie in \[0, 1/3\)"),
        (lambda: RotatingUnseenDomain(Known(), 1), "domains >= 2"),
        (lambda: SmoothWorstDomain(Known(), 0), "temperature must be positive"),
    ],
)
def test_bad_settings(make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_labels() -> None:
    with pytest.raises(DataError, match="'label' column"):
        BalancedERM(Known())([{"values": VALUES}], None)
    with pytest.raises(DataError, match="labels lie in 0 to 2, but its domains are 0 to 1"):
        value(DomainDRO(Known(), 2))
    with pytest.raises(DataError, match="not among its domains"):
        value(RotatingUnseenDomain(Known(), 2))
