"""What shorter runs say of the longest ones' front, against runs of a known law."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mogrid.errors import DataError
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


def test_what_tells_nothing_is_refused() -> None:
    laws = fit_laws(sweep(sizes=SIZES[-1:], totals=TOTALS[-1:]), draws=20)
    with pytest.raises(DataError, match="0 runs shorter than the longest"):
        foretold_front(laws, "ndcg")
    with pytest.raises(DataError, match="ce has no worst value"):
        foretold_front(laws, "ce")
