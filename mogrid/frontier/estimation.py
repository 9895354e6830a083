"""Fit forms to one objective's log losses: robustly, without the largest scale, and to bootstrap draws of the cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier._least_squares import minimise
from mogrid.frontier.exchange import Design, Form

__all__ = ["SAME", "Fitted", "bootstrap", "draw_use", "fit", "held_out_rows"]

Floats = NDArray[np.float64]

_HUBER = 1.345
"""In standard deviations: 95 % as efficient as plain least squares on normal noise (Huber, 1981)."""
SAME = 0.05
"""Sizes whose logarithms differ by less are one: lengths of epochs are rounded to whole batches."""
_NOISE = (0.002, 0.2)
_FOLDS = 6


@dataclass(frozen=True)
class Fitted:
    """A form with its parameters.

    Attributes
    ----------
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

    theta: Floats
    scale: float
    sigma: float
    freedom: float
    r2: float


def fit(form: Form, design: Design, y: Floats, uses: Floats) -> list[Fitted]:
    """Fit a form to log losses, once for each row of multiplicities: several starts, Huber least squares, wide priors.

    The scale of the Huber loss is found from the residuals of a first fit by their median; one scale for all.

    Parameters
    ----------
    y : ndarray, shape (n,)
        Log losses, less their mean.
    uses : ndarray, shape (M, n)
        How often each run counts; 0 to leave it out.
    """
    prior, spread = form.prior()
    starts = [form.starts(design, y, use) for use in uses]
    of = np.repeat(np.arange(len(uses)), [len(rows) for rows in starts])
    theta, scale = np.concatenate(starts), 0.02
    cells, cell_of = design.distinct()

    def best(theta: Floats, cost: Floats, keep: int) -> NDArray[np.intp]:
        order = np.lexsort((cost, of))
        first = np.flatnonzero(np.r_[True, np.diff(of[order]) > 0])
        rank = np.arange(len(order)) - first[of[order]]
        return order[rank < keep]

    for keep, steps in ((2, 25), (1, 150)):
        theta, cost = minimise(
            lambda t: form.values(t, cells), theta, y, scale=scale, prior=prior, spread=spread, use=uses[of],
            of=cell_of, huber=_HUBER, steps=steps,
        )  # fmt: skip
        top = best(theta, cost, 1)
        predicted, jacobian = form.values(theta[top], design)
        residual = (y - predicted) * (uses > 0)
        slopes = jacobian * uses[:, :, None]
        curvature = slopes.transpose(0, 2, 1) @ jacobian / scale**2
        inverse = np.linalg.solve(curvature + np.diag(1 / spread**2), curvature)
        counted = uses.sum(axis=1)
        freedom = np.maximum(counted - np.trace(inverse, axis1=1, axis2=2), 1.0)
        stretch = np.sqrt(counted / freedom)[:, None]
        if keep == 2:
            middle = float(np.median((np.abs(residual) * stretch)[uses > 0]))
            scale = float(np.clip(1.4826 * middle, *_NOISE))
            some = best(theta, cost, keep)
            theta, of = theta[some], of[some]
    found = []
    for use, row, at, degrees in zip(uses, residual, theta[top], freedom, strict=True):
        spoilt = np.clip(row, -3 * scale, 3 * scale)  # one diverged seed is no noise of the others
        sigma = float(np.sqrt((use * spoilt**2).sum() / degrees))
        mean = float((use * y).sum() / use.sum())
        explained = 1 - float((use * row**2).sum()) / max(float((use * (y - mean) ** 2).sum()), 1e-300)
        found.append(Fitted(at, scale, sigma, float(degrees), explained))
    return found


def held_out_rows(
    design: Design, mixes: NDArray[np.intp], cells: NDArray[np.intp]
) -> list[tuple[str, NDArray[np.intp]]]:
    """Return what to hold out: the largest N, the largest D of each mix; where neither varies, mixes fold by fold.

    The largest D is each mix's own, since at equal FLOPs it depends on the mix. A scale of which less than two others
    exist is not held out: nothing would be left to learn its exponent from.

    Parameters
    ----------
    mixes, cells : ndarray of int, shape (n,)
        Of which mix each run is, and of which cell it is a seed.
    """
    found: list[tuple[str, NDArray[np.intp]]] = []
    for name, scale in (("N", design.log_n), ("D", design.log_d)):
        out = np.zeros(len(scale), dtype=bool)
        for member in (mixes == mix for mix in np.unique(mixes)):
            levels = 1 + int((np.diff(np.sort(scale[member])) > SAME).sum())
            out |= member & (scale > scale[member].max() - SAME) & (levels > 2)
        if out.any():
            found.append((name, np.flatnonzero(out)))
    if found:
        return found
    name, groups = ("mix", mixes) if mixes.max() > 0 else ("cell", np.unique(cells, return_inverse=True)[1].ravel())
    folds = min(_FOLDS, int(groups.max()) + 1)
    return [(name, np.flatnonzero(groups % folds == fold)) for fold in range(folds)]


def draw_use(cells: NDArray[np.intp], draws: int, rng: np.random.Generator) -> Floats:
    """Return multiplicities (B, n) of a cluster bootstrap: cells first, then the seeds inside each.

    They are exponential (Rubin, 1981) and not multinomial: no draw loses a corner of the grid.
    """
    _, group = np.unique(cells, return_inverse=True)
    group = group.ravel()
    sizes = np.bincount(group)
    between = rng.exponential(size=(draws, len(sizes)))
    between /= between.mean(axis=1, keepdims=True)
    within = rng.exponential(size=(draws, len(cells)))
    total = np.stack([np.bincount(group, row, minlength=len(sizes)) for row in within])
    return np.asarray(between[:, group] * within * (sizes / total)[:, group])


def bootstrap(form: Form, fitted: Fitted, design: Design, y: Floats, use: Floats, rng: np.random.Generator) -> Floats:
    """Return parameters (B, p) of refits to multiplicities `use` (B, n).

    Each draw has priors of its own, so that what the runs leave open stays open (Bardsley et al., 2014).
    """
    prior, spread = form.prior()
    moved = prior + spread * rng.standard_normal((len(use), len(prior)))
    start = np.repeat(fitted.theta[None], len(use), axis=0)
    cells, of = design.distinct()
    return minimise(
        lambda t: form.values(t, cells), start, y, scale=fitted.scale, prior=moved, spread=spread, use=use, of=of,
        huber=_HUBER,
    )[0]  # fmt: skip
