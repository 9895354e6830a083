"""Laws to hold the exchange rates against: Fernandes' capacity, the data mixing law, a quadratic surface."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.exchange import Design, Form, Law, Terms

__all__ = ["Capacity", "Mixing", "Quadratic"]

Floats = NDArray[np.float64]


class Capacity(Law):
    """Effective capacity of Fernandes et al. (arXiv 2302.09650): N and D are multiplied by f(λ_k).

    f(λ) = φ + λ + c₁ λ^c₂ (1 − λ)^c₃; φ, which is not theirs, keeps the loss at share 0 finite: other objectives help.
    """

    name = "capacity"
    equation = "E + A (f N)^(−α) + B (f D)^(−β), f = φ + λ_k + c₁ λ_k^c₂ (1 − λ_k)^c₃"

    def own_parameters(self) -> tuple[str, ...]:
        return ("log φ", "log c₁", "log c₂", "log c₃")

    def own_prior(self) -> tuple[Floats, Floats]:
        return np.log([0.05, 0.2, 0.7, 0.7]), np.array([2.0, 1.5, 0.7, 0.7])

    def own_starts(self, design: Design) -> Iterator[Floats]:
        for floor, bulge in product((0.005, 0.05, 0.3), (0.03, 0.5)):
            yield np.log([floor, bulge, 0.7, 0.7])

    def terms(self, psi: Floats, design: Design) -> Terms:
        floor, one, two, three = np.exp(np.clip(psi, [-12, -12, -4, -4], [3, 3, 2, 2])).T[:, :, None]
        own = np.clip(design.mix[:, design.own], 0.0, 1.0)
        low, rest = np.log(np.maximum(own, 1e-9)), np.log(np.maximum(1 - own, 1e-9))
        bulge = one * np.exp(two * low + three * rest)
        capacity = floor + own + bulge
        to_psi = np.stack([floor + 0 * bulge, bulge, bulge * two * low, bulge * three * rest], axis=2)
        to_psi /= capacity[:, :, None]
        log = np.log(capacity)
        return Terms((design.log_n + log, to_psi), (design.log_d + log, to_psi))


class Mixing(Law):
    """Data mixing law (Ye et al., arXiv 2403.16952) in the amplitudes of both terms."""

    name = "mixing law"
    equation = "E + [A N^(−α) + B D^(−β)] exp(Σ_j t_j λ_j)"

    def own_parameters(self) -> tuple[str, ...]:
        return tuple(f"t{j + 1}" for j in range(self.count))

    def own_prior(self) -> tuple[Floats, Floats]:
        return np.zeros(self.count), np.full(self.count, 2.0)

    def own_starts(self, design: Design) -> Iterator[Floats]:
        for slope in (-3.0, -1.0, -0.3):
            yield slope * np.eye(self.count)[design.own]

    def terms(self, psi: Floats, design: Design) -> Terms:
        # Shares sum to 1, so a common slope is a factor; about the centre it has no effect, and the prior sets it to 0.
        centred = design.mix - 1 / self.count
        value = psi @ centred.T
        to_psi = np.broadcast_to(centred, (*value.shape, self.count))
        return Terms((design.log_n[None], None), (design.log_d[None], None), factor=(value, to_psi))


class Quadratic(Form):
    """A surface: log loss quadratic in log D, log N and the mix (Scheffé's polynomial for mixtures)."""

    name = "quadratic"
    equation = (
        "log L = Σ_j b_j λ_j + Σ_i<j b_ij λ_i λ_j + Σ_j c_j λ_j log D + d log² D + f log N + g log² N + h log N log D"
    )

    def parameters(self) -> tuple[str, ...]:
        shares = [f"b{j + 1}" for j in range(self.count)] if self.mixed else ["b"]
        crossed = [f"b{i + 1}{j + 1}" for i, j in combinations(range(self.count), 2)] if self.mixed else []
        slopes = [f"c{j + 1}" for j in range(self.count)] if self.mixed else ["c"]
        return (*shares, *crossed, *slopes, "d", *(("f", "g", "h") if self.sized else ()))

    def prior(self) -> tuple[Floats, Floats]:
        spread = [1.0 if name[0] == "b" else 0.2 if name in "dgh" else 0.5 for name in self.parameters()]
        return np.zeros(len(spread)), np.array(spread)

    def values(self, theta: Floats, design: Design) -> tuple[Floats, Floats]:
        n, d = design.log_n, design.log_d
        shares = design.mix if self.mixed else np.ones((len(n), 1))
        crossed = [shares[:, i] * shares[:, j] for i, j in combinations(range(shares.shape[1]), 2)]
        size = [n, n**2, n * d] if self.sized else []
        x = np.column_stack([shares, *crossed, shares * d[:, None], d**2, *size])
        return theta @ x.T, np.broadcast_to(x, (len(theta), *x.shape))

    def starts(self, design: Design, y: Floats, use: Floats, keep: int = 4) -> Floats:
        return self.prior()[0][None]
