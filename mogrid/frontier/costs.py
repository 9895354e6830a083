"""What a pair of each objective costs, from the runs' ledgers, and what a budget buys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.measurements import Measurements

__all__ = ["Costs", "fit_costs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Training FLOPs of one pair of each objective, over the model size.

    Attributes
    ----------
    log_pair : ndarray, shape (K,)
        Logarithm at N = 1 of a power law in N.
    power : float
        Of N: near 1, less where attention and short texts weigh in.
    sizes, corrections : ndarray, shape (s,)
        Measured N and the law's error there, which is taken out and interpolated between them.
    weights : bool
        Whether mixes are spent as loss weights: then a step has a batch of every objective with a weight above 0.
    """

    log_pair: Floats
    power: float
    sizes: Floats
    corrections: Floats
    weights: bool

    def per_pair(self, size: float) -> Floats:
        """Return FLOPs (K,) of one pair of each objective."""
        correction = np.interp(math.log(size), np.log(self.sizes), self.corrections)
        return np.asarray(np.exp(self.log_pair + self.power * math.log(size) + correction))

    def buys(self, flops: Floats, size: float, mix: Floats) -> tuple[Floats, Floats]:
        """Return the pairs of each objective (m, K) that FLOPs (m,) buy, and those that work for each."""
        share = (mix > 0).astype(np.float64) if self.weights else mix
        pairs = share * (flops / (share @ self.per_pair(size)))[:, None]
        return pairs, mix * pairs.sum(axis=1, keepdims=True) if self.weights else pairs


def fit_costs(runs: Measurements) -> Costs:
    """Fit what a pair costs to the runs' FLOPs; what they cannot tell apart is taken to cost the same."""
    from scipy.optimize import least_squares

    log_n, total = np.log(runs.parameters), runs.pairs.sum(axis=1)
    share = runs.pairs / total[:, None]
    middle, y = log_n.mean(), np.log(runs.flops / total)
    hold = 1e4 if np.ptp(log_n) < 1e-9 else 1.0  # of one size, the power of N is 1

    def law(theta: Floats) -> Floats:
        return np.asarray(np.log(share @ np.exp(theta[:-1])) + theta[-1] * (log_n - middle))

    def residuals(theta: Floats) -> Floats:
        return np.r_[law(theta) - y, 1e-4 * np.r_[theta[:-1] - theta[:-1].mean(), hold * (theta[-1] - 1)]]

    theta = least_squares(residuals, np.r_[np.full(share.shape[1], y.mean()), 1.0]).x
    sizes = np.unique(runs.parameters)
    error = y - law(theta)
    corrections = np.array([np.median(error[runs.parameters == size]) for size in sizes])
    return Costs(theta[:-1] - theta[-1] * middle, float(theta[-1]), sizes, corrections, "weights" in runs.spend)
