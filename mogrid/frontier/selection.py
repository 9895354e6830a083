"""Fit laws to measurements: which forms apply, which foretells what is held out best, and draws of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier.costs import fit_costs
from mogrid.frontier.estimation import SAME, bootstrap, draw_use, fit, held_out_rows
from mogrid.frontier.exchange import Design, Exchange, Form
from mogrid.frontier.laws import HeldOut, LawFit, Laws, Scale, law_name
from mogrid.frontier.measurements import Measurements, is_loss
from mogrid.frontier.rivals import Capacity, Mixing, Quadratic

__all__ = ["FORMS", "fit_laws"]

Floats = NDArray[np.float64]

_AS_GOOD = 0.1
"""A form whose held-out error is above the least by no more than this part of it is as good."""
FORMS = (
    "exchange",
    "exchange, saturating",
    "exchange, harming",
    "exchange, saturating, harming",
    "capacity",
    "mixing law",
    "quadratic",
)
"""Names of the forms, in the order in which they are preferred among the equally good."""


Told = dict[str, HeldOut]
"""By what was held out."""


@dataclass(frozen=True)
class _Data:
    """One objective's data in one metric: the runs, then, at D = 0, the base models whose values are known.

    Attributes
    ----------
    design : Design
    y : ndarray, shape (n,)
        Log losses, less `unit`, their mean over runs.
    cells, mixes : ndarray of int, shapes (n,) and (runs,)
        Of which cell each row is a seed, and of which mix each run.
    runs : int
        How many of the rows are runs.
    """

    design: Design
    y: Floats
    cells: NDArray[np.intp]
    mixes: NDArray[np.intp]
    unit: float
    scale: Scale
    runs: int

    @staticmethod
    def of(runs: Measurements, metric: str, own: int, scale: Scale, n0: float, d0: float) -> _Data:
        based = [model for model in runs.base.get(metric, {}) if model in runs.sizes]
        sizes = np.r_[runs.parameters, [runs.sizes[model] for model in based]]
        pairs = np.vstack([runs.effort, np.zeros((len(based), len(runs.objectives)))])
        y = scale.log(np.r_[runs.values[metric][:, own], [runs.base[metric][model][own] for model in based]])
        cells = np.r_[runs.cells, runs.cells.max() + 1 + np.arange(len(based))]
        mixes = np.unique(runs.mix.round(4), axis=0, return_inverse=True)[1].ravel()
        unit = float(y[: len(runs)].mean())
        return _Data(Design(np.log(sizes / n0), pairs / d0, own), y - unit, cells, mixes, unit, scale, len(runs))

    def only(self, anchored: bool) -> _Data:
        """Return the data with the base models, or without them."""
        rows = np.arange(len(self.y) if anchored else self.runs)
        return replace(self, design=self.design.only(rows), y=self.y[rows], cells=self.cells[rows])

    def foretell(self, form: Form) -> Told:
        """Return what a form says of what it has not seen."""
        out = held_out_rows(self.design.only(np.arange(self.runs)), self.mixes, self.cells[: self.runs])
        use = np.ones((len(out), len(self.y)))
        for row, (_, rows) in zip(use, out, strict=True):
            row[rows] = 0.0
        told = form.values(np.stack([one.theta for one in fit(form, self.design, self.y, use)]), self.design)[0]
        found: Told = {}
        for axis in dict.fromkeys(name for name, _ in out):
            parts = [(i, rows) for i, (name, rows) in enumerate(out) if name == axis]
            rows = np.concatenate([rows for _, rows in parts])
            logs = self.unit + np.concatenate([told[i, rows] for i, rows in parts])
            errors = self.scale.error(logs, self.unit + self.y[rows])
            found[axis] = HeldOut(rows, self.scale.value(logs), errors)
        return found

    def law(self, form: Form, anchored: bool, held: dict[str, Told], use: Floats, rng: np.random.Generator) -> LawFit:
        """Return a form fitted to all of the data, with draws for multiplicities (B, n)."""
        fitted = fit(form, self.design, self.y, np.ones((1, len(self.y))))[0]
        drawn = bootstrap(form, fitted, self.design, self.y, use[:, : len(self.y)], rng)
        distinct = len(np.unique(self.cells))
        used = min(len(self.y) - fitted.freedom, distinct - 1.0)
        stretch = float(np.sqrt(distinct / (distinct - used)))
        return LawFit(form, anchored, fitted, self.scale, self.unit, held, drawn, stretch)


def fit_laws(
    runs: Measurements,
    *,
    metrics: Iterable[str] | None = None,
    form: str | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Laws:
    """Fit a law to every objective in every metric, choosing its form by the error on the held-out largest N and D.

    Where runs have one N, its term drops; where they have one mix, exchange rates do; where they have one N and one D,
    a law is a surface over mixes, and the form is chosen by mixes left out.

    Parameters
    ----------
    runs : Measurements
        Of one way to spend a mix.
    metrics : iterable of str, optional
        All of the runs' when left out.
    form : str, optional
        One of `FORMS`, for all objectives.
    draws : int
        Bootstrap draws, which intervals are quantiles of.
    seed : int
        Of the bootstrap.

    Raises
    ------
    ConfigError
        No such form or metric.
    DataError
        Runs differ in how their mixes were spent, nothing varies, or there are too few for a law.
    """
    if form is not None and form not in FORMS:
        raise ConfigError(f"no law {form!r}{nearest(form, FORMS)}")
    chosen = tuple(runs.values) if metrics is None else tuple(metrics)
    for metric in chosen:
        if metric not in runs.values:
            raise ConfigError(f"the runs have no metric {metric!r}{nearest(metric, runs.values)}")
    candidates = _candidates(runs, form)
    rng = np.random.default_rng(seed)
    use = draw_use(np.r_[runs.cells, runs.cells.max() + 1 + np.arange(len(runs.sizes))], draws, rng)
    n0, d0 = float(np.exp(np.log(runs.parameters).mean())), float(np.exp(np.log(runs.pairs.sum(axis=1)).mean()))
    fits: dict[str, tuple[LawFit, ...]] = {}
    rates: dict[str, tuple[LawFit, ...]] = {}
    for metric in chosen:
        scales = [Scale("loss")] if is_loss(metric) else [Scale("miss"), Scale("odds")]
        options = [[_Data.of(runs, metric, k, s, n0, d0) for k in range(len(runs.objectives))] for s in scales]
        data = options[0]
        if len(options) > 1:  # by the first form, for all objectives alike
            told = [[one.only(False).foretell(candidates[0]) for one in option] for option in options]
            data = options[_first_good([_errors(by) for by in told])]
        pairs = [_fit_one(d, candidates, use, np.random.default_rng([seed, k])) for k, d in enumerate(data)]
        fits[metric] = tuple(pair[0] for pair in pairs)
        rates[metric] = tuple(pair[1] for pair in pairs if pair[1] is not None)
    return Laws(runs, fits, rates, fit_costs(runs), n0, d0)


def _candidates(runs: Measurements, form: str | None) -> list[Form]:
    """Return the forms that what varies in the runs can speak of."""
    if len(set(runs.spend)) > 1:
        counts = {spend: runs.spend.count(spend) for spend in dict.fromkeys(runs.spend)}
        said = ", ".join(f"{count} {spend}" for spend, count in counts.items())
        raise DataError(
            f"runs whose mixes were spent in different ways ({said}) follow different laws: fit one at a time"
        )
    count, distinct = len(runs.objectives), len(np.unique(runs.cells))
    mixes = np.unique(runs.mix.round(4), axis=0)
    sized, mixed = len(runs.sizes) > 1 and len(set(runs.sizes.values())) > 1, len(mixes) > 1
    if not sized and not mixed and np.ptp(np.log(runs.pairs.sum(axis=1))) < SAME:
        raise DataError(f"{len(runs)} runs of one model, one amount of data and one mix: nothing varies")
    varying = np.ptp(mixes, axis=0) > 1e-3  # an objective may have no pairs in any run, or always the same share
    if mixed and np.linalg.matrix_rank((mixes - mixes.mean(axis=0))[:, varying], tol=1e-3) < varying.sum() - 1:
        raise DataError("the mixes lie on a line or plane: vary the share of every objective independently")
    varies = {"sized": sized, "mixed": mixed}
    forms: list[Form] = [Exchange(count, **varies)]
    if mixed:
        forms += [
            Exchange(count, saturates=s, harms=h, **varies) for s, h in ((True, False), (False, True), (True, True))
        ]
        forms += [Capacity(count, **varies), Mixing(count, **varies)]
    forms = [one for one in (*forms, Quadratic(count, **varies)) if form in (None, one.name)]
    if not forms:
        raise DataError(f"law {form!r} is over mixes, but the runs have one")
    # A law of p parameters is asked for p/2 cells and no less than 4: priors hold what they leave open, with intervals.
    needed = [max(4, math.ceil(len(one.parameters()) / 2)) for one in forms]
    if distinct < min(needed):
        raise DataError(
            f"law {forms[0].name!r} has {len(forms[0].parameters())} parameters and needs {needed[0]} distinct cells "
            f"(N, D, mix), got {distinct} from {len(runs)} runs (seeds of one cell count once)"
        )
    return [one for one, least in zip(forms, needed, strict=True) if distinct >= least]


def _fit_one(
    data: _Data, candidates: list[Form], use: Floats, rng: np.random.Generator
) -> tuple[LawFit, LawFit | None]:
    """Return the law that foretells best, and the best with exchange rates; these alone have a value at D = 0."""
    ways = {anchored: data.only(anchored) for anchored in ({False, len(data.y) > data.runs})}
    tried = [(form, way) for form in candidates for way in ways if not way or isinstance(form, Exchange)]
    told = [ways[way].foretell(form) for form, way in tried]
    held = {law_name(*one): by for one, by in zip(tried, told, strict=True)}

    def best(some: list[int]) -> LawFit:
        form, way = tried[some[_first_good([_errors([told[i]]) for i in some])]]
        return ways[way].law(form, way, held, use, rng)

    law = best(list(range(len(tried))))
    exchanging = [i for i, (form, _) in enumerate(tried) if isinstance(form, Exchange)]
    if isinstance(law.form, Exchange) or not exchanging:
        return law, law if exchanging else None
    return law, best(exchanging)


def _errors(told: list[Told]) -> Floats:
    """Return all errors in one, each axis with the same weight however many runs it holds out."""
    parts = [held.errors for by in told for held in by.values()]
    return np.concatenate([part * sum(map(len, parts)) / (len(parts) * len(part)) for part in parts])


def _first_good(errors: list[Floats]) -> int:
    """Return the first whose mean error is the least, or above it by no more than two standard errors or a tenth.

    Two and not one, since runs that are held out together are mistaken together. But never more than twice the least:
    the standard error of a form that is absurd in one run of four would let it pass.
    """
    means = [float(row.mean()) for row in errors]
    least = int(np.argmin(means))

    def slack(row: Floats) -> float:
        spread = 2 * float((row - errors[least]).std()) / np.sqrt(len(row))
        return max(min(spread, means[least]), _AS_GOOD * means[least])

    return next(i for i, row in enumerate(errors) if means[i] - means[least] <= slack(row) + 1e-12)
