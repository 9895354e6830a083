"""The cached step equals the step with one graph over everything; and costs what it promises."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mogrid.errors import ConfigError, DataError
from mogrid.gradients import CachedEngine, GradientEngine
from mogrid.objectives import InfoNCE, PerturbationConsistency, SmoothWorstDomain, masked_info_nce
from mogrid.solvers import MGDA, FixedWeights, NonFiniteGradientError, NonFiniteLossError, StepStatistics, from_config
from tests.gradients.cached_references import combined, encode_with_graph, jacobian

NAMES = ("effectiveness", "typos", "alike")


def three(query, typo, document):
    """Three objectives over shared texts, in conflict with one another."""
    return {
        "effectiveness": masked_info_nce(query, document, temperature=0.5),
        "typos": masked_info_nce(typo, document, temperature=0.3),
        "alike": F.mse_loss(typo, query) + 0.1 * query.mean(),
    }


def column_of(values):
    return torch.tensor(list(values.values()), dtype=torch.float64)


def weights_of(solver, products):
    return solver.weights(StepStatistics(NAMES, gramian=products))


@pytest.mark.parametrize("mini_batch_size", [3, 16, 100])
@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_equals_the_uncached_step_with_dropout(retriever, columns, gramian, mini_batch_size) -> None:
    model = retriever(dropout=0.2)
    torch.manual_seed(7)
    embeddings = [encode_with_graph(model, features, mini_batch_size) for features in columns.values()]
    losses = three(*embeddings)
    of_parameters = jacobian(losses, list(model.parameters()))
    at = of_parameters if gramian == "exact" else jacobian(losses, embeddings)
    products = at @ at.T
    weights = weights_of(MGDA(normalise="l2"), products)

    engine = CachedEngine(model, NAMES, MGDA(normalise="l2"), mini_batch_size=mini_batch_size, gramian=gramian)
    torch.manual_seed(7)
    leaves = [engine.encode(features) for features in columns.values()]
    after = torch.get_rng_state()
    for leaf, embedding in zip(leaves, embeddings, strict=True):
        torch.testing.assert_close(leaf.detach(), embedding.detach())
    report = engine.backward(three(*leaves))
    assert torch.equal(torch.get_rng_state(), after)  # the second pass draws nothing of its own
    assert min(report.weights.values()) > 0.001
    torch.testing.assert_close(column_of(report.weights), weights, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(combined(model), weights @ of_parameters, rtol=1e-8, atol=1e-12)
    norms = column_of(report.gradient_norms)
    torch.testing.assert_close(norms, products.diagonal().sqrt())
    cosine = products[0, 2] / (norms[0] * norms[2])
    assert report.cosines["effectiveness", "alike"] == pytest.approx(cosine.item())
    assert report.losses == pytest.approx({name: loss.item() for name, loss in losses.items()})


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_mini_batch_size_changes_nothing(retriever, columns, gramian) -> None:
    results = []
    for size in (1, 5, 16):
        model = retriever()
        engine = CachedEngine(model, NAMES, MGDA(), mini_batch_size=size, gramian=gramian)
        report = engine.backward(three(*[engine.encode(features) for features in columns.values()]))
        results.append((column_of(report.weights), combined(model)))
    for weights, gradient in results[1:]:
        torch.testing.assert_close(weights, results[0][0])
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-8, atol=1e-13)


class Passes:
    """Count texts through the encoder: without a graph, with one, and backward."""

    def __init__(self, model):
        self.plain = self.graph = self.back = 0
        model[0].register_forward_hook(self)

    def __call__(self, module, args, output):
        hidden = output["token_embeddings"]
        if not hidden.requires_grad:
            self.plain += len(hidden)
            return
        self.graph += len(hidden)
        hidden.register_hook(lambda g: setattr(self, "back", self.back + len(g)))


@pytest.mark.parametrize(("solver", "gramian", "graph"), [
    ("mgda", "representation", 48), ("fixed", "representation", 48), ("famo", "representation", 48),
    ("mgda", "exact", 32 + 32 + 32),  # each objective encodes the two columns it reads
])  # fmt: skip
def test_one_encoder_backward_whatever_the_number_of_objectives(retriever, columns, solver, gramian, graph) -> None:
    model = retriever()
    passes = Passes(model)
    engine = CachedEngine(model, NAMES, from_config(solver), mini_batch_size=5, gramian=gramian)
    engine.backward(three(*[engine.encode(features) for features in columns.values()]))
    assert (passes.plain, passes.graph, passes.back) == (48, graph, graph)


def test_without_mini_batches_one_forward_and_one_backward(retriever, columns) -> None:
    model = retriever(dropout=0.2)
    torch.manual_seed(7)
    embeddings = [model(dict(features))["sentence_embedding"] for features in columns.values()]
    losses = three(*embeddings)
    truth, at = jacobian(losses, list(model.parameters())), jacobian(losses, embeddings)
    passes = Passes(model)
    engine = CachedEngine(model, NAMES, MGDA(normalise="l2"), mini_batch_size=None)
    torch.manual_seed(7)
    report = engine.backward(three(*[engine.encode(features) for features in columns.values()]))
    assert (passes.plain, passes.graph, passes.back) == (0, 48, 48)
    weights = column_of(report.weights)
    torch.testing.assert_close(weights, weights_of(MGDA(normalise="l2"), at @ at.T), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(combined(model), weights @ truth, rtol=1e-8, atol=1e-12)


def separate(texts, model):
    """Three (query, document) batches of unlike texts and sizes."""
    parts = {"effectiveness": texts[:12], "typos": texts[20:28], "alike": texts[40:50]}
    return {
        name: [model.preprocess([q for q, _ in part]), model.preprocess([d for _, d in part])]
        for name, part in parts.items()
    }


def test_separate_batches(retriever, texts) -> None:
    """No shared rows: the representation's Gramian is diagonal, the exact one is not and costs no further pass."""
    model = retriever()
    batches = separate(texts, model)
    losses = {
        name: masked_info_nce(*[encode_with_graph(model, column, 4) for column in batch], temperature=0.5)
        for name, batch in batches.items()
    }
    truth = jacobian(losses, list(model.parameters()))
    expected = {"exact": weights_of(MGDA(), truth @ truth.T)}
    passes = {}
    for gramian in ("representation", "exact"):
        model.zero_grad()
        engine = CachedEngine(model, NAMES, MGDA(), mini_batch_size=4, gramian=gramian)
        passes[gramian] = Passes(model)
        report = engine.backward(
            {n: masked_info_nce(*[engine.encode(c) for c in batch], temperature=0.5) for n, batch in batches.items()}
        )
        weights = column_of(report.weights)
        torch.testing.assert_close(combined(model), weights @ truth, rtol=1e-8, atol=1e-12)
        if gramian == "representation":
            assert set(report.cosines.values()) == {0.0}
            inverse = column_of(report.gradient_norms) ** -2
            torch.testing.assert_close(weights, inverse / inverse.sum())
        else:
            torch.testing.assert_close(weights, expected["exact"], rtol=1e-6, atol=1e-9)
            assert max(map(abs, report.cosines.values())) > 0.1
    assert passes["exact"].graph == passes["exact"].back == 60
    assert passes["representation"].graph == 2 * 60  # its hook saw the second engine's passes, too


