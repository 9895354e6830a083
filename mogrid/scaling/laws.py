"""Scaling laws of every objective: fit, choose the form, say what is identified, predict with intervals."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mogrid.errors import ConfigError, DataError, nearest
from mogrid.scaling.fitting import SAME, Fitted, HeldOut, bootstrap, fit_form, hold_out
from mogrid.scaling.forms import FORMS, Design, ScalingForm
from mogrid.scaling.runs import ScalingRuns

__all__ = ["IDENTIFIED", "Exponent", "ExtrapolationWarning", "LawFit", "Laws", "fit_laws"]

Floats = NDArray[np.float64]

IDENTIFIED = 0.2
"""An exponent whose 90 % interval is wider is not identified."""
REACH = 10.0
"""How far beyond the sweep, as a factor, predictions are made without a warning."""
_LEVELS = 3


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

    Attributes
    ----------
    runs : ScalingRuns
        What they were fitted to.
    fits : tuple of K LawFit
    """

    runs: ScalingRuns
    fits: tuple[LawFit, ...]

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.runs.objectives

    def predict(self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike) -> Floats:
        """Return predicted losses (m, K) at sizes (m,), pairs (m,) and weights (m, K); each may be a single one."""
        where = self._where(sizes, pairs, weights)
        return np.stack(
            [f.unit * np.exp(self._log(k, f.fitted.theta[None], where)[0]) for k, f in self._each()], axis=1
        )

    def predict_draws(self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike) -> Floats:
        """Return predicted losses (B, m, K), one set per bootstrap draw."""
        where = self._where(sizes, pairs, weights)
        return np.stack([f.unit * np.exp(self._drawn(k, f, where)) for k, f in self._each()], axis=2)

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
        where = self._where(sizes, pairs, weights)
        rng = np.random.default_rng(seed)
        ends = []
        for k, fit in self._each():
            drawn = self._drawn(k, fit, where)
            # Student's, since the noise is itself estimated.
            nu = max(fit.fitted.freedom, 3.0)
            factor = np.sqrt(nu / rng.chisquare(nu, size=(len(drawn), 1)))
            if runs is not None:
                drawn = drawn + fit.fitted.sigma * factor * rng.standard_normal(drawn.shape) / np.sqrt(runs)
            quantiles = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
            ends.append(fit.unit * np.exp(quantiles.T))
        return np.stack(ends, axis=1)

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
        n0, d0 = _centre(self.runs.sizes), _centre(self.runs.pairs)
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
        return found

    def _each(self) -> list[tuple[int, LawFit]]:
        return list(enumerate(self.fits))

    def _where(self, sizes: ArrayLike, pairs: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats, Floats]:
        weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        sizes, pairs = np.atleast_1d(np.asarray(sizes, float)), np.atleast_1d(np.asarray(pairs, float))
        count = len(self.objectives)
        if weights.shape[1] != count or not ((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1, atol=1e-6)):
            raise DataError(f"weights must be {count} numbers of at least 0 that sum to 1")
        if not all((np.isfinite(x) & (x > 0)).all() for x in (sizes, pairs)):
            raise DataError("sizes and pairs must be finite and positive")
        sizes, pairs, place = np.broadcast_arrays(sizes, pairs, np.arange(len(weights)))
        for name, asked, known in (("N", sizes, self.runs.sizes), ("D", pairs, self.runs.pairs)):
            if name in self._over and (asked.max() > REACH * known.max() or asked.min() < known.min() / REACH):
                warnings.warn(
                    f"{name} from {asked.min():.3g} to {asked.max():.3g} lies more than {REACH:g}× beyond the sweep "
                    f"({known.min():.3g} to {known.max():.3g}): the law is extrapolated",
                    ExtrapolationWarning,
                    stacklevel=3,
                )
        return np.log(sizes / _centre(self.runs.sizes)), np.log(pairs / _centre(self.runs.pairs)), weights[place]

    @property
    def _over(self) -> set[str]:
        return {name for fit in self.fits for name in fit.fitted.form.over}

    def _log(self, own: int, theta: Floats, where: tuple[Floats, Floats, Floats]) -> Floats:
        return self.fits[own].fitted.form.values(theta, Design(*where, own))[0]

    def _drawn(self, own: int, fit: LawFit, where: tuple[Floats, Floats, Floats]) -> Floats:
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
    candidates = [FORMS[form]] if form is not None else _applicable(runs)
    for candidate in candidates:
        _check_enough(runs, candidate)
    rng = np.random.default_rng(seed)
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
    return Laws(runs, tuple(fits))


