from __future__ import annotations

import importlib

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.errors import EvaluationError
from mogrid.retrieval import search
from mogrid.retrieval.prefilter import prefiltered


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 150), st.integers(1, 9), st.integers(1, 160))
def test_equal_to_brute_force(seed, n, m, d, k):
    # Small integers: every inner product is exact, so that scores must agree to the bit, ties included.
    rng = np.random.default_rng(seed)
    queries, documents = rng.integers(-9, 10, (n, d)), rng.integers(-9, 10, (m, d))
    scores, indices = search(queries, documents, k)
    exact = queries @ documents.T
    assert scores.shape == indices.shape == (n, min(k, m))
    assert np.array_equal(scores, -np.sort(-exact, axis=1)[:, :k])
    assert np.array_equal(np.take_along_axis(exact, indices, axis=1), scores)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_equal_to_brute_force_on_floats():
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(37, 64)), rng.normal(size=(2000, 64))
    _, indices = search(queries, documents, 100)
    assert np.array_equal(indices, np.argsort(-(queries @ documents.T), axis=1)[:, :100])


def test_equal_scores_by_ascending_index():
    _, indices = search(np.ones((1, 2)), np.ones((50, 2)), 50)
    assert indices[0].tolist() == list(range(50))


def test_puts_the_global_threshold_back():
    before = faiss.cvar.distance_compute_blas_threshold
    search(np.ones((1, 2)), np.ones((3, 2)), 1)
    assert faiss.cvar.distance_compute_blas_threshold == before


@pytest.mark.parametrize(
    ("queries", "documents", "k", "message"),
    [
        (np.ones((0, 2)), np.ones((3, 2)), 1, "queries must be a matrix"),
        (np.ones((1, 2)), np.ones((0, 2)), 1, "documents must be a matrix"),
        (np.ones(2), np.ones((3, 2)), 1, "queries must be a matrix"),
        (np.ones((1, 2)), np.ones((3, 4)), 1, "2 dimensions, documents 4"),
        (np.ones((1, 2)), np.ones((3, 2)), 0, "k must be at least 1"),
        (np.ones((1, 2)), np.array([[1, 1], [np.inf, 1]]), 1, "documents 1 is not finite"),
    ],
)
def test_bad_input(queries, documents, k, message):
    with pytest.raises(EvaluationError, match=message):
        search(queries, documents, k)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([3, 48, 1030]),
    st.integers(1, 60),
    st.sampled_from(["gaussian", "positive", "negative", "integers", "uneven", "near"]),
)
def test_two_steps_find_what_brute_force_finds(seed, width, k, kind):
    """Whatever the vectors: the best k by exact scores, on processors with bfloat16 or without."""
    rng = np.random.default_rng(seed)
    queries, documents = rng.normal(size=(9, width)), rng.normal(size=(1500, width))
    if kind == "positive":
        queries, documents = np.abs(queries), np.abs(documents)
    elif kind == "negative":
        queries, documents = -np.abs(queries), np.abs(documents)
    elif kind == "integers":
        queries, documents = rng.integers(-3, 4, (9, width)), rng.integers(-3, 4, (1500, width))
    elif kind == "uneven":
        documents = documents * rng.lognormal(sigma=3, size=(1500, 1))
    elif kind == "near":
        documents = documents[:1] + 0.3 * documents
    queries, documents = np.float32(queries), np.float32(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mogrid.retrieval.prefilter._DOCUMENTS", 400)
        patch.setattr("mogrid.retrieval.prefilter._QUERIES", 5)
        patch.setattr("mogrid.retrieval.prefilter._MOST", 10_000)
        scores, rows = prefiltered(queries, documents, k)
    exact = queries.astype(np.float64) @ documents.T.astype(np.float64)
    best = -np.sort(-exact, axis=1)[:, :k]
    tolerance = 1e-5 * np.linalg.norm(queries, axis=1).max() * np.linalg.norm(documents, axis=1).max()
    np.testing.assert_allclose(np.take_along_axis(exact, rows, axis=1), best, atol=tolerance)
    np.testing.assert_allclose(scores, best, atol=tolerance)
    assert all(len(set(row)) == k for row in rows.tolist())
    if kind == "integers":  # exact in single precision: ties stand by row
        assert np.array_equal(scores, best)
        assert np.array_equal(rows, np.take_along_axis(rows, np.lexsort((rows, -scores), axis=1), axis=1))


def test_two_steps_give_up_where_they_rule_nothing_out():
    rng = np.random.default_rng(0)
    alike = np.float32(1 + 1e-4 * rng.normal(size=(9000, 16)))
    assert prefiltered(alike[:70], alike, 10) is None
    assert prefiltered(alike[:70] * np.float32(1e30), alike, 10) is None


def test_either_way_is_taken_and_both_agree(monkeypatch):
    rng = np.random.default_rng(0)
    queries, documents = (np.float32(rng.normal(size=(n, 64))) for n in (70, 3000))
    taken = []
    module = importlib.import_module("mogrid.retrieval.search")
    monkeypatch.setattr(module, "prefiltered", lambda *given: taken.append(1) or prefiltered(*given))
    found = []
    for worth in (True, False):
        monkeypatch.setattr(module, "worth_it", lambda *sizes, worth=worth: worth)
        found.append(search(queries, documents, 20))
    assert taken == [1]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-4)
    assert np.array_equal(found[0][1], found[1][1])


def test_a_sum_that_overflows_is_no_vector_that_is_not_finite():
    huge = np.full((2, 4), 3e38, np.float32)
    assert search(np.ones((1, 4)) * 1e-10, huge, 1)[1].tolist() == [[0]]
