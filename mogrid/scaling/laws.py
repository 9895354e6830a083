"""Scaling laws of every objective: fit, choose the form, say what is identified, predict with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.scaling.fitting import Fitted, HeldOut, bootstrap, fit_form, hold_out
from mogrid.scaling.forms import FORMS, Design, ScalingForm
from mogrid.scaling.requirements import applicable_forms, check_enough
from mogrid.scaling.runs import ScalingRuns

__all__ = ["IDENTIFIED", "Exponent", "ExtrapolationWarning", "LawFit", "Laws", "fit_laws"]

Floats = NDArray[np.float64]
Where = tuple[Floats, Floats, Floats]

IDENTIFIED = 0.2
"""An exponent whose 90 % interval is wider is not identified."""
REACH = 10.0
"""How far beyond the sweep, as a factor, predictions are made without a warning."""


class ExtrapolationWarning(UserWarning):
    """A prediction lies further from the sweep's runs than a factor of ten."""


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
class LawFit:
    """One objective's law.

    Attributes
    ----------
    fitted : Fitted
    unit : float
        Geometric mean loss of the sweep, which the form's losses are multiples of.
    held_out : dict of dict of float
        For each form tried: median relative error on the largest N and on the largest D, each held out.
    foretold : dict of HeldOut
        By axis, ``N`` and ``D``: what the chosen form said of the largest scale without having seen it.
    draws : ndarray, shape (B, p)
    stretch : float
        By how much the draws vary too little: √(cells / (cells − effective parameters)).
    """

    fitted: Fitted
    unit: float
    held_out: dict[str, dict[str, float]]
    foretold: dict[str, HeldOut]
    draws: Floats
    stretch: float


