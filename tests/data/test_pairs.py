"""Training pairs know their conflicts: two rows exclude each other where one's document is relevant to the other's query."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mogrid.attacks.training import perturbed_pairs
from mogrid.attacks.typos import TRAIN_TYPOS
from mogrid.data import Domain, Role, Split, read_domain, training_pairs
from mogrid.data.pairs import hard_negatives, text_id
from mogrid.errors import DataError
from mogrid.retrieval import mine_hard_negatives
from mogrid.trainer.conflicts import Conflicts


def excluded(conflicts: Conflicts, a: int, b: int) -> bool:
    return conflicts.classes[a] in conflicts.against[b] or conflicts.classes[b] in conflicts.against[a]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_rows_exclude_each_other_where_a_judgement_says_so_and_nowhere_else(data) -> None:
    edges = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=20))
    other = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=4))
    texts = data.draw(st.lists(st.sampled_from(["a", "A ", "b", "c", "d e", "d  E", "f"]), min_size=9, max_size=9))
    corpus = {f"d{i}": t for i, t in enumerate(texts)}
    splits = {}
    for role, found in ((Role.TRAIN, edges), (Role.TEST, other)):
        qrels: dict[str, dict[str, int]] = {}
        for q, d in found:
            qrels.setdefault(f"{role}{q}", {})[f"d{d}"] = 1
        # queries of both splits have the same texts, but ids of their own
        splits[role] = Split(role, {q: f"Query {q[-1]}" for q in qrels}, qrels)
    domain = Domain("x", corpus, splits)
    rows = training_pairs(domain)
    conflicts = Conflicts.of(rows)
    assert conflicts is not None
    relevant = {(f"query {q}", " ".join(texts[d].lower().split())) for q, d in edges + other}
    read = [(row["query"].lower(), " ".join(row["document"].lower().split())) for row in rows]
    for i, (query, document) in enumerate(read):
        opposed = 0
        for j, (query_, document_) in enumerate(read):
            if i != j:
                expected = (query, document_) in relevant or (query_, document) in relevant
                assert excluded(conflicts, i, j) == expected, (read[i], read[j])
                opposed += expected
        assert opposed <= conflicts.degrees[i] <= 2 * opposed


def test_a_text_given_to_training_in_the_documents_place_is_the_document() -> None:
    corpus = {"d1": "whole one", "d2": "whole two"}
    train = Split(Role.TRAIN, {"a": "a", "b": "b"}, {"a": {"d1": 1, "d2": 1}, "b": {"d2": 1}}, {"d2": "rest"})
    rows = training_pairs(Domain("x", corpus, {Role.TRAIN: train}))
    assert rows["document"][:] == ["whole one", "rest", "rest"]
    conflicts = Conflicts.of(rows)
    assert conflicts is not None
    assert excluded(conflicts, 1, 2)
    assert excluded(conflicts, 0, 2)  # d2 is relevant to both


def star(queries: int = 6) -> Domain:
    """Queries that share one document, and have one more each, that reads like its query."""
    corpus = {"hub": "river stone cloud"} | {f"d{i}": f"topic{i} text about topic{i}" for i in range(queries)}
    qrels = {f"q{i}": {"hub": 1, f"d{i}": 1} for i in range(queries)}
    split = Split(Role.TRAIN, {f"q{i}": f"topic{i} stone" for i in range(queries)}, qrels)
    return Domain("star", corpus, {Role.TRAIN: split})


def test_rows_that_only_a_chain_connects_may_share_a_batch() -> None:
    rows = training_pairs(star())
    conflicts = Conflicts.of(rows)
    assert conflicts is not None
    own = [i for i, row in enumerate(rows) if row["document"] != "river stone cloud"]
    hub = [i for i, row in enumerate(rows) if row["document"] == "river stone cloud"]
    assert not any(excluded(conflicts, i, j) for i in own for j in own if i != j)
    assert all(excluded(conflicts, i, j) for i in hub for j in range(len(rows)) if i != j)


def test_variants_of_a_row_exclude_each_other_and_what_the_row_does() -> None:
    pairs = training_pairs(star())
    plain, conflicts = Conflicts.of(pairs), Conflicts.of(perturbed_pairs(pairs, TRAIN_TYPOS, seed=0, variants=3))
    assert plain is not None
    assert conflicts is not None
    count = len(pairs)
    assert len(conflicts) == 3 * count
    for i in range(3 * count):
        for j in range(3 * count):
            if i != j:
                same = i % count == j % count
                assert excluded(conflicts, i, j) == (same or excluded(plain, i % count, j % count))


def test_a_hard_negative_that_is_relevant_to_another_row_excludes_it() -> None:
    corpus = {"d0": "apple pie", "d1": "apple tart", "d2": "steel bridge", "d3": "steel tower"}
    queries = {"q0": "apple pie", "q1": "apple tart", "q2": "steel bridge"}
    split = Split(Role.TRAIN, queries, {"q0": {"d0": 1}, "q1": {"d1": 1}, "q2": {"d2": 1}})
    rows = mine_hard_negatives("bm25", Domain("x", corpus, {Role.TRAIN: split}), negatives=1)
    assert rows["negative_1"][:] == ["apple tart", "apple pie", "steel tower"]
    assert rows["document_ids"][0] == [text_id("apple pie"), text_id("apple tart")]
    conflicts = Conflicts.of(rows)
    assert conflicts is not None
    assert excluded(conflicts, 0, 1)
    assert not excluded(conflicts, 0, 2)
    assert conflicts.degrees[2] == 0


# -- hard negatives that the data bring --------------------------------------------------------------------------------

CASES = Path(__file__).parents[1] / "cases"


def test_negatives_of_a_file_become_columns_and_short_rows_are_filled_up() -> None:
    domain = read_domain(CASES / "training-files" / "flagembedding.jsonl", {Role.TRAIN: "train"})
    rows = training_pairs(domain)
    assert rows.column_names == ["query", "document", "negative_1", "negative_2", "document_ids", "relevant_ids"]
    first, *others = rows
    assert (first["negative_1"], first["negative_2"]) == ("A bed is for sleeping.", "A bicycle has two wheels.")
    assert first["document_ids"] == [text_id(first[name]) for name in ("document", "negative_1", "negative_2")]
    for row in others:  # no negatives of their own: what is left of the corpus
        assert {row["negative_1"], row["negative_2"]} == {"A kettle boils water.", "A bicycle has two wheels."}
    assert rows.to_list() == training_pairs(domain).to_list()
    assert training_pairs(domain, negatives=0).column_names == ["query", "document", "document_ids", "relevant_ids"]
    assert training_pairs(domain, negatives=1)[0]["negative_1"] == "A bed is for sleeping."
    with pytest.raises(DataError, match="with 4 documents that are not relevant"):
        training_pairs(domain, negatives=4)


def test_no_negative_is_relevant_or_the_query_itself() -> None:
    corpus = {"a": "what boils", "b": "A Kettle", "c": "a  kettle", "d": "a bed", "e": "a pot", "f": " "}
    train = Split(Role.TRAIN, {"q": "What boils"}, {"q": {"b": 1, "a": 0, "c": 0, "d": 0, "e": 0, "f": 0}})
    test = Split(Role.TEST, {"r": "what  boils"}, {"r": {"e": 1}})
    domain = Domain("x", corpus, {Role.TRAIN: train, Role.TEST: test})
    assert hard_negatives(domain) == {"what boils": ["a bed"]}
    assert training_pairs(domain)["negative_1"][:] == ["a bed"]


def test_many_negatives_are_cut_and_mined_ones_come_behind_the_files_own() -> None:
    corpus = {f"d{i}": f"text {i} about kettles" for i in range(30)}
    judged = {"d0": 1, **{f"d{i}": 0 for i in range(10, 20)}}
    domain = Domain("x", corpus, {Role.TRAIN: Split(Role.TRAIN, {"q": "text 5 kettles"}, {"q": judged})})
    assert sum(name.startswith("negative_") for name in training_pairs(domain).column_names) == 7
    (row,) = mine_hard_negatives("bm25", domain, negatives=12)
    found = [row[f"negative_{n + 1}"] for n in range(12)]
    assert found[:10] == [corpus[f"d{i}"] for i in range(10, 20)]
    assert len(set(found)) == 12
    assert corpus["d0"] not in found


def test_a_query_that_is_a_document_does_not_meet_itself() -> None:
    """As in ArguAna: its own text, there with a title, is another query's document, and no negative of it."""
    corpus = {"a": "Title about argument one holds", "b": "The counter of it", "c": "something else altogether"}
    queries = {"a": "about argument one holds", "b": "the counter of it", "q": "quite another question"}
    split = Split(Role.TRAIN, queries, {"a": {"b": 1}, "b": {"a": 1}, "q": {"c": 1}})
    rows = training_pairs(Domain("x", corpus, {Role.TRAIN: split}))
    conflicts = Conflicts.of(rows)
    assert conflicts is not None
    assert text_id(corpus["a"]) in rows[0]["relevant_ids"]
    assert excluded(conflicts, 0, 1)
    assert conflicts.degrees[2] == 0
