"""The plan for a budget: which base model and mix to spend it on, what that will reach, and how sure that is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier.convex import Target, is_convex, solve_mix
from mogrid.frontier.laws import Laws
from mogrid.frontier.measurements import Measurements, is_loss
from mogrid.frontier.rules import PREFERRING, importance, pick
from mogrid.frontier.search import into_box, lattice, search_mixes

__all__ = ["NEAR", "REACH", "MixingPays", "Plan", "PlannedFront", "mixing_pays", "plan", "planned_front"]

Floats = NDArray[np.float64]

NEAR = 0.1
"""Two mixes are as good as the same when this share of the pairs, or less, lies elsewhere."""
REACH = 10.0
"""How far beyond the runs, as a factor, plans are made."""
_POOL = 1200
_CONFIDENCE = 0.9


@dataclass(frozen=True)
class PlannedFront:
    """What a budget is foretold to reach.

    Attributes
    ----------
    models : tuple of m (str or None)
        The base model; None for a size between the runs' models.
    parameters : ndarray, shape (m,)
    mix, pairs : ndarray, shape (m, K)
    values : dict of metric to ndarray, shape (m, K)
    metric : str
        The one in which no point dominates another.
    """

    models: tuple[str | None, ...]
    parameters: Floats
    mix: Floats
    pairs: Floats
    values: dict[str, Floats]
    metric: str

    def losses(self) -> Floats:
        """Return values (m, K) of the front's metric, lower is better."""
        return as_losses(self.values[self.metric], self.metric)