def _centre(values: Floats) -> float:
    return float(np.exp(np.log(values).mean()))


def _levels(runs: ScalingRuns) -> dict[str, int]:
    """Return how many distinct N, D and weightings there are; D within one weighting, since weights may move it too."""
    weightings, group = np.unique(runs.weights.round(6), axis=0, return_inverse=True)
    logs = (np.sort(np.log(runs.pairs[group.ravel() == g])) for g in range(len(weightings)))
    return {
        "N": len(np.unique(runs.sizes)),
        "D": max(1 + int((np.diff(row) > SAME).sum()) for row in logs),
        "weights": len(weightings),
    }


def _applicable(runs: ScalingRuns) -> list[ScalingForm]:
    varies = tuple(name for name, count in _levels(runs).items() if count > 1)
    found = [form for form in FORMS.values() if form.over == varies]
    if not found:
        levels = _levels(runs)
        if not varies:
            raise DataError(f"{len(runs)} runs of one model size, one data size and one weighting: nothing varies")
        raise DataError(
            f"no law for {levels['N']} model sizes, {levels['D']} data sizes and {levels['weights']} weightings: laws "
            f"in weight space need {_LEVELS} of both sizes; for one size fit mogrid.frontier.fit_surrogate"
        )
    return found


def _check_enough(runs: ScalingRuns, form: ScalingForm) -> None:
    levels = _levels(runs)
    count = len(runs.objectives)
    words = {"N": "model sizes", "D": "data sizes", "weights": "weightings"}
    for name, word in words.items():
        if name not in form.over and levels[name] > 1:
            raise DataError(
                f"law {form.name!r} is over {', '.join(form.over)}, but the runs have {levels[name]} {word}: "
                "choose runs with ScalingRuns.only"
            )
        needed = count + 3 if name == "weights" else _LEVELS
        if name in form.over and levels[name] < needed:
            only = "one" if levels[name] == 1 else str(levels[name])
            raise DataError(
                f"law {form.name!r} needs {needed} distinct {word}, got {only}: add {needed - levels[name]} more"
            )
    if "weights" in form.over:
        spread = runs.weights - runs.weights.mean(axis=0)
        if np.linalg.matrix_rank(spread, tol=1e-6) < count - 1:
            raise DataError("the weightings lie on a line or plane: vary the weight of every objective independently")
    parameters = len(form.parameters(count))
    distinct = len(np.unique(runs.cells))
    if distinct <= parameters:
        raise DataError(
            f"law {form.name!r} has {parameters} parameters and needs {parameters + 1} distinct cells, got {distinct} "
            f"from {len(runs)} runs (seeds of one cell count once){_missing(runs, form)}"
        )


def _missing(runs: ScalingRuns, form: ScalingForm) -> str:
    """Name cells of the sweep's own grid without a run."""
    axes: list[list[Any]] = [
        sorted(set(runs.sizes.tolist())) if "N" in form.over else [None],
        sorted(set(runs.pairs.tolist())) if "D" in form.over else [None],
        sorted({tuple(w) for w in runs.weights.round(6).tolist()}) if "weights" in form.over else [None],
    ]
    rows = zip(runs.sizes.tolist(), runs.pairs.tolist(), map(tuple, runs.weights.round(6).tolist()), strict=True)
    there = {tuple(v if axis != [None] else None for v, axis in zip(row, axes, strict=True)) for row in rows}
    absent = [cell for cell in itertools.product(*axes) if cell not in there]
    if not absent:
        return "; the grid is full: add sizes"
    shown = "; ".join(
        ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"weights {value}"
            for name, value in zip(("N", "D", "weights"), cell, strict=True)
            if value is not None
        )
        for cell in absent[:3]
    )
    return f"; {len(absent)} cells of the grid have no run: {shown}{' ...' if len(absent) > 3 else ''}"
