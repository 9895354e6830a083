"""The plan spends the budget where the true laws say it should, and says how far it can be trusted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mogrid.errors import ConfigError, DataError
from mogrid.frontier import Laws, Plan, Target, fit_laws, is_convex, mixing_pays, plan, planned_front, solve_mix
from mogrid.frontier.measurements import as_losses
from tests.frontier.truth import COSTS, MIXES, NAMES, SIZES, Truth, grid, score, sweep

SELFISH = np.array([[1, 0.05, 0.05], [0.05, 1, 0.05], [0.05, 0.05, 1]])
P = {"effectiveness": 2.0, "ood": 1.0, "typos": 1.0}


@pytest.fixture(scope="module")
def laws() -> Laws:
    """Objectives that help each other little: mixes matter."""
    return fit_laws(sweep(Truth(SELFISH), rng=np.random.default_rng(0)), draws=100)


@pytest.fixture(scope="module")
def budget(laws) -> float:
    return float(laws.runs.flops.max())


def reached(found: Plan, law) -> np.ndarray:
    return law(np.array([found.parameters]), np.array([[found.pairs[name] for name in NAMES[:3]]]))[0]


def best(law, budget: float, p: np.ndarray, value=lambda losses: losses) -> float:
    """Return the least Σ p_k l_k of a fine grid of mixes over the models that were run."""
    scalars = []
    for size in SIZES:
        mixes = grid(3, 2000)
        pairs = budget * mixes / (mixes @ (COSTS[:3] * size))[:, None]
        scalars.append(value(law(np.full(len(mixes), size), pairs)) @ p)
    return float(np.min(scalars))


def test_costs_are_those_of_the_ledger(laws) -> None:
    for size in (SIZES[0], 1.7e5, SIZES[2]):
        np.testing.assert_allclose(laws.costs.per_pair(size), size * COSTS[:3], rtol=1e-4)
    mixes = np.vstack([np.eye(3), MIXES])
    pairs, effort = laws.costs.buys(np.full(10, 1e12), 2e5, mixes)
    np.testing.assert_allclose(pairs @ COSTS[:3] * 2e5, 1e12, rtol=1e-4)
    np.testing.assert_array_equal(pairs, effort)
    weights = fit_laws(sweep(Truth(SELFISH), spend="weights"), draws=2, metrics=["ce"], form="exchange").costs
    mixes = np.array([[0.6, 0.4, 0], [0.2, 0.3, 0.5]])
    pairs, effort = weights.buys(np.full(2, 1e12), 2e5, mixes)
    np.testing.assert_allclose(effort, mixes * pairs.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(pairs, 1e12 / 2e5 * np.array([[1 / 120, 1 / 120, 0], [1 / 210] * 3]), rtol=1e-4)


@pytest.mark.parametrize("metric", ["ce", "ndcg"])
def test_the_plan_has_little_regret_under_the_true_law(laws, budget, metric) -> None:
    law, p = Truth(SELFISH), np.array(list(P.values()))
    value = (lambda losses: losses) if metric == "ce" else (lambda losses: 1 - score(losses))
    found = plan(laws, budget, preference=P, metric=metric)
    mine = reached(found, law)
    assert value(mine) @ p <= 1.01 * best(law, budget, p, value)
    assert np.array(list(found.pairs.values())) @ COSTS[:3] * found.parameters == pytest.approx(budget, rel=1e-3)
    assert sum(found.mix.values()) == pytest.approx(1)
    assert found.model in laws.runs.sizes
    for k, name in enumerate(NAMES[:3]):
        assert found.mix_low[name] <= found.mix[name] <= found.mix_high[name]
        for each, true in (("ce", mine[k]), ("ndcg", score(mine[k]))):
            told = found.predicted[each][name]
            assert told["low"] <= told["value"] <= told["high"]
            assert told["value"] == pytest.approx(true, abs=0.04)
    assert 0 < found.probability <= 1
    assert 0 < found.same_model <= 1
    assert found.extrapolation == pytest.approx(1)


@pytest.mark.parametrize("method", ["weighted", "chebyshev"])
def test_the_convex_program_and_pymoo_agree(laws, budget, method) -> None:
    """The solver's optimum is no worse than the best of pymoo's front, and nearly the same."""
    laws = fit_laws(laws.runs, form="exchange", draws=2, metrics=["ce"])
    size = SIZES[1]
    front = planned_front(laws, budget, models=[size])
    losses = front.losses()
    ends = (losses.min(axis=0), losses.max(axis=0)) if method == "chebyshev" else (None, None)
    target = Target(np.array([2.0, 1.0, 1.0]), *ends, np.full(3, np.inf))
    assert is_convex(laws, "ce", target)
    mix = solve_mix(laws, "ce", target, budget, size, np.zeros(3), np.ones(3))
    assert mix.sum() == pytest.approx(1)
    exact = target.scalar(laws.predict(size, laws.costs.buys(np.array([budget]), size, mix[None])[0], "ce"))[0]
    searched = target.scalar(losses).min()
    fine = grid(3, 3000)
    lattice = target.scalar(laws.predict(size, laws.costs.buys(np.full(len(fine), budget), size, fine)[0], "ce")).min()
    assert exact <= min(searched, lattice) + 1e-6
    assert searched - exact < (0.002 if method == "weighted" else 0.02)


@pytest.mark.parametrize(("law", "form"), [(Truth(harm=0.004), "exchange, harming"), (Truth(SELFISH), "quadratic")])
def test_what_is_not_convex_is_searched(law, form, budget) -> None:
    runs = sweep(law, rng=np.random.default_rng(1), noise=0.003)
    laws = fit_laws(runs, form=form, draws=20, metrics=["ce"])
    assert not is_convex(laws, "ce", Target(np.ones(3), None, None, np.full(3, np.inf)))
    found = plan(laws, budget, preference=P)
    told = np.array([found.predicted["ce"][name]["value"] for name in NAMES[:3]])
    p = np.array(list(P.values()))
    assert told @ p <= best(lambda n, pairs: laws.predict(n, pairs), budget, p) + 1e-3


def test_saturating_transfer_is_convex_too(budget) -> None:
    law = Truth(0.5 + 0.5 * SELFISH, level=1500.0)
    runs = sweep(law, rng=np.random.default_rng(2), noise=0.003)
    laws = fit_laws(runs, form="exchange, saturating", draws=20, metrics=["ce"])
    assert is_convex(laws, "ce", Target(np.ones(3), None, None, np.full(3, np.inf)))
    p = np.array(list(P.values()))
    found = plan(laws, budget, preference=P)
    assert reached(found, law) @ p <= 1.01 * best(law, budget, p)


def test_a_constraint_is_kept_surely_and_costs_what_it_must(laws, budget) -> None:
    free = plan(laws, budget, preference={"effectiveness": 1}, metric="ndcg")
    assert free.mix["effectiveness"] > 0.95
    value = free.predicted["ndcg"]["ood"]["value"] + 0.05
    held = plan(laws, budget, preference={"effectiveness": 1}, at_least={"ood": value}, metric="ndcg")
    assert held.at_least == {"ood": value}
    assert held.mix["ood"] > free.mix["ood"] + 0.02
    assert held.predicted["ndcg"]["ood"]["value"] > value  # by a margin: one run in ten may fall below
    even = plan(laws, budget, preference={"effectiveness": 1}, at_least={"ood": value}, metric="ndcg", surety=0.5)
    assert even.mix["effectiveness"] > held.mix["effectiveness"]
    assert score(reached(held, Truth(SELFISH))[1]) > value
    loss = plan(laws, budget, preference={"effectiveness": 1}, at_least={"ood": 1.9}, metric="ce")
    assert loss.predicted["ce"]["ood"]["value"] < 1.9


def test_draws_make_the_same_choice_under_a_bound() -> None:
    """With the choice's own margin: else a choice that is sure would look like one that hardly a draw makes."""
    law = Truth(SELFISH, size=False)
    runs = sweep(law, sizes=SIZES[1:2], noise=0.05, seeds=8, rng=np.random.default_rng(0))
    found = fit_laws(runs, metrics=["ndcg"], form="exchange", draws=60)
    budget = float(runs.flops.max())
    total = budget / (SIZES[1] * COSTS[0])
    bound = {"ood": float(score(law(SIZES[1:2], total * np.array([[0.75, 0.25, 0]])))[0, 1])}
    sure = plan(found, budget, preference={"effectiveness": 1}, at_least=bound)
    even = plan(found, budget, preference={"effectiveness": 1}, at_least=bound, surety=0.5)
    assert sure.mix["ood"] > even.mix["ood"] + 0.05
    assert sure.mix_low["ood"] < sure.mix["ood"] < sure.mix_high["ood"]
    assert sure.probability > 0.5


