"""HotFlip, stuffing, poisoning, misspellings, the registry: budgets, roles, seeds, and measures by hand."""

from __future__ import annotations

import json
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import nDCG

from mogrid.attacks import (
    ATTACKS,
    CorpusPoisoning,
    EmbeddingNeighbourFlips,
    HotFlip,
    Misspellings,
    QueryHotFlip,
    QueryStuffing,
    Target,
    Typos,
    attack_from_config,
    perturbed_pairs,
)
from mogrid.attacks.base import counted
from mogrid.attacks.flips import told_progress
from mogrid.attacks.misspellings import _misspellings
from mogrid.data.domain import Domain, Role
from mogrid.errors import ConfigError, DataError, EvaluationError, RoleError
from mogrid.evaluation import AttackResult, JudgedSplit, PoisoningResult, attack_success, judge, poisoning_success
from mogrid.evaluation.ranks import ndcg_at, relevant_ranks
from mogrid.retrieval import encode, encode_split
from mogrid.retrieval.models import build_retriever
from mogrid.retrieval.splits import EncodedSplit


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_crafting_says_how_far_it_is(model, domain) -> None:
    said: list[float] = []
    texts = list(domain.corpus.values())[:4]
    with told_progress(said.append):
        HotFlip(3).perturb(texts, Target(model, texts[::-1]), rng())
    HotFlip(1).perturb(texts, Target(model, texts[::-1]), rng())  # nobody listens any more
    assert said == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_hotflip_beats_neighbours_within_its_budget(model, domain) -> None:
    texts = list(domain.corpus.values())[:20]
    asked = list(domain.splits[Role.TEST].queries.values())[20:40]
    queries = encode(model, asked, "query")
    gains = {}
    for attack in (HotFlip(2), EmbeddingNeighbourFlips(2, 5)):
        changed = attack.perturb(texts, Target(model, asked), rng())
        gains[attack.name] = (queries * (encode(model, changed, "document") - encode(model, texts, "document"))).sum()
        for before, after in zip(texts, changed, strict=True):
            words, others = before.replace(",", " ,").split(), after.replace(",", " ,").split()
            assert len(words) == len(others)
            assert sum(a != b for a, b in zip(words, others, strict=True)) <= 2
    assert gains["hotflip"] > gains["embedding_neighbour_flips"] > 0


def test_robust_ndcg_is_that_of_the_corpus_with_the_attacked_text(model, domain) -> None:
    """Against ir-measures on a run that is made anew; scores do not tie here."""
    result = attack_success(model, domain, Role.TEST, HotFlip(3), targets=12)
    asked = [domain.splits[Role.TEST].queries[o.query] for o in result.outcomes]
    changed = HotFlip(3).perturb([domain.corpus[o.document] for o in result.outcomes], Target(model, asked), rng())
    for outcome, query, text in zip(result.outcomes, asked, changed, strict=True):
        for corpus, value in (
            (domain.corpus, outcome.clean),
            ({**domain.corpus, outcome.document: text}, outcome.robust),
        ):
            scores = encode(model, list(corpus.values()), "document") @ encode(model, [query], "query")[0]
            run = {outcome.query: dict(zip(corpus, map(float, scores), strict=True))}
            qrels = {outcome.query: dict(domain.splits[Role.TEST].qrels[outcome.query])}
            assert value == pytest.approx(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10], abs=1e-6)
    before, after = result.robust_ndcg
    assert after <= before


@given(
    relevance=st.lists(st.integers(0, 3), min_size=2, max_size=14).filter(any),
    scores=st.lists(st.integers(0, 4), min_size=14, max_size=14),
)
@settings(deadline=None, max_examples=60)
def test_ties_go_against_the_system(relevance, scores) -> None:
    ids = [f"d{i}" for i in range(len(relevance))]
    values = np.array(scores[: len(ids)], dtype=np.float32)
    encoded = EncodedSplit(
        "d",
        "test",
        ["q"],
        ids,
        np.ones((1, 1), np.float32),
        values[:, None],
        {"q": dict(zip(ids, relevance, strict=True))},
        {},
    )
    places, gains = relevant_ranks(encoded, "q", values)
    order = sorted(range(len(ids)), key=lambda i: (-values[i], relevance[i]))
    dcg = sum(relevance[i] / math.log2(rank + 2) for rank, i in enumerate(order[:10]))
    best = sum(g / math.log2(rank + 2) for rank, g in enumerate(sorted(relevance, reverse=True)[:10]))
    assert ndcg_at(places[:, 1], gains) == pytest.approx(dcg / best)


