"""Laws of every objective in every metric: fit, choose the form, say what is identified, predict with intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier.costs import Costs, fit_costs
from mogrid.frontier.estimation import Fitted, bootstrap, draw_use, fit, held_out_rows
from mogrid.frontier.exchange import Design, Exchange, Form
from mogrid.frontier.measurements import Measurements, is_loss
from mogrid.frontier.rivals import Capacity, Mixing, Quadratic

__all__ = ["FORMS", "IDENTIFIED", "ExchangeRates", "Exponent", "HeldOut", "LawFit", "Laws", "Scale", "fit_laws"]

Floats = NDArray[np.float64]

IDENTIFIED = 0.2
"""An exponent whose 90 % interval is wider is not identified."""
_AS_GOOD = 0.1
"""A form whose held-out error is above the least by no more than this part of it is as good."""
_EDGE = 1e-3
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


class Scale:
    """How a metric becomes a loss that laws are fitted to the logarithm of.

    ``loss``: itself. Scores v in [0, 1] either by what they miss, 1 − v, or by the odds of missing, (1 − v)/v.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def log(self, values: Floats) -> Floats:
        """Return log losses of values."""
        if self.name == "loss":
            return np.asarray(np.log(values))
        miss = np.clip(1 - values, _EDGE, 1 - _EDGE)
        return np.asarray(np.log(miss / (1 - miss)) if self.name == "odds" else np.log(miss))

    def value(self, logs: Floats) -> Floats:
        """Return values of log losses."""
        if self.name == "loss":
            return np.asarray(np.exp(logs))
        if self.name == "odds":
            return np.asarray(1 / (1 + np.exp(np.clip(logs, -50, 50))))
        return np.asarray(1 - np.exp(np.minimum(logs, 0.0)))

    def error(self, told: Floats, y: Floats) -> Floats:
        """Return errors of foretold log losses: relative ones of a loss, absolute ones of a score."""
        if self.name == "loss":
            return np.asarray(np.abs(np.expm1(told - y)))
        return np.asarray(np.abs(self.value(told) - self.value(y)))


@dataclass(frozen=True)
class HeldOut:
    """What a fit without the largest scale says of it.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        Of the runs that were held out.
    foretold, errors : ndarray, shape (m,)
        Their values, as the fit to the others has them, and how far off that is: relative for a loss, absolute for a
        score.
    """

    rows: NDArray[np.intp]
    foretold: Floats
    errors: Floats

    def to_json(self) -> dict[str, float]:
        """Return mean, median and largest error."""
        return {
            "mean": float(self.errors.mean()),
            "median": float(np.median(self.errors)),
            "largest": float(self.errors.max()),
        }


@dataclass(frozen=True)
class Exponent:
    """An exponent of one objective's law, with its 90 % bootstrap interval."""

    objective: str
    name: str
    value: float
    low: float
    high: float

    @property
    def identified(self) -> bool:
        """Whether the interval is at most `IDENTIFIED` wide."""
        return self.high - self.low <= IDENTIFIED

    def __str__(self) -> str:
        note = "" if self.identified else ", not identified"
        return f"{self.objective}: {self.name} = {self.value:.2f} [{self.low:.2f}, {self.high:.2f}]{note}"


@dataclass(frozen=True)
class ExchangeRates:
    """What a pair of each objective is worth to each other one, with 90 % bootstrap intervals.

    Attributes
    ----------
    objectives : tuple of K str
    value, low, high : ndarray, shape (K, K)
        t_kj: what a pair of objective j (column) is worth to objective k (row), in pairs of its own; 1 on the diagonal.
    base, base_low, base_high : ndarray, shape (K,)
        T_k: what the base model brings, in pairs.
    """

    objectives: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats
    base: Floats
    base_low: Floats
    base_high: Floats

    def to_json(self) -> dict[str, Any]:
        """Return plain values, by objective."""
        names = self.objectives
        tables = (("value", self.value), ("low", self.low), ("high", self.high))
        bases = (("value", self.base), ("low", self.base_low), ("high", self.base_high))
        return {
            name: {
                "base": {word: float(column[k]) for word, column in bases},
                "pairs": {other: {word: float(t[k, j]) for word, t in tables} for j, other in enumerate(names)},
            }
            for k, name in enumerate(names)
        }


