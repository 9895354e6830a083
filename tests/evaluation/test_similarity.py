"""A model's own similarity, everywhere: all doors agree with sentence-transformers' evaluator and with pytrec_eval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from mogrid.attacks import CorpusPoisoning, HotFlip, Target
from mogrid.data.domain import Collection, Domain, Role, Split
from mogrid.errors import EvaluationError
from mogrid.evaluation import (
    JudgedSplit,
    attack_success,
    evaluate_embeddings,
    evaluate_retriever,
    judge,
    judging,
    poisoning_success,
)
from mogrid.evaluation.evaluator import RobustnessEvaluator
from mogrid.retrieval import (
    encode,
    encode_in_shards,
    encode_split,
    mine_hard_negatives,
    save_vectors,
    split_from_vectors,
)
from mogrid.retrieval.encode import comparable, similarity

KINDS = ("cosine", "dot", "truncated")


def uneven(model: SentenceTransformer, kind: str) -> SentenceTransformer:
    """Make lengths of embeddings differ a lot, so that cosines and inner products rank otherwise."""
    with torch.no_grad():
        layer = model[0].auto_model.encoder.layer[-1].output.LayerNorm
        layer.bias.add_(torch.randn(32, generator=torch.Generator().manual_seed(0)))
        layer.weight.mul_(torch.linspace(0, 4, 32))
    model.similarity_fn_name = "dot" if kind == "dot" else "cosine"
    if kind == "truncated":
        model.truncate_dim = 9
    return model


@pytest.fixture
def collection(domain, texts) -> Collection:
    corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)}
    splits = dict(domain.splits)
    train = {f"t{i}": f"{texts[i][0]} {texts[i + 1][0]}" for i in range(40)}
    splits[Role.TRAIN] = Split(Role.TRAIN, train, {f"t{i}": {f"d{i}": 1} for i in range(40)})
    return Collection(Domain("words", corpus, splits), ())


def theirs(model: SentenceTransformer, domain: Domain, role: Role) -> dict[str, float]:
    split, name = domain.split(role), model.similarity_fn_name
    relevant = {q: set(judged) for q, judged in split.qrels.items()}
    found = InformationRetrievalEvaluator(
        dict(split.queries), dict(domain.corpus), relevant, ndcg_at_k=[10], mrr_at_k=[10],
        precision_recall_at_k=[100], map_at_k=[10], accuracy_at_k=[1], write_csv=False,
    )(model)  # fmt: skip
    return {"ndcg": found[f"{name}_ndcg@10"], "rr": found[f"{name}_mrr@10"], "recall": found[f"{name}_recall@100"]}


def by_trec_eval(model: SentenceTransformer, domain: Domain, role: Role) -> dict[str, float]:
    split = domain.split(role)
    vectors = model.encode_query(list(split.queries.values())), model.encode_document(list(domain.corpus.values()))
    scores = model.similarity(*vectors).numpy()
    run = {q: dict(zip(domain.corpus, row, strict=True)) for q, row in zip(split.queries, scores.tolist(), strict=True)}
    qrels = {q: dict(judged) for q, judged in split.qrels.items()}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    return {query: values["ndcg_cut_10"] for query, values in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_agrees_with_sentence_transformers_and_trec_eval(model, collection, tmp_path, kind) -> None:
    uneven(model, kind)
    source = collection.source
    expected, per_query = theirs(model, source, Role.SELECT), by_trec_eval(model, source, Role.SELECT)
    encoded = encode_split(model, source, Role.SELECT)
    save_vectors(tmp_path / "q.npy", encoded.query_ids, encoded.queries)
    save_vectors(tmp_path / "d.npy", encoded.document_ids, encoded.documents)
    (cell,) = judging(model, [JudgedSplit(source, Role.SELECT)])
    whole = evaluate_retriever(model, collection, Role.SELECT, baselines=False).systems["model"]
    shards = encode_in_shards(model, source.corpus, tmp_path / "shards", rows=20)
    sharded = replace(encoded, documents=np.concatenate(list(shards)))
    doors = {
        "judge": judge(model, [JudgedSplit(source, Role.SELECT)])[0],
        "embeddings": evaluate_embeddings(encoded),
        "a cell": cell.result,
        "the report": whole[0],
        "files of vectors": evaluate_embeddings(
            split_from_vectors(source, Role.SELECT, tmp_path / "q.npy", tmp_path / "d.npy")
        ),
        "shards": evaluate_embeddings(sharded),
    }
    for door, result in doors.items():
        for measure, value in expected.items():
            assert result.means[measure] == pytest.approx(value, abs=1e-6), door
        assert result.ndcg == pytest.approx(per_query, abs=1e-6), door
    assert RobustnessEvaluator(collection)(model)["ndcg"] == pytest.approx(expected["ndcg"], abs=1e-6)


def test_cosines_and_inner_products_rank_otherwise_here(model, domain) -> None:
    """Else the test above would show nothing."""
    values = {kind: theirs(uneven(model, kind), domain, Role.TEST)["ndcg"] for kind in ("cosine", "dot")}
    assert abs(values["cosine"] - values["dot"]) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_negatives_are_mined_by_the_similarity(model, collection, kind) -> None:
    uneven(model, kind)
    source = collection.source
    rows = mine_hard_negatives(model, source, negatives=1, margin=0.0, depth=96)
    texts = list(source.corpus.values())
    scores = model.similarity(model.encode_query(rows["query"]), model.encode_document(texts)).numpy()
    for row, own in zip(rows, scores, strict=True):
        positive = own[texts.index(row["document"])]
        below = [score for text, score in zip(texts, own, strict=True) if text != row["document"] and score <= positive]
        assert own[texts.index(row["negative_1"])] == pytest.approx(max(below), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_attacks_climb_by_the_similarity(model, domain, kind) -> None:
    uneven(model, kind)
    texts, asked = list(domain.corpus.values())[:16], list(domain.splits[Role.TEST].queries.values())[:16]
    changed = HotFlip(2).perturb(texts, Target(model, asked), np.random.default_rng(0))
    before, after = (
        model.similarity_pairwise(model.encode_query(asked), model.encode_document(found)).numpy()
        for found in (texts, changed)
    )
    assert (after >= before - 1e-5).all()
    assert (after > before + 1e-3).sum() > 8
    result = attack_success(model, domain, Role.TEST, HotFlip(2), targets=8)
    for outcome in result.outcomes:
        query = model.encode_query([domain.splits[Role.TEST].queries[outcome.query]])
        scores = model.similarity(query, model.encode_document(list(domain.corpus.values()))).numpy()[0]
        own = scores[list(domain.corpus).index(outcome.document)]
        assert abs(1 + (scores > own + 1e-6).sum() - outcome.before) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_poisoning_is_judged_by_the_similarity(model, domain, kind) -> None:
    uneven(model, kind)
    known = [f"{query} lamp" for query in domain.splits[Role.TEST].queries.values()]
    result = poisoning_success(model, domain, Role.TEST, CorpusPoisoning(2, 6, 2), known=known)
    corpus = model.encode_document(list(domain.corpus.values()))
    passages = model.encode_document(list(result.passages))
    for query, rank in result.ranks.items():
        vector = model.encode_query([domain.splits[Role.TEST].queries[query]])
        best = float(model.similarity(vector, passages).max())
        assert abs(1 + int((model.similarity(vector, corpus).numpy() > best + 1e-6).sum()) - rank) <= 1


def test_distances_are_refused_before_anything_is_encoded(model, domain) -> None:
    for name in ("euclidean", "manhattan"):
        model.similarity_fn_name = name
        with pytest.raises(EvaluationError, match=f"by {name} distance"):
            encode(model, ["river"], "query")
        with pytest.raises(EvaluationError, match=f"by {name} distance"):
            judge(model, [JudgedSplit(domain, Role.TEST)])


def test_who_says_nothing(model) -> None:
    assert similarity(object()) == "dot"
    model.similarity_fn_name = None
    assert similarity(model) == "cosine"  # as sentence-transformers has it
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(comparable(model, vectors), [[0.6, 0.8], [0.0, 0.0]])
    np.testing.assert_allclose(comparable(model, torch.tensor(vectors)).numpy(), [[0.6, 0.8], [0.0, 0.0]])


def test_equal_texts_get_equal_vectors(model) -> None:
    texts = ["river stone", "lamp " * 9, "river stone", "door", "river stone"]
    vectors = encode(model, texts, "document", batch_tokens=4)
    assert np.array_equal(vectors[0], vectors[2])
    assert np.array_equal(vectors[0], vectors[4])
    np.testing.assert_allclose(vectors, model.encode_document(texts), atol=1e-5)


def test_dimensions_and_prompts_of_a_saved_model_are_kept(model, domain, tmp_path) -> None:
    """`mogrid evaluate` reads models as `SentenceTransformer` does: truncation and default prompt are in force."""
    import argparse

    from mogrid.commands._common import load_model

    uneven(model, "truncated")
    model.prompts = {"query": "lamp door "}
    model.default_prompt_name = "query"
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    arguments = argparse.Namespace(model=str(tmp_path / "model"), max_length=None, device="cpu", pooling="mean")
    loaded = load_model(arguments)
    assert (loaded.truncate_dim, loaded.default_prompt_name) == (9, "query")
    for kind, own in (("query", saved.encode_query), ("document", saved.encode_document)):
        raw = own(["river", "stone cloud"], normalize_embeddings=True)
        np.testing.assert_allclose(encode(loaded, ["river", "stone cloud"], kind), raw, atol=1e-5)
    (result,) = judge(loaded, [JudgedSplit(domain, Role.SELECT)])
    assert result.means["ndcg"] == pytest.approx(theirs(saved, domain, Role.SELECT)["ndcg"], abs=1e-6)