@dataclass(frozen=True)
class Plan:
    """What to train with a budget.

    Attributes
    ----------
    budget : float
        FLOPs.
    metric, method : str
        What was chosen in, and how; see `mogrid.frontier.pick`.
    preference, at_least : dict by objective, or None
        What was asked for.
    model : str or None
        The base model; None for a size between the runs' models.
    parameters : float
        Its N.
    spend : str
        How the mix is spent.
    mix, mix_low, mix_high : dict by objective
        λ, and the 90 % interval of the choice over draws of the laws.
    pairs : dict by objective
        D_k that the budget buys.
    predicted : dict of metric to (dict by objective of {value, low, high})
        With the 90 % prediction interval of the mean over the stated number of runs.
    probability : float
        Share of draws that choose a mix within `NEAR` of this one.
    same_model : float
        Share of draws that choose this model.
    extrapolation : float
        Budget over the FLOPs of the dearest run.
    edge : tuple of str
        Where the choice lies at or beyond the edge of what was run: more may be found there.
    exchange : dict by objective
        What a pair of each other objective is worth to it, and what the base brings; `ExchangeRates.to_json`.
    recipe : str or None
        What identifies the recipe that the runs are of.
    """

    budget: float
    metric: str
    method: str
    preference: dict[str, float] | None
    at_least: dict[str, float] | None
    model: str | None
    parameters: float
    spend: str
    mix: dict[str, float]
    mix_low: dict[str, float]
    mix_high: dict[str, float]
    pairs: dict[str, float]
    predicted: dict[str, dict[str, dict[str, float]]]
    probability: float
    same_model: float
    extrapolation: float
    edge: tuple[str, ...]
    exchange: dict[str, Any]
    recipe: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "edge": list(self.edge)}

    def save(self, path: Path) -> None:
        """Write the plan as JSON, whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> Plan:
        """Read what `save` wrote. Raises `DataError` for anything else."""
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        names = {field.name for field in fields(Plan)}
        if not isinstance(found, dict) or set(found) != names:
            odd = sorted(names ^ set(found)) if isinstance(found, dict) else []
            raise DataError(f"{path}: not a plan as `mogrid plan` writes it{': ' + ', '.join(odd) if odd else ''}")
        return Plan(**{**found, "edge": tuple(found["edge"])})


def as_losses(values: Floats, metric: str) -> Floats:
    """Return values of a metric as what is to be lowered: a loss itself, or what a score misses."""
    return values if is_loss(metric) else 1 - values


@dataclass(frozen=True)
class _Pool:
    """Affordable candidates: place among the models, mix and pairs."""

    names: tuple[str | None, ...]
    sizes: Floats
    place: NDArray[np.intp]
    mix: Floats
    effort: Floats

    @property
    def parameters(self) -> Floats:
        return self.sizes[self.place]


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


def _box(runs: Measurements) -> tuple[Floats, Floats]:
    """Return the least and the largest share of each objective that was run."""
    return runs.mix.min(axis=0), runs.mix.max(axis=0)


def _reach(laws: Laws, budget: float) -> tuple[float, float]:
    """Return the pairs in all between which a plan may lie."""
    total = laws.runs.pairs.sum(axis=1)
    # A budget far beyond the runs has to go beyond them somewhere: at the largest model that was run, at least.
    factor = max(REACH, 2 * budget / float(laws.runs.flops.max()))
    return float(total.min()) / REACH, float(total.max()) * factor


def _pool(laws: Laws, budget: float, models: Sequence[str | float] | None) -> _Pool:
    """Return every model with a lattice of mixes, the mixes that were run, and all the budget buys of each."""
    runs = laws.runs
    cheapest = float(runs.flops.min())
    if not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"the budget must be a positive number of FLOPs, got {budget!r}")
    if budget < cheapest / REACH:
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs is far below the cheapest run ({cheapest:.3g}): the laws say nothing of it"
        )
    names, sizes = _models(laws, models)
    low, high = _box(runs)
    mixes = into_box(lattice(len(low), max(60, _POOL // len(sizes))), low, high)
    mixes = np.unique(np.vstack([mixes, runs.mix]).round(9), axis=0)
    mixes /= mixes.sum(axis=1, keepdims=True)
    place = np.repeat(np.arange(len(sizes)), len(mixes))
    pool = _buy(laws, budget, names, sizes, place, np.tile(mixes, (len(sizes), 1)))
    least, most = _reach(laws, budget)
    total = pool.effort.sum(axis=1)
    inside = (total >= least) & (total <= most)
    if not inside.any():
        raise ConfigError(
            f"a budget of {budget:.3g} FLOPs buys {total.min():.3g} to {total.max():.3g} pairs of these models; the "
            f"laws speak of {least:.3g} to {most:.3g}"
        )
    return _Pool(names, sizes, place[inside], pool.mix[inside], pool.effort[inside])


def _buy(
    laws: Laws, budget: float, names: tuple[str | None, ...], sizes: Floats, place: NDArray[np.intp], mix: Floats
) -> _Pool:
    effort = np.empty_like(mix)
    for i in np.unique(place):
        rows = place == i
        effort[rows] = laws.costs.effort(budget, float(sizes[i]), mix[rows])
    return _Pool(names, sizes, place, mix, effort)


def planned_front(
    laws: Laws, budget: float, *, models: Sequence[str | float] | None = None, metric: str | None = None, seed: int = 0
) -> PlannedFront:
    """Return the front that a budget is foretold to reach, over base models and mixes; pymoo searches it.

    Parameters
    ----------
    laws : Laws
    budget : float
        Training FLOPs.
    models : sequence of names or N, optional
        Those of the runs when left out.
    metric : str, optional
        The first that has laws when left out.

    Raises
    ------
    ConfigError
        The budget is not positive, or buys no amount of data that the laws can speak of; or an unknown model or metric.
    """
    metric = laws.metric(metric)
    pool = _pool(laws, budget, models)
    used = np.unique(pool.place)

    def losses(place: NDArray[np.intp], mix: Floats) -> Floats:
        some = _buy(laws, budget, pool.names, pool.sizes, used[place], mix)
        return as_losses(laws.predict(some.parameters, some.effort, metric), metric)

    low, high = _box(laws.runs)
    mixes = np.unique(pool.mix, axis=0)
    if len(mixes) > 1:
        place, mix = search_mixes(losses, len(used), low, high, mixes, seed=seed)
    else:
        import moocore

        place, mix = np.arange(len(used)), np.repeat(mixes, len(used), axis=0)
        keep = np.asarray(moocore.is_nondominated(losses(place, mix)), dtype=bool)
        place, mix = place[keep], mix[keep]
    found = _buy(laws, budget, pool.names, pool.sizes, used[place], mix)
    return PlannedFront(
        tuple(found.names[i] for i in found.place),
        found.parameters,
        found.mix,
        _bought(laws, budget, found),
        {m: laws.predict(found.parameters, found.effort, m) for m in laws.metrics},
        metric,
    )


def _bought(laws: Laws, budget: float, pool: _Pool) -> Floats:
    pairs = np.empty_like(pool.mix)
    for i in np.unique(pool.place):
        rows = pool.place == i
        pairs[rows] = laws.costs.pairs(budget, float(pool.sizes[i]), pool.mix[rows])
    return pairs


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


def _choose(losses: Floats, caps: Floats, method: str, p: Floats) -> int:
    """Return the choice among points (m, K) that keep the caps; the one nearest to keeping them where none does."""
    over = np.clip(losses - caps, 0, None).max(axis=1)
    able = np.flatnonzero(over <= 0)
    if not len(able):
        return int(over.argmin())
    if method == "weighted":
        return int(able[(losses[able] @ p).argmin()])
    return int(able[pick(losses[able], method, p)])


def plan(
    laws: Laws,
    budget: float,
    *,
    preference: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    models: Sequence[str | float] | None = None,
    metric: str | None = None,
    method: str = "weighted",
    surety: float = 0.9,
    runs: int = 1,
    recipe: str | None = None,
    seed: int = 0,
) -> Plan:
    """Return the base model and mix to spend a budget on, with what they are foretold to reach.

    Where the laws are convex in the pairs the choice is solved exactly as a convex program; elsewhere it is the best of
    a fine lattice and of pymoo's front. The same choice is made on draws of the laws: that says how sure it is.

    Parameters
    ----------
    laws : Laws
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
    p, caps = importance(laws.objectives, preference, method), _caps(laws, metric, at_least)
    if not 0 < surety < 1:
        raise ConfigError(f"surety is a probability between 0 and 1, got {surety!r}")
    pool = _pool(laws, budget, models)
    losses = as_losses(laws.predict(pool.parameters, pool.effort, metric), metric)
    margins = _margins(laws, metric, pool, caps, surety, seed)
    index = _choose(losses, caps - margins, method, p)
    exact = _exact(laws, metric, budget, pool, losses, caps - margins[index], method, p)
    if exact is not None:
        pool, losses = _extended(pool, exact), np.vstack([losses, as_losses(_at(laws, exact, metric), metric)])
        margins = np.vstack([margins, np.repeat(margins[index][None], len(exact.mix), axis=0)])
        # Interior-point solutions keep a cap to some digits.
        index = _choose(losses, caps - margins + 1e-6, method, p)
    if (losses[index] > caps - margins[index] + 1e-6).any():
        raise ConfigError(_out_of_reach(laws, metric, losses + margins, caps, pool, index))
    drawn = as_losses(laws.predict_draws(pool.parameters, pool.effort, metric), metric)
    picked = np.array([_choose(values, caps, method, p) for values in drawn])
    chosen = pool.mix[index]
    spread = np.quantile(pool.mix[picked], [0.05, 0.95], axis=0)
    size, effort = float(pool.parameters[index]), pool.effort[index]
    pairs = laws.costs.pairs(budget, size, chosen[None])[0]

    def named(values: Floats) -> dict[str, float]:
        return {name: float(value) for name, value in zip(laws.objectives, values, strict=True)}

    predicted = {}
    for each in laws.metrics:
        value = laws.predict(size, effort, each)[0]
        ends = laws.interval(size, effort, each, runs=runs, confidence=_CONFIDENCE, seed=seed)[0]
        predicted[each] = {
            name: {"value": float(v), "low": float(low), "high": float(high)}
            for name, v, (low, high) in zip(laws.objectives, value, ends, strict=True)
        }
    return Plan(
        budget=float(budget),
        metric=metric,
        method=method,
        preference=named(p) if method in PREFERRING else None,
        at_least={name: float(value) for name, value in at_least.items()} if at_least else None,
        model=pool.names[pool.place[index]],
        parameters=size,
        spend=laws.runs.spend[0],
        mix=named(chosen),
        mix_low=named(np.minimum(spread[0], chosen)),
        mix_high=named(np.maximum(spread[1], chosen)),
        pairs=named(pairs),
        predicted=predicted,
        probability=float((np.abs(pool.mix[picked] - chosen).sum(axis=1) / 2 <= NEAR + 1e-9).mean()),
        same_model=float((pool.place[picked] == pool.place[index]).mean()),
        extrapolation=float(budget / laws.runs.flops.max()),
        edge=_edge(laws.runs, size, chosen, pairs),
        exchange=laws.exchange(metric).to_json() if laws.rates[metric] and laws.rates[metric][0].form.mixed else {},
        recipe=recipe,
    )


