"""Steps on the embeddings and consistency in all its settings: formulas, sizes, gradients, FLOPs, resumption."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mogrid.errors import ConfigError
from mogrid.flops import FlopLedger
from mogrid.objectives import FGM, PGD, VAT, InfoNCE, PerturbationConsistency
from mogrid.objectives.consistency import multi_positive
from mogrid.objectives.embeddings import keeping, project, scaled, shifted
from mogrid.retrieval.freezing import freeze
from mogrid.retrieval.models import build_retriever
from tests.objectives.test_domains import eager
from tests.objectives.test_objectives import columns, embed


def hooks_left(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("towers", [1, 2])
def test_each_step_of_pgd_raises_the_loss_within_the_ball(tokenizer, texts, towers) -> None:
    model = build_retriever("1x32", tokenizer, towers=towers, dropout=0.0, seed=0).train()
    inner = InfoNCE(model)
    queries, documents = zip(*texts[:8], strict=True)
    features = [dict(model.preprocess(list(t), task=task)) for t, task in ((queries, "query"), (documents, "document"))]
    plain = float(inner([dict(c) for c in features], None))
    pgd = PGD(inner, epsilon=0.05, steps=8, step_size=0.4)
    assert plain < float(FGM(inner, 0.05)(features)) < float(pgd(features)) + 1e-4
    with keeping(model) as embeddings:
        inner([dict(c) for c in features], None)
    for shift, e in zip(pgd._craft(features, None), embeddings, strict=True):
        assert (shift.flatten(1).norm(dim=1) <= 0.05 * e.flatten(1).norm(dim=1) * (1 + 1e-5)).all()
    assert hooks_left(model) == 0


@pytest.mark.parametrize("frozen", ["embeddings", "lower layers"])
def test_frozen_embeddings_are_shifted_alike(tokenizer, texts, frozen) -> None:
    queries, documents = zip(*texts[:8], strict=True)
    found = []
    for still in (False, True):
        model = build_retriever("2x32", tokenizer, dropout=0.0, seed=0).train()
        if still:
            freeze(model, "embeddings" if frozen == "embeddings" else 1)
        value = PGD(InfoNCE(model), epsilon=0.05)(columns(model, queries, documents))
        value.backward()
        found.append(value.detach())
    torch.testing.assert_close(found[0], found[1])


def test_fgm_is_one_whole_step(model, texts) -> None:
    queries, documents = zip(*texts[:8], strict=True)
    features = columns(model, queries, documents)
    inner = InfoNCE(model)
    one = PGD(inner, epsilon=0.03, steps=1, step_size=1.0)
    torch.testing.assert_close(FGM(inner, 0.03)(features), one(features))
    cut = PGD(inner, epsilon=0.03, steps=1, step_size=5.0)  # projected back to the same point
    torch.testing.assert_close(cut(features), one(features))


def test_projection_and_scaling() -> None:
    e, d = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    d[1] = 0
    step = scaled(d, e, 0.1)
    assert torch.equal(step[1], torch.zeros(4, 5))
    short = project(step * 0.5, e, 0.1)
    torch.testing.assert_close(short, step * 0.5)
    torch.testing.assert_close(project(step * 3, e, 0.1), step)


def test_an_error_leaves_no_hook_behind(model, texts) -> None:
    class Broken(InfoNCE):
        def forward(self, features, labels):
            super().forward(features, labels)
            raise RuntimeError("broken")

    queries, documents = zip(*texts[:4], strict=True)
    for loss in (FGM(Broken(model)), PGD(Broken(model))):
        with pytest.raises(RuntimeError, match="broken"):
            loss(columns(model, queries, documents))
    assert hooks_left(model) == 0
    with pytest.raises(ConfigError, match="columns"):
        VAT(model)(columns(model, queries))


def test_vat_moves_scores_more_than_chance_and_costs_nothing_where_nothing_moves(model, texts) -> None:
    queries, documents = zip(*texts[:12], strict=True)
    features = columns(model, queries, documents)
    vat = VAT(model, epsilon=0.05, iterations=3, seed=1)
    clean = embed(model, features[0]) @ embed(model, features[1]).T
    ranking = F.cross_entropy(clean, torch.arange(12))
    found = float(vat(features)) - float(ranking)

    with keeping(model) as embeddings:
        for column in features:
            embed(model, column)
    chance = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        random = [scaled(torch.randn(e.shape, generator=generator), e.detach(), 0.05) for e in embeddings]
        with shifted(model, random):
            moved = embed(model, features[0]) @ embed(model, features[1]).T
        p, q = clean.log_softmax(1), moved.log_softmax(1)
        chance.append(float((p.exp() * (p - q)).sum(1).mean()))
    assert found > 2 * max(chance) > 0
    torch.testing.assert_close(VAT(model, weight=0.0)(features), ranking)


def test_vat_draws_on_where_it_stopped(model, texts) -> None:
    queries, documents = zip(*texts[:6], strict=True)
    features = columns(model, queries, documents)
    model.train()
    whole = VAT(model, epsilon=0.1)
    values = [float(whole(features)) for _ in range(3)]
    assert len(set(values)) == 3
    first, second = VAT(model, epsilon=0.1), VAT(model, epsilon=0.1)
    for _ in range(2):
        first(features)
    second.load_state_dict(first.state_dict())
    assert float(second(features)) == values[2]


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("teacher", ["detached", "live", "frozen"])
def test_consistency_in_all_settings(tokenizer, model, texts, teacher, direction, side) -> None:
    queries, documents = zip(*texts[:6], strict=True)
    noisy = [text[1:] for text in (queries if side == "query" else documents)]
    features = columns(model, queries, documents, noisy)
    other = build_retriever("1x32", tokenizer, dropout=0.0, seed=7)
    judge = other if teacher == "frozen" else model
    q, d, x = (embed(model, column) for column in features)
    moved = x @ d.T if side == "query" else q @ x.T
    clean = embed(judge, features[0]) @ (d if judge is model and side == "query" else embed(judge, features[1])).T
    if teacher != "live":
        clean = clean.detach()
    p, m = clean.log_softmax(1), moved.log_softmax(1)
    first, second = (p, m) if direction == "forward" else (m, p)
    expected = F.cross_entropy(moved, torch.arange(6)) + 2.0 * (first.exp() * (first - second)).sum(1).mean()
    loss = PerturbationConsistency(
        model, consistency=2.0, teacher=other if teacher == "frozen" else teacher, direction=direction, side=side
    )
    result = loss(features)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    weight = next(p for n, p in model.named_parameters() if n.endswith("query.weight"))
    torch.testing.assert_close(
        torch.autograd.grad(result, weight)[0], torch.autograd.grad(expected, weight)[0], rtol=1e-3, atol=1e-6
    )
    assert all(p.grad is None for p in other.parameters())
    assert len(list(loss.parameters())) == len(list(model.parameters()))  # a frozen teacher is not trained


DST = {"ranking": "clean", "dual": 0.5, "dual_consistency": 0.2}


@pytest.mark.parametrize("positives", ["one", "all"])
def test_dst_and_multi_positive_by_the_papers_formulas(model, texts, positives) -> None:
    """Of two variants a query; (1 − γ) CE + γ CE' + (1 − σ) KL + σ KL', clean scores as a fixed target of the KL."""
    queries, documents = zip(*texts[:6], strict=True)
    variants = [[q[1:] for q in queries], [q[:-1] for q in queries]]
    features = columns(model, queries, documents, *variants)
    q, d, *moved = (embed(model, column) for column in features)
    clean = q @ d.T
    target = clean.detach()

    def kl(first, second):
        p, m = first.log_softmax(1), second.log_softmax(1)
        return (p.exp() * (p - m)).sum(1).mean()

    found = F.cross_entropy(clean.T, torch.arange(6))
    if positives == "all":
        rows = []
        for i in range(6):
            others = [d[i] @ text[j] for text in (q, *moved) for j in range(6) if j != i]
            for text in (q, *moved):
                own = d[i] @ text[i]
                rows.append(torch.stack([own, *others]).logsumexp(0) - own)
        found = torch.stack(rows).mean()
    expected = 0.5 * F.cross_entropy(clean, torch.arange(6)) + 0.5 * found
    for text in moved:
        expected = expected + (0.8 * kl(target, text @ d.T) + 0.2 * kl(target.T, d @ text.T)) / 2
    result = PerturbationConsistency(model, **DST, positives=positives)(features)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    weight = next(p for n, p in model.named_parameters() if n.endswith("query.weight"))
    first, second = (torch.autograd.grad(value, weight)[0] for value in (result, expected))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-6)


def test_documents_are_what_is_found_when_documents_are_perturbed(model, texts) -> None:
    queries, documents = zip(*texts[:5], strict=True)
    features = columns(model, queries, documents, [d[1:] for d in documents])
    q, d, x = (embed(model, column) for column in features)
    loss = PerturbationConsistency(model, side="document", positives="all", consistency=0.0)
    torch.testing.assert_close(loss(features), multi_positive(q @ torch.cat([d, x]).T))
    alone = multi_positive(torch.randn(1, 3, requires_grad=True))  # a last batch of one row
    assert float(alone) == 0


@pytest.mark.parametrize("name", ["fgm", "pgd", "vat", "detached", "live", "frozen", "dst", "multi"])
def test_ledger_is_exact(tokenizer, texts, name) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = eager(tokenizer)
    queries, documents = zip(*texts[:12], strict=True)
    texts_of = [queries, documents]
    if name in ("detached", "live", "frozen"):
        teacher = eager(tokenizer) if name == "frozen" else name
        loss = PerturbationConsistency(model, teacher=teacher)
    elif name in ("dst", "multi"):
        loss = PerturbationConsistency(model, **DST, positives="all" if name == "multi" else "one")
    else:
        inner = InfoNCE(model)
        loss = {"fgm": lambda: FGM(inner), "pgd": lambda: PGD(inner, steps=3), "vat": lambda: VAT(model)}[name]()
    if isinstance(loss, PerturbationConsistency):
        texts_of.append([q[1:] for q in queries])
    features = columns(model, *texts_of)
    with FlopLedger(model) as ledger, FlopCounterMode(display=False) as counter:
        loss(features).backward()
    assert ledger.total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert (ledger.crafting > 0) == (name not in ("detached", "live", "dst", "multi"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: FGM(InfoNCE(m), 0), "epsilon"),
        (lambda m: PGD(InfoNCE(m), steps=0), "steps >= 1"),
        (lambda m: VAT(m, probe=0), "epsilon and probe"),
        (lambda m: VAT(m, iterations=0), "iterations >= 1"),
        (lambda m: PerturbationConsistency(m, teacher="frozen"), "'detached', 'live', 'base' or a model"),
        (lambda m: PerturbationConsistency(m, direction="back"), "'forward' or 'reverse'"),
        (lambda m: PerturbationConsistency(m, temperature=0), "temperature > 0"),
        (lambda m: PerturbationConsistency(m, ranking="dirty"), "'perturbed' or 'clean'"),
        (lambda m: PerturbationConsistency(m, dual=2), "shares from 0 to 1"),
        (lambda m: PerturbationConsistency(m, positives="all"), "has no such part with side 'query' and dual 0"),
        (lambda m: PerturbationConsistency(m, positives="all", dual=1.0, side="document"), "side 'document'"),
    ],
)
def test_bad_settings(model, make, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make(model)
