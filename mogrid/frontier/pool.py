"""Affordable candidates: every base model with a lattice of mixes, and all that a budget buys of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, as_losses, is_loss
from mogrid.frontier.rules import pick
from mogrid.frontier.search import into_box, lattice

__all__ = ["REACH", "Pool", "affordable", "best", "box", "caps_of"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

REACH = 10.0
"""How far beyond the runs, as a factor, plans are made."""
_POINTS = 1200
_TIDY = 0.005


@dataclass(frozen=True)
class Pool:
    """What one budget buys.

    Attributes
    ----------
    laws : Laws
    budget : float
    names : tuple of (str or None)
        The models; None for a size between those of the runs.
    sizes : ndarray, shape (models,)
        Their N.
    place : ndarray of int, shape (m,)
        Which model each candidate has.
    mix, pairs, effort : ndarray, shape (m, K)
        Its mix, the pairs of each objective, and those that work for each: `Measurements.effort`.
    """

    laws: Laws
    budget: float
    names: tuple[str | None, ...]
    sizes: Floats
    place: Places
    mix: Floats
    pairs: Floats
    effort: Floats

    @property
    def parameters(self) -> Floats:
        """Return N (m,)."""
        return self.sizes[self.place]

    def of(self, place: Places, mix: Floats) -> Pool:
        """Return other candidates of the same budget and models."""
        pairs, effort = np.empty_like(mix), np.empty_like(mix)
        for i in np.unique(place):
            rows, size = place == i, float(self.sizes[i])
            pairs[rows] = self.laws.costs.pairs(self.budget, size, mix[rows])
            effort[rows] = self.laws.costs.effort(self.budget, size, mix[rows])
        return replace(self, place=place, mix=mix, pairs=pairs, effort=effort)

    def tidy(self) -> Pool:
        """Return the candidates without shares that no batch has a row for, where runs without them were made."""
        low, _ = box(self.laws.runs)
        mix = np.where((self.mix < _TIDY) & (low < 1e-9), 0.0, self.mix)
        return self.of(self.place, mix / mix.sum(axis=1, keepdims=True))

    def only(self, rows: NDArray[np.bool_]) -> Pool:
        """Return some of the candidates."""
        return self.of(self.place[rows], self.mix[rows])

    def __add__(self, other: Pool) -> Pool:
        return self.of(np.r_[self.place, other.place], np.vstack([self.mix, other.mix]))

    def losses(self, metric: str) -> Floats:
        """Return what the laws foretell (m, K), lower is better."""
        return as_losses(self.laws.predict(self.parameters, self.effort, metric), metric)

    def loss_draws(self, metric: str) -> Floats:
        """Return the same (B, m, K) for each draw of the laws."""
        return as_losses(self.laws.predict_draws(self.parameters, self.effort, metric), metric)


def box(runs: Measurements) -> tuple[Floats, Floats]:
    """Return the least and the largest share (K,) of each objective that was run."""
    return runs.mix.min(axis=0), runs.mix.max(axis=0)


def _models(laws: Laws, models: Sequence[str | float] | None) -> tuple[tuple[str | None, ...], Floats]:
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
    if not names:
        raise ConfigError("a plan needs at least one model to choose from")
    return tuple(names), np.array(sizes)


def affordable(laws: Laws, budget: float, models: Sequence[str | float] | None = None) -> Pool:
    """Return every model with a lattice of mixes and the mixes that were run.

    Raises
    ------
    ConfigError
        The budget is not positive, or buys no amount of data that the laws can speak of; or an unknown model.
    """
    runs = laws.runs
    cheapest, total = float(runs.flops.min()), runs.pairs.sum(axis=1)
    if not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"the budget must be a positive number of FLOPs, got {budget!r}")
    if budget < cheapest / REACH:
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs is far below the cheapest run ({cheapest:.3g}): the laws say nothing of it"
        )
    names, sizes = _models(laws, models)
    low, high = box(runs)
    mixes = into_box(lattice(len(low), max(60, _POINTS // len(sizes))), low, high)
    mixes = np.unique(np.vstack([mixes, runs.mix]).round(9), axis=0)
    mixes /= mixes.sum(axis=1, keepdims=True)
    place = np.repeat(np.arange(len(sizes)), len(mixes))
    empty = np.empty((0, len(low)))
    pool = Pool(laws, float(budget), names, sizes, place[:0], empty, empty, empty)
    pool = pool.of(place, np.tile(mixes, (len(sizes), 1)))
    # A budget far beyond the runs has to go beyond them somewhere: at the largest model that was run, at least.
    least = float(total.min()) / REACH
    most = float(total.max()) * max(REACH, 2 * budget / float(runs.flops.max()))
    bought = pool.effort.sum(axis=1)
    inside = (bought >= least) & (bought <= most)
    if not inside.any():
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs buys {bought.min():.3g} to {bought.max():.3g} pairs of these models; the "
            f"laws speak of {least:.3g} to {most:.3g}"
        )
    return pool.only(inside)


def caps_of(laws: Laws, metric: str, at_least: Mapping[str, float] | None) -> Floats:
    """Return the least good values allowed, as losses (K,); inf where anything is."""
    caps = np.full(len(laws.objectives), np.inf)
    for name, value in (at_least or {}).items():
        if name not in laws.objectives:
            raise ConfigError(f"at least: no objective {name!r}{nearest(name, laws.objectives)}")
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
        if not good or (not is_loss(metric) and value > 1):
            raise ConfigError(f"at least: {name!r} needs a value of {metric!r}, got {value!r}")
        caps[laws.objectives.index(name)] = float(as_losses(np.array(float(value)), metric))
    return caps


def best(losses: Floats, caps: Floats, method: str, p: Floats) -> int:
    """Return the choice among points (m, K) that keep the caps; the one nearest to keeping them where none does."""
    over = np.clip(losses - caps, 0, None).max(axis=1)
    able = np.flatnonzero(over <= 0)
    if not len(able):
        return int(over.argmin())
    if method == "weighted":
        return int(able[(losses[able] @ p).argmin()])
    return int(able[pick(losses[able], method, p)])
