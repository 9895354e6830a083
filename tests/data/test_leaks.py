"""Near-duplicates: exact similarities, nothing false, little missed, fast; counts of a collection."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.data import Collection, Domain, Role, Split, leak_report, near_duplicates
from mogrid.data.leaks import _shingles
from mogrid.errors import ConfigError

WORDS = [f"w{i}" for i in range(60)]


def jaccard(a: str, b: str) -> float:
    first, second = _shingles(a, 3), _shingles(b, 3)
    return len(first & second) / len(first | second) if first and second else 0.0


def corpora(seed: int, count: int = 150):
    rng = np.random.default_rng(seed)
    trained = [" ".join(rng.choice(WORDS, 40)) for _ in range(count)]
    measured = []
    for text in trained:
        words = text.split()
        for place in rng.integers(len(words), size=int(rng.integers(0, 8))):
            words[place] = "changed"
        measured.append(" ".join(words))
    return trained, measured + [" ".join(rng.choice(WORDS, 40)) for _ in range(count)]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_against_brute_force(threshold) -> None:
    trained, measured = corpora(0)
    best = [max((jaccard(m, t), -i) for i, t in enumerate(trained)) for m in measured]
    true = {i for i, (similarity, _) in enumerate(best) if similarity >= threshold}
    found = near_duplicates(trained, measured, threshold=threshold)
    assert {pair.measured for pair in found} == true
    assert len(true) > 10
    for pair in found:
        assert pair.similarity == pytest.approx(jaccard(measured[pair.measured], trained[pair.trained]))
    assert found == near_duplicates(trained, measured, threshold=threshold)


@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.text(max_size=30), max_size=8))
@settings(deadline=None, max_examples=50)
def test_equal_texts_are_always_found(trained, measured) -> None:
    found = {pair.measured: pair for pair in near_duplicates(trained, measured)}
    for i, text in enumerate(measured):
        if text in trained and _shingles(text, 3):
            assert found[i].similarity == 1.0


def test_case_spacing_and_punctuation_do_not_count() -> None:
    (pair,) = near_duplicates(["One two,  three four!"], ["?!", "", "one TWO three\nfour"])
    assert (pair.measured, pair.trained, pair.similarity) == (2, 0, 1.0)
    for bad in ({"threshold": 0}, {"threshold": 1.5}, {"words": 0}):
        with pytest.raises(ConfigError, match="threshold"):
            near_duplicates([], [], **bad)


def domain(name: str, **roles: tuple[str, str]) -> Domain:
    corpus = {f"d-{role}": document for role, (_, document) in roles.items()}
    splits = {
        Role(role): Split(Role(role), {f"q-{role}": query}, {f"q-{role}": {f"d-{role}": 1}})
        for role, (query, _) in roles.items()
    }
    return Domain(name, corpus, splits)


def test_report_counts_by_domain_and_role() -> None:
    text = "a rather long sentence that stands in two places of the data at once"
    source = domain(
        "in", train=("one query here", text), select=("two queries there", "b c d e"), test=("third one", "f g h")
    )
    others = (
        domain("a", train=("what is a valve in a car", "metal")),
        domain("b", select=("What is a valve in a car?", "wood")),
        domain("c", test=("else", text + " again")),
    )
    report = leak_report(Collection(source, others))
    assert report.counts["b, select, queries"] == (1, 1)
    assert report.counts["c, test, documents"] == (1, 1)
    assert report.leaks == 2
    assert report.counts["in, test, queries"] == (0, 1)
    assert report.examples["c, test, documents"][0][1] == text
    json.dumps(report.to_json())


def test_thousands_of_texts_in_seconds() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(5000)])
    texts = [" ".join(row) for row in vocabulary[rng.integers(5000, size=(4000, 25))]]
    started = time.process_time()  # a busy machine does not change it
    assert len(near_duplicates(texts, texts[:2000] + ["x y z"] * 2000)) == 2000
    assert time.process_time() - started < 15
