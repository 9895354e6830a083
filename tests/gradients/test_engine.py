"""The engine against straightforward autograd, under everything it promises to survive."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mogrid.errors import ConfigError
from mogrid.gradients import GradientEngine, backward, gramian
from mogrid.solvers import FAMO, MGDA, FixedWeights, NonFiniteGradientError, NonFiniteLossError
from mogrid.solvers._mixed import Mixed

NAMES = ("a", "b", "c")


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def objective(model: nn.Module, x: torch.Tensor, k: int) -> torch.Tensor:
    return ((model(x)[:, k] - k) ** 2).mean()


def jacobian(model: nn.Module, losses: list[torch.Tensor]) -> torch.Tensor:
    rows = [torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()


def combined(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double()


def run(engine: GradientEngine, model: nn.Module, batches: list[torch.Tensor], **kwargs):
    report = None
    for i, x in enumerate(batches):
        report = engine.accumulate(
            {name: (lambda x=x, k=k: objective(model, x, k)) for k, name in enumerate(NAMES)},
            final=i == len(batches) - 1,
            divisor=len(batches),
            **kwargs,
        )
    return report


@given(scale=st.sampled_from([1e-20, 1e-6, 1.0, 1e6, 1e18]), seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_gramian_is_exact_at_any_scale(scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 5), (70_000,), (2,), (1,)]
    rows = [[torch.randn(shape, generator=generator) * scale for shape in shapes] for _ in range(3)]
    rows[1][2] = None
    flat = torch.stack(
        [
            torch.cat([torch.zeros(s).flatten() if g is None else g.flatten() for g, s in zip(r, shapes, strict=True)])
            for r in rows
        ]
    ).double()
    torch.testing.assert_close(gramian(rows), flat @ flat.T, rtol=1e-12, atol=0)


def test_gramian_of_sparse_embedding_gradients() -> None:
    table = nn.Embedding(20, 4, sparse=True)
    rows = []
    for ids in ([1, 2, 2], [2, 7, 9]):
        table.weight.grad = None
        table(torch.tensor(ids)).pow(2).sum().backward()
        rows.append([table.weight.grad])
    dense = torch.stack([row[0].to_dense().flatten() for row in rows]).double()
    torch.testing.assert_close(gramian(rows), dense @ dense.T)


@pytest.mark.parametrize("first", ["sparse", "dense"])
def test_a_sparse_gradient_beside_a_dense_one(first: str) -> None:
    """A loss on the weights themselves, such as one that holds them to the base, reaches every row of an embedding."""
    table = nn.Embedding(20, 4, sparse=True)
    losses = {"sparse": lambda: table(torch.tensor([1, 2, 2])).pow(2).sum(), "dense": lambda: table.weight.pow(2).sum()}
    names = (first, *(name for name in losses if name != first))
    expected = torch.zeros(20, 4)
    for name, weight in (("sparse", 0.25), ("dense", 0.75)):
        table.weight.grad = None
        losses[name]().backward()
        expected += weight * (table.weight.grad.to_dense() if name == "sparse" else table.weight.grad)
    engine = GradientEngine(table.parameters(), names, FixedWeights({"sparse": 0.25, "dense": 0.75}))
    engine.accumulate({name: losses[name] for name in names})
    torch.testing.assert_close(table.weight.grad.to_dense(), expected)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_mgda_step_equals_autograd_with_accumulation(micro_batches: int) -> None:
    """Gradients of micro-batches are summed before the Gramian, so cross terms are in it."""
    model, x = network(), torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    j = jacobian(model, [objective(model, x, k) for k in range(3)])
    engine = GradientEngine(model.parameters(), NAMES, MGDA())
    report = run(engine, model, list(x.chunk(micro_batches)))
    weights = torch.tensor([report.weights[name] for name in NAMES], dtype=torch.float64)
    torch.testing.assert_close(combined(model), weights @ j, rtol=1e-5, atol=1e-7)
    g = j @ j.T
    assert weights @ g @ weights <= (g @ weights).min() + 1e-6 * g.trace()  # first-order optimality of the min norm
    torch.testing.assert_close(
        torch.tensor([report.gradient_norms[n] for n in NAMES]).double(), g.diagonal().sqrt(), rtol=1e-4, atol=1e-8
    )
    expected = g[0, 1] / math.sqrt(g[0, 0] * g[1, 1])
    assert report.cosines["a", "b"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_fixed_weights_equal_the_weighted_sum(statistics: bool, micro_batches: int) -> None:
    model, x = network(), torch.randn(6, 4)
    weights = {"a": 0.2, "b": 0.3, "c": 0.5}
    j = jacobian(model, [objective(model, x, k) for k in range(3)])
    engine = GradientEngine(model.parameters(), NAMES, FixedWeights(weights), gradient_statistics=statistics)
    report = run(engine, model, list(x.chunk(micro_batches)))
    torch.testing.assert_close(combined(model), torch.tensor([0.2, 0.3, 0.5]).double() @ j, rtol=1e-5, atol=1e-7)
    assert report.weights == pytest.approx(weights)
    assert bool(report.gradient_norms) is statistics


def test_zero_weight_costs_no_forward() -> None:
    model, x = network(), torch.randn(6, 4)
    calls = []
    engine = GradientEngine(model.parameters(), NAMES, FixedWeights({"a": 1.0, "b": 0.0, "c": 0.0}))
    losses = {
        name: (lambda k=k, name=name: calls.append(name) or objective(model, x, k)) for k, name in enumerate(NAMES)
    }
    report = engine.accumulate(losses)
    assert calls == ["a"]
    assert report.weights == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert set(report.losses) == {"a"}


def test_loss_scale_leaves_weights_alone_and_stays_in_grad() -> None:
    x = torch.randn(6, 4)
    plain, scaled = network(), network()
    first = run(GradientEngine(plain.parameters(), NAMES, MGDA()), plain, [x])
    second = run(
        GradientEngine(scaled.parameters(), NAMES, MGDA()),
        scaled,
        [x],
        run_backward=lambda loss, **kw: (loss * 1024).backward(**kw),
        loss_scale=1024.0,
    )
    assert second.weights == pytest.approx(first.weights, abs=1e-6)
    torch.testing.assert_close(combined(scaled), 1024 * combined(plain), rtol=1e-4, atol=1e-5)


def test_unused_frozen_and_tied_parameters() -> None:
    model = network()
    extra = nn.Parameter(torch.ones(2))  # used by objective a only
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    x = torch.randn(6, 4)
    engine = GradientEngine([*model.parameters(), extra, frozen], ("a", "b"), MGDA())
    report = engine.accumulate(
        {"a": lambda: objective(model, x, 0) + extra.sum() * 0.1, "b": lambda: objective(model, x, 1)}
    )
    assert frozen.grad is None
    torch.testing.assert_close(extra.grad, torch.full((2,), 0.1 * report.weights["a"]))


def test_non_finite_loss_names_the_objective_and_leaves_no_gradient() -> None:
    model, x = network(), torch.randn(6, 4)
    engine = GradientEngine(model.parameters(), ("fine", "broken"), MGDA())
    with pytest.raises(NonFiniteLossError, match=r"broken.*nan|nan.*broken"):
        engine.accumulate(
            {"fine": lambda: objective(model, x, 0), "broken": lambda: objective(model, x, 1) * float("nan")}
        )
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("solver", [MGDA(), FixedWeights(), FAMO()], ids=lambda solver: solver.name)
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_non_finite_gradient_names_the_objective(solver, statistics, micro_batches) -> None:
    p = nn.Parameter(torch.zeros(2))
    names = ("fine", "broken", "well")
    engine = GradientEngine([p], names, solver, gradient_statistics=statistics)
    losses = {
        "fine": lambda: (p - 1).square().sum(),
        "broken": lambda: p.square().sum().sqrt() + 1,
        "well": lambda: (p + 1).square().sum(),
    }
    with pytest.raises(NonFiniteGradientError) as caught:
        for i in range(micro_batches):
            engine.accumulate(losses, final=i == micro_batches - 1, divisor=micro_batches)
    together = solver.name == "famo" and not statistics and micro_batches == 1  # one backward of the sum
    assert caught.value.objectives == (names if together else ("broken",))
    assert p.grad is None
    engine.accumulate(dict.fromkeys(names, lambda: (p - 1).square().sum()))
    assert bool(torch.isfinite(p.grad).all())


@pytest.mark.parametrize("statistics", [True, False])
def test_a_loss_without_a_gradient_is_named(statistics) -> None:
    p = nn.Parameter(torch.ones(2))
    engine = GradientEngine([p], ("fine", "still"), FixedWeights(), gradient_statistics=statistics)
    with pytest.raises(ConfigError, match="the loss of 'still' has no gradient"):
        engine.accumulate({"fine": lambda: p.sum(), "still": lambda: p.detach().sum()})
    assert p.grad is None


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (lambda x: {}, "losses: got none"),
        (lambda x: {"a": x.sum(), "b": x * 2}, r"the loss of 'b' is of shape \(2,\): expected a scalar"),
        (lambda x: [x.sum(), x[:1]], r"the loss of '1' is of shape \(1,\): expected a scalar"),
        (lambda x: {"a": 0.5}, "the loss of 'a' is float 0.5: expected a scalar"),
    ],
)
@pytest.mark.parametrize("solver", [MGDA, FAMO, FixedWeights])
def test_losses_that_cannot_be_used_are_one_line(losses, said, solver) -> None:
    x = nn.Parameter(torch.ones(2))
    with pytest.raises(ConfigError, match=f"^{said}") as error:
        backward(losses(x), [x], solver())
    assert "\n" not in str(error.value)
    assert x.grad is None


def test_a_gradient_that_overflows_under_a_scaler_is_left_to_it() -> None:
    p = nn.Parameter(torch.ones(2))
    engine = GradientEngine([p], ("a", "b"), FixedWeights(), gradient_statistics=False)

    def scaled(loss: torch.Tensor, **options: bool) -> None:
        (loss * 1e38).backward(**options)

    engine.accumulate(dict.fromkeys("ab", lambda: (10 * p).square().sum()), run_backward=scaled, loss_scale=1e38)
    assert not bool(torch.isfinite(p.grad).all())


def test_large_sparse_and_half_gradients_are_finite() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    half = nn.Parameter(torch.ones(3, dtype=torch.float16))
    engine = GradientEngine([*table.parameters(), half], ("a",), FixedWeights(), gradient_statistics=False)
    engine.accumulate({"a": lambda: 1e30 * table(torch.tensor([1, 1])).sum() + (6e4 * half).float().sum()})
    assert half.grad.tolist() == [6e4] * 3  # whose sum is beyond float16


def test_a_log_has_numbers_only() -> None:
    model, x = network(), torch.randn(6, 4)
    engine = GradientEngine(model.parameters(), ("a", "b", "still"), FixedWeights())
    zero = model[0].weight.sum() * 0
    report = engine.accumulate(
        {"a": lambda: objective(model, x, 0), "b": lambda: objective(model, x, 1), "still": lambda: zero}
    )
    assert math.isnan(report.cosines["a", "still"])
    flat = report.flat()
    assert "cosine/a/b" in flat
    assert "gradient_norm/still" in flat
    assert not any(key.startswith("cosine/") and key.endswith("still") for key in flat)
    assert all(map(math.isfinite, flat.values()))


def test_backward_in_a_plain_loop_reaches_the_front() -> None:
    """Two quadratics: their Pareto set is the segment between the minima."""
    x = nn.Parameter(torch.tensor([3.0, 2.0]))
    solver, optimiser = MGDA(), torch.optim.SGD([x], lr=0.1)
    for _ in range(200):
        losses = {
            "left": (x - torch.tensor([-1.0, 0.0])).square().sum(),
            "right": (x - torch.tensor([1.0, 0.0])).square().sum(),
        }
        backward(losses, [x], solver)
        optimiser.step()
    assert abs(float(x.detach()[1])) < 1e-4
    assert -1.0001 <= float(x.detach()[0]) <= 1.0001


def test_shared_graph() -> None:
    model, x = network(), torch.randn(6, 4)
    j = jacobian(model, [objective(model, x, k) for k in range(3)])
    output = model(x)
    report = backward([((output[:, k] - k) ** 2).mean() for k in range(3)], model.parameters(), MGDA())
    weights = torch.tensor(list(report.weights.values()), dtype=torch.float64)
    torch.testing.assert_close(combined(model), weights @ j, rtol=1e-5, atol=1e-7)


def test_tracked_gradients_are_a_moving_average_and_resume() -> None:
    from mogrid.solvers import from_config

    def engine_of(model):
        return GradientEngine(model.parameters(), NAMES, from_config({"name": "moco"}))

    model, x = network(), torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0))
    engine = engine_of(model)
    beta = engine.solver.tracking
    expected = torch.zeros(3, sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    other = network()
    for i, batch in enumerate(x):
        j = jacobian(model, [objective(model, batch, k) for k in range(3)])
        expected = beta * expected + (1 - beta) * j
        report = run(engine, model, [batch])
        weights = torch.tensor(list(report.weights.values()), dtype=torch.float64)
        torch.testing.assert_close(combined(model), weights @ expected, rtol=1e-4, atol=1e-6)
        if i == 1:
            saved = engine.solver.state_dict(), {k: v.clone() for k, v in engine.state_dict().items()}
    resumed = engine_of(other)
    resumed.solver.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for batch in x[2:]:
        run(resumed, other, [batch])
    assert torch.equal(combined(other), combined(model))


def test_half_batches_reach_the_solver_and_one_batch_is_refused() -> None:
    from mogrid.errors import ConfigError
    from mogrid.solvers import from_config

    model, x = network(), torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    seen = []
    solver = from_config({"name": "modo"})
    solve = solver.solve
    solver.solve = lambda statistics: seen.append(statistics) or solve(statistics)
    engine = GradientEngine(model.parameters(), NAMES, solver)
    run(engine, model, list(x.chunk(2)))
    halves = []
    for part in x.chunk(2):
        m = network()
        halves.append(jacobian(m, [objective(m, part, k) for k in range(3)]))
    torch.testing.assert_close(seen[0].half_gramian, halves[0] @ halves[1].T, rtol=1e-4, atol=1e-6)
    mean = sum(halves) / 2
    torch.testing.assert_close(seen[0].gramian, mean @ mean.T, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"solver 'modo' .* even number of micro-batches"):
        run(engine, model, [x])
    mixed = GradientEngine(model.parameters(), NAMES, Mixed(from_config("modo"), dict.fromkeys(NAMES, 1 / 3)))
    with pytest.raises(ConfigError, match=r"solver 'modo' .* even number of micro-batches"):
        run(mixed, model, [x])
