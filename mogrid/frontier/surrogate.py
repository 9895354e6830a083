"""A surrogate of every objective over the loss weights, fitted to a sweep of fixed weights at one budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import DataError

__all__ = ["FORMS", "Surrogate", "fit_surrogate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Form:
    """y = Σ_i c_i φ_i(w; θ): linear in c, with a few inner parameters θ chosen from a grid and then refined.

    Fixing θ leaves a linear least-squares problem (variable projection), so no start values are needed for c.
    """

    name: str
    equation: str
    features: Callable[[Floats, Floats, int], Floats]  # (weights (n, K), θ, k) -> (n, p)
    grid: Callable[[int], Sequence[tuple[float, ...]]]  # K -> candidates of θ
    size: Callable[[int], int]  # K -> number of all parameters


def _ones(w: Floats) -> Floats:
    return np.ones((len(w), 1))


def _mixing_grid(count: int) -> list[tuple[float, ...]]:
    # exp(Σ t_j w_j) over a simplex needs count - 1 slopes: a common one would only rescale the factor before it.
    steps = (-6.0, -3.0, -1.0, 1.0, 3.0)
    grid: list[tuple[float, ...]] = [()]
    for _ in range(count - 1):
        grid = [(*row, step) for row in grid for step in steps]
    return grid


FORMS = (
    _Form(
        "linear",
        "Σ_j c_j w_j",
        lambda w, theta, k: w,
        lambda count: [()],
        lambda count: count,
    ),
    _Form(
        "log-linear",
        "c_0 + Σ_j c_j log w_j",
        lambda w, theta, k: np.hstack([_ones(w), np.log(w)]),
        lambda count: [()],
        lambda count: count + 1,
    ),
    _Form(
        "own share",
        "c_0 + c_1 w_k^(-a)",
        lambda w, theta, k: np.hstack([_ones(w), w[:, [k]] ** -theta[0]]),
        lambda count: [(a,) for a in (0.1, 0.25, 0.5, 1.0, 2.0)],
        lambda count: 3,
    ),
    _Form(
        "mixing law",
        "c_0 + c_1 exp(Σ_j t_j w_j)",
        lambda w, theta, k: np.hstack([_ones(w), np.exp(w[:, :-1] @ theta)[:, None]]),
        _mixing_grid,
        lambda count: count + 1,
    ),
)
"""Candidates: Ye et al.'s data mixing law (arXiv 2403.16952), power and logarithm of weights, and a plain plane."""


@dataclass(frozen=True)
class Fit:
    """One objective's fitted form.

    Attributes
    ----------
    form : str
    coefficients, inner : ndarray
        c and θ.
    held_out : float
        Root mean squared error over weightings left out one at a time, in the objective's unit.
    residual : float
        Standard deviation of one run about the fit.
    """

    form: str
    coefficients: Floats
    inner: Floats
    held_out: float
    residual: float


@dataclass(frozen=True)
class Surrogate:
    """Fits of all objectives, and bootstrap refits of them.

    Attributes
    ----------
    objectives : tuple of K str
    fits : tuple of K Fit
    draws : tuple of B tuples of K Fit
    lowest : float
        Smallest weight of the sweep: the surrogate is not asked below it, where losses are steepest.
    """

    objectives: tuple[str, ...]
    fits: tuple[Fit, ...]
    draws: tuple[tuple[Fit, ...], ...]
    lowest: float

    def predict(self, weights: Floats) -> Floats:
        """Return predicted values (m, K) of weights (m, K)."""
        return _evaluate(self.fits, weights)

    def predict_draws(self, weights: Floats) -> Floats:
        """Return predicted values (B, m, K), one set per bootstrap refit."""
        return np.stack([_evaluate(fits, weights) for fits in self.draws])

    def interval(self, weights: Floats, *, runs: int = 1, confidence: float = 0.9, seed: int = 0) -> Floats:
        """Return prediction intervals (m, K, 2) for the mean of so many runs (seeds) at the weights."""
        rng = np.random.default_rng(seed)
        draws = self.predict_draws(weights)
        noise = np.array([fit.residual for fit in self.fits]) / np.sqrt(runs)
        draws = draws + rng.normal(size=draws.shape) * noise
        ends = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return np.asarray(np.moveaxis(ends, 0, -1))

    def to_json(self) -> dict[str, Any]:
        """Return the fits, without the draws."""
        return {
            name: {
                "form": fit.form,
                "equation": _form(fit.form).equation,
                "coefficients": fit.coefficients.tolist(),
                "inner": fit.inner.tolist(),
                "held_out_rmse": fit.held_out,
                "residual": fit.residual,
            }
            for name, fit in zip(self.objectives, self.fits, strict=True)
        }


