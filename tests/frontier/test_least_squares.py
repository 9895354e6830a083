"""The batched fitter against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from mogrid.frontier._least_squares import minimise
from mogrid.frontier.exchange import Design, Exchange
from mogrid.frontier.rivals import Capacity, Mixing, Quadratic
from tests.frontier.truth import MIXES, TOTALS, Truth

FORMS = [
    make(3, sized=False, mixed=True)
    for make in (Exchange, lambda k, **g: Exchange(k, saturates=True, harms=True, **g), Capacity, Mixing, Quadratic)
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_same_optimum_as_scipy_with_huber_loss(form) -> None:
    rng = np.random.default_rng(1)
    pairs = np.vstack([total * MIXES for total in TOTALS[:3]])
    y = np.log(Truth(size=False)(np.ones(len(pairs)), pairs)[:, 1])
    y += 0.02 * rng.normal(size=len(y)) - y.mean()
    y[3] += 0.5
    where = Design(np.zeros(len(pairs)), pairs / TOTALS[1], 1)
    prior, spread = form.prior()
    starts = form.starts(where, y, np.ones(len(y)))
    theta, cost = minimise(
        lambda t: form.values(t, where), starts, y, scale=0.02, prior=prior, spread=spread, huber=1.345
    )
    best = theta[cost.argmin()]

    def residuals(t: np.ndarray) -> np.ndarray:
        # scipy's Huber applies to all residuals: the prior's are told apart by their place.
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


def test_a_problem_does_not_depend_on_its_batch() -> None:
    """Those that converge leave the batch; the others, and their own data, are what they would be alone."""
    rng = np.random.default_rng(2)
    form, where = FORMS[0], Design(np.zeros(7), 3 * MIXES, 0)
    prior, spread = form.prior()
    start = prior + 0.3 * spread * rng.normal(size=(5, len(prior)))
    y, use = rng.normal(size=(5, 7)), rng.exponential(size=(5, 7))
    options = {"scale": 0.1, "spread": spread, "huber": 1.345}

    def solve(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        return minimise(
            lambda t: form.values(t, where), start[rows], y[rows], use=use[rows], prior=start[rows] * 0.5, **options
        )

    theta, cost = solve(slice(None))
    for i in range(5):
        alone, price = solve(slice(i, i + 1))
        np.testing.assert_allclose(theta[i], alone[0], rtol=1e-6, atol=1e-8)
        assert cost[i] == pytest.approx(price[0])