@dataclass(frozen=True)
class LawFit:
    """One objective's law in one metric.

    Attributes
    ----------
    form : Form
    anchored : bool
        Whether what the base models reach at D = 0 was among the data.
    fitted : Fitted
    scale : Scale
    unit : float
        Mean log loss of the runs, which the form's are relative to.
    held_out : dict of (dict of HeldOut)
        By candidate, then by what was held out: ``N``, ``D``, or, where there is one scale, ``mix``.
    draws : ndarray, shape (B, p)
    stretch : float
        By how much the draws vary too little: √(cells / (cells − effective parameters)).
    """

    form: Form
    anchored: bool
    fitted: Fitted
    scale: Scale
    unit: float
    held_out: dict[str, dict[str, HeldOut]]
    draws: Floats
    stretch: float

    @property
    def name(self) -> str:
        """Return the candidate's name, as in `held_out`."""
        return _name(self.form, self.anchored)

    def log(self, design: Design) -> Floats:
        """Return log losses (m,)."""
        return np.asarray(self.unit + self.form.values(self.fitted.theta[None], design)[0][0])

    def drawn(self, design: Design) -> Floats:
        """Return log losses (B, m) of the draws."""
        centre = self.form.values(self.fitted.theta[None], design)[0]
        return np.asarray(self.unit + centre + self.stretch * (self.form.values(self.draws, design)[0] - centre))


