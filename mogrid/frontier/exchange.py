"""The law with exchange rates, and what every law shares: terms of model size and data, derivatives, priors, starts.

With n = N/N₀ and d_j = D_j/D₀ (N₀, D₀ geometric means of the runs), an objective's loss, in units of the runs' mean, is

    e + a n^(−α) S + b x^(−β) S + H,

where x is the data that count for the objective and S and H are 1 and 0 unless a form says otherwise. All are fitted in
the logarithm of the loss, so that residuals are relative.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray

__all__ = ["Design", "Exchange", "Form", "Law", "Terms"]

Floats = NDArray[np.float64]

_EXPONENTS = (0.1, 0.3, 0.8)


@dataclass(frozen=True)
class Design:
    """Where one objective's loss is known or asked for.

    Attributes
    ----------
    log_n : ndarray, shape (m,)
        log(N/N₀).
    pairs : ndarray, shape (m, K)
        D_j/D₀.
    own : int
        The objective whose loss it is.
    """

    log_n: Floats
    pairs: Floats
    own: int

    @property
    def log_d(self) -> Floats:
        """Return log(D/D₀) of all pairs together, shape (m,)."""
        return np.asarray(np.log(np.maximum(self.pairs.sum(axis=1), 1e-300)))

    @property
    def mix(self) -> Floats:
        """Return the shares of the pairs (m, K); equal ones where there are none."""
        total = self.pairs.sum(axis=1, keepdims=True)
        return np.where(total > 0, self.pairs / np.maximum(total, 1e-300), 1 / self.pairs.shape[1])

    @property
    def others(self) -> list[int]:
        """Return the other objectives."""
        return [j for j in range(self.pairs.shape[1]) if j != self.own]

    def only(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Design:
        """Return some rows."""
        return Design(self.log_n[rows], self.pairs[rows], self.own)

    def distinct(self) -> tuple[Design, NDArray[np.intp]]:
        """Return the distinct rows, and which of them each row is."""
        rows, of = np.unique(np.column_stack([self.log_n, self.pairs]), axis=0, return_inverse=True)
        return Design(rows[:, 0], rows[:, 1:], self.own), of.ravel()


class Form(ABC):
    """A family of functions of N and D_1 … D_K.

    Attributes
    ----------
    name, equation : str
    count : int
        K.
    sized, mixed : bool
        Whether N, and whether the mix, varies in the runs it is fitted to; terms that nothing speaks of are left out.
    """

    name: str
    equation: str

    def __init__(self, count: int, *, sized: bool, mixed: bool) -> None:
        self.count, self.sized, self.mixed = count, sized, mixed and count > 1

    @abstractmethod
    def parameters(self) -> tuple[str, ...]:
        """Return the names of θ."""

    @abstractmethod
    def prior(self) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each parameter."""

    @abstractmethod
    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        """Return log loss (B, m) and its Jacobian (B, m, p) for parameters (B, p)."""

    @abstractmethod
    def starts(self, design: Design, y: Floats, use: Floats, keep: int = 4) -> Floats:
        """Return the best starts (S, p) of a grid for log losses y (m,) of multiplicity `use` (m,)."""


@dataclass(frozen=True)
class Terms:
    """What a form's own parameters ψ (B, q) make of the terms, with derivatives.

    Attributes
    ----------
    size, data : tuple of ndarray, shapes (B or 1, m) and (B or 1, m, q), or None
        The logarithm of what −α and −β multiply; the second is None where ψ has no part in it.
    factor, added : the same, or None
        log S, and H.
    """

    size: tuple[Floats, Floats | None]
    data: tuple[Floats, Floats | None]
    factor: tuple[Floats, Floats] | None = None
    added: tuple[Floats, Floats] | None = None