@pytest.mark.parametrize("where", ["start", "end", "anywhere"])
def test_stuffing_puts_the_words_there_and_leaves_the_rest(where) -> None:
    texts, asked = ["one two  three", "", "single"], ["river stone", "lamp", "door"]
    stuffed = QueryStuffing(times=2, where=where).perturb(texts, Target(None, asked), rng())
    for text, query, result in zip(texts, asked, stuffed, strict=True):
        assert sorted(result.split()) == sorted(text.split() + query.split() * 2)
        if where == "start":
            assert result.split()[: 2 * len(query.split())] == query.split() * 2
    assert stuffed == QueryStuffing(times=2, where=where).perturb(texts, Target(None, asked), rng())
    short = QueryStuffing(times=3, words=2, where=where).perturb(["text"], Target(None, ["river"]), rng())
    assert sorted(short[0].split()) == ["river", "river", "text"]


def test_stuffing_needs_no_model_and_works(tokenizer, domain) -> None:
    model = build_retriever("1x32", tokenizer, dropout=0.0)
    result = attack_success(model, domain, Role.TEST, QueryStuffing(), targets=30)
    assert result.knowledge == "black-box"
    assert result.median_boost > 0
    assert "the query 1 time" in result.budget


def test_poisoning_reaches_unseen_queries(model, domain) -> None:
    encoded = encode_split(model, domain, Role.TEST)
    weak, strong = (
        poisoning_success(model, domain, Role.TEST, CorpusPoisoning(4, 8, flips), encoded=encoded) for flips in (1, 24)
    )
    assert strong.success_rate(1) > weak.success_rate(1)
    assert weak.success_rate(20) >= weak.success_rate(10) >= weak.success_rate(1)
    assert strong.robust_ndcg <= np.mean(list(strong.clean.values()))
    assert strong.known == 96
    assert len(strong.passages) == 4
    assert all(len(passage.split()) == 8 for passage in strong.passages)
    again = poisoning_success(model, domain, Role.TEST, CorpusPoisoning(4, 8, 24), encoded=encoded)
    assert again.passages == strong.passages
    assert PoisoningResult.from_json(json.loads(json.dumps(strong.to_json()))) == strong
    with pytest.raises(DataError, match="seconds"):
        PoisoningResult.from_json({k: v for k, v in strong.to_json().items() if k != "seconds"})


def test_without_training_queries_half_of_the_splits_are_known_and_not_judged(model, domain) -> None:
    test = {Role.TEST: domain.split(Role.TEST)}
    alone = Domain(domain.name, domain.corpus, test)
    result = poisoning_success(model, alone, Role.TEST, CorpusPoisoning(2, 6, 2))
    texts = test[Role.TEST].queries
    assert len({texts[query] for query in result.ranks}) + result.known == len(set(texts.values()))
    assert 0.4 * len(texts) <= result.known <= 0.6 * len(texts)


def test_poisoned_measures_are_those_of_a_poisoned_corpus(model, domain) -> None:
    result = poisoning_success(model, domain, Role.TEST, CorpusPoisoning(2, 6, 6))
    corpus = {**domain.corpus, **{f"poison{i}": text for i, text in enumerate(result.passages)}}
    poisoned = Domain("poisoned", corpus, domain.splits)
    encoded = encode_split(model, poisoned, Role.TEST)
    for row, query in enumerate(encoded.query_ids[:20]):
        scores = encoded.documents @ encoded.queries[row]
        best = max(scores[-2:])
        rank = 1 + int((scores[:-2] > best + 1e-6).sum())
        assert abs(result.ranks[query] - rank) <= 1
        places, gains = relevant_ranks(encoded, query, scores)
        assert result.poisoned[query] == pytest.approx(ndcg_at(places[:, 1], gains), abs=1e-6)


