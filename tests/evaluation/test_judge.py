from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import torch

from mogrid.attacks import Misspellings
from mogrid.attacks.base import Attack
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import DataError, EvaluationError, RoleError
from mogrid.evaluation import JudgedSplit, SplitResult, calibrate, evaluate_embeddings, judge, judging, sample_domain
from mogrid.retrieval import encode_split
from mogrid.retrieval.splits import relevant_pairs


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
    results = judge(
        model, [JudgedSplit(domain, Role.TEST, {"a": Backwards(), "b": Backwards()})], temperature=1.0, negatives=50
    )
    assert [result.condition for result in results] == ["clean", "a", "b"]
    assert all(result.queries == 66 and set(result.ce) == set(result.ndcg) for result in results)
    clean, a, b = (result.means for result in results)
    assert set(clean) == {"ndcg", "rr", "recall", "ce"}
    assert a["ce"] != b["ce"]  # each condition has its own random stream
    assert clean["recall"] > 0.9
    assert not results[0].collapsed


def test_repeatable_and_independent_of_other_conditions(model, domain):
    drawn: dict[str, Any] = {"temperature": 1.0, "negatives": 8}  # of 96 documents: another seed draws others
    alone = judge(model, [JudgedSplit(domain, Role.TEST, {"b": Backwards()})], seed=4, **drawn)
    both = judge(model, [JudgedSplit(domain, Role.TEST, {"a": Backwards(), "b": Backwards()})], seed=4, **drawn)
    assert comparable(alone) == comparable([both[0], both[2]])
    other = judge(model, [JudgedSplit(domain, Role.TEST, {"b": Backwards()})], seed=5, **drawn)
    assert other[0].ndcg == alone[0].ndcg
    assert other[0].means["ce"] != pytest.approx(alone[0].means["ce"], rel=1e-4)


def test_given_embeddings(model, domain):
    encoded = encode_split(model, domain, Role.TEST)
    (judged,) = judge(model, [JudgedSplit(domain, Role.TEST)], temperature=1.0)
    assert comparable([judged]) == comparable([evaluate_embeddings(encoded)])


def test_json_round_trip(model, domain):
    (result,) = judge(model, [JudgedSplit(domain, Role.SELECT)], temperature=1.0)
    record = json.loads(json.dumps(result.to_json()))
    assert SplitResult.from_json(record) == result
    with pytest.raises(DataError, match="ndcg"):
        SplitResult.from_json({k: v for k, v in record.items() if k != "ndcg"})


def test_bm25_shares_queries_and_conditions(domain):
    results = judge("bm25", [JudgedSplit(domain, Role.TEST, {"b": Backwards()})])
    assert [result.condition for result in results] == ["clean", "b"]
    assert results[0].ce is None
    assert "ce" not in results[0].means
    assert results[0].means["recall"] > results[1].means["recall"] > 0.5
    assert not results[0].collapsed


def test_bm25_without_a_common_word(domain):
    strange = Split(Role.TEST, {"q": "qwertz", "r": "?!", "s": domain.corpus["d0"]}, {q: {"d0": 1} for q in "qrs"})
    (result,) = judge("bm25", [JudgedSplit(Domain("strange", domain.corpus, {Role.TEST: strange}), Role.TEST)])
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
    (result,) = judge(model, [JudgedSplit(twice, Role.TEST)], temperature=1.0)
    assert result.collapsed
    assert result.means["ndcg"] == result.means["rr"] == result.means["recall"] == 0


def test_calibration_lowers_the_entropy(model, domain):
    temperature = calibrate(encode_split(model, domain, Role.SELECT))
    raw, scaled = (
        judge(model, [JudgedSplit(domain, Role.SELECT)], temperature=t)[0].means["ce"] for t in (1.0, temperature)
    )
    assert scaled <= raw + 1e-9
    with pytest.raises(RoleError, match="on a select split, not on test"):
        calibrate(encode_split(model, domain, Role.TEST))


def test_several_relevant_documents(model, domain):
    split = Split(Role.TEST, {"q": "river stone cloud"}, {"q": {"d1": 2, "d2": 1, "d3": 0}})
    (result,) = judge(
        model, [JudgedSplit(Domain("many", domain.corpus, {Role.TEST: split}), Role.TEST)], temperature=1.0
    )
    assert list(result.ce) == ["q"]


