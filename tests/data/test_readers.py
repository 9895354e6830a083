"""Every reader: what it reads, what it refuses and where it says the fault lies; random damage gives our errors only."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mogrid.data import READERS, Domain, Role, domain_from_dataset, read_collection, read_domain, training_pairs
from mogrid.errors import ConfigError, DataError, MogridError, RoleError

BOTH = {Role.TRAIN: "train", Role.TEST: "test"}
HEADER = "query-id\tcorpus-id\tscore\n"
DPR = '[\n{"question": "what %s", "positive_ctxs": [{"title": "T", "text": "good %s", "passage_id": 7}],\n"hard_negative_ctxs": [{"text": "bad"}]}\n]'
FILES = {
    "beir": {
        "corpus.jsonl": '{"_id": "d0", "title": "T", "text": "good a"}\n{"_id": "d1", "text": ""}\n',
        "queries.jsonl": '{"_id": "q0", "text": "what a"}\n{"_id": "q1", "text": "what b"}\n',
        "qrels/train.tsv": f"{HEADER}q0\td0\t1\n",
        "qrels/test.tsv": f"{HEADER}q1\td0\t1\n",
    },
    "dpr": {"train.json": DPR % ("a", "a"), "test.jsonl": DPR.replace("\n", "")[1:-1] % ("b", "a") + "\n"},
    "msmarco": {
        "collection.tsv": "d0\tT good a\nd1\thttps://a.b\ttitle\tbody\n",
        "queries.train.tsv": "q0\twhat a\n",
        "qrels.train.tsv": "q0\t0\td0\t1\n",
        "queries.test.tsv": "q1\twhat b\n",
        "qrels.test.tsv": "q1 0 d0 1\n",
    },
    "pairs": {
        "train.jsonl": '{"query": "what a", "document": "T good a"}\n{"query": "what a", "document": "bad", "relevance": 0}\n',
        "test.jsonl": '{"query": "what b", "document": "T good a"}\n',
    },
}


def write(folder: Path, kind: str) -> Path:
    for name, text in FILES[kind].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def read(folder: Path, kind: str) -> Domain:
    return READERS[kind].read(folder, BOTH)


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_gives_the_same_training_pairs(tmp_path, kind) -> None:
    domain = read(write(tmp_path / "set", kind), kind)
    rows = training_pairs(domain)
    assert [(row["query"], row["document"]) for row in rows] == [("what a", "T good a")]
    assert list(domain.split(Role.TEST).queries.values()) == ["what b"]
    assert len(domain.corpus) == 2
    assert {"train", "test"} <= set(READERS[kind].splits(tmp_path / "set"))


def test_negatives_of_dpr_are_judged_0_and_long_rows_of_msmarco_keep_title_and_body(tmp_path) -> None:
    dpr = read(write(tmp_path / "dpr", "dpr"), "dpr")
    assert sorted(next(iter(dpr.split(Role.TRAIN).qrels.values())).values()) == [0, 1]
    assert read(write(tmp_path / "ms", "msmarco"), "msmarco").corpus["d1"] == "title body"


@pytest.mark.parametrize("kind", FILES)
def test_compressed_files_read_the_same_and_truncated_ones_are_refused(tmp_path, kind) -> None:
    plain = read(write(tmp_path / "set", kind), kind)
    for name in FILES[kind]:
        path = tmp_path / "set" / name
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read(tmp_path / "set", kind).fingerprint == plain.fingerprint
    first = tmp_path / "set" / f"{next(iter(FILES[kind]))}.gz"
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"\.gz: damaged gzip"):
        read(tmp_path / "set", kind)
    first.write_bytes(b"plain text")
    with pytest.raises(DataError, match=r"\.gz: cannot be read \(Not a gzipped file"):
        read(tmp_path / "set", kind)


@pytest.mark.parametrize(
    ("kind", "file", "text", "message"),
    [
        ("dpr", "train.json", '[{"question": "a"}]', r"train\.json, record 1: no 'positive_ctxs'"),
        ("dpr", "train.json", '[\n{"question"', r"train\.json:2: not JSON"),
        ("dpr", "train.json", '{"question": "a"}', r"train\.json: expected a list of records, got dict"),
        ("dpr", "train.json", DPR % ("a", "x") + "]", r"train\.json:4: not JSON \(Extra data"),
        ("dpr", "train.json", DPR.replace("what %s", " ") % "a", r"train\.json, record 1: the query has no text"),
        ("dpr", "test.jsonl", '{"question": "b", "positive_ctxs": [{"text": 3}]}', r"test\.jsonl:1, positive_ctxs\[0\]: 'text' must"),
        ("dpr", "test.jsonl", '{"question": "b", "positive_ctxs": [{"text": "other", "passage_id": 7}]}', r"document id '7' stood for another text"),
        ("dpr", "test.jsonl", '{"question": "b", "positive_ctxs": []}', "split 'test' holds no relevant"),
        ("msmarco", "collection.tsv", "d0\ta\nd0\tb\n", r"collection\.tsv:2: document id 'd0' stands here twice"),
        ("msmarco", "collection.tsv", "d0 a\n", r"collection\.tsv:1: expected 'id<TAB>text'"),
        ("msmarco", "collection.tsv", "", r"collection\.tsv: holds no document"),
        ("msmarco", "queries.train.tsv", "q0\t \n", r"qrels\.train\.tsv:1: query 'q0' has no text"),
        ("msmarco", "qrels.train.tsv", "q0\t0\td9\t1\n", r"qrels\.train\.tsv:1: unknown document id 'd9'"),
        ("msmarco", "qrels.train.tsv", "q9\t0\td0\t1\n", r"qrels\.train\.tsv:1: unknown query id 'q9'"),
        ("msmarco", "qrels.train.tsv", "q0\td0\n", r"qrels\.train\.tsv:1: expected .* got 2 fields"),
        ("msmarco", "qrels.train.tsv", f"q0\t0\td0\t{2**40}\n", r"qrels\.train\.tsv:1: relevance must be an integer"),
        ("pairs", "train.jsonl", '{"query": "", "document": "x"}\n', r"train\.jsonl:1: the query has no text"),
        ("pairs", "train.jsonl", '\n{"query": "x"}\n', r"train\.jsonl:2: no 'document'"),
        ("pairs", "train.jsonl", '{"query": "x", "document": "y", "relevance": true}\n', r"train\.jsonl:1: relevance must"),
        ("pairs", "train.jsonl", '{"query": "x", "document": "\\ud800"}\n', r"train\.jsonl:1, document: the text holds half of a surrogate"),
        ("pairs", "train.jsonl", '{"query": "x", "document": "y"', r"train\.jsonl:1: not JSON"),
        ("pairs", "train.jsonl", "[" * 100_000, r"train\.jsonl:1: not JSON \(nested too deeply"),
    ],
)  # fmt: skip
def test_faults_name_their_place(tmp_path, kind, file, text, message) -> None:
    folder = write(tmp_path / "set", kind)
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        read(folder, kind)


@pytest.mark.parametrize("kind", FILES)
def test_bytes_that_are_not_utf8_and_missing_splits(tmp_path, kind) -> None:
    folder = write(tmp_path / "set", kind)
    with pytest.raises(DataError, match=r"tests\.\w+: no such file; did you mean 'test'"):
        READERS[kind].read(folder, {Role.TEST: "tests"})
    first = folder / next(iter(FILES[kind]))
    first.write_bytes(first.read_bytes().replace(b"good", b"\xff"))
    with pytest.raises(DataError, match="not UTF-8 at byte"):
        read(folder, kind)


@pytest.mark.parametrize("kind", FILES)
def test_no_path_leaves_the_folder(tmp_path, kind) -> None:
    folder = write(tmp_path / "data" / "set", kind)
    secret = write(tmp_path / "secret", kind)
    for name in ("../../secret/train", "a\0b", "x" * 5000, str(secret / "train")):
        with pytest.raises(DataError):
            READERS[kind].read(folder, {Role.TEST: name})


@pytest.mark.parametrize("kind", FILES)
def test_links_of_the_users_own_are_followed(tmp_path, kind) -> None:
    """A snapshot of the Hub's cache is a folder of links; so is ``ln -s /scratch/beir/* data/``."""
    blobs = write(tmp_path / "blobs", kind)
    plain = read(blobs, kind).fingerprint
    snapshot = tmp_path / "snapshots" / "blobs"
    for name in FILES[kind]:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blobs / name)
    assert read(snapshot, kind).fingerprint == plain
    data = tmp_path / "data"
    data.mkdir()
    (data / "blobs").symlink_to(blobs)
    assert read_domain("blobs", BOTH, kind=kind, root=data).fingerprint == plain
    (data / "domains.yaml").write_text(f"source: {{folder: blobs, kind: {kind}}}\n")
    assert read_collection(data).source.fingerprint == plain
    for name in ("../blobs", "blobs/../../blobs", str(blobs), ".", ""):
        with pytest.raises(ConfigError, match="leaves the data folder"):
            read_domain(name, BOTH, kind=kind, root=data)