def _at(laws: Laws, pool: _Pool, metric: str) -> Floats:
    return laws.predict(pool.parameters, pool.effort, metric)


def _extended(pool: _Pool, more: _Pool) -> _Pool:
    return _Pool(
        pool.names,
        pool.sizes,
        np.r_[pool.place, more.place],
        np.vstack([pool.mix, more.mix]),
        np.vstack([pool.effort, more.effort]),
    )


def _margins(laws: Laws, metric: str, pool: _Pool, caps: Floats, surety: float, seed: int) -> Floats:
    """Return by how much losses (m, K) must stay below their caps for one run to keep them with some surety."""
    margins = np.zeros_like(pool.mix)
    asked = np.flatnonzero(np.isfinite(caps))
    if len(asked):
        confidence = abs(2 * surety - 1)
        ends = laws.interval(pool.parameters, pool.effort, metric, confidence=confidence, seed=seed)
        sides = as_losses(ends, metric)
        worst = sides.max(axis=2) if surety >= 0.5 else sides.min(axis=2)
        margins[:, asked] = (worst - as_losses(_at(laws, pool, metric), metric))[:, asked]
    return margins


def _exact(
    laws: Laws, metric: str, budget: float, pool: _Pool, losses: Floats, caps: Floats, method: str, p: Floats
) -> _Pool | None:
    """Return the convex program's solutions, one a model, or None where it is none; pymoo's front then."""
    low, high = _box(laws.runs)
    if len(low) == 1 or np.allclose(low, high):
        return None
    fits = laws.fits[metric]
    logs = np.array([fit.scale.log(as_losses(cap[None], metric))[0] if np.isfinite(cap) else np.inf
                     for fit, cap in zip(fits, caps, strict=True)])  # fmt: skip
    ends: tuple[Floats | None, Floats | None] = (None, None)
    if method == "chebyshev":
        import moocore

        within = losses[(losses <= caps).all(axis=1)]
        front = within[np.asarray(moocore.is_nondominated(within), dtype=bool)] if len(within) else losses
        ends = front.min(axis=0), front.max(axis=0)
    target = Target(p, *ends, logs)
    used = np.unique(pool.place)
    if method in PREFERRING and is_convex(laws, metric, target):
        solved = [
            (place, solve_mix(laws, metric, target, budget, float(pool.sizes[place]), low, high)) for place in used
        ]
        found = [(place, mix) for place, mix in solved if mix is not None]
        if not found:
            return None
        place, mix = np.array([place for place, _ in found]), np.array([mix for _, mix in found])
    else:
        front_ = planned_front(laws, budget, models=[float(pool.sizes[i]) for i in used], metric=metric)
        place = np.array([int(used[np.argmin(np.abs(pool.sizes[used] - size))]) for size in front_.parameters])
        mix = front_.mix
    return _buy(laws, budget, pool.names, pool.sizes, place, mix)