def test_roles_and_bad_input(model, domain):
    with pytest.raises(RoleError, match="no train split"):
        judge(model, [JudgedSplit(domain, Role.TRAIN)])
    with pytest.raises(RoleError, match="role test and is used on the select split"):
        judge(model, [JudgedSplit(domain, Role.SELECT, {"b": Backwards()})])
    assert judge(model, [JudgedSplit(domain, Role.SELECT, {"b": Backwards(Role.SELECT)})])
    with pytest.raises(RoleError, match="role train and is used on the test split"):
        judge(model, [JudgedSplit(domain, Role.TEST, {"b": Backwards(Role.TRAIN)})])
    with pytest.raises(EvaluationError, match="cannot be called 'clean'"):
        judge(model, [JudgedSplit(domain, Role.TEST, {"clean": Backwards()})])
    encoded = encode_split(model, domain, Role.TEST)
    with pytest.raises(EvaluationError, match="ids of queries"):
        replace(encoded, queries=encoded.queries[1:])
    with pytest.raises(DataError, match="unknown document 'nowhere'"):
        evaluate_embeddings(replace(encoded, qrels={q: {"nowhere": 1} for q in encoded.query_ids}))
    with torch.no_grad():
        model[0].auto_model.embeddings.LayerNorm.bias.fill_(float("nan"))
    with pytest.raises(EvaluationError, match="document 0 is not finite"):
        judge(model, [JudgedSplit(domain, Role.TEST)])


class Same(Backwards):
    """Perturbs one text of a hundred and one."""

    name = "same"

    def perturb(self, texts, victim, rng):
        return [*texts[:-1], texts[-1][::-1]] if len(texts) > 100 else list(texts)


def many(domain: Domain, count: int) -> Domain:
    queries = {f"q{i}": f"river stone {i}" for i in range(count)}
    return Domain("many", domain.corpus, {Role.TEST: Split(Role.TEST, queries, {q: {"d1": 1} for q in queries})})


def test_a_perturbation_that_changes_nearly_nothing_is_refused_before_anything_is_encoded(domain):
    for asked, share in ((domain, "0 of 66"), (many(domain, 101), "1 of 101")):
        with pytest.raises(EvaluationError, match=f"{asked.name}, test: 'same' changes {share} texts"):
            judge(object(), [JudgedSplit(asked, Role.TEST, {"same": Same()})])
    german = Split(Role.TEST, {"q": "Womit kann ich Wasser kochen?"}, {"q": {"d0": 1}})
    with pytest.raises(EvaluationError, match="'misspellings' changes 0 of 1"):
        judge("bm25", [JudgedSplit(Domain("german", domain.corpus, {Role.TEST: german}), Role.TEST,
                                   {"misspellings": Misspellings()})])  # fmt: skip


def test_the_share_of_changed_texts_is_recorded(model, domain):
    class Some(Backwards):
        def perturb(self, texts, victim, rng):
            return [text.upper() if n % 3 else text for n, text in enumerate(texts)]

    clean, some = judge(model, [JudgedSplit(domain, Role.TEST, {"some": Some()})])
    assert clean.changed is None
    assert some.changed == pytest.approx(44 / 66)
    assert judge("bm25", [JudgedSplit(domain, Role.TEST, {"some": Some()})])[1].changed == some.changed


class Counting:
    """A model of another kind that says how often it is asked for what."""

    def __init__(self):
        self.asked = []

    def encode_query(self, texts):
        return self._encode(texts, "query")

    def encode_document(self, texts):
        return self._encode(texts, "document")

    def _encode(self, texts, kind):
        self.asked.append((kind, len(texts)))
        return np.array([[text.count(letter) for letter in "aeiourstln"] for text in texts], dtype=np.float32)


def test_a_corpus_is_encoded_once_for_all_roles_and_every_condition_once(domain, monkeypatch):
    searched, module = [], importlib.import_module("mogrid.evaluation.measured")
    search = module.search
    monkeypatch.setattr(module, "search", lambda *given: searched.append(1) or search(*given))
    model, other = Counting(), Domain("other", {f"x{d}": t for d, t in domain.corpus.items()}, {
        Role.SELECT: Split(Role.SELECT, {"o": "river stone"}, {"o": {"xd1": 1}})})  # fmt: skip
    splits = [
        JudgedSplit(domain, Role.TEST, {"b": Backwards()}),
        JudgedSplit(other, Role.SELECT),
        JudgedSplit(domain, Role.SELECT, {"a": Backwards(Role.SELECT)}),
        JudgedSplit(domain, Role.SELECT),
    ]
    heard = []
    results = judge(model, splits, progress=lambda what, share: heard.append((what, share)))
    assert [(r.domain, r.role, r.condition) for r in results] == [
        ("words", "test", "clean"), ("words", "test", "b"), ("other", "select", "clean"),
        ("words", "select", "clean"), ("words", "select", "a"),
    ]  # fmt: skip
    assert [kind for kind, _ in model.asked].count("document") == 2
    assert len(model.asked) == 2 + 5
    assert len(searched) == 5
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len({r.temperature for r in results}) == 1
    assert all(r.ce is not None for r in results)
    alone = judge(Counting(), [JudgedSplit(other, Role.SELECT)], temperature=results[0].temperature)
    assert comparable(alone) == comparable([results[2]])