@dataclass(frozen=True)
class Laws:
    """Laws of all objectives over N and D_1 … D_K.

    Attributes
    ----------
    runs : Measurements
    fits : dict of metric to tuple of K LawFit
    rates : dict of metric to tuple of K LawFit
        The best laws with exchange rates: of `fits`, or beside them where another form foretells better.
    costs : Costs
    n0, d0 : float
        Geometric means of the runs' N and D.
    """

    runs: Measurements
    fits: dict[str, tuple[LawFit, ...]]
    rates: dict[str, tuple[LawFit, ...]]
    costs: Costs
    n0: float
    d0: float

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the names of the objectives."""
        return self.runs.objectives

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that have laws."""
        return tuple(self.fits)

    def metric(self, name: str | None) -> str:
        """Return a metric that has laws, the first for None. Raises `ConfigError` for another."""
        if name is None:
            return self.metrics[0]
        if name not in self.fits:
            raise ConfigError(f"no laws of a metric {name!r}{nearest(name, self.fits)}")
        return name

    def design(self, own: int, sizes: ArrayLike, pairs: ArrayLike) -> Design:
        """Return N (m,) and D_k (m, K) as forms read them; each may be a single one."""
        table = np.atleast_2d(np.asarray(pairs, dtype=np.float64))
        n = np.broadcast_to(np.asarray(sizes, dtype=np.float64), len(table))
        if table.shape[1] != len(self.objectives) or not (np.isfinite(table) & (table >= 0)).all():
            raise DataError(f"pairs must be {len(self.objectives)} numbers of at least 0, got shape {table.shape}")
        if not (np.isfinite(n) & (n > 0)).all():
            raise DataError("model sizes must be finite and positive")
        return Design(np.log(n / self.n0), table / self.d0, own)

    def predict(self, sizes: ArrayLike, pairs: ArrayLike, metric: str | None = None) -> Floats:
        """Return predicted values (m, K) at N (m,) and pairs that work for each objective (m, K)."""
        fits = self.fits[self.metric(metric)]
        return np.stack([f.scale.value(f.log(self.design(k, sizes, pairs))) for k, f in enumerate(fits)], axis=1)

    def predict_draws(self, sizes: ArrayLike, pairs: ArrayLike, metric: str | None = None) -> Floats:
        """Return predicted values (B, m, K), one set per bootstrap draw."""
        fits = self.fits[self.metric(metric)]
        return np.stack([f.scale.value(f.drawn(self.design(k, sizes, pairs))) for k, f in enumerate(fits)], axis=2)

    def interval(
        self,
        sizes: ArrayLike,
        pairs: ArrayLike,
        metric: str | None = None,
        *,
        runs: int | None = 1,
        confidence: float = 0.9,
        seed: int = 0,
    ) -> Floats:
        """Return prediction intervals (m, K, 2) for the mean of so many runs (seeds); None: of infinitely many."""
        rng = np.random.default_rng(seed)
        ends = []
        for k, one in enumerate(self.fits[self.metric(metric)]):
            drawn = one.drawn(self.design(k, sizes, pairs))
            if runs is not None:
                # Student's, since the noise is itself estimated.
                nu = max(one.fitted.freedom, 3.0)
                factor = np.sqrt(nu / rng.chisquare(nu, size=(len(drawn), 1)))
                drawn = drawn + one.fitted.sigma * factor * rng.standard_normal(drawn.shape) / np.sqrt(runs)
            quantiles = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
            ends.append(np.sort(one.scale.value(quantiles), axis=0).T)
        return np.stack(ends, axis=1)

    def exponents(self, metric: str | None = None) -> tuple[Exponent, ...]:
        """Return every exponent of N and D with its interval: the identifiability report."""
        found = []
        for objective, one in zip(self.objectives, self.fits[self.metric(metric)], strict=True):
            names = one.form.parameters()
            for name in ("log α", "log β"):
                if name in names:
                    column = names.index(name)
                    low, high = np.quantile(np.exp(one.draws[:, column]), [0.05, 0.95])
                    value = float(np.exp(one.fitted.theta[column]))
                    found.append(Exponent(objective, name.removeprefix("log "), value, float(low), float(high)))
        return tuple(found)

    def exchange(self, metric: str | None = None) -> ExchangeRates:
        """Return what pairs of each objective are worth to each other. Raises `DataError` where no law says so."""
        found = self.rates[self.metric(metric)]
        count = len(self.objectives)
        if not found or not found[0].form.mixed:
            raise DataError("exchange rates need runs of several mixes of at least two objectives")
        table, base = np.ones((3, count, count)), np.empty((3, count))
        for k, one in enumerate(found):
            names = one.form.parameters()
            place = names.index("log T")
            middle = one.fitted.theta
            draws = middle + one.stretch * (one.draws - middle)
            sides = np.vstack([middle, np.quantile(draws, [0.05, 0.95], axis=0)])
            table[:, k, [j for j in range(count) if j != k]] = sides[:, place + 1 : place + count]
            base[:, k] = self.d0 * np.exp(sides[:, place])
        return ExchangeRates(self.objectives, *table, *base)

    def to_json(self) -> dict[str, Any]:
        """Return the fits, without the draws."""
        found: dict[str, Any] = {}
        for metric, fits in self.fits.items():
            exponents = self.exponents(metric)
            found[metric] = {
                objective: {
                    "form": one.name,
                    "equation": one.form.equation,
                    "scale": one.scale.name,
                    "theta": dict(zip(one.form.parameters(), one.fitted.theta.tolist(), strict=True)),
                    "unit": one.unit,
                    "n0": self.n0,
                    "d0": self.d0,
                    "exponents": {
                        e.name: {"value": e.value, "low": e.low, "high": e.high, "identified": e.identified}
                        for e in exponents
                        if e.objective == objective
                    },
                    "r2": one.fitted.r2,
                    "noise": one.fitted.sigma,
                    "held_out": {
                        name: {axis: held.to_json() for axis, held in by.items()} for name, by in one.held_out.items()
                    },
                }
                for objective, one in zip(self.objectives, fits, strict=True)
            }
        return found


