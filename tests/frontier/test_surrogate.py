"""The surrogate recovers known laws, knows how well, and says what it lacks."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.errors import ConfigError, DataError
from mogrid.frontier import fit_surrogate
from tests.frontier.sweeps import INSIDE, LAWS, MORE, NAMES, SEVEN, mixing_law, probe, share_law, sweep


def simplex(count: int, low: float = 0.05, seed: int = 0) -> np.ndarray:
    return low + (1 - 3 * low) * np.random.default_rng(seed).dirichlet([1, 1, 1], count)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize(("weights", "seeds", "error"), [(SEVEN, 3, 0.02), (MORE, 2, 0.008)], ids=["seven", "twelve"])
def test_intervals_cover_known_laws(law, weights, seeds, error) -> None:
    """Nominal 90 % intervals over repeated sweeps with 1 % noise; also how far off the predictions are."""
    where, rng = simplex(25), np.random.default_rng(0)
    truth = law(where)
    held, held_mean, errors = [], [], []
    for repeat in range(10):
        surrogate = fit_surrogate(NAMES, *sweep(law, weights, seeds, 0.01, rng), draws=150, seed=repeat)
        interval = surrogate.interval(where, runs=1)
        new = truth + rng.normal(size=truth.shape) * 0.01 * truth.mean(axis=0)
        held.append(((interval[..., 0] <= new) & (new <= interval[..., 1])).mean())
        mean = surrogate.interval(where, runs=None)
        held_mean.append(((mean[..., 0] <= truth) & (truth <= mean[..., 1])).mean())
        errors.append(np.abs(surrogate.predict(where) / truth - 1).mean())
    assert 0.80 <= np.mean(held) <= 0.97
    assert 0.80 <= np.mean(held_mean) <= 0.99
    assert np.mean(errors) < error


def test_a_law_without_noise_is_found() -> None:
    where = simplex(50)
    for law in (mixing_law, share_law):
        surrogate = fit_surrogate(NAMES, MORE, law(MORE))
        error = np.abs(surrogate.predict(where) / law(where) - 1)
        # What is left is the priors' pull at one seed, whose noise the fit must suppose.
        assert error.max() < 0.02
        assert error.mean() < 0.002


@pytest.mark.parametrize("count", [2, 3, 4])
def test_seven_weightings_of_one_seed_suffice(count) -> None:
    rng = np.random.default_rng(count)
    weights = np.vstack([np.eye(count), rng.dirichlet(np.ones(count), 7 - count)])
    values = 1.5 + 0.5 * (weights + 0.05) ** -0.4
    surrogate = fit_surrogate(
        [f"o{k}" for k in range(count)], weights, values * (1 + 0.005 * rng.normal(size=(7, count)))
    )
    inner = 0.2 / count + 0.8 * rng.dirichlet(np.ones(count) * 3, 20)
    truth = 1.5 + 0.5 * (inner + 0.05) ** -0.4
    assert np.abs(surrogate.predict(inner) / truth - 1).mean() < 0.06
    assert np.isfinite(surrogate.interval(inner)).all()


def test_permuting_objectives_permutes_predictions() -> None:
    runs, values = sweep(share_law, SEVEN, 2, 0.01, np.random.default_rng(3))
    where, order = simplex(20), [2, 0, 1]
    plain = fit_surrogate(NAMES, runs, values).predict(where)
    turned = fit_surrogate([NAMES[i] for i in order], runs[:, order], values[:, order]).predict(where[:, order])
    np.testing.assert_allclose(turned, plain[:, order], rtol=1e-5)


def test_units_do_not_matter_and_seeds_decide_everything() -> None:
    runs, values = sweep(share_law, SEVEN, 2, 0.01, np.random.default_rng(4))
    where = simplex(20)
    first, again = (fit_surrogate(NAMES, runs, values, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.predict_draws(where), again.predict_draws(where))
    np.testing.assert_array_equal(first.interval(where), again.interval(where))
    bits = fit_surrogate(NAMES, runs, (values - 1) * 40, seed=5)
    np.testing.assert_allclose(bits.interval(where), (first.interval(where) - 1) * 40, rtol=1e-6)


def test_one_diverged_seed_does_not_bend_the_surface() -> None:
    rng = np.random.default_rng(6)
    runs, values = sweep(share_law, MORE, 3, 0.01, rng)
    where = simplex(30)
    spoilt = values.copy()
    spoilt[20, 1] += 4.0
    moved = fit_surrogate(NAMES, runs, spoilt).predict(where) / share_law(where) - 1
    assert np.abs(moved).mean() < 0.02


def test_more_runs_narrow_the_interval_and_a_mean_has_the_narrowest() -> None:
    surrogate = fit_surrogate(NAMES, *sweep(share_law, MORE, 3, 0.02, np.random.default_rng(7)))
    where = simplex(20)
    one, three, mean = (np.ptp(surrogate.interval(where, runs=runs), axis=-1).mean() for runs in (1, 3, None))
    assert mean < three < one


def test_corners_that_train_longer_need_their_costs() -> None:
    """Issue 5's probe: at equal FLOPs a corner takes three times the steps and is not the limit of its neighbours."""
    front, weights = probe()
    inside = (weights > 0).all(axis=1)
    where = np.unique(weights[inside], axis=0)
    blind = fit_surrogate(NAMES, weights, front.values)
    told = fit_surrogate(NAMES, weights, front.values, costs=(1, 1, 1.5))
    interior = fit_surrogate(NAMES, weights[inside], front.values[inside])
    wide = [np.ptp(s.interval(where), axis=-1).mean() for s in (blind, told, interior)]
    assert wide[1] < 0.5 * wide[0]
    np.testing.assert_allclose(told.predict(where), interior.predict(where), atol=0.12)
    # And it knows the corners themselves.
    corners = np.eye(3)
    measured = np.array([front.values[(weights == corner).all(axis=1)].mean(axis=0) for corner in corners])
    np.testing.assert_allclose(told.predict(corners), measured, atol=0.25)


