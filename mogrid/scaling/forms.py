"""Forms of a loss over model size, data size and loss weights, with derivatives, priors and starts.

All share one skeleton. With n = N/N₀ and d = D/D₀ (N₀, D₀ the sweep's geometric means),

    log X = log a − α log n + (what the weights do),      log Y = log b − β log d + (what the weights do),

and the loss is X + Y + δ (additive: Hoffmann et al., arXiv 2203.15556) or (X^(1/β) + Y^(1/β))^β + δ, which is Fang et
al.'s [(A/N)^(α/β) + B/D]^β + δ (arXiv 2403.18684) with a = (A/N₀)^α and b = (B/D₀)^β. A law in N alone has no Y, one
in D alone no X.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMS", "Design", "ScalingForm", "Shape"]

Floats = NDArray[np.float64]

_EXPONENTS = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Design:
    """Where one objective's loss is known or asked for.

    Attributes
    ----------
    log_n, log_d : ndarray, shape (m,)
        log(N/N₀) and log(D/D₀).
    weights : ndarray, shape (m, K)
    own : int
        The objective whose loss it is.
    """

    log_n: Floats
    log_d: Floats
    weights: Floats
    own: int


class Shape:
    """What the weights do to log X and log Y, and what they add to the loss. This one: nothing."""

    def parameters(self, count: int) -> tuple[str, ...]:
        """Return the names of ψ, for K objectives."""
        return ()

    def prior(self, count: int) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of ψ."""
        return np.zeros(0), np.zeros(0)

    def starts(self, design: Design) -> Iterator[Floats]:
        """Yield values of ψ to start from."""
        yield np.zeros(0)

    def shift(self, psi: Floats, exponent: Floats, term: int, design: Design) -> tuple[Floats, Floats, Floats]:
        """Return the shift of log X (term 0) or log Y (1), and its derivatives.

        Parameters
        ----------
        psi : ndarray, shape (B, q)
        exponent : ndarray, shape (B, 1)
            α or β.

        Returns
        -------
        tuple of ndarray
            Shapes (B, m), (B, m, q) to ψ and (B, m) to the exponent.
        """
        zeros = np.zeros((len(psi), len(design.weights)))
        return zeros, np.zeros((*zeros.shape, psi.shape[1])), zeros

    def offset(self, psi: Floats, design: Design) -> tuple[Floats, Floats] | None:
        """Return what is added to the loss (B, m), and its derivatives (B, m, q) to ψ; None for nothing."""
        return None


class Capacity(Shape):
    """Effective capacity of Fernandes et al. (arXiv 2302.09650): N and D are multiplied by f(w_k).

    f(w) = φ + w + c₁ w^c₂ (1 − w)^c₃; φ, which is not theirs, keeps the loss at weight 0 finite: other objectives help.
    """

    def parameters(self, count: int) -> tuple[str, ...]:
        return ("log φ", "log c₁", "log c₂", "log c₃")

    def prior(self, count: int) -> tuple[Floats, Floats]:
        return np.log([0.05, 0.2, 0.7, 0.7]), np.array([2.0, 1.5, 0.7, 0.7])

    def starts(self, design: Design) -> Iterator[Floats]:
        for floor, bulge in product((0.005, 0.05, 0.3), (0.03, 0.5)):
            yield np.log([floor, bulge, 0.7, 0.7])

    def shift(self, psi: Floats, exponent: Floats, term: int, design: Design) -> tuple[Floats, Floats, Floats]:
        floor, one, two, three = np.exp(np.clip(psi, [-12, -12, -4, -4], [3, 3, 2, 2])).T[:, :, None]
        own = np.clip(design.weights[:, design.own], 0.0, 1.0)
        low, rest = np.log(np.maximum(own, 1e-9)), np.log(np.maximum(1 - own, 1e-9))
        bulge = one * np.exp(two * low + three * rest)
        capacity = floor + own + bulge
        log = np.log(capacity)
        to_psi = np.stack([floor + 0 * bulge, bulge, bulge * two * low, bulge * three * rest], axis=2)
        return -exponent * log, -exponent[:, :, None] * to_psi / capacity[:, :, None], -log


