"""Approximate search, fusion, hard negatives, the evaluator, and agreement with others' measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from mogrid.attacks import TEST_TYPOS
from mogrid.data import Collection
from mogrid.data.domain import Domain, Role, Split
from mogrid.errors import ConfigError, DataError, EvaluationError, RoleError
from mogrid.evaluation import (
    evaluate_embeddings,
    interpolate,
    rank_measures,
    reciprocal_rank_fusion,
    tune_interpolation,
)
from mogrid.evaluation.evaluator import RobustnessEvaluator
from mogrid.retrieval import approximate_search, encode, encode_split, mine_hard_negatives, mined, negatives


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_search_says_what_it_missed(kind) -> None:
    rng = np.random.default_rng(0)
    documents, queries = rng.normal(size=(3000, 24)), rng.normal(size=(80, 24))
    low = approximate_search(queries, documents, 10, kind, effort=1 if kind == "ivf" else 10, checked=80)
    high = approximate_search(queries, documents, 10, kind, effort=10_000, checked=80)
    assert low.recall < high.recall
    assert high.recall > 0.98
    exact = np.argsort(-(queries @ documents.T), axis=1)[:, :10]
    hits = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), low.indices.tolist(), strict=True)])
    assert low.recall == pytest.approx(hits)
    assert ("lists" if kind == "ivf" else "links") in high.index


def test_approximate_search_of_little_and_of_nonsense() -> None:
    one = approximate_search(np.ones((1, 4)), np.ones((1, 4)), 5, "ivf")
    assert one.indices.tolist() == [[0]]
    for bad, message in (
        (({"kind": "flat"}), "'hnsw' or 'ivf'"),
        ({"effort": 0, "links": 0}, "at least 1"),
    ):
        with pytest.raises(EvaluationError, match=message):
            approximate_search(np.ones((1, 4)), np.ones((3, 4)), 2, **bad)
    with pytest.raises(EvaluationError, match="not from the same model"):
        approximate_search(np.ones((1, 4)), np.ones((3, 5)), 2)


FIRST = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {}}
SECOND = {"q": {"c": 30.0, "d": 10.0}}


def test_fusion_by_hand() -> None:
    fused = reciprocal_rank_fusion([FIRST, SECOND])
    assert fused["q"]["c"] == pytest.approx(1 / 63 + 1 / 61)
    assert max(fused["q"], key=fused["q"].get) == "c"
    assert fused["r"] == {}
    assert interpolate(FIRST, SECOND, 0.75)["q"] == pytest.approx({"a": 0.75, "b": 0.375, "c": 0.25, "d": 0.0})
    with pytest.raises(EvaluationError, match=r"\[0, 1\]"):
        interpolate(FIRST, SECOND, 1.5)


def test_tuned_on_select_data_alone() -> None:
    qrels = {"q": {"a": 1}}
    assert tune_interpolation(FIRST, SECOND, qrels, "select") == pytest.approx(0.6)
    assert tune_interpolation(SECOND, FIRST, qrels, "select") == pytest.approx(0.4)
    with pytest.raises(RoleError, match="not on test"):
        tune_interpolation(FIRST, SECOND, qrels, "test")


def trained(texts) -> Domain:
    corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)} | {"twin": texts[0][1].upper(), "empty": " "}
    train = Split(Role.TRAIN, {f"q{i}": texts[i][0] for i in range(40)}, {f"q{i}": {f"d{i}": 1} for i in range(40)})
    test = Split(Role.TEST, {"t0": texts[0][0]}, {"t0": {"d7": 1}})
    return Domain("words", corpus, {Role.TRAIN: train, Role.TEST: test})


def test_hard_negatives_are_hard_and_no_positives(model, texts) -> None:
    domain = trained(texts)
    rows = mine_hard_negatives(model, domain, negatives=2, margin=0.02)
    assert rows.column_names == ["query", "document", "negative_1", "negative_2", "document_ids", "relevant_ids"]
    assert len(rows) > 10
    for row in rows:
        query, positive, first, second = encode(
            model, [row["query"], row["document"], row["negative_1"], row["negative_2"]], "document"
        )
        own = float(query @ positive)
        limit = own - 0.02 * abs(own)
        assert float(query @ second) <= float(query @ first) + 1e-5 <= limit + 2e-5
        assert row["negative_1"].lower() not in {row["document"].lower(), " "}
    first = next(row for row in rows if row["query"] == texts[0][0]) if texts[0][0] in rows["query"] else None
    if first is not None:  # relevant in another split: no negative
        assert texts[7][1] not in (first["negative_1"], first["negative_2"])
    strict = mine_hard_negatives(model, domain, margin=0.03)
    assert len(strict) <= len(mine_hard_negatives(model, domain, margin=0.0))


def test_what_was_mined_is_not_mined_again(model, texts, tmp_path, monkeypatch) -> None:
    domain, asked = trained(texts), {"negatives": 2, "margin": 0.02, "skip": 0}
    rows = mined(model, domain, tmp_path, **asked)
    assert rows.to_dict() == mine_hard_negatives(model, domain, **asked).to_dict()
    monkeypatch.setattr(negatives, "mine_hard_negatives", None)  # whoever calls it fails
    assert mined(model, domain, tmp_path, **asked).to_dict() == rows.to_dict()
    with pytest.raises(TypeError):
        mined(model, domain, tmp_path, **(asked | {"skip": 1}))
    with pytest.raises(TypeError):
        mined("bm25", domain, tmp_path, **asked)
    (path,) = (tmp_path / "negatives").glob("*.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="remove it to mine anew"):
        mined(model, domain, tmp_path, **asked)


def test_hard_negatives_bad_input(model, texts) -> None:
    with pytest.raises(ConfigError, match="margin in"):
        mine_hard_negatives(model, trained(texts), margin=1.0)
    with pytest.raises(RoleError, match="no train split"):
        mine_hard_negatives(model, Domain("d", {"d": "x"}, {Role.TEST: Split(Role.TEST, {"q": "y"}, {"q": {"d": 1}})}))
    one = Domain("one", {"d": "river"}, {Role.TRAIN: Split(Role.TRAIN, {"q": "stone"}, {"q": {"d": 1}})})
    with pytest.raises(DataError, match="no query has 1 negatives"):
        mine_hard_negatives(model, one)


@pytest.mark.parametrize("title", ["", "on schools "])
@pytest.mark.parametrize("by", ["model", "bm25"])
def test_a_query_in_the_corpus_is_no_negative_of_itself(model, by, title) -> None:
    queries = {"a0": "uniforms make pupils equal today", "a1": "night trains spare a hotel today"}
    others = {"b0": "pupils show wealth by phones today", "b1": "a night train costs a room today"}
    corpus = {**{name: title + text for name, text in queries.items()}, **others}
    train = Split(Role.TRAIN, queries, {"a0": {"b0": 1}, "a1": {"b1": 1}})
    rows = mine_hard_negatives(model if by == "model" else "bm25", Domain("args", corpus, {Role.TRAIN: train}), margin=0.0,
                               **({} if by == "bm25" else {"depth": 4}))  # fmt: skip
    assert len(rows) > 0
    for row in rows:
        assert row["query"] not in row["negative_1"]


def collection(texts) -> Collection:
    def part(name: str, *roles: Role) -> Domain:
        corpus = {f"d{i}": document for i, (_, document) in enumerate(texts)}
        splits = {}
        for n, role in enumerate(roles):
            rows = range(20 * n, 20 * n + 20)
            splits[role] = Split(role, {f"q{i}": texts[i][0] for i in rows}, {f"q{i}": {f"d{i}": 1} for i in rows})
        return Domain(name, corpus, splits)

    others = (part("a", Role.SELECT), part("b", Role.SELECT), part("c", Role.TEST))
    return Collection(part("in", *Role), others)


def test_evaluator_inside_their_trainer(model, texts, tmp_path) -> None:
    evaluator = RobustnessEvaluator(collection(texts), name="dev")
    before = evaluator(model)
    assert {"dev_ndcg", "dev_typo_ndcg", "dev_ood_ndcg", "dev_ood_worst_ndcg", "dev_ce", "dev_robustness"} <= set(
        before
    )
    assert before["dev_ood_worst_ndcg"] <= before["dev_ood_ndcg"]
    rows = Dataset.from_dict({"query": [q for q, _ in texts], "document": [d for _, d in texts]})
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=16, learning_rate=3e-3, report_to="none",
            disable_tqdm=True, use_cpu=True, eval_strategy="steps", eval_steps=10, save_strategy="steps", save_steps=10,
            load_best_model_at_end=True, metric_for_best_model="eval_dev_robustness",
        ),
        train_dataset=rows,
        loss=MultipleNegativesRankingLoss(model),
        evaluator=evaluator,
    )  # fmt: skip
    trainer.train()
    assert evaluator(model)["dev_robustness"] > before["dev_robustness"]
    (table,) = tmp_path.rglob("robustness_evaluation_dev.csv")
    assert len(table.read_text().splitlines()) == 3


def test_evaluator_refuses_to_steer_by_the_test(texts) -> None:
    with pytest.raises(RoleError, match="steers it"):
        RobustnessEvaluator(collection(texts), role=Role.TEST)
    with pytest.raises(RoleError, match="role test"):
        RobustnessEvaluator(collection(texts), perturbation=TEST_TYPOS)


def random_run(seed: int, *, ties: bool):
    rng = np.random.default_rng(seed)
    ids = [f"d{i}" for i in range(150)]
    run, qrels = {}, {}
    for q in range(12):
        scores = rng.integers(0, 30, 150) if ties else rng.permutation(150)
        run[f"q{q}"] = {d: float(s) for d, s in zip(ids, scores, strict=True)}
        relevant = rng.choice(150, 5, replace=False)
        qrels[f"q{q}"] = {ids[i]: int(rng.integers(1, 4)) for i in relevant}
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_trec_evals(seed) -> None:
    """To 1e-12, without ties; trec_eval's reciprocal rank has no cut-off, so its run is cut to ten first."""
    import pytrec_eval

    run, qrels = random_run(seed, ties=False)
    ours = rank_measures({q: dict(sorted(r.items(), key=lambda x: -x[1])[:101]) for q, r in run.items()}, qrels)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"}).evaluate(run)
    ten = {q: dict(sorted(r.items(), key=lambda x: -x[1])[:10]) for q, r in run.items()}
    ranks = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(ten)
    for q in qrels:
        assert ours.ndcg[q] == pytest.approx(theirs[q]["ndcg_cut_10"], abs=1e-12)
        assert ours.recall[q] == pytest.approx(theirs[q]["recall_100"], abs=1e-12)
        assert ours.rr[q] == pytest.approx(ranks[q]["recip_rank"], abs=1e-12)


