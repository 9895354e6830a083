"""The plan for a budget: which weights, model size and data size to spend so many FLOPs on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError
from mogrid.frontier.choice import NEAR, Method, _preference, pick
from mogrid.frontier.search import search_front
from mogrid.scaling.laws import REACH, ExtrapolationWarning, Laws
from mogrid.scaling.runs import ScalingRuns

__all__ = ["Costs", "Plan", "PlannedFront", "fit_costs", "plan", "planned_front"]

Floats = NDArray[np.float64]

_LADDER = 1.5
_GENERATIONS, _POINTS = 30, 150


@dataclass(frozen=True)
class Costs:
    """Training FLOPs of one pair of each objective, over the model size.

    Attributes
    ----------
    log_pair : ndarray, shape (K,)
        Logarithm at N = 1 of a power law in N.
    power : float
        Of N: near 1, less where attention and short texts weigh in.
    sizes, corrections : ndarray, shape (s,)
        Measured sizes and the law's error there, which is taken out and interpolated between them.
    """

    log_pair: Floats
    power: float
    sizes: Floats
    corrections: Floats

    def per_pair(self, size: float) -> Floats:
        """Return FLOPs (K,) of one pair of each objective."""
        correction = np.interp(math.log(size), np.log(self.sizes), self.corrections)
        return np.asarray(np.exp(self.log_pair + self.power * math.log(size) + correction))

    def pairs(self, budget: float, size: float, weights: Floats) -> Floats:
        """Return D (m,), the pairs of each trained objective that the budget buys; a weight of 0 costs nothing."""
        return np.asarray(budget / ((weights > 0) @ self.per_pair(size)))


def fit_costs(runs: ScalingRuns) -> Costs:
    """Fit what a pair costs to the runs' ledgers.

    Where all runs train all objectives, only the sum is known and is shared out equally.
    """
    from scipy.optimize import least_squares

    log_n, active = np.log(runs.sizes), (runs.weights > 0).astype(np.float64)
    middle, count = log_n.mean(), active.shape[1]
    y = np.log(runs.flops / runs.pairs)
    one_size = np.ptp(log_n) < 1e-9

    def law(theta: Floats) -> Floats:
        return np.asarray(np.log(active @ np.exp(theta[:-1])) + theta[-1] * (log_n - middle))

    def residuals(theta: Floats) -> Floats:
        ridge = 1e-4 * np.r_[theta[:-1] - theta[:-1].mean(), (theta[-1] - 1) * (1e4 if one_size else 1)]
        return np.r_[law(theta) - y, ridge]

    theta = least_squares(residuals, np.r_[np.full(count, y.mean() - math.log(count)), 1.0]).x
    sizes = np.unique(runs.sizes)
    error = y - law(theta)
    corrections = np.array([np.median(error[runs.sizes == size]) for size in sizes])
    return Costs(theta[:-1] - theta[-1] * middle, float(theta[-1]), sizes, corrections)


@dataclass(frozen=True)
class PlannedFront:
    """What a budget can reach: points that no other size, data size or weights dominate.

    Attributes
    ----------
    sizes, pairs : ndarray, shape (m,)
        N and D.
    weights, values : ndarray, shape (m, K)
    """

    sizes: Floats
    pairs: Floats
    weights: Floats
    values: Floats


@dataclass(frozen=True)
class Plan:
    """What to train with a budget.

    Attributes
    ----------
    budget : float
        FLOPs.
    method : str
        How the point of the front was chosen; see `mogrid.frontier.pick`.
    size : float
        N, non-embedding parameters.
    pairs : float
        D, pairs seen of each objective with a weight above 0.
    weights, predicted : dict by objective
    low, high : dict by objective
        90 % prediction interval of the mean over the stated number of runs.
    weight_low, weight_high : dict by objective
        90 % interval of the chosen weight over bootstrap draws of the laws.
    size_low, size_high : float
        Likewise of the size.
    probability : float
        Share of draws that choose weights within `mogrid.frontier.choice.NEAR` of these.
    extrapolated : float
        Budget over the FLOPs of the sweep's dearest run.
    """

    budget: float
    method: str
    size: float
    pairs: float
    weights: dict[str, float]
    predicted: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    weight_low: dict[str, float]
    weight_high: dict[str, float]
    size_low: float
    size_high: float
    probability: float
    extrapolated: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Slice:
    """The laws at one size and budget: a model of the losses over the weights alone."""

    laws: Laws
    prices: Costs
    budget: float
    size: float

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.laws.objectives

    @property
    def weights(self) -> Floats:
        return np.unique(self.laws.runs.weights.round(9), axis=0)

    @property
    def costs(self) -> Floats | None:
        return self.prices.per_pair(self.size)

    @property
    def lowest(self) -> float:
        return float(self.weights[self.weights > 0].min())

    def predict(self, weights: Floats) -> Floats:
        return self.laws.predict(self.size, self.prices.pairs(self.budget, self.size, weights), weights)

    def predict_draws(self, weights: Floats) -> Floats:
        return self.laws.predict_draws(self.size, self.prices.pairs(self.budget, self.size, weights), weights)


def planned_front(laws: Laws, budget: float, *, sizes: Sequence[float] | None = None) -> PlannedFront:
    """Return the front that a budget is predicted to reach, over N, D and the weights.

    Sizes are enumerated; at each, D is what the budget buys, and pymoo searches the weights.

    Parameters
    ----------
    laws : Laws
    budget : float
        Training FLOPs.
    sizes : sequence of float, optional
        N to choose from; left out, the sweep's and those between and up to ten times beyond, in steps of 1.5.

    Raises
    ------
    ConfigError
        The budget is not positive or buys less than the sweep's cheapest run; or no size is left at which it buys an
        amount of data that the sweep can speak of.
    """
    found = _candidates(laws, budget, sizes)
    import moocore

    keep = np.asarray(moocore.is_nondominated(found.values), dtype=bool)
    return PlannedFront(found.sizes[keep], found.pairs[keep], found.weights[keep], found.values[keep])


def _candidates(laws: Laws, budget: float, sizes: Sequence[float] | None) -> PlannedFront:
    """Return the fronts of all sizes, one after the other."""
    runs = laws.runs
    cheapest, dearest = float(runs.flops.min()), float(runs.flops.max())
    if not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"the budget must be a positive number of FLOPs, got {budget!r}")
    if budget < cheapest:
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs is below the sweep's cheapest run ({cheapest:.3g}): the laws say nothing "
            "of it; raise the budget or add smaller runs"
        )
    prices = fit_costs(runs)
    beyond = max(1.0, budget / (REACH * dearest))
    chosen = _ladder(runs, beyond) if sizes is None else np.asarray(sizes, dtype=np.float64)
    if not len(chosen) or not (np.isfinite(chosen) & (chosen > 0)).all():
        raise ConfigError(f"sizes must be positive numbers of parameters, got {sizes!r}")
    found: list[tuple[Floats, Floats, Floats, Floats]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)  # `plan` says it once, with the interval
        for size in chosen.tolist():
            model = _Slice(laws, prices, budget, size)
            weights, values = _slice_front(model)
            pairs = prices.pairs(budget, size, weights)
            inside = (pairs >= runs.pairs.min() / REACH) & (pairs <= runs.pairs.max() * REACH * beyond)
            found.append((np.full(int(inside.sum()), size), pairs[inside], weights[inside], values[inside]))
    n, d, w, v = (np.concatenate(part) for part in zip(*found, strict=True))
    if not len(n):
        low, high = runs.pairs.min() / REACH, runs.pairs.max() * REACH * beyond
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs buys no amount of data between {low:.3g} and {high:.3g} pairs at sizes "
            f"{chosen.min():.3g} to {chosen.max():.3g}"
        )
    return PlannedFront(n, d, w, v)


def plan(
    laws: Laws,
    budget: float,
    preference: Mapping[str, float] | None = None,
    *,
    method: Method = "preference",
    sizes: Sequence[float] | None = None,
    runs: int = 1,
    draws: int = 200,
) -> Plan:
    """Return the weights, model size and data size to spend a budget on, with predicted losses and intervals.

    The same choice is made on bootstrap draws of the laws, among the fronts of all sizes: that says how sure it is.

    Parameters
    ----------
    laws : Laws
    budget : float
        Training FLOPs.
    preference : mapping of objective to positive number, optional
        Importance, for the method ``preference``; equal when left out.
    method : str
        See `mogrid.frontier.pick`.
    sizes : sequence of float, optional
        As for `planned_front`.
    runs : int
        Number of runs whose mean the intervals are for.
    draws : int
        Draws of the laws that choose.

    Raises
    ------
    ConfigError
        As `planned_front`; unknown method, or a preference that is not positive, missing or of no use.

    Warns
    -----
    ExtrapolationWarning
        The budget is above ten times the sweep's dearest run; with the predicted losses and their intervals.
    """
    p = _preference(laws.objectives, preference, method)
    front = _candidates(laws, budget, sizes)
    index = pick(front.values, method, p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        drawn = laws.predict_draws(front.sizes, front.pairs, front.weights)[:draws]
        interval = laws.interval(front.sizes[index], front.pairs[index], front.weights[index], runs=runs)[0]
    picked = np.array([pick(values, method, p) for values in drawn])
    weights = front.weights[index]
    spread = np.quantile(front.weights[picked], [0.05, 0.95], axis=0)
    size_spread = np.quantile(front.sizes[picked], [0.05, 0.95])

    def named(values: Floats) -> dict[str, float]:
        return {name: float(value) for name, value in zip(laws.objectives, values, strict=True)}

    result = Plan(
        budget=float(budget),
        method=method,
        size=float(front.sizes[index]),
        pairs=float(front.pairs[index]),
        weights=named(weights),
        predicted=named(front.values[index]),
        low=named(interval[:, 0]),
        high=named(interval[:, 1]),
        weight_low=named(np.minimum(spread[0], weights)),
        weight_high=named(np.maximum(spread[1], weights)),
        size_low=float(min(size_spread[0], front.sizes[index])),
        size_high=float(max(size_spread[1], front.sizes[index])),
        probability=float((np.abs(front.weights[picked] - weights).sum(axis=1) / 2 <= NEAR + 1e-9).mean()),
        extrapolated=float(budget / laws.runs.flops.max()),
    )
    if result.extrapolated > REACH:
        said = ", ".join(
            f"{name} {result.predicted[name]:.3g} [{result.low[name]:.3g}, {result.high[name]:.3g}]"
            for name in laws.objectives
        )
        warnings.warn(
            f"a budget of {budget:.3g} FLOPs is {result.extrapolated:.3g}× the sweep's dearest run: extrapolated, "
            f"with 90 % intervals: {said}",
            ExtrapolationWarning,
            stacklevel=2,
        )
    return result


def _slice_front(model: _Slice) -> tuple[Floats, Floats]:
    """Return weights and values of the front at one size; the one weighting there is, where weights never vary."""
    weights = model.weights
    if len(weights) == 1:
        return weights, model.predict(weights)
    front = search_front(model, generations=_GENERATIONS, points=_POINTS)
    return front.weights, front.values


def _ladder(runs: ScalingRuns, beyond: float) -> Floats:
    low, high = runs.sizes.min(), runs.sizes.max() * REACH * beyond
    steps = int(math.log(high / low) / math.log(_LADDER))
    return np.unique(np.r_[runs.sizes, low * _LADDER ** np.arange(steps + 1)])
