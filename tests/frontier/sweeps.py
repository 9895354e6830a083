"""Sweeps of known laws, with the magnitudes of contrastive entropies: steep at the corners, flat inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mogrid.frontier import Front

NAMES = ("effectiveness", "ood", "adversarial")
SEVEN = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]]
)
INSIDE = np.array(
    [
        [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.45, 0.45, 0.1], [0.45, 0.1, 0.45], [0.1, 0.45, 0.45],
        [1 / 3, 1 / 3, 1 / 3],
    ]
)  # fmt: skip
MORE = np.vstack([INSIDE, [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]]])

# Issue 5, "Find the regime first": 1×64 at equal FLOPs, where a corner takes three times the steps of a mix.
PROBE = {
    "effectiveness only": ((1, 0, 0), (2.45, 3.59, 3.84)),
    "OOD only": ((0, 1, 0), (3.42, 1.08, 4.57)),
    "adversarial only": ((0, 0, 1), (2.52, 3.79, 3.31)),
    "0.8/0.1/0.1": ((0.8, 0.1, 0.1), (3.02, 1.82, 4.12)),
    "0.1/0.8/0.1": ((0.1, 0.8, 0.1), (3.28, 1.49, 4.29)),
    "0.1/0.1/0.8": ((0.1, 0.1, 0.8), (2.98, 1.86, 3.80)),
    "0.45/0.45/0.1": ((0.45, 0.45, 0.1), (3.10, 1.62, 4.05)),
    "0.45/0.1/0.45": ((0.45, 0.1, 0.45), (2.96, 1.83, 3.86)),
    "0.1/0.45/0.45": ((0.1, 0.45, 0.45), (3.12, 1.56, 3.97)),
    "equal weights": ((1 / 3, 1 / 3, 1 / 3), (2.95, 1.58, 3.93)),
}
"""Strategy: weights and losses. The probe's five mixes, and neighbours of theirs for those it lacks."""

Law = Callable[[np.ndarray], np.ndarray]


def share_law(weights: np.ndarray) -> np.ndarray:
    """Power of the effective share, transfers differing by objective."""
    transfer = np.array([[1, 0.2, 0.4], [0.05, 1, 0.02], [0.3, 0.02, 1]])
    share = weights @ transfer.T
    return np.array([2.0, 1.0, 2.2]) + np.array([0.5, 0.6, 0.35]) * share ** -np.array([0.3, 0.45, 0.4])


def mixing_law(weights: np.ndarray) -> np.ndarray:
    slopes = np.array([[-2.5, 0.6, 0], [0, -2.5, 0.6], [0.6, 0, -2.5]])
    return 2.2 + np.exp(weights @ slopes.T)


def capacity_law(weights: np.ndarray) -> np.ndarray:
    """Fernandes' effective capacity; none of the candidate forms."""
    capacity = weights + 0.15 * weights**0.5 * (1 - weights) ** 0.7
    return 1.2 + 0.5 * (capacity + 0.03) ** -0.5


LAWS: dict[str, Law] = {"share": share_law, "mixing": mixing_law, "capacity": capacity_law}


def sweep(law: Law, weights: np.ndarray, seeds: int, noise: float, rng: np.random.Generator):
    """Return (weights, values) of runs: `noise` is relative to the mean loss."""
    runs = np.repeat(weights, seeds, axis=0)
    values = law(runs)
    return runs, values + rng.normal(size=values.shape) * noise * values.mean(axis=0)


def probe(seeds: int = 3, noise: float = 0.008) -> tuple[Front, np.ndarray]:
    """Return the probe's runs with made-up seeds, and their weights."""
    rng = np.random.default_rng(0)
    labels, weights, values = [], [], []
    for name, (w, v) in PROBE.items():
        for _ in range(seeds):
            labels.append(name)
            weights.append(w)
            values.append(np.array(v) * (1 + noise * rng.normal(size=3)))
    front = Front(NAMES, np.array(values), tuple(labels), tuple(range(seeds)) * len(PROBE))
    return front, np.array(weights, dtype=float)
