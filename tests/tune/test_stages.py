"""How a budget is divided: pilots take their part at most, whatever it is, and mixes that can be told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mogrid.errors import ConfigError
from mogrid.runs import RunRecord, seconds_of
from mogrid.training.recipe import Recipe
from mogrid.tune.stages import (
    Budget,
    candidates,
    divide,
    divide_time,
    importance_of,
    in_turns,
    pilot_mixes,
    spendable,
)
from tests.training.tiny import settings

TRAINING = {"steps": 12, "batch_size": 16, "learning_rate": 1e-2}


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate(settings(solver="fixed", spend="rows", **{"training": TRAINING, **changes}))


def anchored() -> Recipe:
    own = settings()["objectives"]
    return recipe(objectives={**own, "keep": {"datasets": "home", "loss": "distil"}})


@pytest.mark.parametrize("total", [2.7e3, 9e3, 3e4, 1e6, 1e9])
def test_pilots_take_their_part_at_most(total) -> None:
    stages = divide(total, 200.0, pilot_mixes(recipe()), 1e-3)
    planned = sum(count * flops for _, count, flops in stages.rows())
    assert planned + stages.explore <= 0.3 * total * (1 + 1e-9)
    assert stages.final == pytest.approx(total - planned - stages.explore)
    assert stages.unit >= 200.0
    assert sum(count for _, count, _ in stages.rows()) >= 3
    assert len(stages.levels) == (1 if total < 2e4 else 2)


def test_of_one_objective_learning_rates_alone_are_tried() -> None:
    stages = divide(1e5, 200.0, pilot_mixes(recipe(objectives={"a": {"datasets": "home"}})), 1e-3)
    assert (stages.rates, stages.mixes, stages.levels) == ((0.000333, 0.001, 0.003), (), ())


@pytest.mark.parametrize("objectives", [["a"], ["a", "b"], ["a", "b", "c"]])
@pytest.mark.parametrize("least", [200.0, 211.23, 7.0377e8])
def test_a_budget_below_three_pilots_is_one_line_with_what_would_do(objectives, least) -> None:
    mixes = pilot_mixes(recipe(objectives={name: {"datasets": "home"} for name in objectives}))
    pilots = max(3, len(mixes))
    with pytest.raises(ConfigError, match=f"too small: {pilots} pilots of 12 steps may be 30% of it") as error:
        divide(pilots * least / 0.3 * 0.9999, least, mixes, 1e-3)
    said, needed = (float(str(error.value).split()[place]) for place in (3, -1))
    assert said < needed < 1.006 * pilots * least / 0.3
    assert divide(needed, least, mixes, 1e-3).rows()


def test_two_mixes_have_the_price_of_three_pilots() -> None:
    """A learned objective and an anchor: two pilots would be bought by less than what is said to be the least."""
    two = recipe(objectives={"a": {"datasets": "home"}, "keep": {"datasets": "home", "loss": "distil"}})
    mixes = pilot_mixes(two)
    assert len(mixes) == 2
    with pytest.raises(ConfigError, match=r"3 pilots of 12 steps may be 30% of it, which takes 2e\+03"):
        divide(1.9e3, 200.0, mixes, 1e-3)
    stages = divide(2.1e3, 200.0, mixes, 1e-3)
    assert (stages.mixes, stages.rates, stages.levels) == (tuple(mixes), (), (0.15 * 2.1e3,))


def test_shares_of_pilots_vary_independently_anchors_too() -> None:
    mixes = pilot_mixes(anchored())
    table = np.array([list(mix.values()) for mix in mixes])
    assert np.linalg.matrix_rank(table - table.mean(axis=0)) == 3
    assert max(mix["keep"] for mix in mixes) == 0.5  # alone it would teach nothing
    for mix in mixes:
        anchored().change({"mix": mix})
    for row in candidates(anchored(), mixes[0]):
        anchored().change({"mix": dict(zip(anchored().objectives, row.tolist(), strict=True))})


def test_what_holds_to_the_base_counts_where_it_is_asked_for() -> None:
    assert importance_of(anchored()) == {"effectiveness": 1, "ood": 1, "typos": 1}
    assert importance_of(anchored().change({"preference": {"keep": 1}})) == {"keep": 1}
    with pytest.raises(ConfigError, match="name one that is to be learned"):
        pilot_mixes(recipe(objectives={"keep": {"datasets": "home", "loss": "distil"}}))


def test_no_objective_has_a_single_row() -> None:
    found = spendable({"effectiveness": 0.9, "ood": 0.06, "typos": 0.04}, recipe())
    assert found == {"effectiveness": 1.0, "ood": 0.0, "typos": 0.0}
    assert sum(spendable({"effectiveness": 0.5, "ood": 0.3, "typos": 0.2}, recipe()).values()) == pytest.approx(1)
    small = anchored().change({"training.batch_size": 6, "mix": {"ood": 1}})
    found = spendable({"effectiveness": 1 / 6, "ood": 1 / 6, "typos": 1 / 6, "keep": 0.5}, small)
    assert sorted(found.values()) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])  # no more fit into six rows
    small.change({"mix": found})


def record(flops: float, training: float, judging: float) -> RunRecord:
    seconds = {"training": training, "judging": judging}
    return RunRecord("a", "a", "trained", 0, "", "", {}, flops={"total": flops}, seconds=seconds)


def test_hours_are_what_the_longest_pilot_makes_of_them() -> None:
    records = [record(1e6, 5, 10), record(1e8, 100, 10)]
    for workers in (1, 2):  # what is left is one training's, on one of them
        assert Budget(hours=0.1, workers=workers).left(records, 10, 125) == pytest.approx((360 - 125 - 100) * 1e6)
    assert Budget(flops=1e9).left(records, 10) == pytest.approx(1e9 - 1.01e8)
    healed = [replace(r, seconds={**r.seconds, "healing": 30}) for r in records]  # each tells of the one healing
    assert seconds_of([*healed, replace(healed[0], model="another"), replace(healed[0], seconds={})]) == 125 + 30 + 45
    with pytest.raises(ConfigError, match="positive number"):
        Budget(hours=-1)


def test_a_stage_takes_as_long_as_its_workers_do() -> None:
    assert in_turns([3, 3, 3], 1) == 9
    assert in_turns([3, 3, 3], 2) == 6
    assert in_turns([1, 1, 1, 4, 4], 2) == 6  # 1, 1, 4 beside 1, 4
    assert in_turns([3, 3, 3], 8) == 3
    assert in_turns([], 2) == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("alone", [2e4, 1e6, 1e9])
def test_a_time_that_is_divided_is_enough_for_all_stages(alone, workers) -> None:
    stages = divide_time(alone, 200.0, pilot_mixes(recipe()), 1e-3, workers)
    taken = sum(stages.in_turns(workers).values())
    assert 0.9 * alone < taken <= alone * (1 + 1e-9)
    assert stages.final == pytest.approx(0.7 * stages.total)
    if workers == 1:
        assert stages == divide(alone, 200.0, pilot_mixes(recipe()), 1e-3)
