"""Readers and roles: every error names its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mogrid.data import (
    NO_SOURCE,
    Collection,
    Domain,
    Role,
    Split,
    embedded_collection,
    read_beir,
    read_collection,
    training_pairs,
)
from mogrid.data import embedded as embedded_module
from mogrid.errors import ConfigError, DataError, MogridError, RoleError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(folder: Path, corpus=None, queries=None, **qrels) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qrels").mkdir(exist_ok=True)
    corpus = corpus if corpus is not None else [{"_id": f"d{i}", "title": "t", "text": f"text {i}"} for i in range(4)]
    queries = queries if queries is not None else [{"_id": f"q{i}", "text": f"query {i}"} for i in range(4)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in corpus))
    (folder / "queries.jsonl").write_text("".join(json.dumps(r) + "\n" for r in queries))
    for name, rows in (qrels or {"train": [("q0", "d0", 1)], "test": [("q1", "d1", 1)]}).items():
        text = "query-id\tcorpus-id\tscore\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows)
        (folder / "qrels" / f"{name}.tsv").write_text(text)
    return folder


BOTH = {Role.TRAIN: "train", Role.TEST: "test"}


def test_reads_titles_queries_and_judgements(tmp_path) -> None:
    domain = read_beir(write(tmp_path / "set"), BOTH)
    assert domain.name == "set"
    assert domain.corpus["d2"] == "t text 2"
    assert domain.split(Role.TRAIN).queries == {"q0": "query 0"}
    assert domain.split(Role.TEST).qrels == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "d0", "text": "x"}\n{nope\n', "corpus.jsonl:2: not JSON"),
        ("corpus.jsonl", '{"_id": "d0"}\n', "corpus.jsonl:1: no 'text'"),
        (
            "corpus.jsonl",
            '{"_id": 7.5, "text": "x"}\n',
            "corpus.jsonl:1: '_id' must be a string or an integer, got float",
        ),
        ("corpus.jsonl", '{"_id": "", "text": "x"}\n', "corpus.jsonl:1: '_id' is empty"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n\n{"_id": "a", "text": "y"}\n', "corpus.jsonl:3: document id 'a'"),
        ("corpus.jsonl", "[1]\n", "corpus.jsonl:1: expected an object, got list"),
        ("corpus.jsonl", "", "corpus.jsonl: holds no document"),
        ("queries.jsonl", '{"_id": "q0", "text": 5}\n', "queries.jsonl:1: 'text' must be a string"),
        (
            "qrels/train.tsv",
            "query-id\tcorpus-id\tscore\nq0\td0\n",
            "train.tsv:2: expected 'query document relevance', got 2 fields",
        ),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td0\tyes\n", "train.tsv:2: relevance must be an integer"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq9\td0\t1\n", "train.tsv:2: unknown query id 'q9'"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td9\t1\n", "train.tsv:2: unknown document id 'd9'"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t0\n", "split 'train' holds no relevant"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td0\t1\nq0\td0\t2\n", "train.tsv:3: .* judged twice"),
    ],
)
def test_malformed_files_name_file_and_line(tmp_path, file, text, message) -> None:
    folder = write(tmp_path / "set")
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        read_beir(folder, BOTH)


def test_missing_things(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_beir(tmp_path / "none", BOTH)
    folder = write(tmp_path / "set")
    with pytest.raises(DataError, match=r"tests\.tsv: no such file; did you mean 'test'"):
        read_beir(folder, {Role.TEST: "tests"})
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl: no such file"):
        read_beir(folder, BOTH)


def test_not_utf8_and_empty_query(tmp_path) -> None:
    folder = write(tmp_path / "set", queries=[{"_id": "q0", "text": " "}, {"_id": "q1", "text": "x"}])
    with pytest.raises(DataError, match=r"train\.tsv:2: query 'q0' has no text"):
        read_beir(folder, BOTH)
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "d0", "text": "ok"}\n{"_id": "d1", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:2: not UTF-8"):
        read_beir(folder, BOTH)


@given(noise=st.binary(max_size=200), target=st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels/train.tsv"]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_domain_or_an_error_of_ours(tmp_path, noise, target) -> None:
    folder = write(tmp_path / "set")
    whole = (folder / target).read_bytes()
    cut = len(noise) * 7 % (len(whole) + 1)
    (folder / target).write_bytes(whole[:cut] + noise + whole[cut:])
    try:
        read_beir(folder, BOTH)
    except MogridError as error:
        assert "\n" not in str(error)


def test_a_query_in_two_splits_is_a_leak(tmp_path) -> None:
    folder = write(tmp_path / "set", train=[("q0", "d0", 1)], test=[("q0", "d1", 1)])
    with pytest.raises(RoleError, match="'q0' is in both train and test"):
        read_beir(folder, BOTH)


def domain(name: str, role: Role) -> Domain:
    return Domain(name, {"d": "text"}, {role: Split(role, {"q": "query"}, {"q": {"d": 1}})})


def source() -> Domain:
    return Domain(
        "source", {"d": "text"}, {role: Split(role, {f"q{role}": "query"}, {f"q{role}": {"d": 1}}) for role in Role}
    )


def test_roles_are_enforced() -> None:
    with pytest.raises(RoleError, match="'a' has no train split"):
        training_pairs(domain("a", Role.TEST))
    with pytest.raises(RoleError, match="must not be trained on"):
        training_pairs(source(), Role.TEST)
    with pytest.raises(RoleError, match="named as train and as test"):
        Collection(source(), (domain("a", Role.TRAIN), domain("a", Role.TEST)))
    with pytest.raises(RoleError, match="needs a domain"):
        Collection(NO_SOURCE)
    with pytest.raises(RoleError, match="2 roles"):
        both = Domain(
            "b", {"d": "x"}, {r: Split(r, {f"{r}": "y"}, {f"{r}": {"d": 1}}) for r in (Role.TRAIN, Role.TEST)}
        )
        Collection(source(), (both,))


def test_a_source_of_one_role_is_told_from_another_domain() -> None:
    """Another domain is judged under perturbations, or is not: the same texts give other tables."""
    near, far = domain("near", Role.TEST), domain("far", Role.TEST)
    assert Collection(near, (far,)).fingerprint != Collection(NO_SOURCE, (near, far)).fingerprint
    assert Collection(NO_SOURCE, (near, far)).fingerprint == Collection(NO_SOURCE, (near, far)).fingerprint


def test_collection_from_yaml(tmp_path) -> None:
    write(tmp_path / "in", train=[("q0", "d0", 1)], dev=[("q1", "d1", 1)], test=[("q2", "d2", 1)])
    for name in ("a", "b", "c"):
        write(tmp_path / name)
    text = "source: {folder: in}\nood:\n  train: [{folder: a}]\n  select: [{folder: b, split: test}]\n  test: [{folder: c}]\n"
    (tmp_path / "domains.yaml").write_text(text)
    collection = read_collection(tmp_path)
    assert [d.name for d in collection.ood_with(Role.SELECT)] == ["b"]
    assert len(collection.summary()) == 6
    for change, error, message in (
        (("c}", "a}"), RoleError, r"domains.yaml:5: 'a' is named as OOD train and as OOD test"),
        (("folder: c", "folder: ../in"), ConfigError, r"domains.yaml:5: '../in' leaves the data folder"),
        (("test:", "tset:"), ConfigError, r"domains.yaml:5: unknown key 'ood.tset'.*did you mean 'test'"),
        (("source", "sauce"), ConfigError, r"domains.yaml:\d+: .*sauce.*did you mean 'source'|missing key 'source'"),
    ):
        (tmp_path / "domains.yaml").write_text(text.replace(*change))
        with pytest.raises(error, match=message):
            read_collection(tmp_path)
    with pytest.raises(DataError, match=r"none.yaml: no such file"):
        read_collection(tmp_path, tmp_path / "none.yaml")


def test_embedded_default_keeps_roles_apart(tmp_path) -> None:
    collection = embedded_collection(tmp_path)
    assert len(training_pairs(collection.source)) > 5000
    assert {r: len(collection.ood_with(r)) for r in Role} == {Role.TRAIN: 2, Role.SELECT: 3, Role.TEST: 3}
    held_out = {
        document
        for role in (Role.SELECT, Role.TEST)
        for judged in collection.source.splits[role].qrels.values()
        for document in judged
    }
    trained = collection.source.splits[Role.TRAIN]
    assert not held_out & {d for judged in trained.qrels.values() for d in judged}
    services = [
        {d.split(".")[0] for judged in collection.source.splits[role].qrels.values() for d in judged}
        for role in (Role.SELECT, Role.TEST)
    ]
    assert len(services[0] & services[1]) <= 2  # only where one example's text is used by two services
    for query, judged in list(trained.qrels.items())[:200]:
        assert all(trained.queries[query] not in trained.documents[d] for d in judged)
    tests = {t.lower() for d in collection.ood_with(Role.TEST) for s in d.splits.values() for t in s.queries.values()}
    for d in collection.ood_with(Role.TRAIN):
        assert not tests & {row["query"].lower() for row in training_pairs(d)}


def test_embedded_cache_is_equal_and_rebuilt_when_damaged(tmp_path, monkeypatch) -> None:
    source = read_beir(write(tmp_path / "set"), BOTH)
    collection, builds, cache = Collection(source, ()), [], tmp_path / "cache"
    monkeypatch.setattr(embedded_module, "_build", lambda: builds.append(1) or collection)
    for built in (1, 1):
        assert embedded_collection(cache).fingerprint == collection.fingerprint
        assert len(builds) == built
    file = next(cache.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    assert embedded_collection(cache).fingerprint == collection.fingerprint
    assert len(builds) == 2
    assert json.loads(file.read_text())["fingerprint"] == collection.fingerprint


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize("name", ["squad", "debian"])
def test_shipped_domain_files_read_the_shared_sets(name) -> None:
    domains = Path(__file__).parents[2] / "benchmarks" / "domains" / f"{name}.yaml"
    collection = read_collection(SHARED, domains)
    assert len(training_pairs(collection.source)) > 5000
