"""Each method against its published formula, on cases worked out by hand or by autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mogrid.solvers import (
    COSMOS,
    DBMTL,
    DWA,
    FAMO,
    IMTLG,
    IMTLL,
    PBI,
    PCD,
    AlignedMTL,
    ConFIG,
    ConstrainedDescent,
    ExcessMTL,
    GeometricMean,
    GradNorm,
    GradVac,
    GroupDRO,
    MoCo,
    MoDo,
    PCGrad,
    RandomWeights,
    SDMGrad,
    SmoothTchebycheff,
    SmoothWorst,
    SolverError,
    StepStatistics,
    UncertaintyWeighting,
)

AB = ("a", "b")
ABC = ("a", "b", "c")


def of(
    losses: list[float] | None = None, jacobian: Tensor | None = None, names: tuple[str, ...] = AB
) -> StepStatistics:
    gramian = None if jacobian is None else jacobian @ jacobian.T
    values = None if losses is None else torch.tensor(losses, dtype=torch.float64)
    return StepStatistics(names, values, gramian, gramian)


def random_jacobian(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_random_weights_follow_their_seed() -> None:
    first, second = RandomWeights(3), RandomWeights(3)
    drawn = [first.weights(of()) for _ in range(3)]
    assert all(torch.equal(w, second.weights(of())) for w in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_uncertainty_weighting_settles_at_half_the_inverse_loss() -> None:
    solver = UncertaintyWeighting(rate=0.05)
    for _ in range(2000):
        weights = solver.weights(of([0.5, 4.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.125], dtype=torch.float64), rtol=1e-2, atol=0)


def test_imtl_l_is_twice_uncertainty_weighting_and_settles_at_the_inverse_loss() -> None:
    solver, other = IMTLL(rate=0.05), UncertaintyWeighting(rate=0.05, initial=0.0)
    for step in range(2000):
        losses = [0.5, 4.0] if step % 7 else [0.4, 5.0]
        weights = solver.weights(of(losses))
        assert torch.equal(weights, 2 * other.weights(of(losses)))
    torch.testing.assert_close(weights, torch.tensor([2.0, 0.25], dtype=torch.float64), rtol=0.05, atol=0)


def gradient_of(value: Callable[[Tensor], Tensor], losses: list[float]) -> Tensor:
    leaf = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    return gradient


def test_losses_are_combined_by_the_gradient_of_their_scalarisation() -> None:
    losses, p = [0.6, 0.9, 0.4], torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    z = torch.tensor([0.1, 0.0, 0.2], dtype=torch.float64)

    def boundary(values: Tensor) -> Tensor:
        along = (values - z) @ p / p.norm()
        return along + 5 * (values - z - along * p / p.norm()).norm()

    cases = [
        (GeometricMean(), lambda v: v.prod() ** (1 / 3)),
        (COSMOS(p.tolist(), 0.7), lambda v: p @ v - 0.7 * torch.cosine_similarity(p, v, dim=0)),
        (PBI(p.tolist(), ideal=z.tolist()), boundary),
    ]
    for solver, value in cases:
        torch.testing.assert_close(solver.weights(of(losses, names=ABC)), gradient_of(value, losses))


def test_pbi_and_cosmos_raise_what_is_too_small_for_its_share() -> None:
    for solver in (PBI([1.0, 1.0]), COSMOS([1.0, 1.0], penalty=5.0)):
        weights = solver.weights(of([3.0, 0.5]))
        assert weights[0] > 0 > weights[1]
        on_the_line = solver.weights(of([2.0, 2.0]))
        assert on_the_line[0] == pytest.approx(float(on_the_line[1]))


def test_a_loss_of_zero_leaves_the_geometric_mean() -> None:
    assert GeometricMean().weights(of([0.0, 2.0, 8.0], names=ABC)).tolist() == pytest.approx([0.0, 1.0, 0.25])


def test_pcd_is_the_closest_direction_that_keeps_its_promises() -> None:
    """Against a general solver of quadratic programmes, over the directions themselves."""
    from scipy.optimize import LinearConstraint, minimize

    for seed in range(5):
        j = random_jacobian(3, seed).numpy()
        unit = j / np.linalg.norm(j, axis=1)[:, None]
        promises = LinearConstraint(unit[[0, 2]], [0.3, 0.1], np.inf)
        found = minimize(
            lambda d, own=unit[1]: ((d - own) ** 2).sum() / 2, unit[1], constraints=promises, method="SLSQP",
            options={"ftol": 1e-14},
        ).x  # fmt: skip
        weights = PCD("b", tau={"a": 0.3, "c": 0.1}).weights(of(jacobian=torch.from_numpy(j), names=ABC)).numpy()
        expected = found / np.linalg.norm(found) * np.linalg.norm(j[1])
        np.testing.assert_allclose(weights @ j, expected, atol=1e-4)
        progress = unit @ (weights @ j) / np.linalg.norm(weights @ j)
        assert progress[0] > 0
        assert progress[2] > 0


def test_pcd_where_nothing_can_be_promised_and_where_the_primary_rests() -> None:
    opposed = torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    assert PCD("a").weights(of(jacobian=opposed, names=ABC)).tolist() == pytest.approx([1.0, 0.0, 0.0])
    resting = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    weights = PCD("a", tau=0.5).weights(of(jacobian=resting, names=ABC))
    assert weights[0] == 0
    assert (resting @ (weights @ resting))[1:].min() > 0
    solver = PCD("a", tau=1.0, beta=0.5)
    level = torch.eye(2, dtype=torch.float64)
    assert solver.weights(of(jacobian=level)).tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    small = solver.weights(of(jacobian=level * torch.tensor([[1.0], [0.1]])))  # a tenth of what it was asks for less
    assert float(small[1]) * 0.1 < 0.25 * float(small[0])
    with pytest.raises(SolverError, match=r"pcd: tau\['b'\] must be finite and at least 0 and at most 1, got 2"):
        PCD("a", tau={"b": 2.0})
    with pytest.raises(SolverError, match="pcd: primary names no objective 'd'; known"):
        PCD("d").active(ABC)


def test_dwa_ratio_of_windows() -> None:
    solver = DWA(temperature=2.0, window=2)
    for losses in ([4.0, 4.0], [4.0, 4.0], [2.0, 4.0], [2.0, 4.0]):
        assert solver.weights(of(losses)).tolist() == [0.5, 0.5]
    expected = torch.tensor([0.5, 1.0], dtype=torch.float64).div(2.0).softmax(0)
    torch.testing.assert_close(solver.weights(of([1.0, 4.0])), expected)


def test_gradnorm_update_is_the_gradient_of_its_loss() -> None:
    solver = GradNorm(alpha=1.5, rate=0.01)
    j = random_jacobian(3)
    solver.weights(of([1.0, 2.0, 3.0], j, ABC))
    w = solver.weights(of([0.5, 1.9, 3.0], j, ABC)).requires_grad_()
    after = solver.weights(of([0.5, 1.9, 3.0], j, ABC))
    norms = j.norm(dim=1) / j.norm(dim=1).mean()
    rates = torch.tensor([0.5, 0.95, 1.0], dtype=torch.float64)
    target = ((w * norms).mean() * (rates / rates.mean()) ** 1.5).detach()
    (gradient,) = torch.autograd.grad((w * norms - target).abs().sum(), w)
    moved = w.detach() - 0.01 / 3 * gradient
    torch.testing.assert_close(after, moved / moved.sum())


def test_smooth_tchebycheff_is_a_gradient() -> None:
    losses = torch.tensor([0.6, 0.9, 0.4], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    values = list(losses.tolist())
    plain = SmoothTchebycheff(p, mu=0.1, ideal=[0.1, 0.0, 0.0]).weights(of(values, names=ABC))
    z = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(0.1 * torch.logsumexp(p * (losses - z) / 0.1, 0), losses)
    torch.testing.assert_close(plain, gradient / gradient.sum())
    nadir = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    logged = SmoothTchebycheff(p, mu=1.0, nadir=nadir).weights(of(values, names=ABC))
    (gradient,) = torch.autograd.grad(torch.logsumexp(p * torch.log(losses / nadir), 0), losses)
    torch.testing.assert_close(logged, gradient / gradient.sum())
    with pytest.raises(SolverError, match="nadir needs losses of at least 0, 'b' is -1"):
        SmoothTchebycheff(nadir=[1.0, 1.0]).weights(of([1.0, -1.0]))


def test_famo_against_autograd_and_torchs_adam() -> None:
    solver = FAMO(rate=0.025, decay=0.001)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.025, weight_decay=0.001)
    for before, after in (([1.0, 3.0], [0.9, 2.0]), ([0.8, 2.5], [0.5, 2.4]), ([0.4, 2.0], [0.4, 1.9])):
        l0, l1 = (torch.tensor(v, dtype=torch.float64) for v in (before, after))
        expected = logits.detach().softmax(0) / (l0 + 0)
        torch.testing.assert_close(solver.weights(of(before)), expected / expected.sum(), rtol=1e-7, atol=0)
        solver.observe(l1)
        adam.zero_grad()
        logits.grad = torch.autograd.grad(logits.softmax(0), logits, l0.log() - l1.log())[0]
        adam.step()
    torch.testing.assert_close(solver.state_dict()["logits"], logits.detach(), rtol=1e-4, atol=1e-9)


def test_famo_without_observe_compares_with_the_next_batch() -> None:
    told, left_alone = FAMO(), FAMO()
    for losses in ([1.0, 3.0], [0.9, 2.0], [0.8, 1.5]):
        told.observe(torch.tensor(losses)) if told._before is not None else None
        assert torch.allclose(told.weights(of(losses)), left_alone.weights(of(losses)))
    assert left_alone.weights(of([0.8, 1.5]))[0] != 1 / 0.8 / (1 / 0.8 + 1 / 1.5)
    with pytest.raises(SolverError, match="observe follows solve"):
        FAMO().observe(torch.ones(2))


def test_group_dro_multiplies_and_never_overflows() -> None:
    solver = GroupDRO(eta=0.5)
    for _ in range(3):
        weights = solver.weights(of([1.0, 2.0]))
    torch.testing.assert_close(weights, torch.tensor([1.5, 3.0], dtype=torch.float64).softmax(0))
    for _ in range(5):
        weights = GroupDRO(eta=1.0).weights(of([1e5, 0.0]))
    assert weights.tolist() == [1.0, 0.0]


def test_smooth_worst_is_the_gradient_of_its_loss() -> None:
    losses = torch.tensor([0.3, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(0.5 * torch.log(torch.exp(losses / 0.5).mean()), losses)
    torch.testing.assert_close(SmoothWorst(0.5).weights(of(losses.tolist(), names=ABC)), gradient)


def test_pcgrad_on_vectors() -> None:
    """Two objectives have one order; three have several, all of which the definition allows."""
    j = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    g1 = j[0] - (j[0] @ j[1]) / (j[1] @ j[1]) * j[1]
    g2 = j[1] - (j[1] @ j[0]) / (j[0] @ j[0]) * j[0]
    torch.testing.assert_close(PCGrad().weights(of(jacobian=j)) @ j, g1 + g2)
    j = random_jacobian(3, 4)
    j = j - j.mean(dim=0)  # all three conflict with each other
    weights = [PCGrad(seed).weights(of(jacobian=j, names=ABC)) for seed in range(40)]
    steps = {tuple((w @ j).round(decimals=9).tolist()) for w in weights}
    assert 1 < len(steps) <= 8


def test_gradvac_raises_the_cosine_to_its_average() -> None:
    """With β = 1 the average is the last step's cosine; the changed gradient then has exactly that cosine."""
    solver = GradVac(beta=1.0)
    before = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    now = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    solver.weights(of(jacobian=before))
    w = solver.weights(of(jacobian=now))
    # By symmetry each gradient takes the same share of the other.
    changed = now[0] + (w[1] - 1) * now[1]
    assert float(changed @ now[1] / changed.norm()) == pytest.approx(0.6)