class Law(Form):
    """Sums of power laws; θ = log e, (log a, log α,) log b, log β, ψ."""

    @abstractmethod
    def own_parameters(self) -> tuple[str, ...]:
        """Return the names of ψ."""

    @abstractmethod
    def own_prior(self) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of ψ."""

    @abstractmethod
    def own_starts(self, design: Design) -> Iterator[Floats]:
        """Yield values of ψ to start from."""

    @abstractmethod
    def terms(self, psi: Floats, design: Design) -> Terms:
        """Return what ψ makes of the terms."""

    @property
    def first(self) -> int:
        """Return the place of ψ in θ."""
        return 5 if self.sized else 3

    def parameters(self) -> tuple[str, ...]:
        size = ("log a", "log α") if self.sized else ()
        return ("log e", *size, "log b", "log β", *self.own_parameters())

    def prior(self) -> tuple[Floats, Floats]:
        terms = 2 if self.sized else 1
        mean, spread = self.own_prior()
        return (
            np.r_[np.log(0.3), np.tile(np.log([0.3, 0.3]), terms), mean],
            np.r_[2.0, np.tile([2.0, 1.0], terms), spread],
        )

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        first = self.first
        terms = self.terms(theta[:, first:], design)
        jacobian = np.zeros((len(theta), len(design.log_n), theta.shape[1]))
        value = np.exp(np.clip(theta[:, :1], -30, 8)) * np.ones(len(design.log_n))
        jacobian[:, :, 0] = value
        pieces = [(1, *terms.size)] if self.sized else []
        for place, scale, to_psi in [*pieces, (first - 2, *terms.data)]:
            exponent = np.exp(np.clip(theta[:, place + 1 : place + 2], -6, 2))
            log = theta[:, place : place + 1] - exponent * scale
            if terms.factor is not None:
                log = log + terms.factor[0]
            piece = np.exp(np.clip(log, -40, 12))
            value = value + piece
            jacobian[:, :, place] = piece
            jacobian[:, :, place + 1] = -piece * exponent * scale
            if to_psi is not None:
                jacobian[:, :, first:] -= (piece * exponent)[:, :, None] * to_psi
            if terms.factor is not None:
                jacobian[:, :, first:] += piece[:, :, None] * terms.factor[1]
        if terms.added is not None:
            value = value + terms.added[0]
            jacobian[:, :, first:] += terms.added[1]
        jacobian /= value[:, :, None]
        return np.log(value), jacobian

    def starts(self, design: Design, y: Floats, use: Floats, keep: int = 4) -> Floats:
        """Variable projection: exponents and ψ on a grid, e, a and b by least squares, none of them negative."""
        loss = np.exp(y)
        weight = np.sqrt(use)
        columns, targets, inner = [], [], []
        for psi in self.own_starts(design):
            terms = self.terms(psi[None], design)
            factor = np.exp(terms.factor[0][0]) if terms.factor is not None else 1.0
            target = weight * (1.0 - (terms.added[0][0] / loss if terms.added is not None else 0.0))
            scales = ([terms.size[0][0]] if self.sized else []) + [terms.data[0][0]]
            for exponents in product(_EXPONENTS, repeat=len(scales)):
                powers = [factor * np.exp(-e * s) / loss for e, s in zip(exponents, scales, strict=True)]
                columns.append(np.column_stack([1 / loss, *powers]) * weight[:, None])
                targets.append(target)
                inner.append((np.log(exponents), psi))
        solved, error = _non_negative(np.array(columns), np.array(targets))
        found = []
        for row in np.argsort(error)[:keep]:
            amplitudes, (exponents, psi) = np.log(np.maximum(solved[row], 1e-3)), inner[row]
            found.append(np.r_[amplitudes[0], np.column_stack([amplitudes[1:], exponents]).ravel(), psi])
        return np.array(found)


def _non_negative(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the least-squares solutions ≥ 0 (S, p) of few columns x (S, n, p), y (S, n), and their errors (S,)."""
    count = x.shape[2]
    gram = x.transpose(0, 2, 1) @ x + 1e-9 * np.eye(count)
    moment = np.einsum("snp,sn->sp", x, y)
    best, error = np.zeros((len(x), count)), np.zeros(len(x))
    for some in chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1)):
        part = list(some)
        solved = np.linalg.solve(gram[:, part][:, :, part], moment[:, part, None])[:, :, 0]
        gain = -(solved * moment[:, part]).sum(axis=1)
        better = (solved >= 0).all(axis=1) & (gain < error)
        error = np.where(better, gain, error)
        best[better] = 0.0
        best[np.ix_(better, part)] = solved[better]
    return best, error + (y**2).sum(axis=1)


