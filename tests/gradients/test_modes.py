"""Every mode's combined gradient is exact; its weights are the solver's on what the mode says it looks at."""

from __future__ import annotations

import pytest
import torch

from mogrid.errors import ConfigError
from mogrid.gradients import GradientEngine, LastLayers, Sketch, backward, last_layers, make_engine, mode_settings
from mogrid.solvers import MGDA, MoCo, NonFiniteGradientError
from tests.gradients.references import NAMES, batches, calls, encoder, flat, jacobian, loss, weights_of


def parameters(model):
    return [p for p in model.parameters() if p.requires_grad]


def run(gradients, embed, given, parts=1, model=None):
    model = model or embed
    engine = make_engine(gradients, model, parameters(model), NAMES, MGDA(normalise="l2"))
    report = None
    for i in range(parts):
        rows = [ids.chunk(parts)[i] for ids in given]
        report = engine.accumulate(calls(embed, rows), final=i == parts - 1, divisor=parts)
    return report


def assert_combination(report, model, j, products):
    weights = weights_of(products)
    torch.testing.assert_close(torch.tensor(list(report.weights.values())).double(), weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat(parameters(model)), weights.double() @ j, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("mode", ["exact", "last_layers", "sketch"])
def test_combined_gradient_and_weights(mode, parts) -> None:
    """Accumulation includes the cross terms between micro-batches in all modes."""
    model, given = encoder(), batches()
    j = jacobian(model, given)
    settings = {"last_layers": {"layers": 1}, "sketch": {"size": 101, "seed": 3}}.get(mode, {})
    report = run({"mode": mode, **settings}, model, given, parts)
    seen = j
    if mode == "last_layers":
        chosen = {id(p) for p in last_layers(model, 1)}
        mask = torch.cat([torch.full((p.numel(),), id(p) in chosen) for p in parameters(model)])
        assert 0 < mask.sum() < len(mask)
        seen = j[:, mask]
    elif mode == "sketch":
        sketch, sizes = Sketch(parameters(model), 101, 3), [p.numel() for p in parameters(model)]
        shapes = [p.shape for p in parameters(model)]
        rows = [[part.view(shape) for part, shape in zip(row.split(sizes), shapes, strict=True)] for row in j]
        seen = torch.stack([sketch(row)[0] for row in rows])
    assert_combination(report, model, j, seen @ seen.T)


def test_a_sketch_as_large_as_the_model_is_exact() -> None:
    """Every coordinate then has a place of its own."""
    model, given = encoder(), batches()
    j = jacobian(model, given)
    report = run({"mode": "sketch", "size": j.shape[1] + 100}, model, given)
    assert_combination(report, model, j, j @ j.T)


def test_sketched_products_are_unbiased_with_the_stated_deviation() -> None:
    shapes, size = [(40, 30), (7,), (500,)], 64
    generator = torch.Generator().manual_seed(0)
    a, b = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    b = [0.5 * x + y for x, y in zip(a, b, strict=True)]
    a[0][:, 3] *= 20  # one heavy column of a weight matrix
    places = [torch.nn.Parameter(torch.zeros(s)) for s in shapes]
    draws = []
    for seed in range(400):
        sketch = Sketch(places, size, seed)
        draws.append(float(sketch(a)[0] @ sketch(b)[0]))
    x, y = (torch.cat([g.flatten() for g in row]).double() for row in (a, b))
    deviation = float(((x @ x) * (y @ y) + (x @ y) ** 2).sqrt()) / sketch.size**0.5
    assert sketch.size == 61  # the largest prime
    assert abs(sum(draws) / 400 - float(x @ y)) < 4 * deviation / 400**0.5
    assert 0.7 * deviation < float(torch.tensor(draws).std()) < 1.3 * deviation


def test_over_one_graph_last_layers_end_early() -> None:
    """The embeddings' table gets a gradient once, not K times, and the result is that of separate graphs."""
    model, given = encoder(), batches()
    count = []
    model.bert.embeddings.word_embeddings.weight.register_hook(lambda g: count.append(1))
    probe = LastLayers(parameters(model), last_layers(model, 1))
    embeddings = model(given[0])
    report = backward([loss(embeddings, k) for k in range(3)], parameters(model), MGDA(normalise="l2"), probe=probe)
    assert len(count) == 1
    early = flat(parameters(model))
    apart = run({"mode": "last_layers", "layers": 1}, model, [given[0]] * 3)
    assert len(count) == 4
    assert list(report.weights.values()) == pytest.approx(list(apart.weights.values()), abs=1e-5)
    torch.testing.assert_close(flat(parameters(model)), early, rtol=1e-4, atol=1e-7)


def test_a_loss_that_hides_its_graph_leaves_no_half_step() -> None:
    """After the error, the next step is as if nothing had happened."""
    model, given = encoder(), batches()
    trained = parameters(model)
    engine = GradientEngine(trained, NAMES, MGDA(), probe=LastLayers(trained, last_layers(model, 1)))
    alien = torch.ones((), requires_grad=True)
    with pytest.raises(ConfigError, match="'c' does not reach"):
        engine.accumulate(calls(model, given) | {"c": lambda: alien * 2}, shared_graph=True)
    report = engine.accumulate(calls(model, given))
    assert report.losses == pytest.approx({n: float(call()) for n, call in calls(model, given).items()})


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("mode", ["last_layers", "representation"])
def test_a_gradient_that_breaks_below_where_the_gramian_is_formed(mode, shared) -> None:
    model, given = AsSentenceTransformers(encoder()), batches()
    words = model.encoder.bert.embeddings.word_embeddings
    words.register_forward_hook(lambda module, args, out: out + (out - out.detach()).abs().sqrt())
    engine = make_engine(mode, model, parameters(model), NAMES, MGDA())
    with pytest.raises(NonFiniteGradientError):
        engine.accumulate(calls(lambda ids: model({"ids": ids})["sentence_embedding"], given), shared_graph=shared)
    assert all(p.grad is None for p in model.parameters())


def test_representation_in_a_loop_of_your_own() -> None:
    """One forward shared by all losses; the Gramian is that of the gradients at the embeddings."""
    model, ids = encoder(), batches()[0]
    embeddings = model(ids)
    losses = [loss(embeddings, k) + 0.01 * embeddings.square().mean() for k in range(3)]
    rows = torch.stack([torch.autograd.grad(value, embeddings, retain_graph=True)[0].flatten() for value in losses])
    j = torch.stack(
        [torch.cat([g.flatten() for g in torch.autograd.grad(v, parameters(model), retain_graph=True)]) for v in losses]
    )
    report = backward(dict(zip(NAMES, losses, strict=True)), parameters(model), MGDA(), representations=[embeddings])
    from mogrid.solvers import StepStatistics

    weights = MGDA().weights(StepStatistics(NAMES, gramian=rows.double() @ rows.double().T))
    assert list(report.weights.values()) == pytest.approx(weights.tolist())
    torch.testing.assert_close(flat(parameters(model)), weights.double() @ j.double(), rtol=1e-4, atol=1e-8)


class AsSentenceTransformers(torch.nn.Module):
    """Features in, a mapping out."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features):
        return {"sentence_embedding": self.encoder(features["ids"])}


def test_representation_mode_takes_one_backward_and_no_second_forward() -> None:
    inner, given = encoder(dropout=0.1), batches()
    j = jacobian(inner, given)
    model, forwards = AsSentenceTransformers(inner), []
    inner.bert.register_forward_hook(lambda *a: forwards.append(1))
    report = run("representation", lambda ids: model({"ids": ids})["sentence_embedding"], given, model=model)
    assert len(forwards) == 3
    weights = torch.tensor(list(report.weights.values())).double()
    torch.testing.assert_close(flat(parameters(model)), weights @ j, rtol=1e-4, atol=1e-7)
    assert all(value == 0 for value in report.cosines.values())  # separate batches share no embedding


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ("exakt", "unknown gradients mode 'exakt'; did you mean 'exact'"),
        ({"size": 3}, "settings need 'mode', got 'size'"),
        ({"mode": "sketch", "sizes": 3}, "mode sketch: no setting 'sizes'; did you mean 'size'"),
        ({"mode": "sketch", "size": "big"}, "mode sketch: size must be a whole number, got 'big'"),
        ({"mode": "cached", "gramian": "exakt"}, "mode cached: gramian 'exakt' is unknown; did you mean 'exact'"),
    ],
)
def test_settings_are_checked(gradients, message) -> None:
    with pytest.raises(ConfigError, match=message):
        mode_settings(gradients)


def test_modes_go_by_any_spelling() -> None:
    assert mode_settings("Last-Layers") == ("last_layers", {})
    assert mode_settings({"mode": "SKETCH", "size": 3}) == ("sketch", {"size": 3})


def test_what_a_mode_cannot_do_is_refused() -> None:
    model = encoder()
    trained = parameters(model)
    with pytest.raises(ConfigError, match="tracks the gradients themselves"):
        GradientEngine(trained, NAMES, MoCo(), probe=Sketch(trained, 16))
    with pytest.raises(ConfigError, match="layers is 3, an encoder has 2"):
        last_layers(model, 3)
    with pytest.raises(ConfigError, match="layers must be at least 1"):
        last_layers(model, 0)
    with pytest.raises(ConfigError, match="stack of layers"):
        last_layers(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ConfigError, match="none of the chosen layers is trained"):
        LastLayers(trained, [torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ConfigError, match="at least 2"):
        Sketch(trained, 1)
    with pytest.raises(ConfigError, match="give one of the two"):
        backward([], trained, MGDA(), representations=[], probe=Sketch(trained, 16))
    with pytest.raises(ConfigError, match="graph goes through"):
        backward([trained[0].sum()], trained, MGDA(), representations=[torch.zeros(2)])