def test_without_a_select_split_there_is_no_entropy(model, domain):
    (result,) = judge(model, [JudgedSplit(domain, Role.TEST)])
    assert result.ce is None
    assert not result.collapsed
    assert set(result.means) == {"ndcg", "rr", "recall"}
    (given,) = judge(model, [JudgedSplit(domain, Role.TEST)], temperature=2.0)
    assert given.temperature == 2.0
    assert given.ndcg == result.ndcg


ARGUMENTS = {
    "a0-pro": "Uniforms make pupils equal: nobody sees who is rich.",
    "a0-con": "Pupils show wealth by phones and shoes, whatever they wear.",
    "a1-pro": "Night trains spare a hotel and an airport.",
    "a1-con": "A night train costs more than a flight and a room together.",
    "a2-pro": "Zoos keep species alive that have no habitat left.",
    "a2-con": "Animals bred in cages rarely survive a release.",
}


def arguments(titles: bool) -> Domain:
    """As in ArguAna: the query stands in the corpus under its own id, there with a title."""
    queries = {name: text for name, text in ARGUMENTS.items() if name.endswith("pro")}
    qrels = {name: {name.replace("pro", "con"): 1} for name in queries}
    corpus = {name: f"pupils and trains {text}" if titles else text for name, text in ARGUMENTS.items()}
    return Domain("arguments", corpus, {Role.TEST: Split(Role.TEST, queries, qrels)})


@pytest.mark.parametrize("titles", [False, True])
def test_a_query_is_no_result_of_itself(titles):
    domain = arguments(titles)
    dense, lexical = Counting(), "bm25"
    for retriever in (dense, lexical):
        cells = list(judging(retriever, [JudgedSplit(domain, Role.TEST, {"b": Backwards()})], temperature=1.0))
        for cell in cells:
            assert not any(query in found for query, found in cell.run.items())
        assert cells[0].result.self_hits == 3
    # As pytrec_eval says of a run without them, which is what BEIR and MTEB do.
    (cell,) = judging(dense, [JudgedSplit(domain, Role.TEST)])
    queries, documents = (
        dense.encode_query(list(cell.queries.values())),
        dense.encode_document(list(domain.corpus.values())),
    )
    run = {
        query: {d: float(s) for d, s in zip(domain.corpus, row, strict=True) if d != query}
        for query, row in zip(cell.queries, queries @ documents.T, strict=True)
    }
    found = pytrec_eval.RelevanceEvaluator({q: dict(j) for q, j in domain.split(Role.TEST).qrels.items()},
                                           {"ndcg_cut.10"}).evaluate(run)  # fmt: skip
    assert cell.result.ndcg == pytest.approx({q: v["ndcg_cut_10"] for q, v in found.items()}, abs=1e-9)
    encoded = encode_split(dense, domain, Role.TEST)
    assert np.isneginf(encoded.scores([0, 1, 2])).sum(axis=1).tolist() == [1, 1, 1]
    pairs = relevant_pairs(encoded)[2]
    assert all(encoded.rows[query] in excluded for query, excluded in zip(encoded.query_ids, pairs, strict=True))


def test_numbers_that_queries_and_documents_share_mean_nothing(domain):
    """Both are numbered from 1 in Cranfield, and PubMedQA's answer has its question's id: those are results."""
    corpus = {"1": "river stone cloud", "2": "lamp door", "3": "eagle"}
    numbered = Split(
        Role.TEST, {"1": "lamp", "2": "eagle", "3": "eagle"}, {"1": {"2": 1}, "2": {"3": 1}, "3": {"3": 1}}
    )
    for retriever in (Counting(), "bm25"):
        (result,) = judge(retriever, [JudgedSplit(Domain("numbered", corpus, {Role.TEST: numbered}), Role.TEST)])
        assert result.self_hits == 0
        assert result.ndcg["3"] == 1


