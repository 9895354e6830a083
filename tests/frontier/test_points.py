"""Measured points: dominance, seeds, bootstrap; and what importing the room costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mogrid.errors import DataError
from mogrid.frontier import Front

LOSSES = arrays(float, st.tuples(st.integers(1, 12), st.integers(2, 4)), elements=st.integers(0, 5).map(float))


def front_of(values: np.ndarray) -> Front:
    names = tuple("abcd"[: values.shape[1]])
    return Front(names, values, tuple(f"run{i}" for i in range(len(values))), (0,) * len(values))


@settings(deadline=None, max_examples=60)
@given(LOSSES)
def test_non_dominated_is_what_the_definition_says(values: np.ndarray) -> None:
    dominated = [any((other <= row).all() and (other < row).any() for other in values) for row in values]
    front = front_of(values)
    assert front.non_dominated().tolist() == [not d for d in dominated]


def test_means_over_seeds_have_t_intervals_and_one_seed_has_none() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [9.0, 9.0]])
    names, means, widths = Front(("a", "b"), values, ("x", "x", "x", "y"), (0, 1, 2, 0)).means()
    assert names == ("x", "y")
    np.testing.assert_allclose(means, [[2, 5], [9, 9]])
    assert widths[0, 0] == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert widths[0, 1] == 0
    assert np.isnan(widths[1]).all()


def test_bootstrap_pairs_seeds_and_spreads_like_new_runs() -> None:
    rng = np.random.default_rng(0)
    seed_effect = rng.normal(size=3)
    values = np.concatenate([seed_effect, seed_effect + 10])[:, None] + np.zeros((1, 2))
    front = Front(("a", "b"), values, ("x",) * 3 + ("y",) * 3, (0, 1, 2, 0, 1, 2))
    draws = front.bootstrap(4000)
    # The seeds' common effect cancels in the difference of two strategies.
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 10)
    assert draws[:, 0, 0].std() == pytest.approx(seed_effect.std(ddof=1) / np.sqrt(3), rel=0.05)
    np.testing.assert_array_equal(draws, front.bootstrap(4000))


def test_a_value_that_is_not_finite_names_the_run() -> None:
    with pytest.raises(DataError, match="run 'mgda', seed 7: ood is nan"):
        Front(("effectiveness", "ood"), np.array([[1.0, np.nan]]), ("mgda",), (7,))
    with pytest.raises(DataError, match="needs runs"):
        Front(("effectiveness", "ood"), np.empty((0, 2)), (), ())


def test_importing_the_room_is_light() -> None:
    code = "import sys, mogrid.frontier; print([m for m in ('pymoo', 'moocore', 'scipy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
