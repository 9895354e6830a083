"""A surrogate of every objective over the loss weights, fitted to a sweep of fixed weights at one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.errors import ConfigError, DataError
from mogrid.frontier.fitting import Draws, Fit, fit_objective, studentise
from mogrid.frontier.forms import FORMS, Design, Form

__all__ = ["Fit", "Surrogate", "fit_surrogate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Surrogate:
    """Fits of all objectives, and draws of them from their approximate posterior.

    Attributes
    ----------
    objectives : tuple of K str
    fits : tuple of K Fit
    weights : ndarray, shape (d, K)
        The distinct weightings it was fitted to.
    costs : ndarray, shape (K,), or None
        Cost of one batch of each objective, where a weight of 0 saves it and the run is the longer for it.
    floor : float
        Added to shares before logarithms.
    """

    objectives: tuple[str, ...]
    fits: tuple[Fit, ...]
    weights: Floats
    costs: Floats | None
    floor: float
    _draws: tuple[Draws, ...]
    _shifts: Floats

    @property
    def lowest(self) -> float:
        """Smallest weight above 0 of the sweep."""
        return float(self.weights[self.weights > 0].min())

    def predict(self, weights: Floats) -> Floats:
        """Return predicted values (m, K), the mean over seeds, of weights (m, K)."""
        weights = _simplex(weights, len(self.objectives))
        columns = []
        for k, fit in enumerate(self.fits):
            design = _design(weights, k, self.costs, self.floor)
            columns.append(fit.low + fit.span * _form(fit.form).values(fit.theta[None], design)[0][0])
        return np.stack(columns, axis=1)

    def predict_draws(self, weights: Floats) -> Floats:
        """Return predicted values (B, m, K), one set per draw of forms, parameters and misfit."""
        weights = _simplex(weights, len(self.objectives))
        result = np.empty((len(self._shifts), len(weights), len(self.objectives)))
        for k, (fit, drawn) in enumerate(zip(self.fits, self._draws, strict=True)):
            design = _design(weights, k, self.costs, self.floor)
            for form, rows, theta in drawn:
                result[rows, :, k] = fit.low + fit.span * form.values(theta, design)[0]
        return result + self._shifts[:, None, :]

    def interval(self, weights: Floats, *, runs: int | None = 1, confidence: float = 0.9, seed: int = 0) -> Floats:
        """Return prediction intervals (m, K, 2) for the mean of so many runs (seeds); None: of infinitely many."""
        draws = self.predict_draws(weights)
        if runs is not None:
            rng = np.random.default_rng(seed)
            freedom = np.array([fit.freedom for fit in self.fits])
            noise = np.array([fit.residual for fit in self.fits]) / np.sqrt(runs)
            draws = draws + rng.standard_normal(draws.shape) * noise * studentise(rng, freedom, len(draws))[:, None]
        ends = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return np.asarray(np.moveaxis(ends, 0, -1))

    def to_json(self) -> dict[str, Any]:
        """Return the fits, without the draws."""
        return {
            name: {
                "form": fit.form,
                "equation": fit.equation,
                "theta": fit.theta.tolist(),
                "low": fit.low,
                "span": fit.span,
                "held_out": fit.held_out,
                "held_out_by_form": fit.errors,
                "residual": fit.residual,
                "misfit": fit.misfit,
            }
            for name, fit in zip(self.objectives, self.fits, strict=True)
        }


def fit_surrogate(
    objectives: Sequence[str],
    weights: Floats,
    values: Floats,
    *,
    costs: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Surrogate:
    """Fit each objective over the weights, choosing its form by leaving out one weighting, all its seeds, at a time.

    Each form is fitted by variable projection on a grid and then by Huber least squares with wide priors. Draws
    perturb data and priors and fit again, which samples the posterior (exactly for a linear form: Bardsley et al.,
    2014, "randomize then optimize"); a form takes part in proportion to its Laplace likelihood on left-out weightings.

    Parameters
    ----------
    objectives : sequence of K str
    weights : ndarray, shape (n, K)
        On the simplex. Of fixed weights only: a solver's average weights are a result, not a cause.
    values : ndarray, shape (n, K)
        Losses in any unit, lower is better. Runs with equal weights are seeds of one weighting.
    costs : sequence of K positive float, optional
        Cost of one batch of each objective, where runs were given equal compute and an objective of weight 0 was not
        run: then a corner trains several times as many steps and is not the limit of its neighbourhood. Left out,
        the length of a run does not depend on its weights.
    labels : sequence of n str, optional
        Names of the runs, for messages.
    draws : int
    seed : int

    Raises
    ------
    DataError
        Too few distinct weightings (says how many are needed), an objective's weight never varies, or a value is not
        finite (names the run).
    """
    objectives = tuple(objectives)
    count = len(objectives)
    weights, values = np.asarray(weights, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if weights.ndim != 2 or weights.shape != values.shape or weights.shape[1] != count:
        raise DataError(f"expected weights and values of shape (runs, {count}), got {weights.shape} and {values.shape}")
    for name, table in (("value", values), ("weight", weights)):
        if not np.isfinite(table).all():
            row, column = np.argwhere(~np.isfinite(table))[0]
            run = labels[row] if labels is not None else f"{row}, weights {weights[row].round(3).tolist()}"
            raise DataError(f"run {run}: {name} of {objectives[column]!r} is {table[row, column]}")
    weights = _simplex(weights, count)
    distinct, group = np.unique(weights.round(9), axis=0, return_inverse=True)
    group = group.ravel()
    needed = count + 3
    if len(distinct) < needed:
        raise DataError(
            f"a surrogate over {count} weights needs {needed} distinct weightings, got {len(distinct)} from "
            f"{len(weights)} runs (seeds of one weighting count once)"
        )
    if np.linalg.matrix_rank(distinct - distinct.mean(axis=0), tol=1e-6) < count - 1:
        raise DataError("the weightings lie on a line or plane: vary the weight of every objective independently")
    prices = None if costs is None else np.asarray(costs, dtype=np.float64)
    if prices is not None and (prices.shape != (count,) or not (np.isfinite(prices) & (prices > 0)).all()):
        raise ConfigError(f"costs must be {count} positive numbers, got {costs!r}")
    floor = 0.0 if (distinct > 0).all() else float(distinct[distinct > 0].min()) / 4

    rng = np.random.default_rng(seed)
    fits, drawn, shifts = [], [], []
    for k in range(count):
        fit, samples, shift = fit_objective(_design(weights, k, prices, floor), values[:, k], group, draws, rng)
        fits.append(fit)
        drawn.append(samples)
        shifts.append(shift)
    return Surrogate(objectives, tuple(fits), distinct, prices, floor, tuple(drawn), np.stack(shifts, axis=1))


def _design(weights: Floats, own: int, costs: Floats | None, floor: float) -> Design:
    length = np.zeros_like(weights)
    if costs is not None:
        active = weights > 0
        length = weights * np.log(costs.sum() / (active * costs).sum(axis=1))[:, None]
    return Design(weights, own, length, floor)


def _form(name: str) -> Form:
    return next(form for form in FORMS if form.name == name)


def _simplex(weights: Floats, count: int) -> Floats:
    weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if weights.shape[1] != count or not ((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1, atol=1e-6)):
        raise DataError(f"weights must be {count} numbers of at least 0 that sum to 1")
    return weights
