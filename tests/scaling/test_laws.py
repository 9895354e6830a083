"""Known laws are recovered with honest intervals; what cannot be fitted is refused with the reason."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from mogrid.errors import ConfigError, DataError
from mogrid.scaling import FORMS, ExtrapolationWarning, ScalingRuns, fit_laws
from mogrid.scaling.forms import Design
from tests.scaling.known import EQUAL, LAWS, MIXES, PAIRS, SIZES, additive_law, capacity_law, grid_of, joint_law, sweep

SMALL = {"sizes": SIZES[:3], "pairs": PAIRS[1:]}


@pytest.mark.parametrize("name", FORMS)
def test_jacobians_are_exact(name) -> None:
    rng = np.random.default_rng(0)
    form, where = FORMS[name], Design(*rng.normal(size=(2, 10)), np.vstack([np.eye(3), MIXES]), 1)
    theta = 0.5 * rng.normal(size=(4, len(form.parameters(3))))
    steps = 1e-6 * np.eye(theta.shape[1])
    numeric = [(form.values(theta + h, where)[0] - form.values(theta - h, where)[0]) / 2e-6 for h in steps]
    np.testing.assert_allclose(form.values(theta, where)[1], np.stack(numeric, axis=2), atol=1e-7)


def test_the_joint_form_is_that_of_fang() -> None:
    """[(A/N)^(α/β) + B/D]^β + δ with the coefficients that the record reports."""
    runs = sweep(joint_law, **grid_of("joint"), rng=np.random.default_rng(0))
    laws = fit_laws(runs, form="joint", draws=20)
    for k, name in enumerate(runs.objectives):
        record = laws.to_json()[name]
        a, b, delta = (record["coefficients"][key] for key in ("A", "B", "δ"))
        alpha, beta = (record["exponents"][key]["value"] for key in ("α", "β"))
        byhand = ((a / runs.sizes) ** (alpha / beta) + b / runs.pairs) ** beta + delta
        np.testing.assert_allclose(laws.predict(runs.sizes, runs.pairs, runs.weights)[:, k], byhand, rtol=1e-9)


def test_the_fit_is_scipys_huber_fit() -> None:
    """Same minimum as `least_squares(loss="huber")` where the priors say nothing against the data."""
    runs = sweep(additive_law, **grid_of("additive"), rng=np.random.default_rng(2))
    fit = fit_laws(runs, form="additive", draws=10).fits[0].fitted
    form, y = FORMS["additive"], np.log(runs.values[:, 0])
    y = y - y.mean()
    where = Design(*(np.log(v) - np.log(v).mean() for v in (runs.sizes, runs.pairs)), runs.weights, 0)
    start = form.prior(3)[0]

    def residuals(theta: np.ndarray) -> np.ndarray:
        return form.values(theta[None], where)[0][0] - y

    found = least_squares(residuals, start, loss="huber", f_scale=1.345 * fit.scale)
    assert np.abs(residuals(fit.theta) - residuals(found.x)).max() < 0.15 * fit.sigma


def test_coverage_of_prediction_intervals() -> None:
    """Nominal 90 % intervals for new runs at 1 % noise hold 85 to 95 % of them, over all laws and many sweeps."""
    share, rng = {}, np.random.default_rng(1)
    for name, law in LAWS.items():
        hits = []
        for repeat in range(4):
            runs = sweep(law, **grid_of(name), rng=rng)
            laws = fit_laws(runs, form=name, draws=150, seed=repeat)
            n, d = (np.exp(rng.uniform(np.log(v.min()), np.log(v.max()), 60)) for v in (runs.sizes, runs.pairs))
            w = 0.05 + 0.85 * rng.dirichlet([1, 1, 1], 60) if "weights" in FORMS[name].over else np.repeat(EQUAL, 60, 0)
            new = law(n, d, w)
            new = new * np.exp(0.01 * rng.normal(size=new.shape))
            interval = laws.interval(n, d, w)
            hits.append(((interval[..., 0] <= new) & (new <= interval[..., 1])).mean())
        share[name] = float(np.mean(hits))
    assert 0.85 <= np.mean(list(share.values())) <= 0.95, share
    assert all(0.8 <= value <= 0.98 for value in share.values()), share


@pytest.mark.parametrize("name", ["capacity", "mixing law", "added mixing law", "double power"])
def test_the_form_is_chosen_by_the_held_out_scale(name) -> None:
    laws = fit_laws(sweep(LAWS[name], **SMALL, noise=0.003, rng=np.random.default_rng(3)), draws=30)
    assert [fit.fitted.form.name for fit in laws.fits].count(name) >= 2
    for fit in laws.fits:
        errors = {form: np.mean(list(by.values())) for form, by in fit.held_out.items()}
        assert fit.fitted.form.name == min(errors, key=errors.__getitem__)
        assert set(fit.held_out[name]) == {"N", "D"}
        assert fit.fitted.r2 > 0.98


def test_held_out_scale_is_predicted() -> None:
    runs = sweep(capacity_law, sizes=SIZES, pairs=PAIRS, rng=np.random.default_rng(4))
    known = runs.only((runs.sizes < SIZES[-1]) & (runs.pairs < PAIRS[-1]))
    far = runs.only((runs.sizes == SIZES[-1]) & (runs.pairs == PAIRS[-1]))
    laws = fit_laws(known, draws=50)
    assert np.median(np.abs(laws.predict(far.sizes, far.pairs, far.weights) / far.values - 1)) < 0.05


def test_exponents_are_identified_or_said_not_to_be() -> None:
    """Where data hardly matter, the exponent of the data is not identified, though predictions stay exact."""
    clear = {
        e.name: e for e in fit_laws(sweep(joint_law, **grid_of("joint"), rng=np.random.default_rng(5))).exponents()[:2]
    }
    assert clear["α"].identified
    assert clear["α"].low <= 0.45 <= clear["α"].high
    assert clear["β"].low <= 0.5 <= clear["β"].high
    runs = sweep(joint_law, weights=EQUAL, pairs=(1e7, 2e7, 4e7), rng=np.random.default_rng(6))
    laws = fit_laws(runs)
    for exponent in laws.exponents():
        if exponent.name == "β":
            assert not exponent.identified
            assert "not identified" in str(exponent)
    error = laws.predict(runs.sizes, runs.pairs, runs.weights) / joint_law(runs.sizes, runs.pairs, runs.weights) - 1
    assert np.abs(error).max() < 0.02


def test_one_diverged_seed_bends_no_law() -> None:
    runs = sweep(joint_law, weights=EQUAL, seeds=3, rng=np.random.default_rng(7))
    spoilt = runs.values.copy()
    spoilt[11, 0] *= 4
    laws = fit_laws(replace(runs, values=spoilt), form="joint", draws=20)
    truth = joint_law(runs.sizes, runs.pairs, runs.weights)
    assert np.abs(laws.predict(runs.sizes, runs.pairs, runs.weights) / truth - 1).mean() < 0.01


def test_sixty_runs_with_a_thousand_draws_are_quick_and_repeatable() -> None:
    runs = sweep(LAWS["double power"], **SMALL, rng=np.random.default_rng(8))
    started = time.process_time()
    laws = fit_laws(runs, draws=1000)
    assert time.process_time() - started < 60
    few = [fit_laws(runs, form="mixing law", draws=20, seed=1).fits[0].draws for _ in range(2)]
    np.testing.assert_array_equal(*few)
    assert len(laws.fits[0].draws) == 1000


def test_intervals_narrow_with_runs_and_bootstrap_is_by_cell() -> None:
    """Copies of a run are no new cells: the interval of the mean must not shrink as if they were."""
    runs = sweep(joint_law, weights=EQUAL, rng=np.random.default_rng(9))
    doubled = runs.only(np.ones(len(runs), dtype=bool))
    twice = ScalingRuns(
        runs.objectives, *(np.concatenate([v, v]) for v in (runs.sizes, runs.pairs, runs.weights, runs.values, runs.flops)),
        runs.seeds * 2, runs.labels * 2,
    )  # fmt: skip
    where = (np.array([3e4, 1e5]), np.array([2e4, 5e4]), EQUAL)
    one, mean = (np.ptp(fit_laws(doubled, form="joint").interval(*where, runs=r), axis=-1) for r in (1, None))
    copied = np.ptp(fit_laws(twice, form="joint").interval(*where, runs=None), axis=-1)
    assert (mean < one).all()
    assert (copied > 0.7 * mean).all()


def test_far_predictions_warn() -> None:
    laws = fit_laws(sweep(joint_law, weights=EQUAL, rng=np.random.default_rng(10)), form="joint", draws=20)
    with pytest.warns(ExtrapolationWarning, match=r"N from 1e\+08 to 1e\+08 lies more than 10× beyond the sweep"):
        laws.predict(1e8, 1e4, EQUAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laws.predict(2e6, 1e6, EQUAL)


def test_runs_survive_a_file(tmp_path) -> None:
    runs = sweep(joint_law, weights=EQUAL, rng=np.random.default_rng(11))
    runs.save(tmp_path / "runs.jsonl")
    again = ScalingRuns.load(tmp_path / "runs.jsonl")
    for name in ("sizes", "pairs", "weights", "values", "flops"):
        np.testing.assert_allclose(getattr(again, name), getattr(runs, name), rtol=1e-15)
    assert (again.seeds, again.labels) == (runs.seeds, runs.labels)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    old = json.loads(lines[2])
    del old["flops"]
    (tmp_path / "old.jsonl").write_text("\n".join([*lines[:2], json.dumps(old)]))
    with pytest.raises(DataError, match=r"old.jsonl:3: not a run as .*'flops'"):
        ScalingRuns.load(tmp_path / "old.jsonl")
    json.dumps(fit_laws(runs, draws=20).to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("grid", "form", "message"),
    [
        ({"sizes": SIZES[:1]}, None, "no law for 1 model sizes, 4 data sizes and 7 weightings.*fit_surrogate"),
        ({"sizes": SIZES[:1]}, "capacity", "'capacity' needs 3 distinct model sizes, got one: add 2 more"),
        ({"pairs": PAIRS[:2]}, "double power", "needs 3 distinct data sizes, got 2: add 1 more"),
        ({"weights": MIXES[:5]}, "mixing law", "needs 6 distinct weightings, got 5: add 1 more"),
        ({"weights": EQUAL}, "size", "'size' is over N, but the runs have 4 data sizes"),
        ({"sizes": SIZES[:1], "pairs": PAIRS[:1], "weights": EQUAL}, None, "nothing varies"),
        ({"weights": np.column_stack([t := np.linspace(0.1, 0.4, 6), t, 1 - 2 * t])}, "capacity", "line or plane"),
    ],
)
def test_too_few_runs_are_refused(grid, form, message) -> None:
    with pytest.raises(DataError, match=message):
        fit_laws(sweep(capacity_law, **grid), form=form)


def test_missing_cells_are_named() -> None:
    full = sweep(capacity_law, **SMALL)
    there = np.zeros(len(full), dtype=bool)
    there[[0, 28, 56, 1, 2, 3, 4, 5, 6]] = True
    with pytest.raises(
        DataError,
        match=r"9 parameters and needs 10 distinct cells, got 9 from 9 runs.*54 cells of the grid have no run: N=13000",
    ):
        fit_laws(full.only(there), form="capacity")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("values", np.nan, "run run5: loss 'effectiveness' is nan"),
        ("values", -0.1, "run run5: loss 'effectiveness' is -0.1; it must be finite and positive"),
        ("sizes", 0.0, "run run5: sizes 'sizes' is 0.0"),
        ("weights", 0.9, "run run5: weights .* do not lie on the simplex"),
    ],
)
def test_bad_numbers_name_the_run(field, value, message) -> None:
    runs = sweep(joint_law, weights=EQUAL)
    table = getattr(runs, field).copy()
    table.reshape(len(runs), -1)[5, 0] = value
    with pytest.raises(DataError, match=message):
        replace(runs, **{field: table})


def test_an_unknown_law_is_named() -> None:
    with pytest.raises(ConfigError, match="no law 'capacty'; did you mean 'capacity'"):
        fit_laws(sweep(capacity_law, **SMALL), form="capacty")


def leaving_out(n: np.ndarray, d: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Mixes follow one law; a training for one objective alone is far better at it, and worse at the others."""
    alone = (w == 0).any(axis=1, keepdims=True)
    return np.where(alone, additive_law(n / 3, d, w) * np.where(w > 0, 0.7, 1.6), capacity_law(n, d, w))


