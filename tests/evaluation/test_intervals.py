from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_rel

from mogrid.errors import EvaluationError
from mogrid.evaluation import bootstrap_interval, compare, holm, paired_test


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []
    with pytest.raises(EvaluationError, match="p-values"):
        holm([0.1, float("nan")])


def test_bootstrap_matches_the_normal_interval_and_its_seed():
    values = np.random.default_rng(0).normal(0.4, 0.3, size=4000)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=half / 10)
    assert high == pytest.approx(values.mean() + half, abs=half / 10)
    assert bootstrap_interval(values, seed=1) == (low, high)
    assert bootstrap_interval(values, seed=2) != (low, high)
    assert bootstrap_interval([0.5] * 9) == (0.5, 0.5)


def test_bootstrap_covers():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(size=150), seed=trial, resamples=400)
        covered += low <= 1.0 <= high
    assert covered >= 180


def test_paired_test_near_the_exact_randomisation_and_the_t_test():
    rng = np.random.default_rng(1)
    second = rng.uniform(size=10)
    first = second + rng.normal(0.15, 0.25, size=10)
    a, b = ({f"q{i}": float(v) for i, v in enumerate(values)} for values in (first, second))
    difference = first - second
    signs = np.array(list(product([-1, 1], repeat=10)))
    exact = (np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12).mean()
    got = paired_test(a, b)
    assert got.p_value == pytest.approx(exact, abs=0.015)
    assert got.p_value == pytest.approx(ttest_rel(first, second).pvalue, abs=0.03)
    assert got.difference == pytest.approx(difference.mean())
    assert got.low < got.difference < got.high
    assert paired_test(b, a).p_value == pytest.approx(got.p_value)


def test_equal_systems_do_not_differ():
    values = {f"q{i}": 0.5 for i in range(20)}
    assert paired_test(values, values).p_value == 1.0


def test_false_alarms_are_as_rare_as_promised():
    rng = np.random.default_rng(0)
    rejected = 0
    for trial in range(200):
        a, b = ({f"q{i}": float(v) for i, v in enumerate(rng.normal(size=40))} for _ in range(2))
        rejected += paired_test(a, b, seed=trial, permutations=500).p_value < 0.05
    assert rejected <= 20


def test_compare_corrects_over_systems():
    rng = np.random.default_rng(0)
    baseline = {f"q{i}": float(v) for i, v in enumerate(rng.uniform(size=60))}
    systems = {
        name: {q: v + shift + float(rng.normal(0, 0.1)) for q, v in baseline.items()}
        for name, shift in (("much", 0.1), ("little", 0.02), ("none", 0.0))
    }
    tests = compare(systems, baseline)
    raw = [paired_test(values, baseline).p_value for values in systems.values()]
    assert [test.p_value for test in tests.values()] == pytest.approx(holm(raw).tolist())
    assert tests["much"].p_value < 0.01
    assert list(tests) == list(systems)


def test_bad_input():
    with pytest.raises(EvaluationError, match="same queries: 2 differ"):
        paired_test({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0})
    with pytest.raises(EvaluationError, match="finite"):
        bootstrap_interval([])
    with pytest.raises(EvaluationError, match="finite"):
        paired_test({"a": float("nan")}, {"a": 1.0})
    with pytest.raises(EvaluationError, match="confidence"):
        bootstrap_interval([1.0], confidence=1.0)