def test_exact_duplicates_cap_the_score_and_the_cap_is_said():
    corpus = {"a": "river stone", "b": "river stone", "c": "lamp", "d": "door", "e": "door", "f": "door"}
    split = Split(Role.TEST, {"q": "river stone", "r": "lamp", "s": "door"},
                  {"q": {"a": 1}, "r": {"c": 1}, "s": {"d": 1, "e": 1}})  # fmt: skip
    domain = Domain("twice", corpus, {Role.TEST: split})
    log = np.log2
    best = {"q": 1 / log(3), "r": 1.0, "s": (1 / log(3) + 1 / log(4)) / (1 + 1 / log(3))}
    for retriever in (Counting(), "bm25"):
        (result,) = judge(retriever, [JudgedSplit(domain, Role.TEST)])
        assert result.ceiling == pytest.approx(np.mean(list(best.values())))
        assert result.means["ndcg"] <= result.ceiling + 1e-12
    assert judge("bm25", [JudgedSplit(domain, Role.TEST)])[0].ndcg == pytest.approx(best)


def test_records_without_values_per_query(model, domain):
    (result,) = judge(model, [JudgedSplit(domain, Role.SELECT)])
    slim = json.loads(json.dumps(result.to_json(queries=False)))
    assert "q0" not in json.dumps(slim)
    again = SplitResult.from_json(slim)
    assert (again.means, again.queries, again.collapsed) == (result.means, 30, result.collapsed)
    assert again.to_json(queries=False) == slim


def test_one_definition_of_collapse(model, domain):
    """Lying near one line is a collapse, too, whether or not anything ties."""
    encoded = encode_split(model, domain, Role.TEST)
    rng = np.random.default_rng(0)
    line = replace(encoded, documents=(rng.normal(size=(96, 1)) * encoded.documents[:1]).astype(np.float32))
    result = evaluate_embeddings(line, temperature=None)
    assert result.tie_fraction == 0
    assert result.collapsed
    assert SplitResult.from_json(result.to_json()).collapsed


def test_names_that_stand_for_two_things(model, domain):
    with pytest.raises(EvaluationError, match="two domains with other texts"):
        judge(model, [JudgedSplit(domain, Role.TEST), JudgedSplit(Domain("words", {"d": "x"}, {}), Role.SELECT)])
    with pytest.raises(EvaluationError, match="two conditions are both called 'b'"):
        judge(
            model, [JudgedSplit(domain, Role.TEST, {"b": Backwards()}), JudgedSplit(domain, Role.TEST, {"b": Same()})]
        )


def test_errors_name_the_set(domain):
    class Broken(Counting):
        def encode_document(self, texts):
            return np.full((len(texts), 3), np.nan)

    with pytest.raises(EvaluationError, match="words, test: the embedding of document 0 is not finite"):
        judge(Broken(), [JudgedSplit(domain, Role.TEST)])
    with pytest.raises(EvaluationError, match=r"^e, test: the embedding of document 0"):
        judge(Broken(), [JudgedSplit(replace(domain, name="e"), Role.TEST)])


def test_queries_as_people_wrote_them_are_a_condition(model, domain):
    """DL-typo's, say: the same queries, with errors that were really made."""
    split = domain.splits[Role.TEST]
    variants = {"human": {query: text[::-1] for n, (query, text) in enumerate(split.queries.items()) if n % 2}}
    written = Domain("words", domain.corpus, {Role.TEST: replace(split, variants=variants)})
    for retriever in (model, "bm25"):
        clean, b, human = judge(retriever, [JudgedSplit(written, Role.TEST, {"b": Backwards()})])
        assert (clean.condition, b.condition, human.condition) == ("clean", "b", "human")
        assert human.changed == 0.5
        same = [query for n, query in enumerate(split.queries) if n % 2 == 0]
        assert [human.ndcg[query] for query in same] == [clean.ndcg[query] for query in same]
        assert human.means["ndcg"] < clean.means["ndcg"]
    sampled = sample_domain(written, 10, 50)
    assert len(sampled.splits[Role.TEST].variants["human"]) > 0
    assert judge("bm25", [JudgedSplit(sampled, Role.TEST)])[1].queries == 10
    with pytest.raises(EvaluationError, match="have a variant 'human', too"):
        judge(model, [JudgedSplit(written, Role.TEST, {"human": Backwards()})])