class Power(Shape):
    """Double power law: X and Y fall with powers of their own of the effective share s = w_k + Σ_j≠k τ_j w_j.

    After Chen et al. (arXiv 2304.03216), with a transfer τ_j from every other objective.
    """

    def parameters(self, count: int) -> tuple[str, ...]:
        return ("log p", "log q", *(f"log τ{j + 1}" for j in range(count - 1)))

    def prior(self, count: int) -> tuple[Floats, Floats]:
        mean = np.r_[np.log([0.3, 0.3]), np.full(count - 1, np.log(0.1))]
        return mean, np.r_[1.0, 1.0, np.full(count - 1, 1.5)]

    def starts(self, design: Design) -> Iterator[Floats]:
        for power, transfer in product((0.15, 0.5), (0.01, 0.08, 0.4)):
            yield np.r_[np.log([power, power]), np.full(design.weights.shape[1] - 1, np.log(transfer))]

    def shift(self, psi: Floats, exponent: Floats, term: int, design: Design) -> tuple[Floats, Floats, Floats]:
        others = [j for j in range(design.weights.shape[1]) if j != design.own]
        power = np.exp(np.clip(psi[:, term : term + 1], -6, 2))
        transfer = np.exp(np.clip(psi[:, 2:], -12, 3))
        share = np.maximum(design.weights[:, design.own] + transfer @ design.weights[:, others].T, 1e-12)
        log = np.log(share)
        to_psi = np.zeros((*share.shape, psi.shape[1]))
        to_psi[:, :, term] = -power * log
        helped = transfer[:, None, :] * design.weights[:, others][None]
        to_psi[:, :, 2:] = -power[:, :, None] * helped / share[:, :, None]
        return -power * log, to_psi, np.zeros_like(share)


class Mixing(Shape):
    """Data mixing law (Ye et al., arXiv 2403.16952) in the amplitudes: X and Y are multiplied by exp(Σ_j t_j w_j)."""

    def parameters(self, count: int) -> tuple[str, ...]:
        return tuple(f"t{j + 1}" for j in range(count))

    def prior(self, count: int) -> tuple[Floats, Floats]:
        return np.zeros(count), np.full(count, 2.0)

    def starts(self, design: Design) -> Iterator[Floats]:
        for slope in (-3.0, -1.0, -0.3):
            yield slope * np.eye(design.weights.shape[1])[design.own]

    def shift(self, psi: Floats, exponent: Floats, term: int, design: Design) -> tuple[Floats, Floats, Floats]:
        centred = _centred(design)
        value = psi @ centred.T
        return value, np.broadcast_to(centred, (*value.shape, centred.shape[1])), np.zeros_like(value)


class AddedMixing(Shape):
    """Data mixing law beside the law of scale: exp(c + Σ_j t_j w_j) is added, so the best weights move with no scale.

    That is the additive form of Shukor et al. (arXiv 2507.09404); `Mixing` and the others are joint forms.
    """

    def parameters(self, count: int) -> tuple[str, ...]:
        return ("c", *(f"t{j + 1}" for j in range(count)))

    def prior(self, count: int) -> tuple[Floats, Floats]:
        return np.r_[-1.5, np.zeros(count)], np.r_[1.5, np.full(count, 2.5)]

    def starts(self, design: Design) -> Iterator[Floats]:
        for size, slope in product((-3.0, -1.0), (-4.0, -1.0)):
            yield np.r_[size, slope * np.eye(design.weights.shape[1])[design.own]]

    def offset(self, psi: Floats, design: Design) -> tuple[Floats, Floats] | None:
        features = np.column_stack([np.ones(len(design.weights)), _centred(design)])
        value = np.exp(np.clip(psi @ features.T, -30, 8))
        return value, value[:, :, None] * features[None]


def _centred(design: Design) -> Floats:
    # Weights sum to 1, so a common slope is a factor; about the centre it has no effect, and the prior sets it to 0.
    return np.asarray(design.weights - 1 / design.weights.shape[1])


