"""Fit one objective's loss over the weights: choose among forms by left-out weightings, draw from the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier._least_squares import minimise
from mogrid.frontier.forms import FORMS, Design, Form

__all__ = ["Draws", "Fit", "fit_objective", "studentise"]

Floats = NDArray[np.float64]
Groups = NDArray[np.intp]

Draws = tuple[tuple[Form, NDArray[np.intp], Floats], ...]
"""Forms, which of the B draws are of that form, and their parameters."""

_HUBER = 1.345
"""In standard deviations: 95 % as efficient as plain least squares on normal noise (Huber, 1981)."""


@dataclass(frozen=True)
class Fit:
    """One objective's fitted form; its loss is low + span · f(w; θ).

    Attributes
    ----------
    form, equation : str
        T is the run's length relative to one that trains all objectives; 1 unless costs were given.
    theta : ndarray, shape (p,)
    low, span : float
        In the objective's unit.
    held_out : float
        Mean absolute error over weightings left out one at a time, weighted by 1 − leverage, in the objective's unit.
    errors : dict of float
        The same of every candidate form.
    residual : float
        Standard deviation of one run (seed) about its weighting's mean, in the objective's unit.
    misfit : float
        Standard deviation of a weighting's true mean about the form, in the objective's unit.
    freedom : float
        Degrees of freedom behind the larger of the two.
    """

    form: str
    equation: str
    theta: Floats
    low: float
    span: float
    held_out: float
    errors: dict[str, float]
    residual: float
    misfit: float
    freedom: float


@dataclass(frozen=True)
class _Candidate:
    """A form fitted to all runs (θ, predictions) and, per weighting, its error when left out and its leverage."""

    form: Form
    theta: Floats
    predicted: Floats
    missed: Floats
    leverage: Floats


def fit_objective(
    design: Design, y: Floats, group: Groups, draws: int, rng: np.random.Generator
) -> tuple[Fit, Draws, Floats]:
    """Fit every form to one objective's losses, choose one, and draw.

    Parameters
    ----------
    design : Design
        Of the n runs.
    y : ndarray, shape (n,)
    group : ndarray of int, shape (n,)
        Which weighting each run is a seed of.

    Returns
    -------
    tuple
        The fit; B draws in normalised units, over all forms; and B shifts (B,) in the objective's unit, for what no
        form says.
    """
    sizes = np.bincount(group)
    means = np.bincount(group, y) / sizes
    low, span = float(means.min()), float(np.ptp(means)) or 1.0
    z, means = (y - low) / span, (means - low) / span
    deviations = z - means[group]
    repeats = len(z) - len(sizes)
    seeded = repeats >= 2
    noise = float(np.sqrt((deviations**2).sum() / repeats)) if seeded else 0.0
    # The scale decides what an outlier is, so it must not follow one. Below a hundredth of the sweep's range no form
    # is right, and a smaller scale would only overrule the priors.
    stretched = np.abs(deviations) * np.sqrt(sizes / np.maximum(sizes - 1, 1))[group]
    scale = max(1.4826 * float(np.median(stretched[(sizes > 1)[group]])), 0.01) if seeded else 0.03

    candidates = [_candidate(form, design, z, means, group, scale) for form in FORMS]
    # Every form judged alike: a corner left out is mostly a test of extrapolation, and the fit that is used has it.
    free = np.mean([1 - np.minimum(c.leverage, 1.0) for c in candidates], axis=0)
    errors = np.array([float(np.average(c.missed, weights=np.maximum(free, 1e-6))) for c in candidates])
    best = candidates[int(errors.argmin())]

    freedom = max(len(sizes) - float(best.leverage.sum()), 1.0)
    residuals = np.bincount(group, z - best.predicted) / sizes
    between = float((sizes * residuals**2).sum()) / freedom
    if seeded:
        sigma, misfit = noise, float(np.sqrt(max(between - noise**2, 0.0) / sizes.mean()))
        freedom = freedom if misfit > sigma else float(repeats)
    else:
        # Without seeds, noise and misfit are one: all of it is taken for the noise of a run.
        sigma, misfit = float(np.sqrt(between)), 0.0

    odds = (np.maximum(errors, 1e-6) / max(errors.min(), 1e-6)) ** (-len(sizes) / 2)
    portion = rng.choice(len(FORMS), size=draws, p=odds / odds.sum())
    inflate = studentise(rng, np.array([freedom]), draws)
    samples = []
    for i, candidate in enumerate(candidates):
        rows = np.flatnonzero(portion == i)
        if len(rows):
            seeds = sigma * rng.standard_normal((len(rows), len(z)))
            misses = misfit * rng.standard_normal((len(rows), len(sizes)))[:, group]
            shaken = z + inflate[rows] * (seeds + misses)
            samples.append((candidate.form, rows, _redraw(candidate, design, shaken, scale, rng)))
    shifts = span * misfit * inflate[:, 0] * rng.standard_normal(draws)
    fit = Fit(
        form=best.form.name,
        equation=best.form.equation,
        theta=best.theta,
        low=low,
        span=span,
        held_out=span * float(errors.min()),
        errors={c.form.name: span * float(error) for c, error in zip(candidates, errors, strict=True)},
        residual=span * sigma,
        misfit=span * misfit,
        freedom=freedom,
    )
    return fit, tuple(samples), shifts


def _candidate(form: Form, design: Design, z: Floats, means: Floats, group: Groups, scale: float) -> _Candidate:
    """Fit a form to all runs, and again without each weighting."""
    prior, spread = form.prior(design.weights.shape[1])

    def model(theta: Floats) -> tuple[Floats, Floats]:
        return form.values(theta, design)

    starts = form.starts(design, z)
    fitted, cost = minimise(model, starts, z, scale=scale, prior=prior, spread=spread, huber=_HUBER)
    theta = fitted[cost.argmin()]
    kept = (group[None, :] != np.arange(len(means))[:, None]).astype(np.float64)
    again = np.repeat(theta[None], len(kept), axis=0)
    refits, _ = minimise(model, again, z, scale=scale, prior=prior, spread=spread, use=kept, huber=_HUBER)
    first = np.array([np.flatnonzero(group == g)[0] for g in range(len(means))])
    missed = np.abs(means - model(refits)[0][np.arange(len(means)), first])
    predicted, jacobian = model(theta[None])
    # A weighting's leverage: how far its own runs decide what the fit says of it, 0 to 1.
    curvature = jacobian[0].T @ jacobian[0] / scale**2 + np.diag(1 / spread**2)
    hat = np.einsum("np,pn->n", jacobian[0], np.linalg.solve(curvature, jacobian[0].T)) / scale**2
    leverage = np.asarray(np.bincount(group, hat), dtype=np.float64)
    return _Candidate(form, theta, predicted[0], missed, leverage)


def _redraw(candidate: _Candidate, design: Design, z: Floats, scale: float, rng: np.random.Generator) -> Floats:
    """Return parameters (B, p) fitted to perturbed losses (B, n) under perturbed priors."""
    form = candidate.form
    prior, spread = form.prior(design.weights.shape[1])
    moved = prior + spread * rng.standard_normal((len(z), len(prior)))
    start = np.repeat(candidate.theta[None], len(z), axis=0)
    return minimise(
        lambda theta: form.values(theta, design), start, z, scale=scale, prior=moved, spread=spread, huber=_HUBER
    )[0]


def studentise(rng: np.random.Generator, freedom: Floats, draws: int) -> Floats:
    """Return factors (B, len(freedom)) that turn normal draws into Student's: the noise is itself estimated."""
    nu = np.maximum(freedom, 3.0)
    return np.asarray(np.sqrt(nu / rng.chisquare(nu, size=(draws, len(freedom)))))
