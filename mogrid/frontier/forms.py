"""Forms of a loss over the weights, in normalised units, with their derivatives, priors and starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import combinations, product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMS", "Design", "Form"]

Floats = NDArray[np.float64]

_LENGTH = 0.4
"""Prior spread of what an e-fold longer training is worth, in ranges of the sweep."""


@dataclass(frozen=True)
class Design:
    """Where one objective's loss is known or asked for.

    Attributes
    ----------
    weights : ndarray, shape (n, K)
    own : int
        The objective whose loss it is.
    length : ndarray, shape (n, K)
        w_j log T, with T how much longer the run trained than one of all objectives. A corner trains so much longer
        that every objective may profit, by its kinship with the one that is trained: each j has a coefficient.
    floor : float
        Added to shares before their logarithm is taken; 0 where no weight is 0.
    """

    weights: Floats
    own: int
    length: Floats
    floor: float


class Form(ABC):
    """A family of functions of the weights; one objective's loss is scaled so that the sweep spans [0, 1].

    Priors are wide (a form alone can fit any sweep of the size users have) and say only that a sweep's losses are of
    the order of the sweep's range; they decide what the runs leave open.
    """

    name: ClassVar[str]
    equation: ClassVar[str]

    @abstractmethod
    def prior(self, count: int) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each parameter, for K objectives."""

    @abstractmethod
    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        """Return values (B, n) and Jacobian (B, n, p) for parameters (B, p)."""

    @abstractmethod
    def starts(self, design: Design, y: Floats) -> Floats:
        """Return starts (S, p): a grid over the inner parameters, the linear ones solved (variable projection)."""


class _Linear(Form):
    """f = X θ with a ridge."""

    @abstractmethod
    def features(self, design: Design) -> Floats:
        """Return X (n, p)."""

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        x = self.features(design)
        return theta @ x.T, np.repeat(x[None], len(theta), axis=0)

    def starts(self, design: Design, y: Floats) -> Floats:
        return self.prior(design.weights.shape[1])[0][None]


class Quadratic(_Linear):
    """Scheffé's polynomial for mixtures: smooth, any curvature, no steepness at the corners."""

    name = "quadratic"
    equation = "Σ_j b_j w_j + Σ_i<j b_ij w_i w_j + Σ_j d_j w_j log T"

    def prior(self, count: int) -> tuple[Floats, Floats]:
        pairs = count * (count - 1) // 2
        spread = np.r_[np.full(count + pairs, 2.0), np.full(count, _LENGTH)]
        return np.r_[np.full(count, 0.5), np.zeros(pairs + count)], spread

    def features(self, design: Design) -> Floats:
        w = design.weights
        crossed = [w[:, i] * w[:, j] for i, j in combinations(range(w.shape[1]), 2)]
        return np.column_stack([w, *crossed, design.length])


class LogShare(_Linear):
    """Linear in the logarithms of the shares: steep at the corners, every objective with its own effect."""

    name = "log share"
    equation = "c + Σ_j b_j log(w_j + floor) + Σ_j d_j w_j log T"

    def prior(self, count: int) -> tuple[Floats, Floats]:
        return np.r_[0.5, np.zeros(2 * count)], np.r_[2.0, np.full(count, 0.5), np.full(count, _LENGTH)]

    def features(self, design: Design) -> Floats:
        shares = np.log(np.maximum(design.weights + design.floor, 1e-6))
        return np.column_stack([np.ones(len(shares)), shares, design.length])


