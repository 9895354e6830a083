"""The engine under what people train with: each case against plain ``backward()`` calls on a copy."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

from mogrid.errors import ConfigError
from mogrid.gradients import GradientEngine, make_engine
from mogrid.solvers import MGDA
from tests.gradients.references import NAMES, batches, calls, encoder, flat, jacobian, weights_of


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def check(model, given=None, *, embed=None, gradients="exact", rtol=1e-4, atol=1e-6, context=contextlib.nullcontext):
    """One MGDA step through the engine equals the combination by hand."""
    given = given or batches()
    with context():
        j = jacobian(model, given)
        engine = make_engine(gradients, model, trained(model), NAMES, MGDA(normalise="l2"))
        report = engine.accumulate(calls(model if embed is None else embed, given))
    weights = torch.tensor(list(report.weights.values())).double()
    if gradients == "exact":
        torch.testing.assert_close(weights, weights_of(j @ j.T).double(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(flat(trained(model)), weights @ j, rtol=rtol, atol=atol)
    assert j.abs().sum() > 0


@pytest.mark.parametrize("gradients", ["exact", {"mode": "last_layers", "layers": 1}, "sketch"])
def test_dropout(gradients) -> None:
    check(encoder(dropout=0.3), gradients=gradients)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("gradients", ["exact", "sketch"])
def test_gradient_checkpointing(reentrant, gradients) -> None:
    model = encoder(dropout=0.2)
    plain = jacobian(model, batches())
    model.bert.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.bert.enable_input_require_grads()
    assert model.bert.is_gradient_checkpointing
    check(model, gradients=gradients)
    torch.testing.assert_close(jacobian(model, batches()), plain)  # and checkpointing was on, yet changed nothing


@pytest.mark.parametrize("reentrant", [True, False])
def test_last_layers_with_checkpointing(reentrant: bool) -> None:
    model = encoder()
    model.bert.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.bert.enable_input_require_grads()
    check(model, gradients={"mode": "last_layers", "layers": 1})


def test_last_layers_of_one_graph_with_what_has_no_gradient_to_give_early() -> None:
    """Re-entrant checkpoints refuse it, and a loss whose backward hides in a hook gives None: neither passes silently."""
    model, hidden = encoder(), torch.zeros(1, requires_grad=True)
    engine = make_engine("last_layers", model, trained(model), NAMES, MGDA())
    with pytest.raises(ConfigError, match="'b' does not reach"):
        engine.accumulate({**calls(model, batches()), "b": lambda: (hidden * 2).sum()}, shared_graph=True)
    model.bert.gradient_checkpointing_enable({"use_reentrant": True})
    model.bert.enable_input_require_grads()
    with pytest.raises(ConfigError, match="use_reentrant=True"):
        engine.accumulate(calls(model, batches()), shared_graph=True)


def test_bf16_autocast() -> None:
    check(encoder(), context=lambda: torch.autocast("cpu", torch.bfloat16), rtol=1e-3, atol=1e-4)


def test_fp16_scaler_changes_nothing_but_the_scale() -> None:
    model, given = encoder(), batches()
    j = jacobian(model, given)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    engine = GradientEngine(trained(model), NAMES, MGDA(normalise="l2"))
    optimiser = torch.optim.SGD(trained(model), lr=1.0)
    before = torch.cat([p.detach().flatten().double() for p in trained(model)])
    report = engine.accumulate(
        calls(model, given),
        run_backward=lambda value, retain_graph=False: scaler.scale(value).backward(retain_graph=retain_graph),
        loss_scale=scaler.get_scale(),
    )
    scaler.unscale_(optimiser)
    weights = torch.tensor(list(report.weights.values())).double()
    torch.testing.assert_close(weights, weights_of(j @ j.T).double(), rtol=1e-3, atol=1e-4)
    scaler.step(optimiser)
    scaler.update()
    after = torch.cat([p.detach().flatten().double() for p in trained(model)])
    torch.testing.assert_close(before - after, weights @ j, rtol=1e-3, atol=1e-5)


def test_fp16_overflow_skips_the_step_and_lowers_the_scale() -> None:
    model, given = encoder(), batches()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    optimiser = torch.optim.SGD(trained(model), lr=1.0)
    engine = GradientEngine(trained(model), NAMES, MGDA())
    before = copy.deepcopy(model.state_dict())
    report = engine.accumulate(
        {name: (lambda call=call: call() * 1e6) for name, call in calls(model, given).items()},
        run_backward=lambda value, retain_graph=False: scaler.scale(value).backward(retain_graph=retain_graph),
        loss_scale=scaler.get_scale(),
    )
    scaler.step(optimiser)
    scaler.update()
    assert all(weight != weight for weight in report.weights.values())  # NaN: there was no solution
    assert scaler.get_scale() < 2.0**127
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_frozen_layers() -> None:
    model = encoder()
    for p in model.bert.encoder.layer[0].parameters():
        p.requires_grad_(False)
    check(model)
    assert all(p.grad is None for p in model.bert.encoder.layer[0].parameters())


def test_parameters_that_one_objective_does_not_use() -> None:
    """A head of its own for each objective: gradients of the others are None there, not stale."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder()
            self.heads = nn.ModuleList(nn.Linear(16, 16) for _ in NAMES)
            self.calls = 0

        def forward(self, ids):
            self.calls += 1
            return self.heads[(self.calls - 1) % 3](self.encoder(ids))

    check(Heads())


def test_tied_weights() -> None:
    model = encoder()
    model.bert.encoder.layer[1].intermediate.dense.weight = model.bert.encoder.layer[0].intermediate.dense.weight
    check(model)


def test_lora() -> None:
    peft = pytest.importorskip("peft")
    model = encoder()
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], lora_dropout=0.1, init_lora_weights=False)
    model.bert = peft.get_peft_model(model.bert, config)
    assert 0 < len(trained(model)) < len(list(model.parameters()))
    check(model)


def test_sparse_embeddings() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(50, 16, sparse=True)
            self.top = nn.Linear(16, 16)

        def forward(self, ids):
            return self.top(self.table(ids).mean(dim=1)).tanh()

    model, given = Bag(), batches()
    check(model, given)
    check(model, given, gradients="sketch")
    torch.optim.SparseAdam([model.table.weight])


@pytest.mark.slow
def test_compiled_encoder() -> None:
    model = encoder()
    check(model, embed=torch.compile(model, backend="aot_eager"))


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 4, 2)])
def test_cached_losses_of_sentence_transformers(model, texts, sizes) -> None:
    """Their encoder backward hides in a hook; plain ``backward()`` works with them."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    def closures(kind):
        found = {}
        for k, (name, size) in enumerate(zip(NAMES, sizes, strict=True)):
            rows = texts[8 * k : 8 * k + size]
            features = [model.preprocess([row[side] for row in rows], task=None) for side in (0, 1)]
            found[name] = lambda f=features: kind([dict(x) for x in f], None)
        return found

    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    results = []
    for kind in (
        MultipleNegativesRankingLoss(model),
        CachedMultipleNegativesRankingLoss(model, mini_batch_size=3),
    ):
        engine = GradientEngine(trained(model), NAMES, MGDA(normalise="l2"))
        report = engine.accumulate(closures(kind))
        results.append((list(report.weights.values()), flat(trained(model))))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3, abs=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-5)
