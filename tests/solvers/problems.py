"""Problems whose Pareto fronts are known in closed form, and the plain gradient loop that solvers are tried in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mogrid.solvers import Solver, StepStatistics

Losses = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """Losses as a function of x, and the points of the Pareto set as a function of a parameter on the simplex."""

    losses: Losses
    pareto_set: Callable[[np.ndarray], np.ndarray]  # (K,) on the simplex -> (P,)
    size: int
    count: int

    def on_ray(self, preference: np.ndarray) -> np.ndarray:
        """The front's point with the smallest max_k p_k l_k, by a search over the Pareto set."""
        from scipy.optimize import minimize

        def worst(z: np.ndarray) -> float:
            t = np.exp(z - z.max())
            return float((preference * self.at(t / t.sum())).max())

        starts = [np.log(np.clip(t, 1e-9, None)) for t in simplex_grid(self.count, 60 if self.count == 2 else 20)]
        start = min(starts, key=worst)
        found = minimize(worst, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000})
        t = np.exp(found.x - found.x.max())
        return self.at(t / t.sum())

    def at(self, t: np.ndarray) -> np.ndarray:
        return self.losses(torch.from_numpy(self.pareto_set(t))).numpy()


def simplex_grid(count: int, parts: int) -> list[np.ndarray]:
    if count == 2:
        return [np.array([i, parts - i]) / parts for i in range(parts + 1)]
    return [np.array([i, j, parts - i - j]) / parts for i in range(parts + 1) for j in range(parts + 1 - i)]


def fonseca(size: int = 5) -> Problem:
    """Two Gaussian wells; the front is concave."""
    corner = 1.0 / math.sqrt(size)

    def losses(x: Tensor) -> Tensor:
        return torch.stack([1 - torch.exp(-(x - s * corner).square().sum()) for s in (1, -1)])

    return Problem(losses, lambda t: (t[0] - t[1]) * corner * np.ones(size), size, 2)


def vlmop2(size: int = 20) -> Problem:
    """The same wells in twenty dimensions."""
    return fonseca(size)


def quadratics(count: int, size: int = 6, seed: int = 0) -> Problem:
    """‖x − c_k‖² with random centres: the Pareto set is their convex hull."""
    centres = torch.from_numpy(np.random.default_rng(seed).standard_normal((count, size)))

    def losses(x: Tensor) -> Tensor:
        return (x - centres).square().sum(dim=1)

    return Problem(losses, lambda t: t @ centres.numpy(), size, count)


def scaled(problem: Problem, factors: list[float]) -> Problem:
    """The same problem with losses in other units."""
    units = torch.tensor(factors, dtype=torch.float64)
    return Problem(lambda x: problem.losses(x) * units, problem.pareto_set, problem.size, problem.count)


def train(
    losses: Losses, solver: Solver, start: Tensor, *, rate: float, steps: int, noise: float = 0.0, seed: int = 0
) -> Tensor:
    """Plain gradient descent; ``noise`` is the relative deviation of losses and gradients from their means."""
    generator = torch.Generator().manual_seed(seed)
    x = start.clone()
    tail = torch.zeros(())
    for step in range(steps):
        jacobian = torch.func.jacrev(losses)(x)
        values = losses(x)
        if noise:
            jacobian = jacobian * (1 + noise * torch.randn(jacobian.shape, generator=generator, dtype=x.dtype))
            values = values * (1 + noise * torch.randn(values.shape, generator=generator, dtype=x.dtype))
        names = tuple(map(str, range(len(values))))
        weights = solver.weights(StepStatistics(names, values, jacobian @ jacobian.T, step=step))
        x = x - rate * (weights @ jacobian)
        if step >= steps // 2:
            tail = tail + losses(x) / (steps - steps // 2)
    return tail if noise else losses(x)
