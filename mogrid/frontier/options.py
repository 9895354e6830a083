"""What budgets buy: base models, mixes, the pairs that they cost, and what the laws foretell of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, as_losses
from mogrid.frontier.search import into_box, lattice

__all__ = ["REACH", "Options", "affordable", "box", "experiments", "options_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp] | NDArray[np.bool_]

REACH = 10.0
"""How far beyond the runs, as a factor, plans are made."""
_POINTS = 1200
_FEW, _LEVELS = 15, 9  # mixes and lengths of proposed runs
_TIDY = 0.005


@dataclass(frozen=True)
class Options:
    """Trainings that could be done.

    Attributes
    ----------
    laws : Laws
    names, sizes : tuple of (str or None), and ndarray, shape (models,)
        The base models, None for a size between those of the runs, and their N.
    place : ndarray of int, shape (m,)
        Which of the models each has.
    flops : ndarray, shape (m,)
    mix, pairs, effort : ndarray, shape (m, K)
        λ, the pairs of each objective that the FLOPs buy, and those that work for each: `Measurements.effort`.
    """

    laws: Laws
    names: tuple[str | None, ...]
    sizes: Floats
    place: NDArray[np.intp]
    flops: Floats
    mix: Floats
    pairs: Floats
    effort: Floats

    def __len__(self) -> int:
        return len(self.place)

    @property
    def models(self) -> tuple[str | None, ...]:
        """Return the base model of each."""
        return tuple(self.names[i] for i in self.place)

    @property
    def parameters(self) -> Floats:
        """Return N of each, shape (m,)."""
        return np.asarray(self.sizes[self.place])

    def of(self, place: NDArray[np.intp], mix: Floats, flops: ArrayLike | None = None) -> Options:
        """Return others of the same models; of the first one's FLOPs where they are left out."""
        spent = np.broadcast_to(np.asarray(self.flops[0] if flops is None else flops, dtype=np.float64), len(place))
        pairs, effort = np.empty_like(mix), np.empty_like(mix)
        for i in np.unique(place):
            rows = place == i
            pairs[rows], effort[rows] = self.laws.costs.buys(spent[rows], float(self.sizes[i]), mix[rows])
        return replace(self, place=place, mix=mix, flops=spent, pairs=pairs, effort=effort)

    def only(self, rows: Rows | Sequence[int]) -> Options:
        """Return some of them."""
        columns = ("place", "flops", "mix", "pairs", "effort")
        return replace(self, **{name: getattr(self, name)[np.asarray(rows)] for name in columns})

    def tidy(self) -> Options:
        """Return them without shares that no batch has a row for, where runs without them were made."""
        low, _ = box(self.laws.runs)
        mix = np.where((self.mix < _TIDY) & (low < 1e-9), 0.0, self.mix)
        return self.of(self.place, mix / mix.sum(axis=1, keepdims=True), self.flops)

    def __add__(self, more: Options) -> Options:
        place, flops = np.r_[self.place, more.place], np.r_[self.flops, more.flops]
        return self.of(place, np.vstack([self.mix, more.mix]), flops)

    def values(self, metric: str | None = None) -> Floats:
        """Return what the laws foretell of a metric (m, K)."""
        return self.laws.predict(self.parameters, self.effort, metric)

    def losses(self, metric: str | None = None) -> Floats:
        """Return the same with lower as better: a loss, or what a score misses."""
        return as_losses(self.values(metric), self.laws.metric(metric))

    def loss_draws(self, metric: str | None = None) -> Floats:
        """Return the same (B, m, K) for each draw of the laws."""
        return as_losses(self.laws.predict_draws(self.parameters, self.effort, metric), self.laws.metric(metric))


def box(runs: Measurements) -> tuple[Floats, Floats]:
    """Return the least and the largest share (K,) of each objective that was run."""
    return runs.mix.min(axis=0), runs.mix.max(axis=0)


