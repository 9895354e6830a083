"""The batched fitter against scipy's, and the forms' derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from mogrid.frontier._least_squares import minimise
from mogrid.frontier.forms import FORMS, Design
from tests.frontier.sweeps import MORE, SEVEN, share_law


def design(weights: np.ndarray, own: int = 1) -> Design:
    length = weights * np.log(3 / (weights > 0).sum(axis=1))[:, None]
    return Design(weights, own, length, 0.025)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_jacobians_are_derivatives(form) -> None:
    rng = np.random.default_rng(0)
    prior, spread = form.prior(3)
    theta = prior + 0.3 * spread * rng.normal(size=(4, len(prior)))
    where = design(SEVEN)
    _, jacobian = form.values(theta, where)
    for j in range(len(prior)):
        step = np.zeros(len(prior))
        step[j] = 1e-6
        slope = (form.values(theta + step, where)[0] - form.values(theta - step, where)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, :, j], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_same_optimum_as_scipy_with_huber_loss(form) -> None:
    rng = np.random.default_rng(1)
    where = design(MORE)
    y = share_law(MORE)[:, 1]
    y = (y - y.min()) / np.ptp(y) + 0.02 * rng.normal(size=len(y))
    y[3] += 0.5
    prior, spread = form.prior(3)
    starts = form.starts(where, y)
    theta, cost = minimise(
        lambda t: form.values(t, where), starts, y, scale=0.02, prior=prior, spread=spread, huber=1.345
    )
    best = theta[cost.argmin()]

    def residuals(t: np.ndarray) -> np.ndarray:
        # scipy's Huber applies to all residuals: the prior's are shrunk to stay in its quadratic part.
        return np.r_[(form.values(t[None], where)[0][0] - y) / 0.02, (t - prior) / spread]

    def huber(z: np.ndarray) -> np.ndarray:
        data = np.arange(len(z)) < len(y)
        root = np.sqrt(np.maximum(z, 1e-12))
        out = data & (root > 1.345)
        rho = np.where(out, 2 * 1.345 * root - 1.345**2, z)
        first = np.where(out, 1.345 / root, 1.0)
        return np.array([rho, first, np.where(out, -0.5 * 1.345 / root**3, 0.0)])

    found = [least_squares(residuals, start, loss=huber, x_scale=spread, max_nfev=2000) for start in (*starts, best)]
    assert cost.min() <= min(f.cost for f in found) * (1 + 1e-4) + 1e-6


def test_an_outlier_is_bounded_and_a_left_out_run_has_no_say() -> None:
    where = design(MORE)
    y = share_law(MORE)[:, 1]
    y = (y - y.min()) / np.ptp(y)
    form = FORMS[-1]
    prior, spread = form.prior(3)
    spoilt = y.copy()
    spoilt[5] += 5.0
    start = form.starts(where, y)[:1]

    def fit(data: np.ndarray, **options: object) -> np.ndarray:
        theta, _ = minimise(
            lambda t: form.values(t, where), start, data, scale=0.01, prior=prior, spread=spread, **options
        )
        return form.values(theta, where)[0][0]

    use = (np.arange(len(y)) != 5).astype(float)
    np.testing.assert_allclose(fit(spoilt, use=use), fit(y, use=use), atol=1e-9)
    assert np.abs(fit(spoilt, huber=1.345) - y).max() < 0.15 < np.abs(fit(spoilt) - y).max()
