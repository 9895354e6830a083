"""What shorter runs say of the longest ones' front, against runs of a known law."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mogrid.errors import ConfigError, DataError
from mogrid.frontier import fit_laws, foretold_front
from tests.frontier.truth import SIZES, TOTALS, sweep

LENGTHS = (TOTALS[0], TOTALS[0] * 2, TOTALS[0] * 8)


def test_a_front_that_follows_its_law_is_foretold() -> None:
    runs = sweep(sizes=SIZES[-1:], totals=LENGTHS, seeds=2, noise=0.002, rng=np.random.default_rng(0))
    found = foretold_front(fit_laws(runs, draws=20), "ndcg")
    assert (found.mixes, found.runs, found.model) == (7, 28, "600000")
    assert found.share == pytest.approx(3 / 8)
    assert abs(found.error) < 0.02
    assert found.covered > 0.7
    assert abs(found.shorter / found.measured - 1) > 0.1  # what is foretold is a gain
    true = runs.values["ndcg"][-14::2]
    assert true.prod(axis=1).max() < found.measured < true.max(axis=0).prod()
    assert f"hypervolume {abs(found.error):.1%} off" in str(found)


def test_runs_that_leave_their_law_are_not_foretold() -> None:
    runs = sweep(sizes=SIZES[-1:], totals=LENGTHS, seeds=2)
    last = runs.pairs.sum(axis=1) > LENGTHS[1]
    spoilt = {metric: np.where(last[:, None], 0.5 * table, table) for metric, table in runs.values.items()}
    found = foretold_front(fit_laws(dataclasses.replace(runs, values=spoilt), draws=20), "ndcg")
    assert found.error > 5
    assert found.covered < 0.1


def test_the_largest_model_is_asked() -> None:
    found = foretold_front(fit_laws(sweep(totals=LENGTHS, noise=0.002, rng=np.random.default_rng(1)), draws=20), "ndcg")
    assert (found.model, found.runs) == ("600000", 14)


def test_a_law_that_is_asked_for_foretells() -> None:
    laws = fit_laws(sweep(sizes=SIZES[-1:], totals=LENGTHS, noise=0.002, rng=np.random.default_rng(0)), draws=20)
    told = {form: foretold_front(laws, "ndcg", form=form).foretold for form in (None, "quadratic", "exchange")}
    assert told["exchange"] != told["quadratic"]
    with pytest.raises(ConfigError, match="no law 'cubic'"):
        foretold_front(laws, "ndcg", form="cubic")


def test_what_tells_nothing_is_refused() -> None:
    laws = fit_laws(sweep(sizes=SIZES[-1:], totals=TOTALS[-1:]), draws=20)
    with pytest.raises(DataError, match="that have both: 600000 has 0, and 0"):
        foretold_front(laws, "ndcg")
    with pytest.raises(DataError, match="ce has no worst value"):
        foretold_front(laws, "ce")


def test_a_longest_run_without_shorter_ones_of_its_mix_does_not_count() -> None:
    runs = sweep(sizes=SIZES[-1:], totals=LENGTHS)
    total, corner = runs.pairs.sum(axis=1), runs.mix.max(axis=1) == 1
    some = foretold_front(fit_laws(runs.only((total < LENGTHS[2]) | corner), draws=20))
    assert (some.mixes, some.metric) == (3, "ndcg")
    whole = foretold_front(fit_laws(runs, draws=20))
    assert some.shorter < whole.shorter
    lonely = runs.only((total < LENGTHS[2]) & ~corner | (total == LENGTHS[2]) & corner)
    with pytest.raises(DataError, match="has 8, and 0"):
        foretold_front(fit_laws(lonely, draws=20))


def test_equal_flops_are_one_length_whatever_a_pair_costs() -> None:
    runs = sweep(sizes=SIZES[-1:], totals=LENGTHS)
    total = runs.pairs.sum(axis=1)
    dear = dataclasses.replace(runs, pairs=runs.pairs / (1 + runs.mix[:, 2:]), flops=1e6 * total)
    assert foretold_front(fit_laws(dear, draws=20)).mixes == 7


def test_nothing_found_is_no_front() -> None:
    runs = sweep(sizes=SIZES[-1:], totals=LENGTHS)
    last = runs.pairs.sum(axis=1) == LENGTHS[2]
    lost = {metric: table * np.where(last[:, None], [1, 1, 0], 1) for metric, table in runs.values.items()}
    with pytest.raises(DataError, match="ndcg is 0 in the longest runs"):
        foretold_front(fit_laws(dataclasses.replace(runs, values={"ndcg": lost["ndcg"]}), draws=20))
