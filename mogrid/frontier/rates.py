"""Exchange rates as they are told: what one more pair of each objective is worth to each other one, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HELPS", "ExchangeRates", "rates_at"]

Floats = NDArray[np.float64]

HELPS = 1e-4
"""An objective's own pairs help where they, as many as there are in all, lower its loss by more than this part.

Else they are no measure of what others are worth: a rate would be a quotient by nothing.
"""
_FEWEST = 0.05
"""Of all pairs: where rates are taken at fewer of an objective, they are taken at this share of it.

Harm grows with √D and is infinitely steep at no pairs; runs that have an objective at all have a row or two a batch.
"""


@dataclass(frozen=True)
class ExchangeRates:
    """What one more pair of each objective is worth to each other one, with 90 % bootstrap intervals.

    That is (∂L_k/∂D_j) / (∂L_k/∂D_k) of the laws: t_kj of a plain one, wherever it is taken; where transfer saturates
    or harm grows it depends on how many pairs of j there are already.

    Attributes
    ----------
    objectives : tuple of K str
    value, low, high : ndarray, shape (K, K)
        What a pair of objective j (column) is worth to objective k (row), in pairs of its own; 1 on the diagonal.
        NaN where no run had pairs of j, or of k, or where pairs of k's own do not help it (see `HELPS`).
    base, base_low, base_high : ndarray, shape (K,)
        T_k: what the base model brings, in pairs of its own.
    pairs : ndarray, shape (K,)
        D_j that the rates are taken at.
    """

    objectives: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats
    base: Floats
    base_low: Floats
    base_high: Floats
    pairs: Floats

    @property
    def said(self) -> str:
        """Return for people where the rates are taken, and what a dash means where there is one."""
        seen = [(round(count), name) for count, name in zip(self.pairs, self.objectives, strict=True) if count > 0]
        if len({count for count, _ in seen}) == 1:
            where = f"{seen[0][0]:,} pairs of each"
        else:
            first, *rest = (f"{count:,} pairs of {name}" for count, name in seen)
            where = ", ".join([first, *(text.replace(" pairs", "") for text in rest)])
        dash = "; -: its own pairs do not help it, or no run had such pairs" if np.isnan(self.value).any() else ""
        return f"one more pair, at {where}{dash}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, by objective; None for NaN."""

        def three(place: tuple[int, ...], *tables: Floats) -> dict[str, float | None]:
            values = [float(table[place]) for table in tables]
            return {w: None if np.isnan(v) else v for w, v in zip(("value", "low", "high"), values, strict=True)}

        return {
            name: {
                "base": three((k,), self.base, self.base_low, self.base_high),
                "pairs": {o: three((k, j), self.value, self.low, self.high) for j, o in enumerate(self.objectives)},
            }
            for k, name in enumerate(self.objectives)
        }


def rates_at(pairs: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return where rates are taken for pairs (K,): with some of every objective that was seen in runs, no other."""
    return np.where(seen, np.maximum(pairs, _FEWEST * pairs.sum()), 0.0)