class Exponential(Form):
    """Data mixing laws (Ye et al., arXiv 2403.16952) over loss weights in place of shares of the data.

    The factor before the exponential is part of the slopes, since the weights sum to 1.
    """

    name = "mixing law"
    equation = "c + exp(Σ_j t_j w_j) + Σ_j d_j w_j log T"

    def prior(self, count: int) -> tuple[Floats, Floats]:
        mean = np.r_[-0.2, np.full(count, -1.0), np.zeros(count)]
        return mean, np.r_[1.0, np.full(count, 2.5), np.full(count, _LENGTH)]

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        # Capped where a step of the search strays: e⁸ times the range of a sweep is no loss.
        count = design.weights.shape[1]
        e = np.exp(np.clip(theta[:, 1 : 1 + count] @ design.weights.T, -30, 8))
        length = np.broadcast_to(design.length, (*e.shape, count))
        jacobian = np.concatenate([np.ones((*e.shape, 1)), e[:, :, None] * design.weights[None], length], axis=2)
        return theta[:, :1] + e + theta[:, -count:] @ design.length.T, jacobian

    def starts(self, design: Design, y: Floats) -> Floats:
        count = design.weights.shape[1]
        rows = []
        others = [j for j in range(count) if j != design.own]
        for own, slope, j in product((-8.0, -4.0, -2.0, -0.5), (-2.0, 0.0, 2.0), others):
            # Own slope and one other; the rest follow from the data once near.
            slopes = np.zeros(count)
            slopes[design.own] = own
            slopes[j] = slope
            c, k, d = _solve(np.exp(design.weights @ slopes), design.length, y)
            rows.append(np.r_[c, slopes + np.log(k), d])
        return np.array(rows)


class EffectiveShare(Form):
    """A power law of the effective share: what the own weight and, discounted, all others do for an objective.

    In the spirit of the effective capacity of Fernandes et al. (arXiv 2302.09650), with a transfer τ_j from each other
    objective in its place: at w_k = 0 the loss stays finite because others help, and is steep because they help little.
    """

    name = "effective share"
    equation = "c + A (w_k + Σ_j≠k τ_j w_j)^(-a) + Σ_j d_j w_j log T"

    def prior(self, count: int) -> tuple[Floats, Floats]:
        mean = np.r_[-0.3, -1.0, np.log(0.5), np.full(count - 1, np.log(0.1)), np.zeros(count)]
        return mean, np.r_[0.7, 1.5, 0.8, np.full(count - 1, 1.5), np.full(count, _LENGTH)]

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        count = design.weights.shape[1]
        others = [j for j in range(count) if j != design.own]
        exponent = np.exp(np.clip(theta[:, 2:3], -6, 2))
        transfer = np.exp(np.clip(theta[:, 3 : 2 + count], -12, 4))
        share = design.weights[:, design.own] + transfer @ design.weights[:, others].T
        log_share = np.log(np.maximum(share, 1e-12))
        length = np.broadcast_to(design.length, (*share.shape, count))
        e = np.exp(np.clip(theta[:, 1:2] - exponent * log_share, -30, 8))
        pull = -e * exponent / np.maximum(share, 1e-12)
        moved = pull[:, :, None] * transfer[:, None, :] * design.weights[:, others][None]
        columns = [np.ones_like(e), e, -e * exponent * log_share]
        jacobian = np.concatenate([np.stack(columns, axis=2), moved, length], axis=2)
        return theta[:, :1] + e + theta[:, -count:] @ design.length.T, jacobian

    def starts(self, design: Design, y: Floats) -> Floats:
        count = design.weights.shape[1]
        own = design.weights[:, design.own]
        rows = []
        for exponent, transfer in product((0.15, 0.5, 1.5), (0.003, 0.02, 0.1, 0.4)):
            c, k, d = _solve((own + transfer * (1 - own)) ** -exponent, design.length, y)
            rows.append(np.r_[c, np.log([k, exponent]), np.full(count - 1, np.log(transfer)), d])
        return np.array(rows)


def _solve(feature: Floats, length: Floats, y: Floats) -> tuple[float, float, Floats]:
    """Return c, k > 0 and d of the least-squares fit y ≈ c + k · feature + length · d, with the prior's ridge on d."""
    count = length.shape[1]
    columns = np.column_stack([np.ones_like(feature), feature, length])
    ridge = np.hstack([np.zeros((count, 2)), np.eye(count) * 0.03 / _LENGTH])
    c, k, *d = np.linalg.lstsq(np.vstack([columns, ridge]), np.r_[y, np.zeros(count)], rcond=1e-9)[0]
    return float(c), min(max(float(k), 1e-3), 1e3), np.asarray(d)


FORMS: tuple[Form, ...] = (Quadratic(), LogShare(), Exponential(), EffectiveShare())
"""Candidates, of which each objective takes the one that predicts left-out weightings best."""