@dataclass(frozen=True)
class ScalingForm:
    """One law of an objective's loss, in units of the sweep's geometric mean loss.

    Attributes
    ----------
    name, equation : str
    over : tuple of str
        Of ``N``, ``D`` and ``weights``: what must vary in the runs it is fitted to.
    shape : Shape
    joint : bool
        Fang et al.'s combination of X and Y in place of their sum.
    """

    name: str
    equation: str
    over: tuple[str, ...]
    shape: Shape
    joint: bool = False

    def parameters(self, count: int) -> tuple[str, ...]:
        """Return the names of θ, for K objectives."""
        base = [("log a", "log α")] if "N" in self.over else []
        base += [("log b", "log β")] if "D" in self.over else []
        return (*(name for pair in base for name in pair), "log δ", *self.shape.parameters(count))

    def prior(self, count: int) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each parameter: losses of the order of the sweep's, exponents of .3."""
        terms = len([name for name in self.over if name != "weights"])
        mean, spread = self.shape.prior(count)
        return (
            np.r_[np.tile(np.log([0.3, 0.3]), terms), np.log(0.3), mean],
            np.r_[np.tile([2.0, 1.0], terms), 2.0, spread],
        )

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        """Return log loss (B, m) and its Jacobian (B, m, p) for parameters (B, p)."""
        terms = [
            (i, log) for i, (name, log) in enumerate((("N", design.log_n), ("D", design.log_d))) if name in self.over
        ]
        first = 2 * len(terms)
        psi = theta[:, first + 1 :]
        jacobian = np.zeros((len(theta), len(design.weights), theta.shape[1]))
        logs, pieces = [], []
        for place, (term, scale) in enumerate(terms):
            exponent = np.exp(np.clip(theta[:, 2 * place + 1 : 2 * place + 2], -6, 2))
            shift, to_psi, to_exponent = self.shape.shift(psi, exponent, term, design)
            logs.append(np.clip(theta[:, 2 * place : 2 * place + 1] - exponent * scale + shift, -40, 12))
            pieces.append((exponent * (to_exponent - scale), to_psi))
        floor = np.exp(np.clip(theta[:, first : first + 1], -30, 8))
        if self.joint:
            beta = np.exp(np.clip(theta[:, 3:4], -6, 2))
            total = np.logaddexp(logs[0] / beta, logs[1] / beta)
            value = np.exp(beta * total)
            parts = [np.exp(log / beta - total) for log in logs]
            slopes = [value * part for part in parts]
            # β is also the order of the mean: its own derivative comes on top of that through log Y.
            jacobian[:, :, 3] = value * beta * (total - sum(p * log for p, log in zip(parts, logs, strict=True)) / beta)
        else:
            slopes = [np.exp(log) for log in logs]
            value = np.sum(slopes, axis=0)
        for place, (slope, (to_exponent, to_psi)) in enumerate(zip(slopes, pieces, strict=True)):
            jacobian[:, :, 2 * place] = slope
            jacobian[:, :, 2 * place + 1] += slope * to_exponent
            jacobian[:, :, first + 1 :] += slope[:, :, None] * to_psi
        jacobian[:, :, first] = floor
        value = value + floor
        added = self.shape.offset(psi, design)
        if added is not None:
            value = value + added[0]
            jacobian[:, :, first + 1 :] += added[1]
        return np.log(value), jacobian / value[:, :, None]

    def starts(self, design: Design, y: Floats, *, keep: int = 6) -> Floats:
        """Return the best starts (S, p) by variable projection: exponents and ψ on a grid, a, b and δ by least squares.

        Residuals are relative (y is the log loss), and a, b and δ are not negative.
        """
        from scipy.optimize import nnls

        loss = np.exp(y)
        terms = [
            (i, log) for i, (name, log) in enumerate((("N", design.log_n), ("D", design.log_d))) if name in self.over
        ]
        found: list[tuple[float, Floats]] = []
        for psi in self.shape.starts(design):
            added = self.shape.offset(psi[None], design)
            target = 1.0 - (added[0][0] / loss if added is not None else 0.0)
            for exponents in product(_EXPONENTS, repeat=len(terms)):
                columns = [
                    np.exp(-e * scale + self.shape.shift(psi[None], np.array([[e]]), term, design)[0][0]) / loss
                    for e, (term, scale) in zip(exponents, terms, strict=True)
                ]
                solved, error = nnls(np.column_stack([*columns, 1 / loss]), np.broadcast_to(target, loss.shape))
                amplitudes = np.log(np.maximum(solved, 1e-3))
                base = [v for pair in zip(amplitudes, np.log(exponents), strict=False) for v in pair]
                found.append((float(error), np.r_[base, amplitudes[-1], psi]))
        found.sort(key=lambda item: item[0])
        return np.array([theta for _, theta in found[:keep]])


FORMS: dict[str, ScalingForm] = {
    form.name: form
    for form in (
        ScalingForm("size", "(A/N)^α + δ", ("N",), Shape()),
        ScalingForm("data", "(B/D)^β + δ", ("D",), Shape()),
        ScalingForm("joint", "[(A/N)^(α/β) + B/D]^β + δ", ("N", "D"), Shape(), joint=True),
        ScalingForm("additive", "(A/N)^α + (B/D)^β + δ", ("N", "D"), Shape()),
        ScalingForm(
            "capacity",
            "[(A/(f N))^(α/β) + B/(f D)]^β + δ, f = φ + w_k + c₁ w_k^c₂ (1 − w_k)^c₃",
            ("N", "D", "weights"),
            Capacity(),
            joint=True,
        ),
        ScalingForm(
            "mixing law",
            "[(A/N)^α + (B/D)^β] exp(Σ_j t_j w_j) + δ",
            ("N", "D", "weights"),
            Mixing(),
        ),
        ScalingForm(
            "added mixing law",
            "(A/N)^α + (B/D)^β + exp(c + Σ_j t_j w_j) + δ",
            ("N", "D", "weights"),
            AddedMixing(),
        ),
        ScalingForm(
            "double power",
            "(A/N)^α s^(−p) + (B/D)^β s^(−q) + δ, s = w_k + Σ_j≠k τ_j w_j",
            ("N", "D", "weights"),
            Power(),
        ),
    )
}
"""Laws by name. Which of them apply to a sweep follows from what varies in it."""