def _out_of_reach(laws: Laws, metric: str, losses: Floats, caps: Floats, pool: _Pool, index: int) -> str:
    """Say which value no mix keeps, and what is within reach."""
    over = [k for k in range(len(caps)) if losses[:, k].min() > caps[k]]
    if over:
        name, best = laws.objectives[over[0]], float(losses[:, over[0]].min())
        reach = as_losses(np.array([best, caps[over[0]]]), metric)
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
    low, high = _box(runs)
    for k, name in enumerate(runs.objectives):
        if high[k] - low[k] < 1e-6:
            continue
        if mix[k] >= high[k] - 1e-3 and high[k] < 1 - 1e-6:
            said.append(f"a share of {mix[k]:.2f} for {name!r} is the largest that was run")
        if mix[k] <= low[k] + 1e-3 and low[k] > 1e-6:
            said.append(f"a share of {mix[k]:.2f} for {name!r} is the smallest that was run")
    return tuple(said)


@dataclass(frozen=True)
class MixingPays:
    """Whether a mix of objectives beats all pairs spent on the best single one.

    Attributes
    ----------
    pays : bool
        Whether it gains more than the margin in at least half of the draws.
    probability : float
        Share of draws in which it does.
    gain, low, high : float
        Of the best mix over the best single objective, as a part of the scalar Σ p_k l_k; 90 % interval over draws.
    mix : dict by objective
    single : str
        The best single objective.
    margin : float
    """

    pays: bool
    probability: float
    gain: float
    low: float
    high: float
    mix: dict[str, float]
    single: str
    margin: float

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in self.mix.items() if share > 0.005)
        head = "mixing pays" if self.pays else "mixing does not pay"
        return (
            f"{head}: the best mix ({shares}) is foretold to be {100 * self.gain:.1f} % [{100 * self.low:.1f}, "
            f"{100 * self.high:.1f}] better than {self.single} only; probability of more than "
            f"{100 * self.margin:.1f} %: {self.probability:.2f}"
        )


