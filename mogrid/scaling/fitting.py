"""Fit one law to one objective, hold out the largest scale, and draw from the cluster bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier._least_squares import minimise
from mogrid.scaling.forms import Design, ScalingForm

__all__ = ["SAME", "Fitted", "HeldOut", "bootstrap", "fit_form", "hold_out"]

Floats = NDArray[np.float64]
Cells = NDArray[np.intp]

_HUBER = 1.345
"""In standard deviations: 95 % as efficient as plain least squares on normal noise (Huber, 1981)."""
SAME = 0.05
"""Sizes whose logarithms differ by less are one: lengths of epochs are rounded to whole batches."""
_NOISE = (0.002, 0.2)
_BLOCK = 250


@dataclass(frozen=True)
class Fitted:
    """A form with its parameters.

    Attributes
    ----------
    form : ScalingForm
    theta : ndarray, shape (p,)
    scale : float
        Relative size of a residual beyond which it counts as an outlier.
    sigma : float
        Standard deviation of one run's log loss about the law.
    freedom : float
        Degrees of freedom behind it: runs less effective parameters.
    r2 : float
        Share of the variance of the log loss explained in sample.
    """

    form: ScalingForm
    theta: Floats
    scale: float
    sigma: float
    freedom: float
    r2: float


def fit_form(form: ScalingForm, design: Design, y: Floats) -> Fitted:
    """Fit a form to log losses y (n,): variable projection, then Huber least squares with wide priors.

    The scale of the Huber loss is found from the residuals of a first fit by their median.
    """
    count = design.weights.shape[1]
    prior, spread = form.prior(count)
    theta, scale = form.starts(design, y), 0.02
    for _ in range(2):
        fitted, cost = minimise(
            lambda t: form.values(t, design), theta, y, scale=scale, prior=prior, spread=spread, huber=_HUBER
        )
        best = fitted[int(cost.argmin())]
        predicted, jacobian = form.values(best[None], design)
        residual = y - predicted[0]
        curvature = jacobian[0].T @ jacobian[0] / scale**2
        used = float(np.trace(np.linalg.solve(curvature + np.diag(1 / spread**2), curvature)))
        freedom = max(len(y) - used, 1.0)
        scale = float(np.clip(1.4826 * np.median(np.abs(residual)) * np.sqrt(len(y) / freedom), *_NOISE))
        theta = fitted[np.argsort(cost)[:3]]
    spoilt = np.clip(residual, -3 * scale, 3 * scale)  # one diverged seed is no noise of the others
    sigma = float(np.sqrt((spoilt**2).sum() / freedom))
    r2 = 1 - float((residual**2).sum()) / max(float(((y - y.mean()) ** 2).sum()), 1e-300)
    return Fitted(form, best, scale, sigma, freedom, r2)


@dataclass(frozen=True)
class HeldOut:
    """What a fit without the largest scale says of it.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        Of the runs that were held out.
    foretold : ndarray, shape (m,)
        Their log losses, as the fit to the others has them.
    error : float
        Median relative error.
    """

    rows: NDArray[np.intp]
    foretold: Floats
    error: float


def hold_out(form: ScalingForm, design: Design, y: Floats) -> dict[str, HeldOut]:
    """Fit without the largest N, and without the largest D, and foretell them.

    The largest D is each weighting's own: at equal FLOPs a corner sees more pairs of its objective than a mix does. A
    scale of which less than two others exist is not held out: nothing would be left to learn its exponent from.
    """
    found: dict[str, HeldOut] = {}
    _, group = np.unique(design.weights.round(6), axis=0, return_inverse=True)
    for name, scale in (("N", design.log_n), ("D", design.log_d)):
        if name not in form.over:
            continue
        out = np.zeros(len(y), dtype=bool)
        for member in (group.ravel() == g for g in range(int(group.max()) + 1)):
            levels = 1 + int((np.diff(np.sort(scale[member])) > SAME).sum())
            out |= member & (scale > scale[member].max() - SAME) & (levels > 1)
        if not out.any() or len(np.unique(scale[~out].round(1))) < 2:
            continue
        rest = replace(design, log_n=design.log_n[~out], log_d=design.log_d[~out], weights=design.weights[~out])
        far = replace(design, log_n=design.log_n[out], log_d=design.log_d[out], weights=design.weights[out])
        theta = fit_form(form, rest, y[~out]).theta
        told = np.asarray(form.values(theta[None], far)[0][0])
        found[name] = HeldOut(np.flatnonzero(out), told, float(np.median(np.abs(np.expm1(told - y[out])))))
    return found


def bootstrap(fitted: Fitted, design: Design, y: Floats, cells: Cells, draws: int, rng: np.random.Generator) -> Floats:
    """Return parameters (B, p) of refits under a cluster bootstrap: cells first, then the seeds inside each.

    Weights are exponential (Rubin, 1981) and not multinomial: no draw loses a corner of the grid. Each draw has priors
    of its own, so that what the runs leave open stays open (Bardsley et al., 2014).
    """
    form = fitted.form
    prior, spread = form.prior(design.weights.shape[1])
    _, group = np.unique(cells, return_inverse=True)
    sizes = np.bincount(group)
    result = []
    for first in range(0, draws, _BLOCK):
        rows = min(_BLOCK, draws - first)
        between = rng.exponential(size=(rows, len(sizes)))
        between /= between.mean(axis=1, keepdims=True)
        within = rng.exponential(size=(rows, len(y)))
        total = np.stack([np.bincount(group, row, minlength=len(sizes)) for row in within])
        use = between[:, group] * within * (sizes / total)[:, group]
        moved = prior + spread * rng.standard_normal((rows, len(prior)))
        start = np.repeat(fitted.theta[None], rows, axis=0)
        theta, _ = minimise(
            lambda t: form.values(t, design),
            start,
            y,
            scale=fitted.scale,
            prior=moved,
            spread=spread,
            use=use,
            huber=_HUBER,
        )
        result.append(theta)
    return np.concatenate(result)