def test_the_record_is_plain_and_says_how_each_form_did() -> None:
    import json

    runs, values = sweep(share_law, SEVEN, 1, 0.01, np.random.default_rng(8))
    record = json.loads(json.dumps(fit_surrogate(NAMES, runs, values).to_json(), allow_nan=False))
    assert set(record) == set(NAMES)
    fit = record["ood"]
    assert fit["held_out"] == min(fit["held_out_by_form"].values()) == fit["held_out_by_form"][fit["form"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, v: (w[:5], v[:5]), "needs 6 distinct weightings, got 5 from 5 runs"),
        (lambda w, v: (np.repeat(w[:4], 5, axis=0), np.repeat(v[:4], 5, axis=0)), "got 4 from 20 runs"),
        (lambda w, v: (w, np.where(np.arange(7)[:, None] == 4, np.nan, v)), "run e: value of 'effectiveness' is nan"),
        (lambda w, v: (w, v[:, :2]), r"of shape \(runs, 3\)"),
        (lambda w, v: (w * 2, v), "sum to 1"),
        (lambda w, v: (np.column_stack([t := np.linspace(0.1, 0.5, 7), t, 1 - 2 * t]), v), "line or plane"),
    ],
)
def test_bad_sweeps_are_refused(change, message) -> None:
    weights, values = change(SEVEN, share_law(SEVEN))
    with pytest.raises(DataError, match=message):
        fit_surrogate(NAMES, weights, values, labels=list("abcdefg"))


def test_bad_costs_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 positive numbers"):
        fit_surrogate(NAMES, SEVEN, share_law(SEVEN), costs=(1, 0, 1))


def test_a_loss_that_no_weight_moves_is_a_constant() -> None:
    values = share_law(INSIDE)
    values[:, 2] = 3.0
    predicted = fit_surrogate(NAMES, INSIDE, values).predict(simplex(10))
    np.testing.assert_allclose(predicted[:, 2], 3.0, atol=0.01)