@pytest.mark.parametrize("count", [2, 3, 6])
def test_imtl_and_config_project_equally_on_all_gradients(count: int) -> None:
    j, names = random_jacobian(count), tuple(map(str, range(count)))
    units = j / j.norm(dim=1, keepdim=True)
    w = IMTLG().weights(of(jacobian=j, names=names))
    projections = units @ (w @ j)
    torch.testing.assert_close(projections, projections[0].expand(count))
    assert float(w.sum()) == pytest.approx(1.0)
    d = ConFIG().weights(of(jacobian=j, names=names)) @ j
    unit = torch.linalg.pinv(units) @ torch.ones(count, dtype=torch.float64)
    unit = unit / unit.norm()
    torch.testing.assert_close(d, (j @ unit).sum() * unit)


def test_imtl_is_the_papers_closed_form() -> None:
    j = random_jacobian(3, 2)
    units = j / j.norm(dim=1, keepdim=True)
    d, u = j[0] - j[1:], units[0] - units[1:]
    rest = j[0] @ u.T @ torch.linalg.inv(d @ u.T)
    torch.testing.assert_close(IMTLG().weights(of(jacobian=j, names=ABC))[1:], rest)


def test_aligned_makes_rows_orthogonal_and_equally_long() -> None:
    j = random_jacobian(3)
    p = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    u, s, v = torch.linalg.svd(j, full_matrices=False)
    torch.testing.assert_close(AlignedMTL(p).weights(of(jacobian=j, names=ABC)) @ j, s[-1] * p @ (u @ v))