class Exchange(Law):
    """A pair of objective j is worth t_j pairs of the objective's own, and the base model brings T of them.

    t_j may be negative. The data that count stay positive all the same: x = p exp(−q/p), with p the sum of what helps
    and q of what harms, which is p − q as long as that is small.

    Parameters
    ----------
    saturates : bool
        What other objectives' pairs are worth levels off: d_j / (1 + d_j/s) in the place of d_j, with one s.
    harms : bool
        Σ_j h_j √d_j, h_j ≥ 0, is added to the loss: others first help and then harm, beyond what the base brought.
    """

    def __init__(self, count: int, *, sized: bool, mixed: bool, saturates: bool = False, harms: bool = False) -> None:
        super().__init__(count, sized=sized, mixed=mixed)
        self.saturates, self.harms = saturates and self.mixed, harms and self.mixed
        marks = [word for word, on in (("saturating", self.saturates), ("harming", self.harms)) if on]
        self.name = ", ".join(["exchange", *marks])
        worth = "D_j/(1 + D_j/S)" if self.saturates else "D_j"
        own = f"T + D_k + Σ_j t_j {worth}" if self.mixed else "T + D"
        size = "E + A N^(−α)" if self.sized else "E"
        self.equation = f"{size} + B ({own})^(−β)" + (" + Σ_j h_j √D_j" if self.harms else "")

    def own_parameters(self) -> tuple[str, ...]:
        others = range(1, self.count) if self.mixed else ()
        return (
            "log T",
            *(f"t{j}" for j in others),
            *(["log s"] if self.saturates else []),
            *(f"log h{j}" for j in others if self.harms),
        )

    def own_prior(self) -> tuple[Floats, Floats]:
        others = self.count - 1 if self.mixed else 0
        harmful = others if self.harms else 0
        return (
            np.r_[np.log(0.3), np.full(others, 0.4), np.zeros(int(self.saturates)), np.full(harmful, np.log(0.01))],
            np.r_[2.0, np.full(others, 0.5), np.full(int(self.saturates), 1.5), np.full(harmful, 1.5)],
        )

    def own_starts(self, design: Design) -> Iterator[Floats]:
        others = self.count - 1 if self.mixed else 0
        grid = product((0.05, 0.4, 2.0), (0.1, 0.5) if others else (0.0,), (0.5, 3.0) if self.saturates else (0.0,))
        for base, worth, level in grid:
            psi = [np.log(base), *[worth] * others]
            psi += [np.log(level)] if self.saturates else []
            yield np.array([*psi, *[np.log(0.01)] * (others if self.harms else 0)])

    def terms(self, psi: Floats, design: Design) -> Terms:
        rows, count = len(psi), len(design.log_n)
        base = np.exp(np.clip(psi[:, :1], -15, 8))
        to_psi = np.zeros((rows, count, psi.shape[1]))
        if not self.mixed:
            data = base + design.pairs.sum(axis=1)
            to_psi[:, :, 0] = base / data
            return Terms((design.log_n[None], None), (np.log(data), to_psi))
        others = self.count - 1
        worth, given = psi[:, 1 : 1 + others], design.pairs[:, design.others]
        taken, to_level = given[None], np.zeros((1, 1, 1))
        if self.saturates:
            level = np.exp(np.clip(psi[:, 1 + others, None, None], -6, 8))
            taken = given / (1 + given / level)
            to_level = taken**2 / level
        each = worth[:, None, :] * taken
        helped = base + design.pairs[:, design.own] + np.maximum(each, 0.0).sum(axis=2)
        ratio = np.maximum(-each, 0.0).sum(axis=2) / helped
        # x = p exp(−q/p): what helps moves log x by (1 + q/p)/p, what harms by −1/p.
        up = (1 + ratio) / helped
        slope = np.where(worth[:, None, :] > 0, up[:, :, None], 1 / helped[:, :, None])
        to_psi[:, :, 0] = base * up
        to_psi[:, :, 1 : 1 + others] = slope * taken
        if self.saturates:
            to_psi[:, :, 1 + others] = (slope * worth[:, None, :] * to_level).sum(axis=2)
        added = None
        if self.harms:
            harm = np.exp(np.clip(psi[:, -others:], -12, 3))[:, None, :] * np.sqrt(given)
            to_harm = np.zeros_like(to_psi)
            to_harm[:, :, -others:] = harm
            added = harm.sum(axis=2), to_harm
        return Terms((design.log_n[None], None), (np.log(helped) - ratio, to_psi), added=added)

    def worth(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        """Return what one more pair of each other objective is worth, and what one of its own is.

        Parameters
        ----------
        theta : ndarray, shape (B, p)
            Parameters of B laws.
        design : Design
            Where. Harm by √D is infinitely steep at no pairs: what such are worth there means nothing.

        Returns
        -------
        worth : ndarray, shape (B, m, K − 1)
            (∂L/∂D_j) / (∂L/∂D_k) by other objective: in pairs of its own. It is t_j, less as transfer saturates and as
            harm adds to the loss.
        own : ndarray, shape (B, m)
            −D ∂log L/∂D_k, above 0: by what part as many more pairs as there are in all, of its own, lower the loss.
        """
        first, others = self.first, self.count - 1
        psi, given = theta[:, first:], design.pairs[:, design.others]
        log_x, to_psi = self.terms(psi, design).data
        assert to_psi is not None
        exponent = np.exp(np.clip(theta[:, first - 1 : first], -6, 2))
        piece = np.exp(np.clip(theta[:, first - 2 : first - 1] - exponent * log_x, -40, 12))
        # T and D_k are alike to x.
        slope = piece * exponent * to_psi[:, :, 0] / np.exp(np.clip(psi[:, :1], -15, 8))
        # Of p − q, which x = p exp(−q/p) stands for: so what harms is worth t_j, too, however much it is.
        worth = np.broadcast_to(psi[:, None, 1 : 1 + others], (len(theta), *given.shape))
        if self.saturates:
            level = np.exp(np.clip(psi[:, 1 + others, None, None], -6, 8))
            worth = worth / (1 + given / level) ** 2
        if self.harms:
            harm = np.exp(np.clip(psi[:, None, -others:], -12, 3)) / (2 * np.sqrt(np.maximum(given, 1e-12)))
            worth = worth - harm / slope[:, :, None]
        return worth, slope * design.pairs.sum(axis=1) / np.exp(self.values(theta, design)[0])