def test_with_ties_ours_is_never_above_trec_evals() -> None:
    """trec_eval orders ties by document id, which a lucky naming turns into a better score."""
    import pytrec_eval

    lower = 0
    for seed in range(10):
        run, qrels = random_run(seed, ties=True)
        ours = rank_measures(run, qrels)
        theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
        for q in qrels:
            assert ours.ndcg[q] <= theirs[q]["ndcg_cut_10"] + 1e-12
            lower += ours.ndcg[q] < theirs[q]["ndcg_cut_10"] - 1e-12
    assert lower > 0


def test_difference_to_beir_of_queries_without_results() -> None:
    """BEIR means over the queries in the run; ours over the judged ones: a query that found nothing counts 0."""
    run, qrels = {"a": {"x": 1.0}}, {"a": {"x": 1}, "b": {"y": 1}}
    assert rank_measures(run, qrels).ndcg == {"a": 1.0, "b": 0.0}
    assert math.isclose(sum(rank_measures(run, qrels).ndcg.values()) / 2, 0.5)


class Other:
    """No sentence-transformers model: it only encodes."""

    def encode(self, texts):
        rows = [[len(text), text.count("e"), text.count("r"), text.count("a"), 1.0] for text in texts]
        return np.array(rows, dtype=np.float64)


