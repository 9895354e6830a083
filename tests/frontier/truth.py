"""Runs of known laws, with the magnitudes of contrastive entropies of small encoders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mogrid.frontier.measurements import Measurements
from mogrid.frontier.search import lattice

NAMES = ("effectiveness", "ood", "typos", "speed", "german", "long")
SIZES = (1e5, 2.5e5, 6e5)
TOTALS = (1280.0, 2560.0, 5120.0, 10240.0)
MIXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1 / 3] * 3])
COSTS = np.array([60.0, 60.0, 90.0, 60.0, 60.0, 120.0])
"""FLOPs of a pair, in parameters."""

E, A, ALPHA = np.array([0.5, 0.8, 1.0]), np.array([28, 14, 36.0]), np.array([0.35, 0.3, 0.33])
B, BETA, BASE = np.array([12, 10, 14.0]), np.array([0.35, 0.32, 0.3]), np.array([900, 400, 1500.0])
WORTH = np.array([[1, 0.6, 0.2], [0.3, 1, 0.25], [0.5, 0.2, 1]])


class Truth:
    """An exchange-rate law, with what others' pairs saturate at and how they harm."""

    def __init__(
        self, worth: np.ndarray = WORTH, *, level: float = np.inf, harm: float = 0.0, size: bool = True
    ) -> None:
        self.worth, self.level, self.harm, self.size = np.asarray(worth, dtype=float), level, harm, size

    def __call__(self, n: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        count = pairs.shape[1]
        rows = np.arange(count) % 3
        taken = pairs[:, None, :] / (1 + pairs[:, None, :] / self.level) * self.worth
        taken[:, range(count), range(count)] = pairs
        x = BASE[rows] + taken.sum(axis=2)
        size = A[rows] * np.asarray(n)[:, None] ** -ALPHA[rows] if self.size else 0.0
        harm = self.harm * (np.sqrt(pairs).sum(axis=1, keepdims=True) - np.sqrt(pairs))
        return E[rows] + size + B[rows] * x ** -BETA[rows] + harm


def capacity(n: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Fernandes' form: N and D count by what a share makes of them."""
    total = pairs.sum(axis=1, keepdims=True)
    share = pairs / total
    f = 0.08 + share + 0.3 * share**0.6 * (1 - share) ** 0.8
    return E + A * (f * np.asarray(n)[:, None]) ** -ALPHA + B * (f * total) ** -BETA


def mixing(n: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The data mixing law in the amplitudes."""
    total = pairs.sum(axis=1, keepdims=True)
    slopes = np.array([[-0.5, 0.3, 0.2], [0.3, -0.6, 0.3], [0.0, 0.4, -0.4]])
    return E + (A * np.asarray(n)[:, None] ** -ALPHA + B * total**-BETA) * np.exp(pairs / total @ slopes.T)


def score(losses: np.ndarray) -> np.ndarray:
    """A score in (0, 1) that falls as a loss rises."""
    return np.exp(-0.35 * losses)


def sweep(
    law=None,
    *,
    sizes: Sequence[float] = SIZES,
    totals: Sequence[float] = TOTALS,
    mixes: np.ndarray = MIXES,
    seeds: int = 1,
    noise: float = 0.01,
    rng: np.random.Generator | None = None,
    spend: str = "rows",
    base: bool = False,
) -> Measurements:
    """Return a full grid of runs with relative noise."""
    law = law or Truth()
    count = mixes.shape[1]
    cells = [(n, d, m, s) for n in sizes for d in totals for m in mixes for s in range(seeds)]
    n = np.array([cell[0] for cell in cells])
    mix = np.array([cell[2] for cell in cells])
    total = np.array([cell[1] for cell in cells])[:, None]
    pairs = total * ((mix > 0) if spend == "weights" else mix)
    effort = mix * pairs.sum(axis=1, keepdims=True)
    values = law(n, effort)
    if rng is not None:
        values = values * np.exp(noise * rng.normal(size=values.shape))
    names = {size: f"{size:g}" for size in sizes}
    untrained = {name: law(np.array([size]), np.zeros((1, count)))[0] for size, name in names.items()} if base else {}
    return Measurements(
        NAMES[:count], tuple(f"run{i}" for i in range(len(cells))), tuple(names[size] for size in n), n, mix, pairs,
        n * (pairs @ COSTS[:count]), {"ce": values, "ndcg": score(values)}, tuple(cell[3] for cell in cells),
        (spend,) * len(cells),
        {"ce": untrained, "ndcg": {name: score(v) for name, v in untrained.items()}} if base else {},
    )  # fmt: skip


def grid(count: int, points: int = 400) -> np.ndarray:
    """Return a fine lattice of mixes."""
    return lattice(count, points)
