"""The chooser: near the truth's best mix, settled where nothing is left to find, and without laws still a choice."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.frontier import Measurements, choose_mix, design, next_pilots
from mogrid.frontier.planning import decide
from tests.frontier.truth import COSTS, SIZES, Truth, grid, score, sweep

SELFISH = Truth([[1, 0.02, 0.02], [0.02, 1, 0.02], [0.02, 0.02, 1]])
GENEROUS = Truth([[1, 0.1, 0.1], [0.95, 1, 0.1], [0.95, 0.1, 1]])
MIXES = np.array([[1 / 3] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FINAL = 5e4 * SIZES[0] * COSTS[:3].mean()
EQUAL = np.ones(3) / 3


def pilots(truth: Truth, mixes: np.ndarray = MIXES, totals: tuple[float, ...] = (2000.0, 8000.0)) -> Measurements:
    return sweep(
        truth, sizes=SIZES[:1], totals=totals, mixes=mixes, rng=np.random.default_rng(0), noise=0.003, base=True
    )


def reached(truth: Truth, mixes: np.ndarray) -> np.ndarray:
    """Return the scores (m, K) of final trainings."""
    pairs = mixes * (FINAL / SIZES[0] / (mixes @ COSTS[:3]))[:, None]
    return score(truth(np.full(len(mixes), SIZES[0]), pairs))


@pytest.mark.parametrize(
    ("truth", "preference"), [(SELFISH, None), (SELFISH, {"ood": 1, "typos": 3}), (GENEROUS, None)]
)
def test_the_choice_is_nearly_the_best_there_is(truth, preference) -> None:
    choice = choose_mix(pilots(truth), FINAL, preference=preference)
    p = EQUAL if preference is None else np.array([0, 0.25, 0.75])
    every, own = (reached(truth, mixes) @ p for mixes in (grid(3), np.array([list(choice.mix.values())])))
    assert every.max() - own[0] < 0.01
    assert choice.pays is not None
    assert choice.pays.pays == (truth is SELFISH)


def test_a_bound_moves_the_choice() -> None:
    free = choose_mix(pilots(SELFISH), FINAL, preference={"effectiveness": 1})
    assert free.mix["effectiveness"] > 0.95
    least = float(reached(SELFISH, np.array([[0.5, 0.5, 0]]))[0, 1])
    bound = choose_mix(pilots(SELFISH), FINAL, preference={"effectiveness": 1}, at_least={"ood": least})
    assert bound.keeps
    assert reached(SELFISH, np.array([list(bound.mix.values())]))[0, 1] > least - 0.01
    beyond = choose_mix(pilots(SELFISH), FINAL, preference={"effectiveness": 1}, at_least={"ood": 0.999})
    assert not beyond.keeps  # still a choice: what comes nearest


def test_pilots_that_could_not_change_the_choice_are_not_run() -> None:
    cheapest = float(pilots(GENEROUS).flops.min())
    settled = choose_mix(pilots(GENEROUS), FINAL, preference={"effectiveness": 1})
    assert settled.settled
    assert next_pilots(settled, [cheapest], MIXES, 1e3 * cheapest, FINAL) == []
    open_ = choose_mix(pilots(SELFISH), FINAL)
    assert not open_.settled
    assert next_pilots(open_, [cheapest], MIXES, 0.5 * cheapest, FINAL) == []
    more = next_pilots(open_, [cheapest, 4 * cheapest], grid(3, 60), 8.5 * cheapest, FINAL)
    assert 0 < sum(flops for _, flops in more) <= 8.5 * cheapest
    assert all(sum(mix.values()) == pytest.approx(1) for mix, _ in more)


def test_pilots_are_designed_around_the_choice_that_was_made(monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(design, "decide", lambda *given, **options: kept.append(decide(*given, **options)) or kept[-1])
    runs = sweep(
        SELFISH, sizes=SIZES[:1], totals=(2000.0, 8000.0), mixes=MIXES, rng=np.random.default_rng(1), noise=0.03
    )
    least = float(reached(SELFISH, np.array([[0.7, 0.3, 0]]))[0, 1])
    wanted = {"preference": {"effectiveness": 1}, "at_least": {"ood": least}}
    choice = choose_mix(runs, FINAL, **wanted)
    assert not choice.settled
    assert next_pilots(choice, [float(runs.flops.max())], MIXES, 3 * float(runs.flops.max()), FINAL, **wanted)
    around = kept[0].options.mix[kept[0].chosen]
    np.testing.assert_allclose(around, list(choice.mix.values()), atol=0.03)


def test_equal_generators_choose_alike() -> None:
    one, two = (choose_mix(pilots(SELFISH), FINAL, rng=np.random.default_rng(4)) for _ in range(2))
    assert (one.mix, one.regret) == (two.mix, two.regret)


def test_too_few_runs_for_laws_leave_the_best_of_them() -> None:
    few = pilots(SELFISH, MIXES[:3], totals=(2000.0,))
    choice = choose_mix(few, FINAL, preference={"ood": 1})
    assert choice.mix == {"effectiveness": 0, "ood": 1, "typos": 0}
    assert choice.laws is None
    assert "no laws: law 'exchange' has" in choice.why
    assert choose_mix(few, FINAL, preference={"ood": 1}, at_least={"effectiveness": 0.99}).mix["effectiveness"] == 1


def test_several_base_models_are_refused() -> None:
    with pytest.raises(ConfigError, match="for one base model"):
        choose_mix(sweep(SELFISH), FINAL)


def test_why_speaks_of_the_mix_that_is_chosen_and_of_those_that_could_be() -> None:
    # All pairs on the third would be best by far, and no pilot gave it more than half: it is an anchor.
    truth = Truth([[1, 0.02, 0.9], [0.02, 1, 0.9], [0.02, 0.02, 1]])
    mixes = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.5]])
    choice = choose_mix(pilots(truth, mixes), FINAL, preference={"typos": 1})
    assert choice.pays is not None
    assert choice.mix["typos"] <= 0.5 + 1e-6
    assert choice.pays.mix == pytest.approx(choice.mix)
    assert choice.pays.single != "typos"
    assert "this mix is foretold to be" in choice.why
    alone = choose_mix(pilots(SELFISH), FINAL, preference={"ood": 1})
    assert alone.mix["ood"] > 0.995
    assert alone.why.startswith("mixing does not pay: nothing is foretold to be better than ood only; probability")
