"""Plain gradient descent on problems with known fronts: where each solver must end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mogrid.solvers import (
    FERERO,
    MGDA,
    PMGDA,
    CAGrad,
    ConstrainedDescent,
    EMAGramian,
    EveryN,
    FixedWeights,
    NashMTL,
    ParetoMTL,
    ParetoTarget,
    SmoothTchebycheff,
    Solver,
    UPGrad,
)
from tests.solvers.problems import Problem, fonseca, quadratics, scaled, train, vlmop2

TWO = [np.array([1 / np.cos(a), 1 / np.sin(a)]) for a in np.linspace(0.2, np.pi / 2 - 0.2, 10)]
THREE = list(1.0 / np.clip(np.random.default_rng(1).dirichlet(np.full(3, 3.0), 10), 0.08, None))

PROBLEMS = {
    "fonseca": (fonseca(), TWO, 0.1, 600),
    "vlmop2": (vlmop2(), TWO, 0.1, 600),
    "quadratics": (quadratics(2), TWO, 0.05, 400),
    "three quadratics": (quadratics(3, seed=1), THREE, 0.05, 500),
}


def start(problem: Problem, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(problem.size, generator=generator, dtype=torch.float64) - 0.5) * 3 / problem.size**0.5


def error(problem: Problem, preference: np.ndarray, losses: torch.Tensor) -> float:
    target = problem.on_ray(preference)
    return float(np.abs(losses.numpy() - target).max() / target.max())


@pytest.mark.parametrize("ray", range(10))
@pytest.mark.parametrize("name", PROBLEMS)
def test_pareto_target_ends_on_the_rays_point(name: str, ray: int) -> None:
    problem, rays, rate, steps = PROBLEMS[name]
    losses = train(problem.losses, ParetoTarget(rays[ray]), start(problem, ray), rate=rate, steps=steps)
    assert error(problem, rays[ray], losses) < 0.01


@pytest.mark.parametrize("ray", [2, 7])
def test_pareto_target_in_other_units(ray: int) -> None:
    """Losses in other units with preferences to match: the same weights up to those units, the same end."""
    problem = quadratics(2)
    units = scaled(problem, [100.0, 0.1])
    preference = TWO[ray] / np.array([100.0, 0.1])
    losses = train(units.losses, ParetoTarget(preference), start(problem, ray), rate=0.05, steps=400)
    assert error(units, preference, losses) < 0.05


@pytest.mark.parametrize("ray", [1, 4, 8])
def test_pareto_target_with_mini_batch_noise(ray: int) -> None:
    """A tenth of noise on losses and gradients: the mean over the second half of training is still on the ray."""
    problem = fonseca()
    losses = train(problem.losses, ParetoTarget(TWO[ray]), start(problem, ray), rate=0.05, steps=1500, noise=0.1)
    assert error(problem, TWO[ray], losses) < 0.02


def test_pareto_target_from_an_ideal_point() -> None:
    """The same losses on a floor of 5: the ray starts from there."""
    problem = fonseca()
    solver = ParetoTarget(TWO[3], ideal={"0": 5.0, "1": 5.0})
    losses = train(lambda x: problem.losses(x) + 5.0, solver, start(problem, 0), rate=0.1, steps=600)
    assert error(problem, TWO[3], losses - 5.0) < 0.01


def test_pareto_target_leaves_a_stationary_point_that_is_off_the_ray() -> None:
    """MGDA stands still anywhere on the front; a preference must not."""
    problem = quadratics(2)
    on_front = torch.from_numpy(problem.pareto_set(np.array([0.95, 0.05])))
    losses = train(problem.losses, ParetoTarget([1.0, 1.0]), on_front, rate=0.05, steps=300)
    assert error(problem, np.ones(2), losses) < 0.01


@pytest.mark.parametrize("solver", [PMGDA, FERERO])
@pytest.mark.parametrize("ray", [2, 5, 8])
def test_other_preference_methods_end_near_the_ray(solver: type[Solver], ray: int) -> None:
    problem = fonseca()
    losses = train(problem.losses, solver(TWO[ray]), start(problem, ray), rate=0.05, steps=1200)
    assert error(problem, TWO[ray], losses) < 0.04


def test_smooth_tchebycheff_reaches_the_concave_front_where_fixed_weights_cannot() -> None:
    problem, ray = fonseca(), TWO[3]
    smooth = train(problem.losses, SmoothTchebycheff(ray, mu=0.02), start(problem, 1), rate=0.1, steps=1500)
    assert error(problem, ray, smooth) < 0.06
    fixed = train(problem.losses, FixedWeights(ray / ray.sum()), start(problem, 1), rate=0.1, steps=1500)
    assert fixed.min() < 0.01  # slid to one end


@pytest.mark.parametrize("sector", [0, 1, 2])
def test_pareto_mtl_stays_in_its_sector(sector: int) -> None:
    vectors = [[1.0, 0.1], [1.0, 1.0], [0.1, 1.0]]
    problem = fonseca()
    losses = train(problem.losses, ParetoMTL(vectors, sector), start(problem, 3), rate=0.1, steps=800).numpy()
    angles = [np.dot(v, losses) / np.linalg.norm(v) / np.linalg.norm(losses) for v in np.array(vectors)]
    assert angles[sector] >= max(angles) - 0.02
    assert distance_from_front(problem, losses) < 0.02


@pytest.mark.parametrize(
    "solver",
    [
        MGDA(),
        MGDA(normalise="l2"),
        MGDA(0.05),
        UPGrad(),
        CAGrad(),
        NashMTL(),
        EMAGramian(MGDA(), 0.5),
        EveryN(MGDA(), 4),
    ],
    ids=lambda s: s.name,
)
def test_end_on_the_front(solver: Solver) -> None:
    problem = quadratics(3, seed=4)
    losses = train(problem.losses, solver, start(problem, 0), rate=0.05, steps=400).numpy()
    assert distance_from_front(problem, losses) < 1e-2


def distance_from_front(problem: Problem, losses: np.ndarray) -> float:
    """How much all losses can still fall at once, relative to their size."""
    rng = np.random.default_rng(0)
    points = [problem.at(t) for t in rng.dirichlet(np.ones(problem.count), 2000)]
    return float(max((losses - p).min() for p in points) / losses.max())


def test_mgda_stands_still_on_the_front() -> None:
    problem = quadratics(2)
    x = torch.from_numpy(problem.pareto_set(np.array([0.3, 0.7])))
    torch.testing.assert_close(train(problem.losses, MGDA(), x, rate=0.1, steps=20), problem.losses(x))


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_constrained_descent_improves_a_and_keeps_b(epsilon: float) -> None:
    problem = quadratics(2)
    on_front = torch.from_numpy(problem.pareto_set(np.array([0.5, 0.5])))
    before = problem.losses(on_front)
    x = on_front + 0.3
    reference = {"1": float(before[1])}
    solver = ConstrainedDescent("0", epsilon=epsilon, reference=reference)
    losses = train(problem.losses, solver, x, rate=0.02, steps=800)
    assert losses[1] <= before[1] + epsilon + 0.01
    assert losses[0] < before[0] + 0.01  # as good as the front allows, from outside of it
    if epsilon:
        assert losses[0] < before[0] - 0.1  # and what was allowed is used


def test_every_n_takes_gradients_at_every_nth_step_only() -> None:
    solver = EveryN(MGDA(), 3)
    problem = quadratics(2)
    taken = []

    class Spy(EveryN):
        def solve(self, statistics):
            taken.append(self.needs)
            return super().solve(statistics)

    solver = Spy(MGDA(), 3)
    train(problem.losses, solver, start(problem, 0), rate=0.05, steps=7)
    assert taken == ["gramian", "nothing", "nothing"] * 2 + ["gramian"]


def test_averaged_gramian_takes_noise_off_the_weights() -> None:
    """Noise on equal gradients moves MGDA's weights about; less so with the average."""
    from mogrid.solvers import StepStatistics

    rng = np.random.default_rng(0)
    averaged, plain = EMAGramian(MGDA(), 0.95), MGDA()
    spread = []
    for _ in range(300):
        j = np.eye(2, 6) + 0.4 * rng.standard_normal((2, 6))
        statistics = StepStatistics(("0", "1"), gramian=torch.from_numpy(j @ j.T))
        spread.append([float(s.weights(statistics)[0]) for s in (averaged, plain)])
    smooth, rough = np.std(spread[50:], axis=0)
    assert smooth < rough / 3