def test_trainings_that_leave_an_objective_out_have_laws_of_their_own() -> None:
    weights = np.vstack([MIXES, np.eye(3)])
    runs = sweep(leaving_out, sizes=SIZES[:3], pairs=PAIRS[1:], weights=weights, rng=np.random.default_rng(3))
    laws = fit_laws(runs, draws=60)
    assert set(laws.apart) == {(True, False, False), (False, True, False), (False, False, True)}
    assert len(laws.fitted) == 9 * len(MIXES)
    assert len(laws.runs) == len(runs)
    order = np.random.default_rng(0).permutation(len(runs))  # rows of several laws, in any order
    n, d, w = runs.sizes[order], runs.pairs[order], runs.weights[order]
    truth = leaving_out(n, d, w)
    assert np.abs(laws.predict(n, d, w) / truth - 1).mean() < 0.015
    assert laws.predict_draws(n, d, w).shape == (60, len(runs), 3)
    interval = laws.interval(n, d, w)
    covered = (interval[:, :, 0] <= runs.values[order]) & (runs.values[order] <= interval[:, :, 1])
    assert covered.mean() > 0.8
    assert laws.to_json()["effectiveness alone"]["ood"]["form"] in ("joint", "additive")
    # Too few of them for a law: they stay among the others.
    some = runs.only((runs.weights > 0).all(axis=1) | (np.arange(len(runs)) < 10))
    assert fit_laws(some, draws=2).apart == {}
