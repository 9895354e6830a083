"""Measured points: what each run reached in every objective, and what dominates what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError

__all__ = ["Front"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Front:
    """Runs as points in the space of objectives; lower is better in each.

    Attributes
    ----------
    objectives : tuple of K str
    values : ndarray, shape (n, K)
    labels : tuple of n str
        The strategy of each run.
    seeds : tuple of n int

    Raises
    ------
    DataError
        Shapes disagree, there is no run, or a value is not finite (the run is named).
    """

    objectives: tuple[str, ...]
    values: Floats
    labels: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = (len(self.labels), len(self.objectives))
        if not self.labels or self.values.shape != shape or len(self.seeds) != shape[0]:
            raise DataError(f"a front needs runs: expected values of shape {shape}, got {self.values.shape}")
        bad = ~np.isfinite(self.values)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            found = f"{self.objectives[column]} is {self.values[row, column]}"
            raise DataError(f"run {self.labels[row]!r}, seed {self.seeds[row]}: {found}")

    def non_dominated(self) -> NDArray[np.bool_]:
        """Return, for each run, whether no other run is at least as good in all objectives and better in one."""
        import moocore

        return np.asarray(moocore.is_nondominated(self.values, keep_weakly=True), dtype=bool)

    def means(self) -> tuple[tuple[str, ...], Floats, Floats]:
        """Return (strategies, means (s, K), half-widths of 95 % t-intervals over seeds (s, K); NaN for one seed)."""
        from scipy.special import stdtrit

        names = tuple(dict.fromkeys(self.labels))
        means, widths = (
            np.empty((len(names), len(self.objectives))),
            np.full((len(names), len(self.objectives)), np.nan),
        )
        for i, name in enumerate(names):
            rows = self.values[[label == name for label in self.labels]]
            means[i] = rows.mean(axis=0)
            if len(rows) > 1:
                widths[i] = stdtrit(len(rows) - 1, 0.975) * rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        return names, means, widths

    def bootstrap(self, draws: int = 1000, *, seed: int = 0) -> Floats:
        """Return bootstrap draws (B, s, K) of the strategies' seed means, in the order of `means`.

        Strategies with the same seeds are resampled together, since a seed sets the model's start and the order of the
        data for all of them. Deviations are stretched by √(n/(n−1)): a resampled mean of n runs varies by that much
        less than a mean of n new ones, which matters at three seeds. One run has no deviation.
        """
        rng = np.random.default_rng(seed)
        names = tuple(dict.fromkeys(self.labels))
        result = np.empty((draws, len(names), len(self.objectives)))
        taken: dict[tuple[int, ...], NDArray[np.intp]] = {}
        for i, name in enumerate(names):
            rows = sorted((j for j, label in enumerate(self.labels) if label == name), key=lambda j: self.seeds[j])
            key = tuple(self.seeds[j] for j in rows)
            if key not in taken:
                taken[key] = rng.integers(len(rows), size=(draws, len(rows)))
            values = self.values[rows]
            mean = values.mean(axis=0)
            stretch = np.sqrt(len(rows) / max(len(rows) - 1, 1))
            result[:, i] = mean + stretch * (values[taken[key]].mean(axis=1) - mean)
        return result