@dataclass(frozen=True)
class _Data:
    """One objective's data in one metric: the runs, then the base models at D = 0.

    Attributes
    ----------
    design : Design
    y : ndarray, shape (n,)
        Log losses, less their mean over runs.
    runs : int
        How many of the rows are runs.
    cells : ndarray of int, shape (n,)
    out : dict of list of ndarray of bool, shape (n,)
        What to hold out.
    """

    design: Design
    y: Floats
    unit: float
    scale: Scale
    runs: int
    cells: NDArray[np.intp]
    out: dict[str, list[NDArray[np.bool_]]]


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
        options = [[_data(runs, metric, k, s, n0, d0) for k in range(len(runs.objectives))] for s in scales]
        first = [[_held_out(candidates[0], d)[False] for d in option] for option in options]
        data = options[_first_good([_errors(told) for told in first])]
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
    count = len(runs.objectives)
    mixes = np.unique(runs.mix.round(4), axis=0)
    sizes, totals = np.unique(runs.parameters), np.unique(np.log(runs.pairs.sum(axis=1)).round(1))
    distinct = len(np.unique(runs.cells))
    sized, mixed = len(sizes) > 1, len(mixes) > 1
    if not sized and not mixed and len(totals) == 1:
        raise DataError(f"{len(runs)} runs of one model, one amount of data and one mix: nothing varies")
    if mixed and np.linalg.matrix_rank(mixes - mixes.mean(axis=0), tol=1e-6) < count - 1:
        raise DataError("the mixes lie on a line or plane: vary the share of every objective independently")
    given = {"sized": sized, "mixed": mixed}
    forms: list[Form] = [
        Exchange(count, saturates=saturates, harms=harms, **given)
        for saturates, harms in ((False, False), (True, False), (False, True), (True, True))
    ]
    forms = forms if mixed else forms[:1]
    if mixed:
        forms += [Capacity(count, **given), Mixing(count, **given)]
    forms.append(Quadratic(count, **given))
    if form is not None:
        forms = [one for one in forms if one.name == form]
        if not forms:
            raise DataError(f"law {form!r} is over mixes, but the runs have one")
    # A law of p parameters is asked for p/2 cells and no less than 4: priors hold what they leave open, with intervals.
    able = [one for one in forms if distinct >= max(4, -(-len(one.parameters()) // 2))]
    if not able:
        needed = max(4, -(-len(forms[0].parameters()) // 2))
        raise DataError(
            f"law {forms[0].name!r} has {len(forms[0].parameters())} parameters and needs {needed} distinct cells "
            f"(N, D, mix), got {distinct} from {len(runs)} runs (seeds of one cell count once)"
        )
    return able


def _data(runs: Measurements, metric: str, own: int, scale: Scale, n0: float, d0: float) -> _Data:
    log_n, pairs = np.log(runs.parameters / n0), runs.effort / d0
    y = scale.log(runs.values[metric][:, own])
    unit, cells = float(y.mean()), runs.cells
    _, groups = np.unique(runs.mix.round(4), axis=0, return_inverse=True)
    out = held_out_rows(Design(log_n, pairs, own), cells, groups.ravel())
    known = {model: values[own] for model, values in runs.base.get(metric, {}).items() if model in runs.sizes}
    if known:
        log_n = np.r_[log_n, [np.log(runs.sizes[model] / n0) for model in known]]
        pairs = np.vstack([pairs, np.zeros((len(known), pairs.shape[1]))])
        y = np.r_[y, scale.log(np.array(list(known.values())))]
        cells = np.r_[cells, cells.max() + 1 + np.arange(len(known))]
        out = {axis: [np.r_[rows, np.zeros(len(known), dtype=bool)] for rows in by] for axis, by in out.items()}
    return _Data(Design(log_n, pairs, own), y - unit, unit, scale, len(runs), cells, out)


def _held_out(form: Form, data: _Data) -> dict[bool, dict[str, HeldOut]]:
    """Return what a form foretells of what is held out, without and with the base models among the data."""
    axes = [(axis, rows) for axis, by in data.out.items() for rows in by]
    is_run = np.arange(len(data.y)) < data.runs
    ways = [False, True] if not is_run.all() and isinstance(form, Exchange) else [False]
    uses = np.array([(~rows) & (is_run | anchored) for anchored in ways for _, rows in axes], dtype=np.float64)
    # A form without a value at D = 0 never sees the rows of the base.
    design, y, uses = (data.design, data.y, uses) if len(ways) > 1 else _runs_only(data, uses)
    fitted = fit(form, design, y, uses)
    told = form.values(np.stack([one.theta for one in fitted]), design)[0]
    found: dict[bool, dict[str, HeldOut]] = {}
    for i, anchored in enumerate(ways):
        found[anchored] = {}
        for axis in data.out:
            parts = [(i * len(axes) + j, rows) for j, (name, rows) in enumerate(axes) if name == axis]
            rows = np.concatenate([np.flatnonzero(out) for _, out in parts])
            logs = np.concatenate([told[at][np.flatnonzero(out)] for at, out in parts])
            errors = data.scale.error(data.unit + logs, data.unit + data.y[rows])
            found[anchored][axis] = HeldOut(rows, data.scale.value(data.unit + logs), errors)
    return found


def _runs_only(data: _Data, uses: Floats) -> tuple[Design, Floats, Floats]:
    rows = np.arange(data.runs)
    return data.design.only(rows), data.y[rows], uses[:, rows]


def _fit_one(
    data: _Data, candidates: list[Form], use: Floats, rng: np.random.Generator
) -> tuple[LawFit, LawFit | None]:
    """Return the law that foretells best, and the best with exchange rates."""
    tried = [(form, anchored, told) for form in candidates for anchored, told in _held_out(form, data).items()]
    held = {_name(form, anchored): told for form, anchored, told in tried}

    def best(some: list[tuple[Form, bool, dict[str, HeldOut]]]) -> tuple[Form, bool]:
        return some[_first_good([_errors([told]) for _, _, told in some])][:2]

    chosen = best(tried)
    law = _finish(data, *chosen, held, use, rng)
    exchanging = [one for one in tried if isinstance(one[0], Exchange)]
    if not exchanging or isinstance(chosen[0], Exchange):
        return law, law if exchanging else None
    return law, _finish(data, *best(exchanging), held, use, rng)


def _finish(
    data: _Data,
    form: Form,
    anchored: bool,
    held: dict[str, dict[str, HeldOut]],
    use: Floats,
    rng: np.random.Generator,
) -> LawFit:
    design, y, cells = data.design, data.y, data.cells
    if not anchored:
        design, y, _ = _runs_only(data, np.ones((1, len(y))))
        cells = cells[: data.runs]
    fitted = fit(form, design, y, np.ones((1, len(y))))[0]
    drawn = bootstrap(form, fitted, design, y, use[:, : len(y)], rng)
    distinct = len(np.unique(cells))
    used = min(len(y) - fitted.freedom, distinct - 1.0)
    stretch = float(np.sqrt(distinct / (distinct - used)))
    return LawFit(form, anchored, fitted, data.scale, data.unit, held, drawn, stretch)


def _name(form: Form, anchored: bool) -> str:
    return f"{form.name}, with the base" if anchored else form.name


def _errors(told: list[dict[str, HeldOut]]) -> Floats:
    """Return all errors in one, each axis with the same weight however many runs it holds out."""
    parts = [held.errors for by in told for held in by.values()]
    return np.concatenate([part * sum(map(len, parts)) / (len(parts) * len(part)) for part in parts])


def _first_good(errors: list[Floats]) -> int:
    """Return the first whose mean error is the least, or above it by no more than its standard error or a tenth."""
    means = [float(row.mean()) for row in errors]
    least = int(np.argmin(means))

    def slack(row: Floats) -> float:
        return max(float((row - errors[least]).std()) / np.sqrt(len(row)), _AS_GOOD * means[least])

    return next(i for i, row in enumerate(errors) if means[i] - means[least] <= slack(row) + 1e-12)
