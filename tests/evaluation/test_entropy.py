from __future__ import annotations

import math

import numpy as np
import pytest

from mogrid.errors import EvaluationError
from mogrid.evaluation import calibrate_temperature, contrastive_entropy
from mogrid.evaluation.entropy import _draw


def data(n=30, m=500, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(rows, d)).astype(np.float32) for rows in (n, n, m))


def by_loop(queries, positives, pool, rng, negatives, redraws, exclude, temperature):
    """Fang et al.'s definition, one pair and one redraw at a time."""
    values = []
    for query, positive, relevant in zip(queries, positives, exclude, strict=True):
        usable = np.array([i for i in range(len(pool)) if i not in relevant])
        redrawn = []
        for _ in range(redraws):
            drawn = pool[rng.choice(usable, min(negatives, len(usable)), replace=False)].astype(np.float64)
            scores = np.concatenate([[query.astype(np.float64) @ positive], drawn @ query]) / temperature
            redrawn.append(-scores[0] + math.log(np.exp(scores).sum()))
        values.append(np.mean(redrawn))
    return np.array(values)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_equal_to_a_loop_when_the_whole_pool_is_drawn(temperature):
    # 256 negatives out of exactly 256: no randomness is left, and both must agree.
    queries, positives, pool = data(m=259)
    exclude = [{i, i + 40, 258} for i in range(30)]
    rng = np.random.default_rng(0)
    expected = by_loop(queries, positives, pool, rng, 256, 1, exclude, temperature)
    got = contrastive_entropy(queries, positives, pool, rng=rng, redraws=2, exclude=exclude, temperature=temperature)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_agrees_with_a_loop_in_distribution():
    queries, positives, pool = data(m=300)
    queries *= 0.3
    exclude = [set(range(i, i + 5)) for i in range(30)]
    many = {"negatives": 16, "redraws": 1500, "exclude": exclude}
    got = contrastive_entropy(queries, positives, pool, rng=np.random.default_rng(0), **many)
    expected = by_loop(queries, positives, pool, np.random.default_rng(1), temperature=1.0, **many)
    np.testing.assert_allclose(got, expected, atol=0.04)
    assert abs((got - expected).mean()) < 0.005


@pytest.mark.parametrize("size", [300, 20_000])
def test_negatives_are_uniform_without_replacement_and_never_relevant(size):
    # Scores that are the pool's own row numbers show which rows were drawn.
    pool = np.arange(1, size + 1, dtype=np.float32)[:, None]
    queries = np.ones((300, 1), np.float32)
    exclude = [set() if i % 2 else {0, 1, size - 1} for i in range(300)]
    seen = np.zeros(size)
    for start, (_, drawn) in enumerate(_draw(queries, queries, pool, np.random.default_rng(0), 100, 4, exclude)):
        for redraw in drawn:
            for row, scores in enumerate(redraw, start=256 * start):
                numbers = scores[np.isfinite(scores)].astype(int) - 1
                assert len(set(numbers)) == len(numbers) == 100
                if not exclude[row]:
                    seen[numbers] += 1
    assert abs(seen.reshape(10, -1).sum(axis=1) / seen.sum() - 0.1).max() < 0.01


def test_relevant_rows_are_never_drawn():
    pool = np.arange(1, 301, dtype=np.float32)[:, None]
    queries = np.ones((40, 1), np.float32)
    exclude = [{i, 2 * i, 299} for i in range(40)]
    ((_, drawn),) = _draw(queries, queries, pool, np.random.default_rng(0), 280, 5, exclude)
    for pair, relevant in enumerate(exclude):
        assert not {row + 1 for row in relevant} & set(drawn[:, pair].ravel())


def test_chance_level_bounds_and_stability():
    queries, positives, pool = data()
    flat = np.ones_like(queries)
    rng = np.random.default_rng(0)
    values = contrastive_entropy(queries, positives * 0, pool * 0, rng=rng)
    np.testing.assert_allclose(values, math.log(257))
    far = contrastive_entropy(flat * 1e4, flat * 1e4, -np.ones_like(pool), rng=rng)
    assert (far == 0).all()
    lost = contrastive_entropy(flat * 1e4, -flat * 1e4, np.ones_like(pool), rng=rng)
    assert np.isfinite(lost).all()
    assert (lost > 1e8).all()


def test_same_seed_same_negatives_for_any_model():
    queries, positives, pool = data()
    draws = [
        contrastive_entropy(queries * s, positives, pool, rng=np.random.default_rng(3), temperature=s)
        for s in (1.0, 7.0)
    ]
    np.testing.assert_allclose(*draws, rtol=1e-4)


def test_small_pool_uses_all_of_it():
    queries, positives, pool = data(m=5)
    values = contrastive_entropy(queries, positives, pool * 0, rng=np.random.default_rng(0))
    scores = np.einsum("nd,nd->n", queries, positives)
    np.testing.assert_allclose(values, np.log1p(5 * np.exp(-scores)), rtol=1e-4)


def test_calibration_finds_the_scale_that_was_put_in():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(3000, 16)).astype(np.float32)
    queries = 0.5 * rng.normal(size=(1500, 16)).astype(np.float32)
    # Positives drawn with probability ∝ e^s beside uniform negatives: the true temperature is 1, and 5 after scaling.
    positives = pool[np.argmax(queries @ pool.T + rng.gumbel(size=(1500, 3000)), axis=1)]
    found = [
        calibrate_temperature(s * queries, positives, pool, rng=np.random.default_rng(1), negatives=199)
        for s in (1.0, 5.0)
    ]
    assert found[0] == pytest.approx(1.0, rel=0.1)
    assert found[1] == pytest.approx(5 * found[0], rel=1e-3)
    for temperature in (found[0] * 0.9, found[0] * 1.1):
        at, best = (
            contrastive_entropy(
                queries, positives, pool, rng=np.random.default_rng(1), negatives=199, temperature=t
            ).mean()
            for t in (temperature, found[0])
        )
        assert best <= at


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"negatives": 0}, "at least 1"),
        ({"redraws": 0}, "at least 1"),
        ({"exclude": [set()]}, "1 entries for 30 pairs"),
        ({"exclude": [{500}] * 30}, "outside the pool"),
        ({"exclude": [set(range(500))] * 30}, "pair 0: the pool holds no document"),
        ({"positives": np.ones((29, 8))}, "pair up row by row"),
        ({"pool": np.ones((10, 9))}, "pair up row by row"),
        ({"pool": np.full((10, 8), np.nan)}, "pool 0 is not finite"),
    ],
)
def test_bad_input(change, message):
    named = dict(zip(("queries", "positives", "pool"), data(), strict=True))
    with pytest.raises(EvaluationError, match=message):
        contrastive_entropy(**{**named, "rng": np.random.default_rng(0), **change})