def test_what_cannot_be_kept_says_what_is_within_reach(laws, budget) -> None:
    with pytest.raises(ConfigError, match=r"sure to keep ndcg of 'ood' at 0.9; within reach is 0\.[45]"):
        plan(laws, budget, at_least={"ood": 0.9}, metric="ndcg")
    front = planned_front(laws, budget)
    good = {name: float(front.losses()[:, k].min()) + 0.06 for k, name in enumerate(NAMES[:3])}
    with pytest.raises(
        ConfigError, match="'effectiveness' and 'ood' and 'typos' together; nearest to it is effectiveness"
    ):
        plan(laws, budget, at_least=good)


def test_importance_pulls_and_more_budget_reaches_further(laws, budget) -> None:
    plain, keen = (plan(laws, budget, preference={**P, "ood": ood}) for ood in (1, 8))
    assert keen.mix["ood"] > plain.mix["ood"] + 0.1
    assert keen.predicted["ce"]["ood"]["value"] < plain.predicted["ce"]["ood"]["value"]
    richer = plan(laws, 5 * budget, preference=P)
    assert all(richer.predicted["ce"][n]["value"] < plain.predicted["ce"][n]["value"] for n in NAMES[:3])
    assert richer.extrapolation == pytest.approx(5)


def test_edges_are_said(laws, budget) -> None:
    inner = MIXES * 0.7 + 0.1
    found = fit_laws(sweep(Truth(SELFISH), mixes=inner, rng=np.random.default_rng(3)), draws=20, metrics=["ce"])
    told = plan(found, 20 * budget, preference={"effectiveness": 1})
    assert told.mix["effectiveness"] == pytest.approx(0.8, abs=1e-3)
    said = "\n".join(told.edge)
    assert "a share of 0.80 for 'effectiveness' is the largest that was run" in said
    assert "a share of 0.10 for 'ood' is the smallest that was run" in said
    assert "N of 6e+05 is the largest that was run" in said
    assert "pairs are more than any run's (10,240)" in said
    at_home = plan(laws, budget / 4, preference=P, models=[str(f"{SIZES[1]:g}")])
    assert at_home.edge == ()


