from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mogrid.attacks.base import Attack
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError, EvaluationError, RoleError
from mogrid.evaluation import SplitResult, calibrate, evaluate_bm25, evaluate_domain, evaluate_embeddings
from mogrid.retrieval import encode_split


class Backwards(Attack):
    """Words in reverse; half of them dropped at random."""

    name = "backwards"
    white_box = False

    def __init__(self, role=Role.TEST):
        self.role = role

    def perturb(self, texts, victim, rng):
        return [" ".join(word for word in text.split()[::-1] if rng.random() < 0.5) or "river" for text in texts]


def comparable(results):
    return [replace(result, seconds=0.0) for result in results]


def test_a_domain_under_two_conditions(model, domain):
    results = evaluate_domain(model, domain, Role.TEST, conditions={"a": Backwards(), "b": Backwards()}, negatives=50)
    assert [result.condition for result in results] == ["clean", "a", "b"]
    assert all(result.queries == 66 and set(result.ce) == set(result.ndcg) for result in results)
    clean, a, b = (result.means for result in results)
    assert set(clean) == {"ndcg", "rr", "recall", "ce"}
    assert a["ce"] != b["ce"]  # each condition has its own random stream
    assert clean["recall"] > 0.9
    assert not results[0].collapsed


def test_repeatable_and_independent_of_other_conditions(model, domain):
    alone = evaluate_domain(model, domain, Role.TEST, conditions={"b": Backwards()}, seed=4)
    both = evaluate_domain(model, domain, Role.TEST, conditions={"a": Backwards(), "b": Backwards()}, seed=4)
    assert comparable(alone) == comparable([both[0], both[2]])
    other = evaluate_domain(model, domain, Role.TEST, conditions={"b": Backwards()}, seed=5)
    assert other[0].ndcg == alone[0].ndcg
    assert other[0].ce != alone[0].ce


def test_given_embeddings(model, domain):
    encoded = encode_split(model, domain, Role.TEST)
    assert comparable(evaluate_domain(model, domain, Role.TEST, encoded=encoded)) == comparable(
        [evaluate_embeddings(encoded)]
    )


def test_json_round_trip(model, domain):
    (result,) = evaluate_domain(model, domain, Role.SELECT)
    record = json.loads(json.dumps(result.to_json()))
    assert SplitResult.from_json(record) == result
    with pytest.raises(DataError, match="ndcg"):
        SplitResult.from_json({k: v for k, v in record.items() if k != "ndcg"})


def test_bm25_shares_queries_and_conditions(domain):
    results = evaluate_bm25(domain, Role.TEST, conditions={"b": Backwards()})
    assert [result.condition for result in results] == ["clean", "b"]
    assert results[0].ce is None
    assert "ce" not in results[0].means
    assert results[0].means["recall"] > results[1].means["recall"] > 0.5
    assert not results[0].collapsed


def test_bm25_without_a_common_word(domain):
    strange = Split(Role.TEST, {"q": "qwertz", "r": "?!", "s": domain.corpus["d0"]}, {q: {"d0": 1} for q in "qrs"})
    (result,) = evaluate_bm25(Domain("strange", domain.corpus, {Role.TEST: strange}), Role.TEST)
    assert result.rr["q"] == result.rr["r"] == 0
    assert result.rr["s"] > 0


def test_perfect_embeddings():
    from mogrid.retrieval import EncodedSplit

    eye = np.eye(40, dtype=np.float32)
    ids = [str(i) for i in range(40)]
    result = evaluate_embeddings(EncodedSplit("eye", "test", ids, ids, eye * 9, eye * 9, {i: {i: 1} for i in ids}, {}))
    assert result.means["ndcg"] == result.means["rr"] == result.means["recall"] == 1.0 - 0.0
    assert result.means["ce"] == pytest.approx(0.0, abs=1e-12)
    assert result.collapsed  # everything but the diagonal is one score: no ranking beyond the first place


def test_collapse_is_told_from_texts_that_read_alike(model, domain):
    read_alike = {f"x{i}": "river " * 30 + str(i) for i in range(30)}
    twice = Domain("twice", {**domain.corpus, **read_alike}, domain.splits)
    encoded = encode_split(model, twice, Role.TEST)
    assert len(encoded.twins) >= 29
    assert not evaluate_embeddings(encoded).collapsed
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[0].auto_model.encoder.layer[-1].output.LayerNorm.bias.fill_(1.0)
    (result,) = evaluate_domain(model, twice, Role.TEST)
    assert result.collapsed
    assert result.means["ndcg"] == result.means["rr"] == result.means["recall"] == 0


def test_calibration_lowers_the_entropy(model, domain):
    temperature = calibrate(encode_split(model, domain, Role.SELECT))
    raw, scaled = (
        evaluate_domain(model, domain, Role.SELECT, temperature=t)[0].means["ce"] for t in (1.0, temperature)
    )
    assert scaled <= raw + 1e-9
    with pytest.raises(RoleError, match="on a select split, not on test"):
        calibrate(encode_split(model, domain, Role.TEST))


def test_several_relevant_documents(model, domain):
    split = Split(Role.TEST, {"q": "river stone cloud"}, {"q": {"d1": 2, "d2": 1, "d3": 0}})
    (result,) = evaluate_domain(model, Domain("many", domain.corpus, {Role.TEST: split}), Role.TEST)
    assert list(result.ce) == ["q"]


def test_roles_and_bad_input(model, domain):
    with pytest.raises(RoleError, match="no train split"):
        evaluate_domain(model, domain, Role.TRAIN)
    with pytest.raises(RoleError, match="role test and is used on the select split"):
        evaluate_domain(model, domain, Role.SELECT, conditions={"b": Backwards()})
    assert evaluate_domain(model, domain, Role.SELECT, conditions={"b": Backwards(Role.SELECT)})
    with pytest.raises(RoleError, match="role train and is used on the test split"):
        evaluate_domain(model, domain, Role.TEST, conditions={"b": Backwards(Role.TRAIN)})
    with pytest.raises(EvaluationError, match="cannot be called 'clean'"):
        evaluate_domain(model, domain, Role.TEST, conditions={"clean": Backwards()})
    encoded = encode_split(model, domain, Role.TEST)
    with pytest.raises(EvaluationError, match="ids of queries"):
        replace(encoded, queries=encoded.queries[1:])
    with pytest.raises(DataError, match="unknown document 'nowhere'"):
        evaluate_embeddings(replace(encoded, qrels={q: {"nowhere": 1} for q in encoded.query_ids}))
    with torch.no_grad():
        model[0].auto_model.embeddings.LayerNorm.bias.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="document 0 is not finite"):
        evaluate_domain(model, domain, Role.TEST)
