"""Proposed runs: variances by hand, budgets kept, and runs that settle the choice before runs that settle the law."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.frontier import Laws, Options, fit_laws, next_runs, options_of
from mogrid.frontier.planning import decide
from tests.frontier.truth import MIXES, SIZES, TOTALS, Truth, sweep

SELFISH = np.array([[1, 0.05, 0.05], [0.05, 1, 0.05], [0.05, 0.05, 1]])


def candidates(laws: Laws, runs=None) -> Options:
    """Return runs as options: they cost what they cost."""
    runs = laws.runs if runs is None else runs
    place = np.searchsorted(SIZES, runs.parameters)
    return options_of(laws, [1e9], MIXES).of(place, runs.mix, runs.flops)


@pytest.fixture(scope="module")
def laws() -> Laws:
    return fit_laws(
        sweep(Truth(SELFISH), rng=np.random.default_rng(0), totals=TOTALS[:3]),
        form="exchange",
        draws=40,
        metrics=["ce"],
    )


def covariance(laws: Laws, k: int, rows: list[np.ndarray]) -> np.ndarray:
    fit = laws.fits["ce"][k]
    seen = np.vstack(rows)
    return np.linalg.inv(seen.T @ seen / fit.fitted.sigma**2 + np.diag(1 / fit.form.prior()[1] ** 2))


def slopes(laws: Laws, k: int, parameters, pairs) -> np.ndarray:
    fit = laws.fits["ce"][k]
    return fit.form.values(fit.fitted.theta[None], laws.design(k, parameters, pairs))[1][0]


def test_the_promised_variance_is_that_of_a_refit_design(laws) -> None:
    """Adding rows one by one (Sherman and Morrison) is the inverse of the whole information matrix."""
    runs, options = laws.runs, candidates(laws)
    found = next_runs(laws, options, 3 * options.flops.max())
    assert 0 < found.flops <= 3 * options.flops.max()
    dear = options.flops >= np.quantile(options.flops, 0.9)
    for k, name in enumerate(laws.objectives):
        every = slopes(laws, k, runs.parameters, runs.pairs)
        after = covariance(laws, k, [every, every[list(found.rows)]])
        told = np.sqrt(np.einsum("tp,pq,tq->t", every[dear], after, every[dear]).mean())
        assert found.after[name] == pytest.approx(told)
        assert found.after[name] < found.before[name]


def test_the_variance_of_the_choice_falls_most_by_the_runs_for_the_choice(laws) -> None:
    budget, final = float(laws.runs.flops.max()), 2 * float(laws.runs.flops.max())
    options = options_of(laws, [budget / 8, budget / 4], MIXES)
    choice = next_runs(laws, options, budget, final=final)
    assert choice.after["choice"] < choice.before["choice"]
    plain = next_runs(laws, options, budget)
    worse = next_runs(laws, options.only(plain.rows), budget * 10, final=final, most=1)
    assert choice.after["choice"] <= worse.after["choice"] * 1.02


def test_what_nobody_asks_for_needs_no_runs(laws) -> None:
    """Where a preference leaves an objective out, its law does not matter to the choice, unless it is to be kept."""
    final = 2 * float(laws.runs.flops.max())
    options = candidates(laws)
    one = next_runs(laws, options, float(options.flops.max()), final=final, preference={"effectiveness": 1})
    kept = next_runs(
        laws, options, float(options.flops.max()), final=final, preference={"effectiveness": 1}, at_least={"ood": 1.7}
    )
    assert one.before["choice"] < kept.before["choice"]
    assert kept.rows


@pytest.mark.parametrize("draws", [20, 200])
def test_a_bound_counts_whole_however_many_draws_there_are(draws) -> None:
    """The variance of what must be kept is added to the contrasts' mean, and runs for it are proposed."""
    runs = sweep(Truth(SELFISH), sizes=SIZES[1:2], rng=np.random.default_rng(0), totals=TOTALS[:3])
    found = fit_laws(runs, form="exchange", draws=draws, metrics=["ce"])
    final, options = 2 * float(runs.flops.max()), options_of(found, runs.flops.tolist(), MIXES)
    wanted = {"preference": {"effectiveness": 1}, "at_least": {"ood": 1.75}}
    told = next_runs(found, options, float(runs.flops.max()), final=final, **wanted)
    made = decide(found, final, **wanted)
    kept = made.options.only([made.chosen])
    fit = found.fits["ce"][1]
    slope = fit.slope(kept.losses()[:, 1])[:, None] * slopes(found, 1, kept.parameters, kept.effort)
    done, able = (slopes(found, 1, some.parameters, some.effort) for some in (runs, options))
    own = [
        float(np.sqrt(slope @ covariance(found, 1, rows) @ slope.T)[0, 0])
        for rows in ([done], [done, able[list(told.rows)]])
    ]
    assert told.before["choice"] > own[0]
    assert told.after["choice"] > own[1]
    assert own[1] < 0.9 * own[0]


def test_budgets_and_repeats_are_kept(laws) -> None:
    options = candidates(laws)
    assert len(next_runs(laws, options, float(options.flops.min()), most=1).rows) == 1
    many = next_runs(laws, options, float(options.flops.sum()) * 10, most=2)
    assert max(np.bincount(many.rows)) == 2
    assert len(many.rows) == 2 * len(options.flops)


def test_base_models_count_as_data() -> None:
    runs = sweep(rng=np.random.default_rng(8), base=True, noise=0.002)
    found = fit_laws(runs, draws=4, metrics=["ce"], form="exchange")
    assert any(fit.anchored for fit in found.fits["ce"])
    assert next_runs(found, candidates(found), float(runs.flops.max())).rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.0}, "does not buy the cheapest"),
        ({"most": 0}, "at least 1"),
        ({"metric": "ndgc"}, "no laws of a metric"),
    ],
)
def test_bad_requests_are_refused(laws, options, message) -> None:
    given = {"budget": float(laws.runs.flops.max())} | options
    with pytest.raises(ConfigError, match=message):
        next_runs(laws, candidates(laws), **given)


@pytest.mark.slow
def test_by_replay_chosen_runs_beat_random_ones() -> None:
    """Regret of the choice after the same number of FLOPs: proposed runs against random ones."""
    law, rng = Truth(SELFISH), np.random.default_rng(1)
    full = sweep(law, rng=rng, noise=0.02)
    cheap = np.flatnonzero(full.pairs.sum(axis=1) == TOTALS[0])
    rest = np.setdiff1d(np.arange(len(full)), cheap)
    budget, final = 0.15 * float(full.flops[rest].sum()), 2 * float(full.flops.max())
    every = fit_laws(full, draws=2, form="exchange", metrics=["ce"])
    last = options_of(every, [final], MIXES)

    def error(rows) -> float:
        mask = np.isin(np.arange(len(full)), [*cheap, *rows])
        laws = fit_laws(full.only(mask), form="exchange", draws=2, metrics=["ce"])
        return float(np.abs(laws.predict(last.parameters, last.pairs) / law(last.parameters, last.pairs) - 1).mean())

    start = fit_laws(full.only(np.isin(np.arange(len(full)), cheap)), form="exchange", draws=40, metrics=["ce"])
    options = candidates(every).only(rest)
    ours = error(rest[list(next_runs(start, options, budget, final=final, most=1).rows)])
    others = []
    for _ in range(10):
        order = rng.permutation(rest)
        others.append(error(order[np.cumsum(full.flops[order]) <= budget]))
    assert ours <= float(np.median(others))
