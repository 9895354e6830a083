"""Objectives against their formulas, on a tiny retriever."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mogrid.flops import FlopLedger
from mogrid.gradients.features import take_rows
from mogrid.objectives import FGM, InfoNCE, PerturbationConsistency, SmoothWorstDomain
from mogrid.objectives.embeddings import scaled
from mogrid.retrieval.models import build_retriever


def columns(model, *texts):
    return [dict(model.preprocess(list(column))) for column in texts]


def embed(model, column):
    return model(dict(column))["sentence_embedding"]


def test_infonce_is_cross_entropy_of_dot_products(model, texts) -> None:
    queries, documents = zip(*texts[:8], strict=True)
    features = columns(model, queries, documents)
    scores = embed(model, features[0]) @ embed(model, features[1]).T / 0.5
    expected = F.cross_entropy(scores, torch.arange(8))
    torch.testing.assert_close(InfoNCE(model, temperature=0.5)(features, None), expected)


class Fixed(nn.Module):
    """A loss whose value per domain is known: the mean of the first token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Identity()

    def forward(self, features, labels):
        return features[0]["values"].mean()


@given(
    values=st.lists(st.floats(-5, 5), min_size=2, max_size=6),
    temperature=st.floats(0.05, 50),
)
@settings(deadline=None)
def test_smooth_worst_domain_lies_between_mean_and_worst(values, temperature) -> None:
    labels = torch.arange(len(values)).repeat_interleave(2)
    features = [{"values": torch.tensor(values, dtype=torch.float64).repeat_interleave(2)}]
    loss = float(SmoothWorstDomain(Fixed(), temperature)(features, labels))
    mean, worst = sum(values) / len(values), max(values)
    assert mean - 1e-6 <= loss <= worst + 1e-6
    exact = temperature * math.log(sum(math.exp((v - worst) / temperature) for v in values) / len(values)) + worst
    assert loss == pytest.approx(exact, abs=1e-6)


def test_worst_domain_keeps_negatives_inside_a_domain(model, texts) -> None:
    queries, documents = zip(*texts[:8], strict=True)
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    features = columns(model, queries, documents)
    inner = InfoNCE(model)
    parts = []
    for d in (0, 1):
        own = [t for t, label in zip(texts[:8], labels.tolist(), strict=True) if label == d]
        q, doc = zip(*own, strict=True)
        parts.append(inner(columns(model, q, doc), None))
    expected = torch.stack(parts).logsumexp(0) - math.log(2)
    torch.testing.assert_close(SmoothWorstDomain(inner)(features, labels), expected, rtol=1e-5, atol=1e-6)


def test_worst_domain_without_labels_says_what_is_missing(model) -> None:
    with pytest.raises(ValueError, match="label"):
        SmoothWorstDomain(InfoNCE(model))([], None)


def test_take_rows_cuts_padding() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    features = {"input_ids": mask * 7, "attention_mask": mask, "task": "query"}
    taken = take_rows(features, torch.tensor([1, 2]))
    assert taken["input_ids"].tolist() == [[7, 7], [7, 0]]
    assert taken["task"] == "query"


@pytest.mark.parametrize("teacher", ["live", "detached"])
def test_consistency_is_ranking_plus_divergence(model, texts, teacher) -> None:
    queries, documents = zip(*texts[:6], strict=True)
    perturbed = [q[1:] for q in queries]
    features = columns(model, queries, documents, perturbed)
    clean, document, noisy = (embed(model, column) for column in features)
    p, q = (clean @ document.T).softmax(1), (noisy @ document.T).softmax(1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    expected = F.cross_entropy(noisy @ document.T, torch.arange(6)) + 2.0 * divergence
    loss = PerturbationConsistency(model, consistency=2.0, teacher=teacher)(features)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert loss.requires_grad


def test_identical_queries_have_no_divergence(model, texts) -> None:
    queries, documents = zip(*texts[:6], strict=True)
    features = columns(model, queries, documents, queries)
    with_term = PerturbationConsistency(model, consistency=5.0)(features)
    without = PerturbationConsistency(model, consistency=0.0)(features)
    torch.testing.assert_close(with_term, without, rtol=1e-4, atol=1e-5)


def test_fgm_raises_the_loss_and_its_step_has_the_stated_size(model, texts) -> None:
    model.train()
    queries, documents = zip(*texts[:8], strict=True)
    inner = InfoNCE(model)
    features = columns(model, queries, documents)
    clean = inner([dict(c) for c in features], None)
    small, large = (FGM(inner, epsilon=e)(features) for e in (0.01, 0.05))
    assert clean < small < large
    e, g = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    step = scaled(g, e, 0.05)
    torch.testing.assert_close(step.flatten(1).norm(dim=1), 0.05 * e.flatten(1).norm(dim=1))
    assert not any(m._forward_hooks for m in model.modules())  # nothing is left behind


def test_fgm_gradient_is_that_of_the_perturbed_loss_only(model, texts) -> None:
    queries, documents = zip(*texts[:8], strict=True)
    features = columns(model, queries, documents)
    model.zero_grad()
    FGM(InfoNCE(model), 0.02)(features).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "pooler" not in n)


def test_ledger_charges_forward_backward_and_crafting(tokenizer, texts) -> None:
    model = build_retriever("1x32", tokenizer, dropout=0.0)
    queries, documents = zip(*texts[:8], strict=True)
    features = columns(model, queries, documents)
    weights = 12 * 32 * 32  # four attention matrices and the two of the feed-forward layer
    forward = 0.0
    for column in features:
        rows, length = column["input_ids"].shape
        forward += 2 * weights * rows * length + 4 * 1 * 32 * length**2 * rows
    inner = InfoNCE(model)
    with FlopLedger(model) as ledger:
        inner([dict(c) for c in features], None).backward()
    assert ledger.entries() == pytest.approx(
        {"forward": forward, "backward": 2 * forward, "crafting": 0.0, "total": 3 * forward}
    )
    with FlopLedger(model) as ledger:
        FGM(inner, 0.02)([dict(c) for c in features]).backward()
    assert ledger.entries() == pytest.approx(
        {"forward": forward, "backward": 2 * forward, "crafting": 2 * forward, "total": 5 * forward}
    )
    inner([dict(c) for c in features], None).backward()
    assert ledger.total == pytest.approx(5 * forward)  # closed: counts no more


def test_ledger_agrees_with_torchs_counter(tokenizer, texts) -> None:
    """Within 1 % of an exact count of matrix products (eager attention: torch counts 0 for SDPA on a CPU)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_retriever("2x128", tokenizer, dropout=0.0)
    for module in model.modules():
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
    queries, documents = zip(*texts[:16], strict=True)
    features = columns(model, queries, documents)
    inner = InfoNCE(model)
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        inner([dict(c) for c in features], None).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.01)