def test_universal_passage_and_transfer(tokenizer, model, domain) -> None:
    other = build_retriever("1x32", tokenizer, seed=7)
    result = poisoning_success(
        model, domain, Role.TEST, CorpusPoisoning(1, 6, 3), crafted_on=other, known=["eagle door"]
    )
    assert result.knowledge == "black-box"
    assert (result.known, len(result.passages)) == (1, 1)


def test_misspellings_are_recorded_ones(domain) -> None:
    known = _misspellings()
    assert len(known) > 10_000
    assert "definitely" in known
    text = "They definitely receive an Occurrence of THE weird calendar, x1"
    attack = Misspellings(rate=1.0)
    wrong = attack.perturb([text], None, rng())[0]
    assert wrong != text
    for before, after in zip(text.split(), wrong.split(), strict=True):
        bare = before.strip(",").lower()
        assert after.strip(",").lower() in (*known.get(bare, ()), bare)
        assert after[0].isupper() == before[0].isupper()
    assert attack.perturb([text], None, rng()) == [wrong]
    assert Misspellings().perturb(["", "zzz 12"], None, rng()) == ["", "zzz 12"]
    some = Misspellings(rate=0.01).perturb([text] * 50, None, rng())
    assert all(result != text for result in some)  # at least one each


def test_misspellings_without_the_package(monkeypatch) -> None:
    import importlib.resources

    def missing(name):
        raise ModuleNotFoundError(name)

    _misspellings.cache_clear()
    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(ConfigError, match=r"pip install 'mogrid\[attacks\]'"):
        Misspellings()
    monkeypatch.undo()
    _misspellings.cache_clear()


def test_roles(model, domain) -> None:
    from datasets import Dataset

    pairs = Dataset.from_dict({"query": ["definitely"], "document": ["d"], "group": [0]})
    with pytest.raises(RoleError, match="must not be trained on"):
        perturbed_pairs(pairs, Misspellings(), seed=0)
    assert perturbed_pairs(pairs, Misspellings(role=Role.TRAIN), seed=0, variants=2)["perturbed"][0] != "definitely"
    for attack in (HotFlip(), QueryStuffing(), EmbeddingNeighbourFlips()):
        with pytest.raises(RoleError, match="role test"):
            attack_success(model, domain, Role.SELECT, attack)
    with pytest.raises(RoleError, match="role test"):
        poisoning_success(model, domain, Role.SELECT, CorpusPoisoning())
    judged = next(iter(domain.splits[Role.TEST].queries.values()))
    with pytest.raises(RoleError, match="knows a query"):
        poisoning_success(model, domain, Role.TEST, CorpusPoisoning(1), known=[judged])


def test_registry() -> None:
    made = {name: attack_from_config(name) for name in ATTACKS}
    assert isinstance(made["typos"], Typos)
    assert all(attack.name.startswith(name) for name, attack in made.items())
    assert attack_from_config({"name": "hotflip", "flips": 3, "role": "select"}).role is Role.SELECT
    for config, message in (
        ("hotflop", "did you mean 'hotflip'"),
        ({"name": "hotflip", "flip": 3}, "did you mean 'flips'"),
        ({"name": "hotflip", "role": "tset"}, "did you mean 'test'"),
        ({"name": "typos", "kinds": ["swop"]}, "did you mean 'swap'"),
        ({"name": "hotflip", "flips": "many"}, "flips must be a whole number, got 'many'"),
        ({"name": "query_stuffing", "where": "middle"}, "where 'middle' is unknown; known: anywhere, end, start"),
        ({"name": "corpus_poisoning", "words": 0}, "at least 1"),
        ({"name": "misspellings", "rate": 2}, r"\(0, 1\]"),
        ({}, "attack: settings need 'name'"),
    ):
        with pytest.raises(ConfigError, match=message):
            attack_from_config(config)