def test_losses_of_sentence_transformers_need_no_change(retriever, columns) -> None:
    """Losses that call the model, wrap others, split batches or use a teacher, against the plain engine."""

    def losses(model):
        contrastive = InfoNCE(model, temperature=0.5)
        worst, consistent = SmoothWorstDomain(contrastive), PerturbationConsistency(model, temperature=0.5)
        domains = torch.arange(16) % 2
        pair = [columns["query"], columns["document"]]

        def fresh(*features):
            return [dict(column) for column in features]

        return {
            "effectiveness": lambda: contrastive(fresh(*pair), None),
            "typos": lambda: worst(fresh(*pair), domains),
            "alike": lambda: consistent(fresh(*pair, columns["typo"]), None),
        }

    plain, cached = retriever(), retriever()
    expected = GradientEngine(plain.parameters(), NAMES, MGDA()).accumulate(losses(plain))
    engine = CachedEngine(cached, NAMES, MGDA(), mini_batch_size=5, gramian="exact")
    report = engine.backward(losses(cached))
    assert report.weights == pytest.approx(expected.weights, rel=1e-6)
    assert report.losses == pytest.approx(expected.losses)
    torch.testing.assert_close(combined(cached), combined(plain), rtol=1e-8, atol=1e-12)
    quick = retriever()
    engine = CachedEngine(quick, NAMES, FixedWeights(list(report.weights.values())), mini_batch_size=5)
    engine.backward(losses(quick))
    torch.testing.assert_close(combined(quick), combined(plain), rtol=1e-8, atol=1e-12)
    assert "forward" not in vars(quick)


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_accumulation_equals_the_union(retriever, columns, gramian) -> None:
    """For losses that are means over rows; in the Gramian of the parameters, cross terms between parts included."""

    def losses(query, document):
        return {"low": (query - 1).square().mean(), "high": (document + 1).square().mean() + query.square().mean()}

    results = []
    for parts in (1, 2, 4):
        model = retriever()
        engine = CachedEngine(model, ("low", "high"), MGDA(), mini_batch_size=3, gramian=gramian)
        for i in range(parts):
            rows = slice(16 * i // parts, 16 * (i + 1) // parts)
            leaves = [
                engine.encode({k: v[rows] if isinstance(v, torch.Tensor) else v for k, v in columns[c].items()})
                for c in ("query", "document")
            ]
            report = engine.backward(losses(*leaves), final=i == parts - 1, divisor=parts)
            assert (report is None) == (i < parts - 1)
        results.append((column_of(report.weights), combined(model)))
    for weights, gradient in results[1:]:
        torch.testing.assert_close(weights, results[0][0])
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-8, atol=1e-13)


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, columns):
        query, document = (self.model(c)["sentence_embedding"] for c in columns)
        return masked_info_nce(query * self.scale, document)


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_parameters_of_a_loss_are_trained_and_weighed(retriever, columns, gramian) -> None:
    model = retriever()
    loss = Scaled(model)
    pair = [columns["query"], columns["document"]]
    embeddings = [encode_with_graph(model, c, 16) for c in pair]
    losses = {
        "ranking": masked_info_nce(embeddings[0] * loss.scale, embeddings[1]),
        "size": embeddings[0].square().mean(),
    }
    truth = jacobian(losses, list(loss.parameters()))
    at = truth if gramian == "exact" else jacobian(losses, [*embeddings, loss.scale])
    weights = MGDA().weights(StepStatistics(tuple(losses), gramian=at @ at.T))
    engine = CachedEngine(
        model, tuple(losses), MGDA(), parameters=loss.parameters(), mini_batch_size=5, gramian=gramian
    )
    report = engine.backward({
        "ranking": lambda: loss([dict(c) for c in pair]),
        "size": lambda: model(dict(columns["query"]))["sentence_embedding"].square().mean(),
    })  # fmt: skip
    if gramian == "exact":  # the two objectives encoded the queries apart, so only this Gramian is that of shared rows
        torch.testing.assert_close(column_of(report.weights), weights, rtol=1e-6, atol=1e-9)
    weights = column_of(report.weights)
    torch.testing.assert_close(combined(loss), weights @ truth, rtol=1e-8, atol=1e-12)
    assert loss.scale.grad.abs() > 1e-6


