"""Merges of models: what each mixture of their weights reaches, what lies between them, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError
from mogrid.frontier.rules import importance, pick
from mogrid.frontier.search import search_mixes

__all__ = ["Basin", "Merges"]

Floats = NDArray[np.float64]

_JUDGED = 0.02
"""Shares that differ by less are as good as judged."""


@dataclass(frozen=True)
class Basin:
    """What lies on the straight path between two models' weights.

    Attributes
    ----------
    ends : tuple of two names
    barrier : dict of objective to float
        The most that a model on the path falls short of the line between the ends' values; negative where all lie
        above it.
    shared : bool
        Whether no model on the path falls below both ends by more than its interval's half width.
    """

    ends: tuple[str, str]
    barrier: dict[str, float]
    shared: bool


@dataclass(frozen=True)
class Merges:
    """Every mixture that was judged.

    Attributes
    ----------
    names : tuple of K str
        The models.
    objectives : tuple of str
    shares : ndarray, shape (n, K)
    values : ndarray, shape (n, objectives)
        Higher is better.
    low, high : ndarray, shape (n, objectives)
        95 % intervals over queries.
    """

    names: tuple[str, ...]
    objectives: tuple[str, ...]
    shares: Floats
    values: Floats
    low: Floats
    high: Floats

    def corner(self, name: str) -> int:
        """Return the row of a model itself."""
        return int(np.argmax(self.shares[:, self.names.index(name)]))

    def front(self) -> NDArray[np.bool_]:
        """Return, for each row, whether none is at least as good in every objective and better in one."""
        import moocore

        return np.asarray(moocore.is_nondominated(-self.values, keep_weakly=True), dtype=bool)

    def choose(
        self,
        preference: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        *,
        knee: bool = False,
    ) -> int:
        """Return the row to take: by a preference (equal when left out) or the knee, among those that keep `at_least`.

        Raises
        ------
        ConfigError
            Nothing keeps the constraints: what is reachable is said.
        """
        allowed = np.ones(len(self.values), dtype=bool)
        for name, least in (at_least or {}).items():
            allowed &= self.values[:, self.objectives.index(name)] >= least - 1e-12
        if not allowed.any():
            raise ConfigError(self._unreached(at_least or {}))
        rows = np.flatnonzero(allowed)
        method = "knee" if knee else "weighted"
        return int(rows[pick(1 - self.values[rows], method, importance(self.objectives, preference, method))])

    def _unreached(self, at_least: Mapping[str, float]) -> str:
        """Return in words why no row keeps some constraints: what the best one for each reaches, or the nearest one."""
        least = np.array(list(at_least.values()))
        values = self.values[:, [self.objectives.index(name) for name in at_least]]
        most = values.max(axis=0)
        told = list(zip(at_least, least, most, strict=True))
        beyond = [one for one in told if one[2] < one[1] - 1e-12]
        asked = ", ".join(f"{name} ≥ {bar:.4f}" for name, bar, _ in beyond or told)
        if beyond:
            best = ", ".join(f"{name} {reached:.4f}" for name, _, reached in beyond)
            return f"no merge keeps {asked}; the most that one of them reaches: {best}"
        nearest = int(np.maximum(least - values, 0.0).sum(axis=1).argmin())
        of = " + ".join(
            f"{share:.2g} {name}" for share, name in zip(self.shares[nearest], self.names, strict=True) if share > 1e-9
        )
        reached = ", ".join(f"{name} {value:.4f}" for name, value in zip(at_least, values[nearest], strict=True))
        return f"no single merge keeps all of {asked}, though each is kept by one; the nearest, {of}, reaches {reached}"

    def proposal(
        self,
        preference: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        *,
        knee: bool = False,
    ) -> Floats | None:
        """Return the shares (K,) that quadratic surfaces through what was judged would choose; None if that is judged.

        pymoo searches the surfaces, one of every objective, from the judged shares on.
        """
        terms = _terms(self.shares)
        if np.linalg.matrix_rank(terms) < terms.shape[1]:
            return None
        surface = np.linalg.lstsq(terms, self.values, rcond=None)[0]
        count = len(self.names)
        _, mixes = search_mixes(
            lambda place, mix: 1 - _terms(mix) @ surface, 1, np.zeros(count), np.ones(count), self.shares
        )
        told = _terms(mixes) @ surface
        try:
            found = mixes[
                Merges(self.names, self.objectives, mixes, told, told, told).choose(preference, at_least, knee=knee)
            ]
        except ConfigError:
            return None
        return None if np.abs(self.shares - found).max(axis=1).min() < _JUDGED else found

    def basins(self) -> list[Basin]:
        """Return what lies between every two models, where the lattice has anything there."""
        found = []
        for one, other in combinations(self.names, 2):
            along = self.shares[:, self.names.index(other)]
            both = self.shares[:, self.names.index(one)] + along
            inner = np.flatnonzero((both > 1 - 1e-9) & (along > 1e-9) & (along < 1 - 1e-9))
            if not len(inner):
                continue
            ends = self.values[[self.corner(one), self.corner(other)]]
            line = np.outer(1 - along[inner], ends[0]) + np.outer(along[inner], ends[1])
            short = (line - self.values[inner]).max(axis=0)
            half = (self.high - self.low)[inner] / 2
            below = bool((self.values[inner] + half < ends.min(axis=0)).any())
            found.append(Basin((one, other), dict(zip(self.objectives, short.tolist(), strict=True)), not below))
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        points = [
            {
                "shares": dict(zip(self.names, map(float, self.shares[row]), strict=True)),
                "values": {
                    name: [float(x[row, k]) for x in (self.values, self.low, self.high)]
                    for k, name in enumerate(self.objectives)
                },
            }
            for row in range(len(self.shares))
        ]
        basins = [{"ends": list(b.ends), "barrier": b.barrier, "shared": b.shared} for b in self.basins()]
        return {"points": points, "basins": basins}


def _terms(shares: Floats) -> Floats:
    """Return shares and their products in pairs: on the simplex, all of a quadratic surface."""
    i, j = np.triu_indices(shares.shape[1], 1)
    return np.column_stack([shares, shares[:, i] * shares[:, j]])
