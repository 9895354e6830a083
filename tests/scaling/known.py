"""Sweeps of known laws, with the magnitudes of contrastive entropies of small encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mogrid.scaling.runs import ScalingRuns

NAMES = ("effectiveness", "ood", "adversarial")
SIZES = (1.3e4, 4.2e4, 1.6e5, 8e5)
PAIRS = (4e3, 1.2e4, 4e4, 1.2e5)
MIXES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.1, 0.8, 0.1],
        [0.1, 0.1, 0.8],
        [0.45, 0.45, 0.1],
        [0.45, 0.1, 0.45],
        [0.1, 0.45, 0.45],
        [1 / 3] * 3,
    ]
)
EQUAL = np.full((1, 3), 1 / 3)

Law = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""N (n,), D (n,), weights (n, 3) -> losses (n, 3)."""

A, ALPHA = np.array([2e3, 6e2, 3e3]), np.array([0.45, 0.3, 0.4])
B, BETA = np.array([3e3, 5e3, 5e3]), np.array([0.5, 0.7, 0.55])
DELTA = np.array([0.6, 0.4, 1.0])


def size_law(n, d, w) -> np.ndarray:
    return (A / n[:, None]) ** ALPHA + DELTA


def data_law(n, d, w) -> np.ndarray:
    return (B / d[:, None]) ** BETA + DELTA


def additive_law(n, d, w) -> np.ndarray:
    return (A / n[:, None]) ** ALPHA + (B / d[:, None]) ** BETA + DELTA


def joint_law(n, d, w) -> np.ndarray:
    return ((A / n[:, None]) ** (ALPHA / BETA) + B / d[:, None]) ** BETA + DELTA


def capacity_law(n, d, w) -> np.ndarray:
    f = 0.05 + w + 0.2 * w**0.6 * (1 - w) ** 0.8
    return ((A / (f * n[:, None])) ** (ALPHA / BETA) + B / (f * d[:, None])) ** BETA + DELTA


def mixing_law(n, d, w) -> np.ndarray:
    slopes = np.array([[-1.2, 0.6, 0.0], [0.5, -1.0, 0.3], [-0.4, 0.8, -1.1]])
    return ((A / n[:, None]) ** ALPHA + (B / d[:, None]) ** BETA) * np.exp(w @ slopes.T) + DELTA


def added_law(n, d, w) -> np.ndarray:
    slopes = np.array([[-3.0, 0.6, -0.5], [0.5, -3.0, 0.3], [-1.0, 0.8, -2.5]])
    return additive_law(n, d, w) - 0.3 + np.exp(-0.5 + w @ slopes.T)


def power_law(n, d, w) -> np.ndarray:
    transfer = np.array([[1, 0.1, 0.4], [0.05, 1, 0.03], [0.3, 0.05, 1]])
    share = w @ transfer.T
    x, y = (A / n[:, None]) ** ALPHA, (B / d[:, None]) ** BETA
    return x * share ** -np.array([0.2, 0.3, 0.25]) + y * share ** -np.array([0.3, 0.4, 0.35]) + DELTA


LAWS: dict[str, Law] = {
    "size": size_law,
    "data": data_law,
    "joint": joint_law,
    "additive": additive_law,
    "capacity": capacity_law,
    "mixing law": mixing_law,
    "added mixing law": added_law,
    "double power": power_law,
}


def sweep(
    law: Law,
    *,
    sizes: Sequence[float] = SIZES,
    pairs: Sequence[float] = PAIRS,
    weights: np.ndarray = MIXES,
    seeds: int = 1,
    noise: float = 0.01,
    rng: np.random.Generator | None = None,
) -> ScalingRuns:
    """Return a full grid of runs with relative noise, at 18 FLOPs a weight and pair for each token of 20 of 3 batches."""
    cells = [(n, d, w, s) for n in sizes for d in pairs for w in weights for s in range(seeds)]
    n, d = np.array([c[0] for c in cells]), np.array([c[1] for c in cells])
    w = np.array([c[2] for c in cells])
    values = law(n, d, w)
    if rng is not None:
        values = values * np.exp(noise * rng.normal(size=values.shape))
    active = (w > 0).sum(axis=1)
    return ScalingRuns(
        NAMES, n, d, w, values, 6 * n * d * 20 * active, tuple(c[3] for c in cells),
        tuple(f"run{i}" for i in range(len(cells))),
    )  # fmt: skip


def grid_of(name: str) -> dict[str, object]:
    """Return the arguments of `sweep` for the sweep a law is fitted to: some sixty runs where weights vary."""
    return {
        "size": {"pairs": PAIRS[-1:], "weights": EQUAL, "sizes": np.geomspace(1e4, 1e6, 6), "seeds": 3},
        "data": {"sizes": SIZES[-1:], "weights": EQUAL, "pairs": np.geomspace(4e3, 2e5, 6), "seeds": 3},
        "joint": {"weights": EQUAL, "seeds": 2},
        "additive": {"weights": EQUAL, "seeds": 2},
    }.get(name, {"sizes": SIZES[:3], "pairs": PAIRS[1:]})