def test_autocast_is_the_same_in_both_passes(tokenizer, columns) -> None:
    """bf16 rounds: a second pass without autocast would be off by far more than the tolerance here."""
    from mogrid.retrieval.models import build_retriever

    model = build_retriever("1x32", tokenizer, dropout=0.0).train()
    results = {}
    for precision in (torch.bfloat16, torch.float32):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            embeddings = encode_with_graph(model, columns["document"], 16)
        embeddings.float().pow(3).mean().backward()
        results[precision] = combined(model)
        model.zero_grad()
    engine = CachedEngine(model, ("only",), MGDA(), mini_batch_size=16)
    with torch.autocast("cpu", torch.bfloat16):
        leaf = engine.encode(columns["document"])
    engine.backward({"only": leaf.float().pow(3).mean()})  # outside of autocast
    torch.testing.assert_close(combined(model), results[torch.bfloat16], rtol=1e-6, atol=0)
    assert (results[torch.bfloat16] - results[torch.float32]).norm() > 1e-4 * results[torch.float32].norm()


def test_loss_scale_is_taken_out_of_the_weights_and_left_in_the_gradient(retriever, columns) -> None:
    results = []
    for scale in (1.0, 2.0**10):
        model = retriever()
        engine = CachedEngine(model, NAMES, MGDA(), mini_batch_size=8)
        losses = three(*[engine.encode(features) for features in columns.values()])
        report = engine.accumulate(
            {name: (lambda loss=loss: loss) for name, loss in losses.items()},
            run_backward=lambda loss, retain_graph, scale=scale: (loss * scale).backward(retain_graph=retain_graph),
            loss_scale=scale,
        )
        results.append((report, combined(model) / scale))
    assert results[0][0].weights == pytest.approx(results[1][0].weights)
    assert results[0][0].gradient_norms == pytest.approx(results[1][0].gradient_norms)
    torch.testing.assert_close(results[0][1], results[1][1])