def test_anything_that_encodes_can_be_judged_and_attacked(domain) -> None:
    from mogrid.attacks import QueryStuffing
    from mogrid.evaluation import attack_success

    encoded = encode_split(Other(), domain, Role.TEST)
    result = evaluate_embeddings(encoded)
    assert 0 < result.means["ndcg"] < 1
    attacked = attack_success(Other(), domain, Role.TEST, QueryStuffing(), targets=5, encoded=encoded)
    assert attacked.median_boost > 0  # longer is better to this one
    with pytest.raises(EvaluationError, match="neither encode nor encode_query"):
        encode(object(), ["text"], "query")
    for shape in ((2,), (3, 4)):
        with pytest.raises(EvaluationError, match="expected a row each"):
            encode(type("Bad", (), {"encode": lambda self, texts, shape=shape: np.ones(shape)})(), ["a", "b"], "query")


def test_effective_dimensions_and_the_alarm(model, domain) -> None:
    from dataclasses import replace

    from mogrid.evaluation.measures import effective_dimensions

    rng = np.random.default_rng(0)
    assert effective_dimensions(rng.normal(size=(5000, 8))) == pytest.approx(8, rel=0.02)
    line = rng.normal(size=(100, 1)) * rng.normal(size=(1, 32))
    assert effective_dimensions(line) == pytest.approx(1)
    assert effective_dimensions(np.ones((5, 3))) == 1
    wide = rng.normal(size=(20, 300))
    assert effective_dimensions(wide) == pytest.approx(effective_dimensions(np.hstack([wide, np.zeros((20, 9))])))
    encoded = encode_split(model, domain, Role.TEST)
    assert not evaluate_embeddings(encoded).collapsed
    direction = encoded.documents[:1]
    flat = replace(encoded, documents=(rng.normal(size=(96, 1)) * direction).astype(np.float32))
    assert evaluate_embeddings(flat).collapsed


def test_texts_longer_than_any_model_reads(model) -> None:
    """Cut by the tokenizer: a document of 2 MB is its first words."""
    long = "river stone " * 180_000
    first, second, query = encode(model, [long, "river stone " * 40, "lamp " * 100_000], "document")
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.isfinite(query).all()
