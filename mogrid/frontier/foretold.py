"""How well the front of the longest runs could have been foretold from the shorter ones: a plan's own record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.frontier.hypervolume import REFERENCE, hypervolume
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import as_losses, is_loss
from mogrid.frontier.selection import fit_laws

__all__ = ["ForetoldFront", "foretold_front"]

Floats = NDArray[np.float64]

_LONGEST = 1.25
"""Runs are as long as the longest when their pairs or FLOPs, times this, are more than the most there are."""
_LEAST_RUNS = 4
_DRAWS = 100  # enough for the ends of 90 % intervals
_CONFIDENCE = 0.9


@dataclass(frozen=True)
class ForetoldFront:
    """The front of the longest runs, measured, and what the shorter ones said of it.

    Attributes
    ----------
    metric : str
        A score in [0, 1]; volumes are measured from a score of 0 in every objective, and a perfect system has 1.
    model : str
        The base model of the longest runs.
    mixes, runs : int
        How many mixes the measured front is of, and how many shorter runs of the same model foretold it.
    share : float
        FLOPs of one run of each mix among the shorter ones, at each of their lengths, over those of one of each of the
        longest.
    measured, foretold, shorter : float
        Hypervolume: of the longest runs, of what laws of the shorter ones say of them, and of the front that the
        longest of the shorter ones have themselves, which is what foretells without a law.
    covered : float
        Share of the longest runs' values, of all objectives, that lie within their 90 % prediction intervals.
    """

    metric: str
    model: str
    mixes: int
    runs: int
    share: float
    measured: float
    foretold: float
    shorter: float
    covered: float

    @property
    def error(self) -> float:
        """The foretold volume over the measured one, less 1."""
        return self.foretold / self.measured - 1

    def __str__(self) -> str:
        return (
            f"front of the longest runs ({self.mixes} mixes), foretold from {self.runs} shorter ones with "
            f"{self.share:.0%} of its FLOPs: hypervolume {abs(self.error):.1%} off; taken to be that of the shorter "
            f"ones: {abs(self.shorter / self.measured - 1):.1%}; {self.covered:.0%} of single values lie in their "
            f"{_CONFIDENCE:.0%} intervals"
        )


def foretold_front(laws: Laws, metric: str | None = None) -> ForetoldFront:
    """Fit laws anew to all runs but the longest, of the largest model, and hold what they say against these.

    Parameters
    ----------
    laws : Laws
        Whose runs are divided.
    metric : str, optional
        A score; that of the laws when empty.

    Raises
    ------
    DataError
        All runs are of one length, fewer than two mixes were run at the longest, or fewer than four shorter runs are
        left; or a loss.
    ConfigError
        An unknown metric.
    """
    metric, runs = laws.metric(metric), laws.runs
    if is_loss(metric):
        raise DataError(f"{metric} has no worst value that a hypervolume could be measured from; take a score")
    own = runs.only(runs.parameters == runs.parameters.max())
    total = own.pairs.sum(axis=1)
    longest = (_LONGEST * total > total.max()) | (_LONGEST * own.flops > own.flops.max())
    groups = _by_mix(own.mix[longest])
    if len(groups) < 2 or (~longest).sum() < _LEAST_RUNS:
        raise DataError(
            f"{(~longest).sum()} runs shorter than the longest ({len(groups)} mixes): a front is foretold from "
            f"{_LEAST_RUNS} shorter runs, for 2 mixes"
        )
    last, before = own.only(longest), own.only(~longest)
    refitted = fit_laws(before, metrics=[metric], draws=_DRAWS)
    told, seen = refitted.predict(last.parameters, last.effort, metric), last.values[metric]
    ends = refitted.interval(last.parameters, last.effort, metric, confidence=_CONFIDENCE)
    length = before.pairs.sum(axis=1)
    nearest = before.only(_LONGEST * length > length.max())
    return ForetoldFront(
        metric,
        own.models[int(np.argmax(total))],
        len(groups),
        len(before),
        _price(before.cells, before.flops) / _price(last.cells, last.flops),
        _volume(seen, groups, metric),
        _volume(told, groups, metric),
        _volume(nearest.values[metric], _by_mix(nearest.mix), metric),
        float(((ends[..., 0] <= seen) & (seen <= ends[..., 1])).mean()),
    )


def _by_mix(mix: Floats) -> list[NDArray[np.intp]]:
    """Return the rows of every mix: its seeds."""
    which = np.asarray(np.unique(mix.round(4), axis=0, return_inverse=True)[1]).ravel()
    return [np.flatnonzero(which == number) for number in range(int(which.max()) + 1)]


def _price(cells: NDArray[np.intp], flops: Floats) -> float:
    """Return the FLOPs of one seed of everything."""
    return float(sum(flops[cells == cell].mean() for cell in np.unique(cells)))


def _volume(values: Floats, groups: list[NDArray[np.intp]], metric: str) -> float:
    """Return the volume that the means over seeds dominate, of all that a score from 0 to 1 could."""
    means = as_losses(np.array([values[rows].mean(axis=0) for rows in groups]), metric)
    count = means.shape[1]
    return hypervolume(means, np.zeros(count), np.full(count, 1 / REFERENCE)) / REFERENCE**count
