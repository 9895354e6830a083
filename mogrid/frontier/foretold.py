"""How well the front of the longest runs could have been foretold from the shorter ones: a plan's own record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError
from mogrid.frontier.hypervolume import REFERENCE, hypervolume
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, is_loss
from mogrid.frontier.selection import fit_laws

__all__ = ["ForetoldFront", "foretold_front", "longest"]

Floats = NDArray[np.float64]

_LONGEST = 1.25
"""Runs are as long as the longest when their pairs or FLOPs, times this, are more than the most there are."""
_LEAST_RUNS, _LEAST_MIXES = 4, 2
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
        The largest base model, of those the one with the longest run.
    mixes, runs : int
        How many mixes the fronts are of, which have longest and shorter runs, and how many shorter runs foretold it.
    share : float
        FLOPs of all shorter mixes and lengths, one seed of each, over those of the longest, likewise.
    measured, foretold, shorter : float
        Hypervolume: of the longest runs, of what laws of the shorter ones say of them, and of each mix's longest
        shorter runs, which is what foretells without a law.
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
            f"front of the longest runs ({self.mixes} mixes), foretold from {self.runs} shorter ones, one seed of "
            f"which takes {self.share:.0%} of the FLOPs: hypervolume {abs(self.error):.1%} off; taken to be that of "
            f"the shorter ones: {abs(self.shorter / self.measured - 1):.1%}; {self.covered:.0%} of single values lie "
            f"in their {_CONFIDENCE:.0%} intervals"
        )


def foretold_front(laws: Laws, metric: str | None = None, *, form: str | None = None) -> ForetoldFront:
    """Fit laws anew to all runs but the longest, of the largest model, and hold what they say against these.

    Parameters
    ----------
    laws : Laws
        Whose runs are divided.
    metric : str, optional
        A score; the first that the laws have when empty.
    form : str, optional
        The one law that all objectives are given, as for `fit_laws`.

    Raises
    ------
    DataError
        A loss; or fewer than four runs are shorter than the longest, or fewer than two mixes have both.
    ConfigError
        An unknown metric or law.
    """
    metric, runs = _score(laws, metric), laws.runs
    model = runs.models[int(np.lexsort((runs.pairs.sum(axis=1), runs.parameters))[-1])]
    own = runs.only([one == model for one in runs.models])
    long = longest(own)
    both = []
    if (~long).sum() >= _LEAST_RUNS:
        last, before = own.only(long), own.only(~long)
        both = _mixes_of_both(last, before)
    if len(both) < _LEAST_MIXES:
        raise DataError(
            f"a front is foretold from {_LEAST_RUNS} runs or more that are shorter than the longest, for "
            f"{_LEAST_MIXES} mixes or more that have both: {model} has {(~long).sum()}, and {len(both)}"
        )
    refitted = fit_laws(before, metrics=[metric], form=form, draws=_DRAWS)
    told, seen = refitted.predict(last.parameters, last.effort, metric), last.values[metric]
    ends = refitted.interval(last.parameters, last.effort, metric, confidence=_CONFIDENCE)
    measured = _volume(seen, [rows for rows, _ in both])
    if measured <= 0:
        raise DataError(f"{metric} is 0 in the longest runs: there is no front to foretell")
    return ForetoldFront(
        metric,
        model,
        len(both),
        len(before),
        _price(before) / _price(last),
        measured,
        _volume(told, [rows for rows, _ in both]),
        _volume(before.values[metric], [rows for _, rows in both]),
        float(((ends[..., 0] <= seen) & (seen <= ends[..., 1])).mean()),
    )


def _score(laws: Laws, metric: str | None) -> str:
    """Return the metric, or the laws' first score."""
    scores = [name for name in laws.metrics if not is_loss(name)]
    metric = (scores or laws.metrics)[0] if metric is None else laws.metric(metric)
    if is_loss(metric):
        raise DataError(f"{metric} has no worst value that a hypervolume could be measured from; take a score")
    return metric


def longest(runs: Measurements) -> NDArray[np.bool_]:
    """Return which runs are as long as the longest."""
    total = runs.pairs.sum(axis=1)
    found: NDArray[np.bool_] = (_LONGEST * total > total.max()) | (_LONGEST * runs.flops > runs.flops.max())
    return found


def _mixes_of_both(last: Measurements, before: Measurements) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return, by mix that both have, its runs among the longest, and the longest of its runs among the shorter ones."""
    found = []
    for mix in np.unique(last.mix.round(4), axis=0):
        rows, shorter = (np.flatnonzero((runs.mix.round(4) == mix).all(axis=1)) for runs in (last, before))
        if len(shorter):
            found.append((rows, shorter[longest(before.only(np.isin(np.arange(len(before)), shorter)))]))
    return found


def _price(runs: Measurements) -> float:
    """Return the FLOPs of one seed of everything."""
    return float(sum(runs.flops[runs.cells == cell].mean() for cell in np.unique(runs.cells)))


def _volume(scores: Floats, groups: list[NDArray[np.intp]]) -> float:
    """Return the volume that the means over seeds dominate, of all that scores from 0 to 1 could."""
    losses = 1 - np.array([scores[rows].mean(axis=0) for rows in groups])
    count = losses.shape[1]
    return hypervolume(losses, np.zeros(count), np.full(count, 1 / REFERENCE)) / REFERENCE**count