def test_the_front_is_non_dominated_affordable_and_the_truths(laws, budget) -> None:
    front = planned_front(laws, budget)
    values = front.losses()
    assert len(values) > 60
    better = (values[:, None] <= values).all(axis=2) & (values[:, None] < values).any(axis=2)
    assert not better.any()
    np.testing.assert_allclose(front.pairs @ COSTS[:3] * front.parameters, budget, rtol=1e-3)
    np.testing.assert_allclose(values, as_losses(laws.predict(front.parameters, front.pairs, "ce"), "ce"))
    assert set(front.models) <= set(laws.runs.sizes)
    fixed = planned_front(laws, budget, models=[SIZES[0], 3e5])
    assert set(fixed.parameters) <= {SIZES[0], 3e5}
    assert set(fixed.models) <= {f"{SIZES[0]:g}", None}


def test_whether_mixing_pays_is_read_off_the_exchange_rates(laws, budget) -> None:
    selfish = mixing_pays(laws, f"{SIZES[1]:g}", budget)
    assert selfish.pays
    assert 0.9 < selfish.probability <= selfish.somewhere
    assert selfish.low <= selfish.gain <= selfish.high
    assert str(selfish).startswith("mixing pays: the best mix (")
    generous = np.array([[1, 0.3, 0.2], [0.95, 1, 0.2], [0.95, 0.3, 1]])
    laws_ = fit_laws(sweep(Truth(generous), rng=np.random.default_rng(4)), draws=50, metrics=["ce"], form="exchange")
    one = mixing_pays(laws_, SIZES[1], budget, {"effectiveness": 2, "ood": 1, "typos": 1})
    assert not one.pays
    assert one.single == "effectiveness"
    assert one.low <= one.gain <= one.high + 1e-9
    assert str(one).startswith("mixing does not pay")
    said = [str(replace(one, probability=p)).split(":")[0] for p in (0.1, 0.25, 0.74, 0.75, 0.9)]
    assert said == [
        "mixing probably does not pay", "whether mixing pays is open", "whether mixing pays is open",
        "mixing probably pays", "mixing pays",
    ]  # fmt: skip