@dataclass(frozen=True)
class Laws:
    """Laws of all objectives over N, D and the weights.

    A training that leaves an objective out spends its whole budget on the others: it is no neighbour of one that gives
    it a little weight, and follows a law of its own, where there are runs enough for one.

    Attributes
    ----------
    runs : ScalingRuns
        All runs.
    fits : tuple of K LawFit
    fitted : ScalingRuns
        What `fits` are of: the runs without those that have laws apart.
    apart : dict of tuple of bool to Laws
        By which objectives have a weight.
    """

    runs: ScalingRuns
    fits: tuple[LawFit, ...]
    fitted: ScalingRuns
    apart: dict[tuple[bool, ...], Laws] = field(default_factory=dict)

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.runs.objectives

    def parts(self, weights: ArrayLike) -> list[tuple[Laws, NDArray[np.intp]]]:
        """Return the laws that hold for some weights (m, K), with the rows that each holds for."""
        active = np.atleast_2d(np.asarray(weights, dtype=np.float64)) > 0
        rows: dict[tuple[bool, ...], list[int]] = {}
        for row, key in enumerate(map(tuple, active.tolist())):
            rows.setdefault(key if key in self.apart else (), []).append(row)
        return [(self.apart.get(key, self), np.array(own)) for key, own in rows.items()]

    def _by_part(
        self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike, axis: int, ask: Callable[..., Floats]
    ) -> Floats:
        """Ask each law for its own rows, and put the answers together along the axis of the rows."""
        table = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        n, d = np.atleast_1d(np.asarray(sizes, float)), np.atleast_1d(np.asarray(pairs, float))
        n, d, place = np.broadcast_arrays(n, d, np.arange(len(table)))
        table = table[place]
        parts = self.parts(table)
        answers = [ask(laws, laws._where(n[rows], d[rows], table[rows])) for laws, rows in parts]
        order = np.argsort(np.concatenate([rows for _, rows in parts]))
        return np.asarray(np.take(np.concatenate(answers, axis=axis), order, axis=axis))

    def predict(self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike) -> Floats:
        """Return predicted losses (m, K) at sizes (m,), pairs (m,) and weights (m, K); each may be a single one."""

        def ask(laws: Laws, where: Where) -> Floats:
            logs = [f.unit * np.exp(laws._log(k, f.fitted.theta[None], where)[0]) for k, f in laws._each()]
            return np.stack(logs, axis=1)

        return self._by_part(sizes, pairs, weights, 0, ask)

    def predict_draws(self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike) -> Floats:
        """Return predicted losses (B, m, K), one set per bootstrap draw."""

        def ask(laws: Laws, where: Where) -> Floats:
            return np.stack([f.unit * np.exp(laws._drawn(k, f, where)) for k, f in laws._each()], axis=2)

        return self._by_part(sizes, pairs, weights, 1, ask)

    def interval(
        self,
        sizes: ArrayLike,
        pairs: ArrayLike,
        weights: ArrayLike,
        *,
        runs: int | None = 1,
        confidence: float = 0.9,
        seed: int = 0,
    ) -> Floats:
        """Return prediction intervals (m, K, 2) for the mean of so many runs (seeds); None: of infinitely many."""
        rng = np.random.default_rng(seed)

        def ask(laws: Laws, where: Where) -> Floats:
            ends = []
            for k, fit in laws._each():
                drawn = laws._drawn(k, fit, where)
                # Student's, since the noise is itself estimated.
                nu = max(fit.fitted.freedom, 3.0)
                factor = np.sqrt(nu / rng.chisquare(nu, size=(len(drawn), 1)))
                if runs is not None:
                    drawn = drawn + fit.fitted.sigma * factor * rng.standard_normal(drawn.shape) / np.sqrt(runs)
                quantiles = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
                ends.append(fit.unit * np.exp(quantiles.T))
            return np.stack(ends, axis=1)

        return self._by_part(sizes, pairs, weights, 0, ask)

    def exponents(self) -> tuple[Exponent, ...]:
        """Return every exponent of N and D with its interval: the identifiability report."""
        found = []
        for objective, fit in zip(self.objectives, self.fits, strict=True):
            names = fit.fitted.form.parameters(len(self.objectives))
            for name in ("log α", "log β"):
                if name in names:
                    column = names.index(name)
                    low, high = np.quantile(np.exp(fit.draws[:, column]), [0.05, 0.95])
                    value = float(np.exp(fit.fitted.theta[column]))
                    found.append(Exponent(objective, name.removeprefix("log "), value, float(low), float(high)))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return the fits, without the draws; A, B and δ in the units of N, D and the loss."""
        found: dict[str, Any] = {}
        n0, d0 = _centre(self.fitted.sizes), _centre(self.fitted.pairs)
        exponents = self.exponents()
        for objective, fit in zip(self.objectives, self.fits, strict=True):
            form = fit.fitted.form
            theta = dict(zip(form.parameters(len(self.objectives)), fit.fitted.theta.tolist(), strict=True))
            coefficients = {"δ": fit.unit * float(np.exp(theta.pop("log δ")))}
            for letter, amplitude, exponent, scale in (("A", "log a", "log α", n0), ("B", "log b", "log β", d0)):
                if amplitude in theta:
                    power = float(np.exp(theta.pop(exponent)))
                    coefficients[letter] = scale * float(np.exp((theta.pop(amplitude) + np.log(fit.unit)) / power))
            found[objective] = {
                "form": form.name,
                "equation": form.equation,
                "coefficients": coefficients,
                "weights": theta,
                "exponents": {
                    e.name: {"value": e.value, "low": e.low, "high": e.high, "identified": e.identified}
                    for e in exponents
                    if e.objective == objective
                },
                "r2": fit.fitted.r2,
                "noise": fit.fitted.sigma,
                "held_out": fit.held_out,
            }
        for active, laws in self.apart.items():
            only = " and ".join(name for name, on in zip(self.objectives, active, strict=True) if on)
            found[f"{only} alone"] = laws.to_json()
        return found

    def _each(self) -> list[tuple[int, LawFit]]:
        return list(enumerate(self.fits))

    def _where(self, sizes: Floats, pairs: Floats, weights: Floats) -> Where:
        """Return sizes and pairs relative to the fitted runs' centre, and the weights: what forms read, all (m,)."""
        count = len(self.objectives)
        if weights.shape[1] != count or not ((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1, atol=1e-6)):
            raise DataError(f"weights must be {count} numbers of at least 0 that sum to 1")
        if not all((np.isfinite(x) & (x > 0)).all() for x in (sizes, pairs)):
            raise DataError("sizes and pairs must be finite and positive")
        for name, asked, known in (("N", sizes, self.fitted.sizes), ("D", pairs, self.fitted.pairs)):
            if name in self._over and (asked.max() > REACH * known.max() or asked.min() < known.min() / REACH):
                warnings.warn(
                    f"{name} from {asked.min():.3g} to {asked.max():.3g} lies more than {REACH:g}× beyond the sweep "
                    f"({known.min():.3g} to {known.max():.3g}): the law is extrapolated",
                    ExtrapolationWarning,
                    stacklevel=4,
                )
        return np.log(sizes / _centre(self.fitted.sizes)), np.log(pairs / _centre(self.fitted.pairs)), weights

    @property
    def _over(self) -> set[str]:
        return {name for fit in self.fits for name in fit.fitted.form.over}

    def _log(self, own: int, theta: Floats, where: Where) -> Floats:
        return self.fits[own].fitted.form.values(theta, Design(*where, own))[0]

    def _drawn(self, own: int, fit: LawFit, where: Where) -> Floats:
        centre = self._log(own, fit.fitted.theta[None], where)
        return np.asarray(centre + fit.stretch * (self._log(own, fit.draws, where) - centre))


