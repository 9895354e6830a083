"""Proposed runs: gains by hand, budgets kept, and fewer runs than a plain grid needs for the same front."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.errors import ConfigError, DataError
from mogrid.scaling import Candidates, fit_laws, propose_runs
from tests.scaling.known import MIXES, PAIRS, SIZES, added_law, additive_law, grid_of, sweep


def candidates(runs) -> Candidates:
    return Candidates(runs.sizes, runs.pairs, runs.weights, runs.flops)


@pytest.fixture(scope="module")
def known():
    runs = sweep(additive_law, **grid_of("additive"), rng=np.random.default_rng(0))
    return fit_laws(runs, form="additive", draws=10), runs


def test_the_promised_variance_is_that_of_a_refit_design(known) -> None:
    """Adding rows one by one (Sherman and Morrison) is the inverse of the whole information matrix."""
    laws, runs = known
    options = candidates(runs)
    proposal = propose_runs(laws, options, 3 * options.flops.max())
    assert proposal.flops <= 3 * options.flops.max()
    assert proposal.rows
    from mogrid.scaling.forms import Design

    for k, name in enumerate(laws.objectives):
        fit = laws.fits[k].fitted
        dear = options.flops >= np.quantile(options.flops, 0.9)

        def rows(index, fit=fit, k=k):
            where = Design(*laws._where(runs.sizes[index], runs.pairs[index], runs.weights[index]), k)
            return fit.form.values(fit.theta[None], where)[1][0]

        prior = np.diag(1 / fit.form.prior(3)[1] ** 2)
        seen = np.vstack([rows(np.arange(len(runs))), rows(np.array(proposal.rows))])
        covariance = np.linalg.inv(seen.T @ seen / fit.sigma**2 + prior)
        at = rows(np.flatnonzero(dear))
        assert proposal.after[name] == pytest.approx(np.sqrt(np.einsum("tp,pq,tq->t", at, covariance, at).mean()))
        assert proposal.after[name] < proposal.before[name]


def test_budget_repeats_and_importance(known) -> None:
    laws, runs = known
    options = candidates(runs)
    small = propose_runs(laws, options, float(options.flops.min()), most=1)
    assert len(small.rows) == 1
    many = propose_runs(laws, options, float(options.flops.sum()) * 10, most=2)
    assert max(np.bincount(many.rows)) <= 2
    assert len(many.rows) == 2 * len(runs)
    for bad, message in (
        ({"budget": 1.0}, "does not buy the cheapest"),
        ({"most": 0}, "at least 1"),
        ({"importance": {"effectivenes": 1.0}}, "importance needs"),
        ({"importance": {"ood": 0.0}}, "importance needs"),
    ):
        given = {"budget": float(options.flops.max())} | bad
        with pytest.raises(ConfigError, match=message):
            propose_runs(laws, options, **given)
    with pytest.raises(DataError, match="finite and positive"):
        Candidates(np.array([1.0]), np.array([np.nan]), np.ones((1, 3)) / 3, np.array([1.0]))
    with pytest.raises(DataError, match="as each other"):
        Candidates(np.ones(2), np.ones(1), np.ones((1, 3)) / 3, np.ones(1))


@pytest.mark.slow
def test_by_replay_half_the_runs_are_enough() -> None:
    """Errors at the dearest cells: proposed runs against the same number, and twice it, of random ones."""
    full = sweep(added_law, sizes=(1e4, 1e5, 1e6), pairs=(4e3, 2e4, 1e5), rng=np.random.default_rng(1))
    true = added_law(full.sizes, full.pairs, full.weights)
    dear = full.flops >= np.quantile(full.flops, 0.9)
    even = np.abs(full.weights - 1 / 3).sum(axis=1)
    start = np.flatnonzero((full.pairs == full.pairs.min()) | ((even == even.min()) & (full.sizes == full.sizes.min())))

    def error(rows) -> float:
        mask = np.zeros(len(full), dtype=bool)
        mask[list(rows)] = True
        laws = fit_laws(full.only(mask), form="added mixing law", draws=2)
        told = laws.predict(full.sizes[dear], full.pairs[dear], full.weights[dear])
        return float(np.median(np.abs(told / true[dear] - 1)))

    laws = fit_laws(full.only(np.isin(np.arange(len(full)), start)), form="added mixing law", draws=2)
    rest = np.setdiff1d(np.arange(len(full)), start)
    # Runs are counted here, not FLOPs: each costs one.
    options = Candidates(full.sizes[rest], full.pairs[rest], full.weights[rest], np.ones(len(rest)))
    aims = Candidates(full.sizes[dear], full.pairs[dear], full.weights[dear], np.ones(int(dear.sum())))
    chosen = propose_runs(laws, options, 6.0, targets=aims, most=1).rows
    ours = error([*start, *rest[list(chosen)]])
    rng = np.random.default_rng(0)
    random = [error([*start, *rng.choice(rest, 12, replace=False)]) for _ in range(5)]
    assert ours <= float(np.median(random))


def test_candidates_that_teach_nothing_of_the_targets_are_not_proposed() -> None:
    """Trainings for one objective alone say nothing of mixes, which follow another law."""
    weights = np.vstack([MIXES, np.eye(3)])
    runs = sweep(added_law, sizes=SIZES[:3], pairs=PAIRS[1:], weights=weights, rng=np.random.default_rng(0))
    laws = fit_laws(runs, draws=2)
    assert laws.apart
    alone = (runs.weights == 0).any(axis=1)
    mixes, others = candidates(runs.only(~alone)), candidates(runs.only(alone))
    budget = float(runs.flops.max())
    assert propose_runs(laws, others, budget, targets=mixes).rows == ()
    assert propose_runs(laws, mixes, budget, targets=mixes).rows
    both = propose_runs(laws, candidates(runs), budget, targets=mixes)
    assert both.rows
    assert not alone[list(both.rows)].any()
