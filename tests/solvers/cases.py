"""Every registered solver, ready to be tried, and the statistics of awkward steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mogrid.solvers import Solver, StepStatistics, available, from_config

NAMES = tuple(f"o{k}" for k in range(64))

# Keywords that have no default, by name, so that they follow the objectives when these are permuted.
REQUIRED: dict[str, Any] = {
    "pareto_target": lambda names: {"preference": dict.fromkeys(names, 1.0)},
    "pmgda": lambda names: {"preference": dict.fromkeys(names, 1.0)},
    "ferero": lambda names: {"preference": dict.fromkeys(names, 1.0)},
    "pareto_mtl": lambda names: {
        "vectors": [{n: 1.0 + (n == names[0]) for n in names}, {n: 1.0 + (n == names[-1]) for n in names}],
        "sector": 0,
    },
    "annealed": lambda names: {
        "path": [dict.fromkeys(names, 1 / len(names)), {n: float(n == names[0]) for n in names}],
        "steps": [0, 4],
    },
    "constrained": lambda names: {"primary": names[0], "epsilon": 0.1},
    "pcd": lambda names: {"primary": names[0]},
    "ema": lambda names: {"solver": "mgda"},
    "every_n": lambda names: {"solver": {"name": "ema", "solver": "upgrad"}, "n": 3},
}

# What a method is by definition; everything else must hold for all.
RANDOM = {"random", "pcgrad", "gradvac"}  # draw an order or weights: equivariant in distribution only
# A linear programme's vertex, where several are best; a sector's bound between equal gradients, which has no gradient.
NOT_UNIQUE = {"pmgda", "pareto_mtl"}

ALL = sorted(available())


def make(name: str, names: tuple[str, ...]) -> Solver:
    return from_config({"name": name, **(REQUIRED[name](names) if name in REQUIRED else {})})


KINDS = ("random", "wide", "zero_row", "duplicate", "opposed", "rank_1", "unequal", "all_zero")


@dataclass(frozen=True)
class Case:
    """A step's Jacobians: of the whole batch and of its halves."""

    jacobian: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    losses: np.ndarray
    names: tuple[str, ...]

    def statistics(self, scale: float = 1.0, dtype: torch.dtype = torch.float64, step: int = 0) -> StepStatistics:
        j, (a, b) = self.jacobian * scale, (h * scale for h in self.halves)
        return StepStatistics(
            self.names,
            torch.from_numpy(self.losses).to(dtype),
            torch.from_numpy(j @ j.T).to(dtype),
            torch.from_numpy(a @ b.T).to(dtype),
            step,
        )

    def permuted(self, order: np.ndarray) -> Case:
        return Case(
            self.jacobian[order],
            (self.halves[0][order], self.halves[1][order]),
            self.losses[order],
            tuple(self.names[i] for i in order),
        )


def case(kind: str, count: int, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    size = {"wide": 4 * count + 2, "rank_1": 1}.get(kind, int(rng.integers(1, 2 * count + 2)))
    j = rng.standard_normal((count, size))
    if kind == "zero_row":
        j[rng.integers(count)] = 0.0
    elif kind == "duplicate":
        j[-1] = j[0]
    elif kind == "opposed":
        j[-1] = -j[0]
    elif kind == "unequal":
        j *= 10.0 ** rng.uniform(-3, 3, (count, 1))
    elif kind == "all_zero":
        j[:] = 0.0
    noise = rng.standard_normal(j.shape) * 0.3
    return Case(j, (j + noise * (j != 0), j - noise * (j != 0)), rng.uniform(0.1, 3.0, count), NAMES[:count])


def with_gramian(statistics: StepStatistics, gramian: torch.Tensor) -> StepStatistics:
    return replace(statistics, gramian=gramian)