def fit_surrogate(
    objectives: Sequence[str], weights: Floats, values: Floats, *, draws: int = 200, seed: int = 0
) -> Surrogate:
    """Fit each objective over the weights, choosing its form by leaving out one weighting at a time.

    Parameters
    ----------
    objectives : sequence of K str
    weights : ndarray, shape (n, K)
        On the simplex, every weight above 0: where a weight is 0 its objective is not computed at all and a run takes
        more steps, so a corner is not the limit of its neighbourhood.
    values : ndarray, shape (n, K)
        Runs with equal weights (seeds) are left out together.
    draws : int
        Residual bootstrap refits.

    Raises
    ------
    DataError
        Too few distinct weightings for any form (says how many are needed), or a value is not finite.
    """
    weights, values = np.asarray(weights, dtype=np.float64), np.asarray(values, dtype=np.float64)
    count = len(objectives)
    if weights.ndim != 2 or weights.shape != values.shape or weights.shape[1] != count:
        raise DataError(f"expected weights and values of shape (runs, {count}), got {weights.shape} and {values.shape}")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"run with weights {weights[row].round(3).tolist()}: {objectives[column]} is not finite")
    if not (weights > 0).all() or not np.allclose(weights.sum(axis=1), 1):
        raise DataError("the surrogate is fitted to weights above 0 that sum to 1")
    distinct, group = np.unique(weights.round(9), axis=0, return_inverse=True)
    group = group.ravel()
    needed = count + 2
    if len(distinct) < needed:
        raise DataError(f"{len(distinct)} distinct weightings with all weights above 0; the surrogate needs {needed}")
    fits = tuple(_choose(weights, values[:, k], k, group) for k in range(count))
    fitted = _evaluate(fits, weights)
    rng = np.random.default_rng(seed)
    refits = []
    for _ in range(draws):
        # Residuals are resampled by weighting: seeds share what the form misses there.
        star = fitted.copy()
        for k, fit in enumerate(fits):
            spread = np.sqrt(len(values) / max(len(values) - _form(fit.form).size(count), 1))
            residual = (values[:, k] - fitted[:, k]) * spread
            taken = rng.integers(len(distinct), size=len(distinct))
            for g in range(len(distinct)):
                pool = residual[group == taken[g]]
                rows = group == g
                star[rows, k] += rng.choice(pool, size=int(rows.sum()))
        refits.append(tuple(_fit(_form(f.form), weights, star[:, k], k, f.inner) for k, f in enumerate(fits)))
    return Surrogate(tuple(objectives), fits, tuple(refits), float(weights.min()))


def _form(name: str) -> _Form:
    return next(form for form in FORMS if form.name == name)


def _evaluate(fits: Sequence[Fit], weights: Floats) -> Floats:
    columns = [_form(f.form).features(weights, f.inner, k) @ f.coefficients for k, f in enumerate(fits)]
    return np.stack(columns, axis=1)


def _choose(weights: Floats, y: Floats, k: int, group: NDArray[np.intp]) -> Fit:
    best: Fit | None = None
    for form in FORMS:
        if form.size(weights.shape[1]) >= len(np.unique(group)):
            continue
        errors = []
        for g in np.unique(group):
            out = group == g
            fit = _fit(form, weights[~out], y[~out], k)
            errors.append(float(np.mean((form.features(weights[out], fit.inner, k) @ fit.coefficients - y[out]) ** 2)))
        held_out = float(np.sqrt(np.mean(errors)))
        if best is None or held_out < best.held_out:
            fit = _fit(form, weights, y, k)
            best = Fit(form.name, fit.coefficients, fit.inner, held_out, fit.residual)
    assert best is not None  # the plane always fits
    return best


def _fit(form: _Form, weights: Floats, y: Floats, k: int, start: Floats | None = None) -> Fit:
    """Least squares by variable projection: for given θ the c are linear; θ from the grid, then refined."""

    def solve(theta: Floats) -> tuple[Floats, Floats]:
        features = form.features(weights, theta, k)
        # A trace of ridge keeps nearly equal columns (a flat exponential) from cancelling each other's huge factors.
        ridge = 1e-6 * np.sqrt(len(y)) * np.eye(features.shape[1])
        c = np.linalg.lstsq(np.vstack([features, ridge]), np.concatenate([y, np.zeros(len(ridge))]), rcond=None)[0]
        return c, features @ c - y

    candidates = [np.array(theta) for theta in form.grid(weights.shape[1])] if start is None else [start]
    theta = min(candidates, key=lambda t: float(np.sum(solve(t)[1] ** 2)))
    if len(theta):
        from scipy.optimize import least_squares

        theta = least_squares(lambda t: solve(t)[1], theta, bounds=(-12.0, 12.0), max_nfev=50).x
    coefficients, residuals = solve(theta)
    freedom = max(len(y) - form.size(weights.shape[1]), 1)
    return Fit(form.name, coefficients, theta, float("nan"), float(np.sqrt(np.sum(residuals**2) / freedom)))