def mixing_pays(
    laws: Laws,
    model: str | float,
    budget: float,
    preference: Mapping[str, float] | None = None,
    *,
    metric: str | None = None,
    margin: float = 0.005,
) -> MixingPays:
    """Return whether a mix beats the best single objective at one base model and budget, for a weighted preference.

    In each draw the best mix meets that draw's best single objective, whether or not runs of one objective were made.

    Raises
    ------
    ConfigError
        As `plan`.
    """
    metric = laws.metric(metric)
    p = importance(laws.objectives, preference, "weighted")
    pool = _pool(laws, budget, [model])
    count = len(p)
    corners = _buy(laws, budget, pool.names, pool.sizes, np.zeros(count, dtype=np.intp), np.eye(count))
    both = _extended(pool, corners)

    def scalars(values: Floats) -> Floats:
        return np.asarray(as_losses(values, metric) @ p / p.sum())

    def gains(scalar: Floats) -> Floats:
        best = scalar[..., -count:].min(axis=-1)
        return np.asarray((best - scalar.min(axis=-1)) / best)

    here = scalars(_at(laws, both, metric))
    drawn = gains(scalars(laws.predict_draws(both.parameters, both.effort, metric)))
    low, high = np.quantile(drawn, [0.05, 0.95])
    probability = float((drawn > margin).mean())
    return MixingPays(
        probability >= 0.5,
        probability,
        float(gains(here)),
        float(low),
        float(high),
        {name: float(share) for name, share in zip(laws.objectives, both.mix[int(here.argmin())], strict=True)},
        laws.objectives[int(here[-count:].argmin())],
        margin,
    )
