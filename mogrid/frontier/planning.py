"""Plan a budget: the front that it reaches over base models and mixes, and the choice of one point of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, nearest
from mogrid.frontier.convex import Target, is_convex, solve_mix
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, as_losses, is_loss
from mogrid.frontier.options import Options, affordable, box
from mogrid.frontier.plans import NEAR, Plan
from mogrid.frontier.rules import PREFERRING, importance, pick
from mogrid.frontier.search import search_mixes

__all__ = ["CONFIDENCE", "Decision", "decide", "plan", "planned_front"]

Floats = NDArray[np.float64]

CONFIDENCE = 0.9


def planned_front(
    laws: Laws, budget: float, *, models: Sequence[str | float] | None = None, metric: str | None = None, seed: int = 0
) -> Options:
    """Return what a budget is foretold to reach, over base models and mixes, and no other dominates; found by pymoo.

    Parameters
    ----------
    laws, budget, models, metric
        As for `plan`.

    Raises
    ------
    ConfigError
        The budget is not positive, or buys no amount of data that the laws can speak of; or an unknown model or metric.
    """
    return _front(affordable(laws, budget, models), laws.metric(metric), seed)


def _front(found: Options, metric: str, seed: int) -> Options:
    import moocore

    used, mixes = np.unique(found.place), np.unique(found.mix, axis=0)
    if len(mixes) > 1:
        pool = found

        def losses(place: NDArray[np.intp], mix: Floats) -> Floats:
            return pool.of(used[place], mix).losses(metric)

        place, mix = search_mixes(losses, len(used), *box(pool.laws.runs), mixes, seed=seed)
        found = pool.of(used[place], mix).tidy()
    return found.only(np.asarray(moocore.is_nondominated(found.losses(metric)), dtype=bool))


@dataclass(frozen=True)
class Decision:
    """A choice among options, and the same choice, margins included, by draws of the laws.

    Attributes
    ----------
    options : Options
    chosen : int
    picked : ndarray of int, shape (B,)
    margins : ndarray, shape (m, K)
        By how much losses must stay below what is asked for a run to keep it surely.
    """

    options: Options
    chosen: int
    picked: NDArray[np.intp]
    margins: Floats


def decide(
    laws: Laws,
    budget: float,
    *,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    models: Sequence[str | float] | None = None,
    metric: str | None = None,
    method: str = "weighted",
    surety: float = CONFIDENCE,
    seed: int = 0,
) -> Decision:
    """Return the choice that `plan` tells, also where nothing keeps `at_least`: the nearest to it then."""
    metric = laws.metric(metric)
    p, caps = importance(laws.objectives, preference, method), _caps(laws, metric, at_least)
    if not 0 < surety < 1:
        raise ConfigError(f"surety is a probability between 0 and 1, got {surety!r}")
    found = affordable(laws, budget, models)
    losses, margins = found.losses(metric), _margins(found, metric, caps, surety, seed)
    first = _best(losses, caps - margins, method, p)
    exact = _exact(found, metric, losses, caps - margins[first], method, p, seed)
    if exact is not None:
        found = found + exact
        losses, margins = found.losses(metric), np.vstack([margins, np.tile(margins[first], (len(exact), 1))])
    # Interior-point solutions keep a cap to some digits.
    limits = caps - margins + 1e-6
    chosen = _best(losses, limits, method, p)
    picked = np.array([_best(values, limits, method, p) for values in found.loss_draws(metric)])
    return Decision(found, chosen, picked, margins)


def _caps(laws: Laws, metric: str, at_least: Mapping[str, float] | None) -> Floats:
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


def _best(losses: Floats, caps: Floats, method: str, p: Floats) -> int:
    """Return the choice among points (m, K) that keep the caps; the one nearest to keeping them where none does."""
    over = np.clip(losses - caps, 0, None).max(axis=1)
    able = np.flatnonzero(over <= 0)
    if not len(able):
        return int(over.argmin())
    if method == "weighted":
        return int(able[(losses[able] @ p).argmin()])
    return int(able[pick(losses[able], method, p)])


def _margins(found: Options, metric: str, caps: Floats, surety: float, seed: int) -> Floats:
    """Return by how much losses (m, K) must stay below their caps for one run to keep them with some surety."""
    margins, asked = np.zeros_like(found.mix), np.isfinite(caps)
    if asked.any():
        confidence = abs(2 * surety - 1)
        ends = found.laws.interval(found.parameters, found.effort, metric, confidence=confidence, seed=seed)
        sides = as_losses(ends, metric)
        worst = sides.max(axis=2) if surety >= 0.5 else sides.min(axis=2)
        margins[:, asked] = (worst - found.losses(metric))[:, asked]
    return margins


def _exact(
    found: Options, metric: str, losses: Floats, caps: Floats, method: str, p: Floats, seed: int
) -> Options | None:
    """Return the convex program's solutions, one a model; pymoo's front where the laws are not convex."""
    laws = found.laws
    low, high = box(laws.runs)
    if np.allclose(low, high):
        return None
    logs = np.full(len(p), np.inf)
    for k in np.flatnonzero(np.isfinite(caps)):
        logs[k] = laws.fits[metric][k].scale.log(as_losses(caps[k], metric))
    ends: tuple[Floats | None, Floats | None] = (None, None)
    if method == "chebyshev":
        import moocore

        within = losses[(losses <= caps).all(axis=1)]
        front = within[np.asarray(moocore.is_nondominated(within), dtype=bool)] if len(within) else losses
        ends = front.min(axis=0), front.max(axis=0)
    target = Target(p, *ends, logs)
    if method not in PREFERRING or not is_convex(laws, metric, target):
        return _front(found, metric, seed)
    solved = {
        int(place): solve_mix(laws, metric, target, float(found.flops[0]), float(found.sizes[place]), low, high)
        for place in np.unique(found.place)
    }
    kept = {place: mix for place, mix in solved.items() if mix is not None}
    return found.of(np.array(list(kept)), np.array(list(kept.values()))).tidy() if kept else None


def plan(
    laws: Laws,
    budget: float,
    *,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    models: Sequence[str | float] | None = None,
    metric: str | None = None,
    method: str = "weighted",
    surety: float = CONFIDENCE,
    runs: int = 1,
    recipe: str | None = None,
    seed: int = 0,
) -> Plan:
    """Return the base model and mix to spend a budget on, with what they are foretold to reach.

    Where the laws are convex in the pairs the choice is solved exactly as a convex program; elsewhere it is the best of
    a fine lattice and of pymoo's front. The same choice, with the same margins, is made on draws of the laws:
    that says how sure it is.

    Parameters
    ----------
    laws : Laws
        Fitted to the runs there are.
    budget : float
        Training FLOPs.
    preference : mapping of objective to number of at least 0, optional
        Importance, for the methods ``weighted`` and ``chebyshev``; equal when left out, 0 for objectives it leaves out.
    at_least : mapping of objective to value, optional
        Values of the metric to be as good as: not above for a loss, not below for a score.
    models : sequence of names or N, optional
        Base models to choose from; those of the runs when left out.
    metric : str, optional
        What the choice is made in; the first that has laws when left out.
    method : str
        See `mogrid.frontier.pick`.
    surety : float
        Probability with which a run must keep `at_least`.
    runs : int
        Number of runs whose mean the intervals are for.
    recipe : str, optional
        Kept in the plan.

    Raises
    ------
    ConfigError
        As `planned_front`; unknown method; a preference that is wrong or of no use; or values that no mix keeps, with
        what is within reach.
    """
    metric = laws.metric(metric)
    made = decide(
        laws, budget, preference=preference, at_least=at_least, models=models, metric=metric, method=method,
        surety=surety, seed=seed,
    )  # fmt: skip
    found, caps = made.options, _caps(laws, metric, at_least)
    losses = found.losses(metric) + made.margins
    if (losses[made.chosen] > caps + 1e-5).any():
        raise ConfigError(_out_of_reach(laws, metric, losses, caps, made.chosen))
    mixes, one = found.mix[made.picked], found.only([made.chosen])
    mix, low, high = one.mix[0], *np.quantile(mixes, [0.05, 0.95], axis=0)

    def named(values: Floats) -> dict[str, float]:
        return {name: float(value) for name, value in zip(laws.objectives, values, strict=True)}

    predicted: dict[str, dict[str, dict[str, float]]] = {}
    for each in laws.metrics:
        ends = laws.interval(one.parameters, one.effort, each, runs=runs, confidence=CONFIDENCE, seed=seed)[0]
        columns = {"value": one.values(each)[0], "low": ends[:, 0], "high": ends[:, 1]}
        predicted[each] = {
            name: {word: float(column[k]) for word, column in columns.items()} for k, name in enumerate(laws.objectives)
        }
    return Plan(
        budget=float(budget),
        metric=metric,
        method=method,
        preference=named(importance(laws.objectives, preference, method)) if method in PREFERRING else None,
        at_least={name: float(value) for name, value in at_least.items()} if at_least else None,
        model=one.models[0],
        parameters=float(one.parameters[0]),
        spend=laws.runs.spend[0],
        mix=named(mix),
        mix_low=named(np.minimum(low, mix)),
        mix_high=named(np.maximum(high, mix)),
        pairs=named(one.pairs[0]),
        predicted=predicted,
        probability=float((np.abs(mixes - mix).sum(axis=1) / 2 <= NEAR + 1e-9).mean()),
        same_model=float((found.place[made.picked] == one.place[0]).mean()),
        extrapolation=float(budget / laws.runs.flops.max()),
        edge=_edge(laws.runs, float(one.parameters[0]), mix, one.pairs[0]),
        exchange=laws.exchange(metric, one.effort[0]).to_json() if laws.has_rates(metric) else {},
        recipe=recipe,
    )


def _out_of_reach(laws: Laws, metric: str, losses: Floats, caps: Floats, index: int) -> str:
    """Say which value no mix keeps, and what is within reach."""
    over = [k for k in range(len(caps)) if losses[:, k].min() > caps[k]]
    if over:
        name, least = laws.objectives[over[0]], float(losses[:, over[0]].min())
        reach = as_losses(np.array([least, caps[over[0]]]), metric)
        asked = f"{metric} of {name!r} at {reach[1]:.4g}"
        return f"no mix of this budget is sure to keep {asked}; within reach is {reach[0]:.4g}"
    names = " and ".join(repr(name) for name, cap in zip(laws.objectives, caps, strict=True) if np.isfinite(cap))
    values = as_losses(losses[index], metric)
    found = ", ".join(f"{name} {value:.4g}" for name, value in zip(laws.objectives, values, strict=True))
    return f"no mix of this budget is sure to keep what is asked of {names} together; nearest to it is {found}"


def _edge(runs: Measurements, size: float, mix: Floats, pairs: Floats) -> tuple[str, ...]:
    """Say where a choice lies at or beyond the edge of what was run."""
    said = []
    sizes, totals = runs.parameters, runs.pairs.sum(axis=1)
    if len(np.unique(sizes)) > 1 and not sizes.min() < size < sizes.max():
        side = "smallest" if size <= sizes.min() else "largest"
        word = "is" if sizes.min() <= size <= sizes.max() else "lies beyond"
        said.append(f"N of {size:.3g} {word} the {side} that was run")
    total, least, most = float(pairs.sum()), float(totals.min()), float(totals.max())
    if not least * 0.95 <= total <= most * 1.05:
        side, edge = ("more", most) if total > most else ("fewer", least)
        said.append(f"{total:,.0f} pairs are {side} than any run's ({edge:,.0f})")
    low, high = box(runs)
    for k, name in enumerate(runs.objectives):
        if high[k] - low[k] < 1e-6:
            continue
        if mix[k] >= high[k] - 1e-3 and high[k] < 1 - 1e-6:
            said.append(f"a share of {mix[k]:.2f} for {name!r} is the largest that was run")
        if mix[k] <= low[k] + 1e-3 and low[k] > 1e-6:
            said.append(f"a share of {mix[k]:.2f} for {name!r} is the smallest that was run")
    return tuple(said)
