"""Products by the faster library are the same products."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mogrid.retrieval import linear
from mogrid.retrieval.encode import encode
from mogrid.retrieval.linear import fast_products
from mogrid.retrieval.models import build_retriever


@pytest.fixture
def calls(monkeypatch):
    """How often the library multiplies; where it is not the faster one, torch does in its place."""
    own = linear._product() or (lambda x, weight, bias, *rest: nn.functional.linear(x, weight, bias))
    found = []
    monkeypatch.setattr(linear, "_product", lambda: lambda *given: found.append(1) or own(*given))
    return found


def both(layer, x, run):
    """What a layer gives and what its gradients are, by either library."""
    found = []
    for fast in (False, True):
        own, given = copy.deepcopy(layer), x.detach().clone().requires_grad_(x.requires_grad)
        if fast:
            with fast_products(own):
                value = run(own, given)
                value.square().sum().backward()
        else:
            value = run(own, given)
            value.square().sum().backward()
        found.append([value.detach(), given.grad, *(p.grad for p in own.parameters())])
    return found


@pytest.mark.parametrize("shape", [(1, 8), (5, 8), (3, 7, 8)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("asked", ["all", "weights", "input"])
def test_values_and_gradients_are_the_same(calls, shape, bias, asked) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 6, bias=bias)
    layer.requires_grad_(asked != "input")
    x = torch.randn(shape, requires_grad=asked != "weights")
    for one, other in zip(*both(layer, x, lambda own, given: own(given)), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert calls


def test_it_is_the_faster_library_that_multiplies(calls) -> None:
    layer = nn.Sequential(nn.Linear(8, 6))
    with fast_products(layer):
        layer(torch.randn(2, 8)).sum().backward()
    assert len(calls) == 2  # the input wants no gradient
    layer(torch.randn(2, 8))
    assert len(calls) == 2
    assert "forward" not in layer[0].__dict__


def test_what_it_cannot_do_is_left_to_torch(calls) -> None:
    layer = nn.Linear(8, 6)
    x = torch.randn(3, 8)
    with fast_products(layer):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert layer.double()(x.double()).dtype == torch.float64
        assert layer.float()(x[:0]).shape == (0, 6)
        assert not calls
        with pytest.raises(RuntimeError, match="once_differentiable"):
            (slope,) = torch.autograd.grad(layer(x.requires_grad_()).square().sum(), x, create_graph=True)
            slope.sum().backward()


def test_looking_for_the_library_draws_nothing() -> None:
    linear._product.cache_clear()
    before = torch.get_rng_state()
    linear._product()
    assert torch.equal(torch.get_rng_state(), before)


def test_without_such_a_processor_nothing_changes(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    linear._product.cache_clear()
    layer = nn.Linear(8, 6)
    with fast_products(layer):
        assert "forward" not in layer.__dict__
    linear._product.cache_clear()


def test_encoding_leaves_the_model_as_it_was(tokenizer) -> None:
    model = build_retriever("1x32", tokenizer)
    encode(model, ["river stone", "garden"], "query")
    assert not any("forward" in module.__dict__ for module in model.modules())