def options_of(
    laws: Laws, flops: Sequence[float], mixes: Floats, models: Sequence[str | float] | None = None
) -> Options:
    """Return all combinations of base models, training FLOPs and mixes (m, K).

    Parameters
    ----------
    models : sequence of names or N, optional
        Those of the runs when left out.

    Raises
    ------
    ConfigError
        An unknown model, or a size or budget that is not positive.
    """
    known = laws.runs.sizes
    names: list[str | None] = []
    sizes: list[float] = []
    for model in known if models is None else models:
        if isinstance(model, str):
            if model not in known:
                raise ConfigError(f"no run of a base model {model!r}{nearest(model, known)}")
            names.append(model)
            sizes.append(known[model])
        elif isinstance(model, bool) or not (math.isfinite(model) and model > 0):
            raise ConfigError(f"models must be names or positive numbers of parameters, got {model!r}")
        else:
            names.append(next((name for name, size in known.items() if size == model), None))
            sizes.append(float(model))
    for budget in flops:
        if isinstance(budget, bool) or not (math.isfinite(budget) and budget > 0):
            raise ConfigError(f"a budget must be a positive number of FLOPs, got {budget!r}")
    if not names or not len(flops) or not len(mixes):
        raise ConfigError("there is nothing to choose from: name at least one model, one budget and one mix")
    empty = np.empty((0, len(laws.objectives)))
    none = Options(laws, tuple(names), np.array(sizes), np.empty(0, dtype=np.intp), np.empty(0), empty, empty, empty)
    place, budgets, rows = (
        column.ravel() for column in np.meshgrid(range(len(names)), flops, range(len(mixes)), indexing="ij")
    )
    return none.of(place, np.asarray(mixes, dtype=np.float64)[rows], budgets)


def experiments(laws: Laws, models: Sequence[str | float] | None = None) -> Options:
    """Return runs that could be done next: as long as those that were run, or up to twice as long, at mixes between."""
    runs = laws.runs
    low, high = box(runs)
    mixes = np.unique(np.vstack([into_box(lattice(len(low), _FEW), low, high), runs.mix]).round(9), axis=0)
    levels = np.geomspace(runs.flops.min(), 2 * runs.flops.max(), _LEVELS)
    found = options_of(laws, levels.tolist(), mixes / mixes.sum(axis=1, keepdims=True), models)
    bought, total = found.effort.sum(axis=1), runs.pairs.sum(axis=1)
    return found.only((bought >= 0.9 * total.min()) & (bought <= 2.1 * total.max()))


def affordable(laws: Laws, budget: float, models: Sequence[str | float] | None = None) -> Options:
    """Return every base model with a lattice of mixes, between the shares that were run, and with the mixes that were.

    Raises
    ------
    ConfigError
        As `options_of`, or the budget buys no amount of data that the laws can speak of.
    """
    runs = laws.runs
    low, high = box(runs)
    several = len(runs.sizes if models is None else models)
    mixes = into_box(lattice(len(low), max(60, _POINTS // max(several, 1))), low, high)
    mixes = np.unique(np.vstack([mixes, runs.mix]).round(9), axis=0)
    found = options_of(laws, [budget], mixes / mixes.sum(axis=1, keepdims=True), models)
    cheapest, total = float(runs.flops.min()), runs.pairs.sum(axis=1)
    if budget < cheapest / REACH:
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs is far below the cheapest run ({cheapest:.3g}): the laws say nothing of it"
        )
    # A budget far beyond the runs has to go beyond them somewhere: at the largest model that was run, at least.
    least = float(total.min()) / REACH
    most = float(total.max()) * max(REACH, 2 * budget / float(runs.flops.max()))
    bought = found.effort.sum(axis=1)
    inside = (bought >= least) & (bought <= most)
    if not inside.any():
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs buys {bought.min():.3g} to {bought.max():.3g} pairs of these models; the "
            f"laws speak of {least:.3g} to {most:.3g}"
        )
    return found.only(inside)