def test_too_few_known_queries(model, domain) -> None:
    with pytest.raises(ConfigError, match="5 passages need as many queries"):
        poisoning_success(model, domain, Role.TEST, CorpusPoisoning(5), known=["one"])


def test_query_hotflip_takes_the_relevant_document_away(model, domain) -> None:
    split = domain.splits[Role.TEST]
    asked, wanted = list(split.queries.values()), [domain.corpus[next(iter(split.qrels[q]))] for q in split.queries]
    changed = QueryHotFlip(1).perturb(asked, Target(model, wanted), rng())
    before, after = (
        np.einsum("nd,nd->n", encode(model, texts, "query"), encode(model, wanted, "document"))
        for texts in (asked, changed)
    )
    assert (after <= before + 1e-5).all()
    assert (after < before - 1e-3).mean() > 0.9
    for first, second in zip(asked, changed, strict=True):
        assert sum(a != b for a, b in zip(first.split(), second.split(), strict=True)) <= 1
    attacks = {"hotflip": QueryHotFlip(1), "typos": Typos(role=Role.TEST)}
    clean, hotflip, typos = judge(model, [JudgedSplit(domain, Role.TEST, attacks)])
    assert hotflip.means["ndcg"] < clean.means["ndcg"]
    assert hotflip.changed > 0.9
    assert hotflip.calls > 66 * 9  # the query, its gradient, eight guesses
    assert hotflip.flops > 0
    assert (typos.calls, typos.flops) == (clean.calls, clean.flops) == (0, 0)
    with pytest.raises(EvaluationError, match="BM25 is none"):
        judge("bm25", [JudgedSplit(domain, Role.TEST, attacks)])
    with pytest.raises(ConfigError, match="one document for each query"):
        QueryHotFlip().perturb(asked, Target(model, []), rng())


def test_calls_of_the_model_are_counted_beside_flops(model, domain) -> None:
    texts, seen = list(domain.corpus.values()), []
    known = list(domain.splits[Role.TRAIN].queries.values())
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0]["input_ids"])))
    with counted(model) as cost:
        HotFlip(2).perturb(texts[:9], Target(model, texts[9:18]), rng())
    assert cost.calls == sum(seen) > 9 * (1 + 1 + 2 * 2)
    assert cost.seconds > 0
    seen.clear()
    with counted(model) as more:
        CorpusPoisoning(2, 6, 3).craft(model, known, rng())
    assert more.calls == sum(seen)
    handle.remove()
    assert min(cost.flops, more.flops) > 0
    result = attack_success(model, domain, Role.TEST, HotFlip(1), targets=9)
    assert result.calls > 9 * 3
    assert result.flops > 0
    assert AttackResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    poisoned = poisoning_success(model, domain, Role.TEST, CorpusPoisoning(2, 6, 3))
    assert (poisoned.calls, poisoned.flops) == (more.calls, pytest.approx(more.flops))
    stuffed = attack_success(model, domain, Role.TEST, QueryStuffing(), targets=9)
    assert (stuffed.calls, stuffed.flops, stuffed.changed) == (0, 0, 1)


def test_what_changes_nothing_is_refused_everywhere(model, domain) -> None:
    from datasets import Dataset

    class Nothing(QueryStuffing):
        def perturb(self, texts, victim, rng):
            return list(texts)

    with pytest.raises(EvaluationError, match="changes 0 of 9 texts"):
        attack_success(model, domain, Role.TEST, Nothing(), targets=9)
    pairs = Dataset.from_dict({"query": ["Wo kann ich schlafen?"] * 3, "document": ["d"] * 3, "group": [0, 1, 2]})
    with pytest.raises(EvaluationError, match="training pairs: 'misspellings' changes 0 of 3"):
        perturbed_pairs(pairs, Misspellings(role=Role.TRAIN), seed=0)
