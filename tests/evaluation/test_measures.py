from __future__ import annotations

import random

import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.errors import EvaluationError
from mogrid.evaluation import rank_measures
from mogrid.evaluation.measures import COLLAPSE_TIES, break_ties, tie_fraction


def drawn(seed, distinct):
    generator = random.Random(seed)
    qrels, run = {}, {}
    for q in range(generator.randint(1, 8)):
        documents = [f"d{i}" for i in range(generator.randint(1, 130))]
        qrels[f"q{q}"] = {
            d: generator.choice([0, 1, 1, 2, 3]) for d in generator.sample(documents, 1 + len(documents) // 3)
        }
        qrels[f"q{q}"]["unfound"] = 1
        scores = (
            generator.sample(range(1000), len(documents)) if distinct else [generator.randint(0, 5) for _ in documents]
        )
        run[f"q{q}"] = dict(zip(documents, map(float, scores), strict=True))
    return run, qrels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_equal_to_trec_eval_without_ties(seed):
    run, qrels = drawn(seed, distinct=True)
    got = rank_measures(run, qrels)
    cut = {q: dict(sorted(docs.items(), key=lambda item: -item[1])[:10]) for q, docs in run.items()}
    exact = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"}).evaluate(run)
    reciprocal = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
    for q in qrels:
        assert got.ndcg[q] == pytest.approx(exact[q]["ndcg_cut_10"], abs=1e-12)
        assert got.recall[q] == pytest.approx(exact[q]["recall_100"], abs=1e-12)
        assert got.rr[q] == pytest.approx(reciprocal[q]["recip_rank"], abs=1e-12)
    assert got.tie_fraction == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_ties_never_help(seed):
    run, qrels = drawn(seed, distinct=False)
    got = rank_measures(run, qrels)
    shuffled = random.Random(seed)
    # However the ties are broken instead, no measure comes out lower.
    other = {q: {d: s + shuffled.random() / 2 for d, s in docs.items()} for q, docs in run.items()}
    lucky = rank_measures(other, qrels)
    for values, others in ((got.ndcg, lucky.ndcg), (got.rr, lucky.rr), (got.recall, lucky.recall)):
        assert all(values[q] <= others[q] + 1e-12 for q in qrels)


def test_order_among_ties_by_hand():
    run = {"q": {"a": 2.0, "good": 1.0, "b": 1.0, "better": 1.0, "c": 0.0}}
    qrels = {"q": {"good": 1, "better": 2}}
    assert list(break_ties(run, qrels)["q"]) == ["a", "b", "good", "better", "c"]
    assert rank_measures(run, qrels).rr["q"] == pytest.approx(1 / 3)
    assert tie_fraction(run) == pytest.approx(2 / 4)


def test_ids_do_not_decide():
    qrels = {"q": {"zzz": 1}}
    assert rank_measures({"q": {"zzz": 1.0, "a": 1.0}}, qrels).rr["q"] == 0.5
    assert rank_measures({"q": {"zzz": 1.0, "zzzz": 1.0}}, qrels).rr["q"] == 0.5


def test_a_model_with_one_score_for_all_gets_nothing_and_an_alarm():
    run = {"q": {f"d{i}": 0.5 for i in range(101)}}
    got = rank_measures(run, {"q": {f"d{i}": 1 for i in range(50)}})
    assert (got.ndcg["q"], got.rr["q"], got.recall["q"]) == (0, 0, 0)
    assert got.tie_fraction == 1
    assert got.tie_fraction > COLLAPSE_TIES


def test_twins_may_tie():
    run = {"q": {"a": 3.0, "b": 1.0, "a2": 3.0, "c": 1.0}}
    assert tie_fraction(run, {"a2": "a"}) == pytest.approx(1 / 3)
    assert tie_fraction(run, {"a2": "a", "c": "b"}) == 0


def test_missing_and_unjudged_queries():
    qrels = {"found": {"a": 1}, "missing": {"a": 1}, "empty": {"a": 1}, "hopeless": {"a": 0}}
    got = rank_measures({"found": {"a": 1.0}, "empty": {}, "unjudged": {"a": 1.0}}, qrels)
    assert got.rr == {"found": 1.0, "missing": 0.0, "empty": 0.0}
    assert rank_measures({}, qrels).ndcg == {"found": 0.0, "missing": 0.0, "empty": 0.0}


def test_nan_and_nothing_to_measure():
    with pytest.raises(EvaluationError, match=r"query 'q': the score of document 'b' is NaN"):
        rank_measures({"q": {"a": 1.0, "b": float("nan")}}, {"q": {"a": 1}})
    with pytest.raises(EvaluationError, match="nothing to measure"):
        rank_measures({"q": {"a": 1.0}}, {"q": {"a": 0}})