def test_a_plan_survives_json(laws, budget) -> None:
    found = plan(laws, budget, preference=P, recipe="abc123")
    shown = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Plan.from_json(shown) == found
    assert set(found.exchange) == set(NAMES[:3])
    del shown["mix"]
    with pytest.raises(DataError, match="not a plan: mix, weights"):
        Plan.from_json({**shown, "weights": {}})


def test_a_plan_tells_rates_at_its_own_pairs(budget) -> None:
    laws = fit_laws(
        sweep(Truth(SELFISH, harm=0.004), rng=np.random.default_rng(1), noise=0.003), draws=20, metrics=["ce"],
        form="exchange, harming",
    )  # fmt: skip
    found = plan(laws, budget, preference={"effectiveness": 1})
    assert found.mix["effectiveness"] == 1
    assert found.effort == pytest.approx(list(found.pairs.values()))
    assert found.exchange == laws.exchange("ce", found.effort).to_json()
    there, middle = (
        each["effectiveness"]["pairs"]["ood"]["value"] for each in (found.exchange, laws.exchange().to_json())
    )
    assert there < middle < 0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_objectives(count) -> None:
    worth = 0.1 + 0.9 * np.eye(count)
    mixes = np.unique(np.vstack([np.eye(count), np.full((1, count), 1 / count)]), axis=0)
    runs = sweep(Truth(worth), mixes=mixes, rng=np.random.default_rng(5))
    laws = fit_laws(runs, draws=10, form="exchange", metrics=["ce"])
    found = plan(laws, float(runs.flops.max()))
    assert sum(found.mix.values()) == pytest.approx(1)
    assert min(found.mix.values()) > 0.02
    front = planned_front(laws, float(runs.flops.max()))
    assert front.values("ce").shape == (len(front.models), count)


@pytest.mark.parametrize(
    ("budget", "options", "message"),
    [
        (1e3, {}, r"budget of 1e\+03 FLOPs is far below the cheapest run \(7.68e\+09\)"),
        (-1.0, {}, "budget must be a positive number of FLOPs, got -1.0"),
        (float("nan"), {}, "positive number of FLOPs, got nan"),
        (1e11, {"models": [-5]}, "models must be names or positive numbers of parameters, got -5"),
        (1e11, {"models": ["10000"]}, "no run of a base model '10000'; did you mean '100000'"),
        (1e11, {"models": []}, "name at least one model"),
        (1e11, {"models": [1e12]}, "buys .* pairs of these models; the laws speak of 128 to"),
        (1e11, {"method": "kne"}, "no way to choose 'kne'; did you mean 'knee'"),
        (1e11, {"method": "knee", "preference": P}, "has no use for a preference"),
        (1e11, {"preference": {"oood": 1}}, "no objective 'oood'; did you mean 'ood'"),
        (1e11, {"preference": {"ood": -1}}, "preference of 'ood' must be a number of at least 0"),
        (1e11, {"preference": {"ood": 0}}, "prefers nothing"),
        (1e11, {"metric": "ndgc"}, "no laws of a metric 'ndgc'; did you mean 'ndcg'"),
        (1e11, {"at_least": {"od": 1}}, "at least: no objective 'od'; did you mean 'ood'"),
        (1e11, {"at_least": {"ood": "base"}}, "'ood' needs a value of 'ce', got 'base'"),
        (1e11, {"surety": 1.0}, "a probability between 0 and 1"),
    ],
)
def test_bad_requests_are_refused(laws, budget, options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(laws, budget, **options)


def test_what_was_never_trained_gets_no_pairs_but_can_be_asked_for() -> None:
    runs = sweep(Truth(0.3 + 0.7 * np.eye(3)), mixes=MIXES[MIXES[:, 2] == 0], rng=np.random.default_rng(6))
    found = fit_laws(runs, draws=30, metrics=["ce"])
    budget = float(runs.flops.max())
    chosen = plan(found, budget, preference={"effectiveness": 1}, at_least={"typos": 3.3})
    assert chosen.mix["typos"] == 0
    json.dumps(chosen.to_json(), allow_nan=False)
    assert mixing_pays(found, f"{SIZES[1]:g}", budget).single in ("effectiveness", "ood")
