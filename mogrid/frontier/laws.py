"""Laws of every objective in every metric: what they predict, with intervals, and what of them is identified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.frontier.costs import Costs
from mogrid.frontier.estimation import Fitted
from mogrid.frontier.exchange import Design, Exchange, Form
from mogrid.frontier.measurements import Measurements
from mogrid.frontier.rates import HELPS, ExchangeRates, rates_at

__all__ = ["IDENTIFIED", "Exponent", "HeldOut", "LawFit", "Laws", "Scale", "law_name"]

Floats = NDArray[np.float64]

IDENTIFIED = 0.2
"""An exponent whose 90 % interval is wider is not identified."""
_EDGE = 1e-3


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
        of = {"mean": self.errors.mean(), "median": np.median(self.errors), "largest": self.errors.max()}
        return {word: float(error) for word, error in of.items()}


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


def law_name(form: Form, anchored: bool) -> str:
    """Return the name of a form, fitted with or without what the base models reach at D = 0."""
    return f"{form.name}, with the base" if anchored else form.name


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
        return law_name(self.form, self.anchored)

    @property
    def spread(self) -> Floats:
        """Return the draws of θ (B, p), stretched, with θ itself before them."""
        middle = self.fitted.theta
        return np.vstack([middle, middle + self.stretch * (self.draws - middle)])

    def log(self, design: Design) -> Floats:
        """Return log losses (m,)."""
        return np.asarray(self.unit + self.form.values(self.fitted.theta[None], design)[0][0])

    def slope(self, losses: Floats) -> Floats:
        """Return derivatives (m,) of losses, or of what scores miss, to the log loss that the law is fitted to."""
        return losses * (1 - losses) if self.scale.name == "odds" else losses

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
            for name in ("α", "β"):
                if f"log {name}" in names:
                    value, *drawn = np.exp(one.spread[:, names.index(f"log {name}")])
                    found.append(Exponent(objective, name, float(value), *np.quantile(drawn, [0.05, 0.95]).tolist()))
        return tuple(found)

    def exchange(self, metric: str | None = None, pairs: ArrayLike | None = None) -> ExchangeRates:
        """Return what one more pair of each objective is worth to each other one.

        Parameters
        ----------
        metric : str, optional
            The first that has laws when left out.
        pairs : array_like, shape (K,), optional
            That work for each objective, where the rates are taken: a plan's, say. When left out it is the middle of
            the runs, the geometric mean of their D with equal shares. Rates are taken at a twentieth of all pairs for
            an objective that has less.

        Raises
        ------
        DataError
            No law says so, or `pairs` are no K numbers of at least 0.
        """
        metric, count = self.metric(metric), len(self.objectives)
        if not self.has_rates(metric):
            raise DataError("exchange rates need runs of several mixes of at least two objectives")
        seen = self.runs.pairs.sum(axis=0) > 0
        middle = self.d0 * seen / seen.sum()
        at = rates_at(middle if pairs is None else self.d0 * self.design(0, self.n0, pairs).pairs[0], seen)
        table, base = np.ones((3, count, count)), np.empty((3, count))
        for k, one in enumerate(self.rates[metric]):
            assert isinstance(one.form, Exchange)
            worth, own = one.form.worth(one.spread, self.design(k, self.n0, at))
            sides = np.column_stack([worth[:, 0], one.spread[:, one.form.parameters().index("log T")]])
            sides = np.vstack([sides[0], np.quantile(sides[1:], [0.05, 0.95], axis=0)])
            table[:, k, [j for j in range(count) if j != k]] = sides[:, :-1] if own[0, 0] > HELPS else np.nan
            base[:, k] = self.d0 * np.exp(sides[:, -1]) if own[0, 0] > HELPS else np.nan
        table[:, ~seen[:, None] | ~seen & ~np.eye(count, dtype=bool)] = np.nan
        base[:, ~seen] = np.nan
        return ExchangeRates(self.objectives, *[*table, *base, at])

    def has_rates(self, metric: str) -> bool:
        """Return whether `exchange` has something to say."""
        return bool(self.rates[metric]) and self.rates[metric][0].form.mixed

    def based(self, metric: str) -> tuple[str, ...]:
        """Return the base models whose values at D = 0 are known and were data of anchored laws."""
        return tuple(model for model in self.runs.base.get(metric, {}) if model in self.runs.sizes)

    def to_json(self) -> dict[str, Any]:
        """Return the fits, without the draws."""
        found: dict[str, Any] = {}
        for metric, fits in self.fits.items():
            exponents = [(e.objective, e.name, {**vars(e), "identified": e.identified}) for e in self.exponents(metric)]
            found[metric] = {
                objective: {
                    "form": one.name,
                    "equation": one.form.equation,
                    "scale": one.scale.name,
                    "theta": dict(zip(one.form.parameters(), one.fitted.theta.tolist(), strict=True)),
                    "unit": one.unit,
                    "n0": self.n0,
                    "d0": self.d0,
                    "exponents": {name: value for of, name, value in exponents if of == objective},
                    "r2": one.fitted.r2,
                    "noise": one.fitted.sigma,
                    "held_out": {
                        name: {axis: held.to_json() for axis, held in by.items()} for name, by in one.held_out.items()
                    },
                }
                for objective, one in zip(self.objectives, fits, strict=True)
            }
        return found