def test_fingerprint_covers_what_is_read_and_nothing_else(tmp_path) -> None:
    folder = write(tmp_path / "set", "beir")
    first = read(folder, "beir").fingerprint
    corpus, queries, qrels = (folder / name for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"))
    (folder / "qrels" / "dev.tsv").write_text("not read")
    corpus.write_text("".join(reversed(corpus.read_text().splitlines(keepends=True))))
    queries.write_text(queries.read_text() + '{"_id": "q9", "text": "not judged"}\n')
    assert read(folder, "beir").fingerprint == first
    for path, old, new in (
        (corpus, "good", "best"),
        (corpus, "d1", "d2"),
        (queries, "what b", "b"),
        (qrels, "1\n", "2\n"),
    ):
        kept = path.read_text()
        path.write_text(kept.replace(old, new))
        assert read(folder, "beir").fingerprint != first
        path.write_text(kept)
    assert READERS["beir"].read(folder, {Role.SELECT: "train", Role.TEST: "test"}).fingerprint != first


def test_query_in_two_splits_is_a_leak(tmp_path) -> None:
    folder = write(tmp_path / "set", "pairs")
    (folder / "test.jsonl").write_text(FILES["pairs"]["train.jsonl"])
    with pytest.raises(RoleError, match="in both train and test"):
        read(folder, "pairs")


def test_huge_texts_and_a_corpus_of_one(tmp_path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    document, query = "word " * 2_000_000, "token " * 100_000
    (folder / "train.jsonl").write_text(json.dumps({"query": query, "document": document}) + "\n")
    domain = READERS["pairs"].read(folder, {Role.TRAIN: "train"})
    assert len(next(iter(domain.corpus.values()))) == 10_000_000
    assert training_pairs(domain)[0]["query"] == query


def test_hugging_face_datasets_in_memory_and_on_disk(tmp_path) -> None:
    made = {
        role: Dataset.from_dict({"query": [f"{role} 1", f"{role} 2"], "document": ["x", "y"]})
        for role in (Role.TRAIN, Role.TEST)
    }
    domain = domain_from_dataset(made, "set")
    assert training_pairs(domain)["document"][:] == ["x", "y"]
    DatasetDict({str(role): rows for role, rows in made.items()}).save_to_disk(tmp_path / "set")
    assert read(tmp_path / "set", "huggingface").fingerprint == domain.fingerprint
    assert READERS["huggingface"].splits(tmp_path / "set") == ["test", "train"]
    with pytest.raises(DataError, match="no split 'dev'"):
        READERS["huggingface"].read(tmp_path / "set", {Role.SELECT: "dev"})
    (tmp_path / "set" / "train" / "state.json").write_text("{")
    with pytest.raises(DataError, match="not a saved dataset"):
        read(tmp_path / "set", "huggingface")
    with pytest.raises(DataError, match=r"row 0: no column 'querys'; did you mean 'query'"):
        domain_from_dataset(made, "set", query="querys")
    with pytest.raises(DataError, match=r"set, train split, row 1, document\[0\]: expected a text, .*, got int"):
        domain_from_dataset({Role.TRAIN: Dataset.from_dict({"query": ["a", "b"], "document": [[], [3]]})}, "set")


def test_ir_datasets_not_installed_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'mogrid\[ir-datasets\]'"):
        READERS["ir_datasets"].read("vaswani", {Role.TEST: ""})


def test_ir_datasets_of_own_files(tmp_path) -> None:
    ir_datasets = pytest.importorskip("ir_datasets")
    (tmp_path / "docs.tsv").write_text("d0\tT good a\nd1\tbad\n")
    (tmp_path / "queries.tsv").write_text("q0\twhat a\n")
    (tmp_path / "qrels").write_text("q0 0 d0 1\nq0 0 d9 1\nq9 0 d0 1\n")
    key = f"mogrid-{tmp_path.name}"
    made = ir_datasets.create_dataset(
        docs_tsv=tmp_path / "docs.tsv", queries_tsv=tmp_path / "queries.tsv", qrels_trec=tmp_path / "qrels"
    )
    ir_datasets.registry.register(f"{key}/train", made)
    domain = READERS["ir_datasets"].read(key, {Role.TRAIN: "train"})
    assert domain.split(Role.TRAIN).qrels == {"q0": {"d0": 1}}  # unknown queries and documents are left out
    assert [row["document"] for row in training_pairs(domain)] == ["T good a"]
    with pytest.raises(ConfigError, match="no-such/test: ir_datasets has no such data set"):
        READERS["ir_datasets"].read("no-such", {Role.TEST: "test"})


def test_kind_in_a_file_of_domains(tmp_path) -> None:
    for kind in FILES:
        write(tmp_path / kind, kind)
    (tmp_path / "beir" / "qrels" / "dev.tsv").write_text(f"{HEADER}q9\td0\t1\n")
    with (tmp_path / "beir" / "queries.jsonl").open("a") as file:
        file.write('{"_id": "q9", "text": "what c"}\n')
    text = (
        "source: {folder: beir}\nood:\n  train: [{folder: dpr, kind: dpr}]\n"
        "  select: [{folder: msmarco, kind: msmarco, split: test}]\n  test: [{folder: pairs, kind: pairs}]\n"
    )
    file = tmp_path / "domains.yaml"
    file.write_text(text)
    assert [domain.name for domain in read_collection(tmp_path).ood] == ["dpr", "msmarco", "pairs"]
    for change, message in (
        (("kind: pairs", "kind: pair"), r"domains.yaml:5: .*unknown kind.*did you mean 'pairs'"),
        (("folder: pairs", "folder: ../pairs"), r"domains.yaml:5: '../pairs' leaves the data folder"),
        (("folder: pairs", r'folder: "a\0b"'), r"domains.yaml:5: no file or folder 'a"),
    ):
        file.write_text(text.replace(*change))
        with pytest.raises(MogridError, match=message):
            read_collection(tmp_path)


CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), max_size=4)


@given(kind=st.sampled_from(sorted(FILES)), which=st.integers(0, 4), changes=CHANGES, noise=st.none() | st.binary())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_give_a_domain_or_an_error_of_ours(tmp_path, kind, which, changes, noise) -> None:
    folder = write(tmp_path / kind, kind)
    name = sorted(FILES[kind])[which % len(FILES[kind])]
    data = (folder / name).read_bytes()
    for at, cut, new in changes:
        start = int(at * len(data))
        data = data[:start] + new + data[start + cut :]
    (folder / name).write_bytes(data if noise is None else noise)
    try:
        domain = read(folder, kind)
        assert set(domain.splits) == set(BOTH)
        assert len(domain.fingerprint) == 64
    except MogridError as error:
        assert "\n" not in str(error)
