from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.errors import EvaluationError
from mogrid.retrieval import search


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