def test_excess_risk_falls_with_the_gradient_not_with_the_loss() -> None:
    solver = ExcessMTL(eta=0.1)
    for t in range(20):
        weights = solver.weights(of(jacobian=torch.diag(torch.tensor([1.0, 0.9**t], dtype=torch.float64))))
    assert weights[0] > weights[1]


def test_db_mtl_gives_log_loss_gradients_one_length() -> None:
    j, losses = random_jacobian(3), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    w = DBMTL().weights(of(losses.tolist(), j, ABC))
    logs = j / losses[:, None]
    expected = logs * (logs.norm(dim=1).max() / logs.norm(dim=1))[:, None]
    torch.testing.assert_close(w @ j, expected.sum(dim=0))
    assert DBMTL(beta=0.8).tracking == 0.8
    with pytest.raises(SolverError, match="needs losses of at least 0, 'b' is -1"):
        DBMTL().weights(of([1.0, -1.0], j[:2]))


def test_db_mtl_goes_on_at_a_loss_of_zero() -> None:
    j = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert DBMTL().weights(of([0.0, 0.5], j)).tolist() == [1.0, 2.0]  # both of length 2, that of g/L of the other
    assert DBMTL().weights(of([0.0, 0.0], j)).tolist() == [1.0, 2.0]
    assert DBMTL().weights(of([0.0, 0.5], j * torch.tensor([[0.0], [1.0]]))).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("solver", [MoCo(rho=0.0), MoDo(), SDMGrad(pull=0.0)], ids=lambda s: s.name)
