"""Seeds and queries are both samples, and domains weigh alike: in tables' intervals, and in tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import stdtr

from mogrid.evaluation import estimate, paired_runs
from mogrid.runs import RunRecord
from mogrid.runs.record import Result
from mogrid.runs.summary import pairs_of, summarise


def record(label: str, kind: str, seed: int, domains: dict[str, Sequence[float]]) -> RunRecord:
    results = []
    for domain, values in domains.items():
        own = {f"q/{i}": float(value) for i, value in enumerate(values)}
        notes = {"home": domain == "home"}
        results.append(Result(domain, "test", "clean", {"ndcg": float(np.mean(values))}, {"ndcg": own}, notes))
    return RunRecord(f"{label}-{seed}", label, kind, seed, "model", "data", {}, results=tuple(results))


def test_a_mark_has_the_sign_of_the_means_beside_it_however_many_queries_a_domain_has() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 900), rng.normal(0, 0.01, 100)
    home = {"home": [0.5] * 10}
    base = record("base", "base", 0, home | {"large": 0.5 + noise[0], "small": 0.5 + noise[1]})
    tuned = record("tuned", "trained", 0, home | {"large": 0.52 + noise[0], "small": 0.4 + noise[1]})
    table = summarise([base, tuned], "test")
    name = "other domains' nDCG@10"
    difference = table.row("tuned").values[name] - table.row("base").values[name]
    assert difference == pytest.approx(-0.04)
    assert table.row("tuned").tests[name].difference == pytest.approx(difference)


def test_with_one_seed_a_stratified_t_test_and_with_several_both_variances() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.1, 1, (1, 40))
    one = estimate(values)
    t = values.mean() / (values.std(ddof=1) / np.sqrt(40))
    assert one.p_value == pytest.approx(2 * stdtr(39, -abs(t)))
    seeds = np.array([[0.1], [0.2], [0.3]]) + np.zeros((3, 40))  # queries tell nothing: a t-test over three seeds
    several = estimate(seeds)
    t = 0.2 / (0.1 / np.sqrt(3))
    assert several.p_value == pytest.approx(2 * stdtr(2, -t))
    apart = np.concatenate([np.zeros((2, 20)), np.ones((2, 20))], axis=1)
    assert estimate(apart, ["a"] * 20 + ["b"] * 20).error == 0 < estimate(apart).error


@pytest.mark.parametrize(("seeds", "most"), [(2, 0.13), (3, 0.1)])
@pytest.mark.parametrize("of_seeds", [0.0, 0.006, 0.02])
def test_what_does_not_differ_is_rarely_called_different(of_seeds: float, seeds: int, most: float) -> None:
    rng, rejected, covered = np.random.default_rng(2), 0, 0
    for _ in range(400):
        values = rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, 0.12, 300) + rng.normal(0, 0.08, (seeds, 300))
        pairs = [({str(q): v for q, v in enumerate(row)}, dict.fromkeys(map(str, range(300)), 0.0)) for row in values]
        test = paired_runs(pairs)
        rejected += test.p_value < 0.05
        covered += test.low < 0 < test.high
    assert rejected / 400 < most  # over queries alone it is a half where seeds differ most
    assert covered + rejected == 400


def test_runs_of_one_seed_stand_beside_one_another_and_the_base_beside_all() -> None:
    runs = [record("tuned", "trained", seed, {"home": [0.5]}) for seed in (2, 0, 1)]
    others = [record("other", "trained", seed, {"home": [0.5]}) for seed in (0, 1, 3)]
    base = [record("base", "base", 0, {"home": [0.5]})]

    def seeds(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> set[tuple[int, int]]:
        return {(first.seed, second.seed) for first, second in pairs}

    assert seeds(pairs_of(runs, others)) == {(0, 0), (1, 1)}
    assert seeds(pairs_of(runs, base)) == {(2, 0), (0, 0), (1, 0)}
    assert seeds(pairs_of(base, runs)) == {(0, 2), (0, 0), (0, 1)}
    later = [record("later", "trained", seed, {"home": [0.5]}) for seed in (7, 6)]
    assert seeds(pairs_of(runs, later)) == {(0, 6), (1, 7)}