def test_an_overflow_under_a_scaler_is_left_for_the_scaler(retriever, columns) -> None:
    model = retriever()
    engine = CachedEngine(model, ("only",), MGDA(), mini_batch_size=8)
    query = engine.encode(columns["query"])
    report = engine.accumulate(
        {"only": lambda: query.square().mean()},
        run_backward=lambda loss, retain_graph: (loss * torch.inf).backward(retain_graph=retain_graph),
        loss_scale=65536.0,
    )
    assert not torch.isfinite(combined(model)).all()
    assert report.weights["only"] != report.weights["only"]


class Saved:
    """Bytes that autograd keeps for backward: now, and at most."""

    def __init__(self):
        self.now = self.peak = 0

    def pack(self, tensor):
        box = [tensor]
        holder = _Holder(box)
        size = tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(holder, self._drop, size)
        return holder

    def _drop(self, size):
        self.now -= size


class _Holder:
    def __init__(self, box):
        self.box = box


def peak_of(model, features, size, gramian):
    saved = Saved()
    engine = CachedEngine(model, ("low", "high"), MGDA(), mini_batch_size=size, gramian=gramian)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda holder: holder.box[0]):
        leaf = engine.encode(features)
        engine.backward({"low": (leaf - 1).square().mean(), "high": (leaf + 1).square().mean()})
    return saved.peak


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_peak_memory_grows_with_the_mini_batch_not_the_batch(retriever, gramian) -> None:
    model = retriever()
    model[0].auto_model.pooler = None  # what hooks save for an output that nobody uses is never let go
    batches = {n: {"input_ids": torch.full((n, 12), 7), "attention_mask": torch.ones(n, 12).long()} for n in (24, 96)}
    peaks = {(n, size): peak_of(model, batches[n], size, gramian) for n in (24, 96) for size in (6, 24)}
    assert peaks[96, 6] < 1.3 * peaks[24, 6]
    assert peaks[96, 24] > 2.5 * peaks[96, 6]


def test_what_a_model_does_without_gradient_is_not_remembered(retriever, columns) -> None:
    model = retriever()
    passes = Passes(model)
    engine = CachedEngine(model, ("only",), MGDA(), mini_batch_size=8)
    with torch.no_grad():
        teacher = engine.encode(columns["query"])
    assert not teacher.requires_grad
    report = engine.backward({"only": F.mse_loss(engine.encode(columns["typo"]), teacher)})
    assert report.losses["only"] > 0
    assert (passes.plain, passes.graph) == (32, 16)


def test_frozen_parts(retriever, columns) -> None:
    model = retriever()
    model[0].requires_grad_(False)
    model.append(nn.Identity())
    engine = CachedEngine(model, ("only",), MGDA(), mini_batch_size=8)
    engine.backward({"only": engine.encode(columns["query"]).square().mean()})
    assert all(p.grad is None for p in model.parameters())
    assert engine.parameters == []