def test_slow_weights_settle_at_the_min_norm_solution(solver) -> None:
    j = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    for _ in range(300):
        weights = solver.weights(of(jacobian=j))
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.2], dtype=torch.float64), rtol=1e-3, atol=0)


def test_half_batches_correct_the_bias_of_a_noisy_objective() -> None:
    """Equal mean gradients, one of them noisy: MoCo without tracking shuns the noisy one, MoDo does not."""
    rng = np.random.default_rng(0)
    biased, unbiased = MoCo(beta=0.0, gamma=0.01), MoDo(gamma=0.01)
    means = np.eye(2, 20)
    history = []
    for _ in range(4000):
        halves = [means + np.array([[0.0], [0.2]]) * rng.standard_normal((2, 20)) for _ in range(2)]
        j = sum(halves) / 2
        s = StepStatistics(AB, torch.ones(2), torch.from_numpy(j @ j.T), torch.from_numpy(halves[0] @ halves[1].T))
        history.append([float(solver.weights(s)[1]) for solver in (biased, unbiased)])
    noisy, fair = np.mean(history[1000:], axis=0)
    assert noisy < 0.45
    assert fair == pytest.approx(0.5, abs=0.03)


def test_sdmgrad_is_pulled_to_the_mean() -> None:
    j = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    for _ in range(100):
        weights = SDMGrad(pull=1e4).weights(of(jacobian=j))
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5], dtype=torch.float64), rtol=1e-3, atol=0)


def test_constrained_with_contradicting_constraints_balances_them() -> None:
    j = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    solver = ConstrainedDescent("a", reference={"b": 0.5, "c": 0.5})
    w = solver.weights(of([1.0, 1.0, 1.0], j, ABC))
    assert torch.isfinite(w).all()
    assert w[1] == pytest.approx(float(w[2]))