def fit_laws(runs: ScalingRuns, *, form: str | None = None, draws: int = 1000, seed: int = 0) -> Laws:
    """Fit a law to every objective, choosing its form by the error on the held-out largest scale.

    Parameters
    ----------
    runs : ScalingRuns
    form : str, optional
        One of `FORMS`, for all objectives; left out, each objective takes the best of those that apply: laws in N
        where only N varies, in D where only D does, in N and D, and in weight space where the weights vary too.
        Trainings that leave an objective out then have laws of their own, where there are enough of them.
    draws : int
    seed : int
        Of the bootstrap.

    Raises
    ------
    ConfigError
        No such form.
    DataError
        The form is of a quantity that does not vary enough, or leaves out one that varies, or there are too few runs
        for it: how many, and which cells of the grid are missing.
    """
    if form is not None and form not in FORMS:
        raise ConfigError(f"no law {form!r}{nearest(form, FORMS)}")
    rng = np.random.default_rng(seed)
    if form is not None:
        return _fit(runs, [FORMS[form]], draws, rng)
    joint, apart = runs, {}
    active = runs.weights > 0
    whole = active.all(axis=1)
    if whole.any() and not whole.all():
        for key in sorted({tuple(row) for row in active[~whole].tolist()}):
            own = (active == key).all(axis=1)
            try:
                rest, part = joint.only(~_among(joint, runs, own)), runs.only(own)
                check_enough(rest, applicable_forms(rest)[0])
                apart[key] = _fit(part, applicable_forms(part), draws, rng)
                joint = rest
            except DataError:
                continue  # too few for a law of their own, or too few without them: they stay among the others
    laws = _fit(joint, applicable_forms(joint), draws, rng)
    return Laws(runs, laws.fits, joint, apart)


def _among(some: ScalingRuns, runs: ScalingRuns, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of some runs a mask over all of them names."""
    named = {label for label, on in zip(runs.labels, mask, strict=True) if on}
    return np.array([label in named for label in some.labels])


def _fit(runs: ScalingRuns, candidates: list[ScalingForm], draws: int, rng: np.random.Generator) -> Laws:
    for candidate in candidates:
        check_enough(runs, candidate)
    log_n = np.log(runs.sizes / _centre(runs.sizes))
    log_d = np.log(runs.pairs / _centre(runs.pairs))
    cells = runs.cells
    distinct = len(np.unique(cells))
    fits = []
    for k in range(len(runs.objectives)):
        design = Design(log_n, log_d, runs.weights, k)
        unit = _centre(runs.values[:, k])
        y = np.log(runs.values[:, k] / unit)
        told = {c.name: hold_out(c, design, y) for c in candidates}
        errors = {name: {axis: held.error for axis, held in by.items()} for name, by in told.items()}
        best = min(candidates, key=lambda c: float(np.mean(list(errors[c.name].values()) or [0.0])))
        fitted = fit_form(best, design, y)
        drawn = bootstrap(fitted, design, y, cells, draws, rng)
        used = min(len(y) - fitted.freedom, distinct - 1.0)
        stretch = float(np.sqrt(distinct / (distinct - used)))
        fits.append(LawFit(fitted, unit, errors, told[best.name], drawn, stretch))
    return Laws(runs, tuple(fits), runs)


def _centre(values: Floats) -> float:
    return float(np.exp(np.log(values).mean()))