def test_zero_weight_costs_no_second_pass(retriever, texts) -> None:
    model = retriever()
    batches = separate(texts, model)
    passes = Passes(model)
    engine = CachedEngine(model, NAMES, FixedWeights([1.0, 0.0, 0.0]), mini_batch_size=4)
    report = engine.backward({
        name: lambda batch=batch: masked_info_nce(*[model(dict(c))["sentence_embedding"] for c in batch])
        for name, batch in batches.items()
    })  # fmt: skip
    assert (passes.plain, passes.graph) == (24, 24)
    assert list(report.losses) == ["effectiveness"]


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_not_finite(retriever, columns, gramian) -> None:
    model = retriever()
    engine = CachedEngine(model, ("fine", "sick"), MGDA(), mini_batch_size=8, gramian=gramian)
    leaf = engine.encode(columns["query"])
    with pytest.raises(NonFiniteLossError, match="sick"):
        engine.backward({"fine": leaf.mean(), "sick": leaf.mean() * float("nan")})
    assert all(p.grad is None for p in model.parameters())
    leaf = engine.encode(columns["query"])
    with pytest.raises(NonFiniteGradientError, match="sick") as caught:
        engine.backward({"fine": leaf.mean(), "sick": (leaf - leaf.detach()).abs().sqrt().sum()})
    assert "fine" not in str(caught.value)
    assert all(p.grad is None for p in model.parameters())
    gradients = []
    for fresh in (engine, CachedEngine(model, ("fine", "sick"), MGDA(), mini_batch_size=8, gramian=gramian)):
        query, typo = fresh.encode(columns["query"]), fresh.encode(columns["typo"])
        fresh.backward({"fine": query.square().mean(), "sick": (typo - 1).square().mean()})
        gradients.append(combined(model))
    assert torch.equal(*gradients)  # nothing is left of the broken steps


def test_the_forward_comes_back_after_an_error(retriever, columns) -> None:
    model = retriever()
    original = model.forward
    model.forward = original  # as accelerate does
    engine = CachedEngine(model, ("only",), MGDA())

    def broken():
        model(dict(columns["query"]))
        raise KeyError("broken")

    with pytest.raises(KeyError):
        engine.backward({"only": broken})
    assert model.forward is original
    assert engine.backward({"only": engine.encode(columns["query"]).mean()}).weights == {"only": 1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mini_batch_size": 0}, "mini_batch_size: expected a positive whole number, got 0"),
        ({"mini_batch_size": None, "gramian": "exact"}, "without a cache"),
        ({"gramian": "exakt"}, "expected 'representation' or 'exact', got 'exakt'"),
        ({"solver": "moco"}, "'moco' needs the gradients of the parameters: set gramian='exact'"),
        ({"solver": "modo"}, "set gramian='exact'"),
    ],
)
def test_bad_settings(retriever, settings, message) -> None:
    solver = from_config(settings.pop("solver", "mgda"))
    with pytest.raises(ConfigError, match=message):
        CachedEngine(retriever(), NAMES, solver, **settings)


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_bad_batches(retriever, columns, gramian) -> None:
    model = retriever()
    engine = CachedEngine(model, ("one", "two"), MGDA(), gramian=gramian)
    with pytest.raises(ConfigError, match="no objective 'tow'; did you mean 'two'"):
        engine.backward({"one": engine.encode(columns["query"]).mean(), "tow": torch.ones(())})
    with pytest.raises(ConfigError, match="objective 'two' has none"):
        engine.backward({"one": engine.encode(columns["query"]).mean()})
    with pytest.raises(ConfigError, match="pad them"):
        engine.encode({"input_ids": torch.ones(1, 9), "cu_seq_lens_q": torch.tensor([0, 4, 9])})
    with pytest.raises(DataError, match="no texts"):
        engine.encode({k: v[:0] if isinstance(v, torch.Tensor) else v for k, v in columns["query"].items()})
    with pytest.raises(DataError, match="no tensor among 'task'"):
        engine.encode({"task": "query"})
    with pytest.raises(ConfigError, match="it returned list"):
        CachedEngine(Listing(), ("one",), MGDA()).encode({"x": torch.ones(2, 1)})


class Listing(nn.Module):
    def forward(self, features):
        return [features["x"]]


def test_any_module_that_returns_embeddings_will_do() -> None:
    torch.manual_seed(0)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, features, scale=1.0):
            return scale * self.layer(features["x"])

    model, x = Plain(), torch.randn(5, 3)
    engine = CachedEngine(model, ("only",), MGDA(), mini_batch_size=2)
    engine.backward({"only": engine.encode({"x": x}, scale=2.0).square().sum()})
    gradient = combined(model)
    model.zero_grad()
    model({"x": x}, scale=2.0).square().sum().backward()
    torch.testing.assert_close(gradient, combined(model))
