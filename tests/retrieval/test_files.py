"""TREC files and vectors: what is written is read, what is wrong names its place, what was killed goes on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mogrid.data.domain import Role
from mogrid.errors import DataError, EvaluationError, MogridError
from mogrid.evaluation import evaluate_embeddings, read_qrels, read_run, write_qrels, write_run
from mogrid.retrieval import (
    encode,
    encode_in_shards,
    encode_split,
    load_vectors,
    save_vectors,
    search,
    split_from_vectors,
)
from mogrid.retrieval import vectors as vectors_module
from mogrid.retrieval.models import build_retriever

IDS = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6)


@given(st.dictionaries(IDS, st.dictionaries(IDS, st.floats(-1e9, 1e9), min_size=1, max_size=5), max_size=4))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_come_back_to_the_bit(tmp_path, run) -> None:
    write_run(tmp_path / "run", run)
    assert read_run(tmp_path / "run") == run
    qrels = {q: {d: int(s) % 4 for d, s in found.items()} for q, found in run.items()}
    write_qrels(tmp_path / "qrels", qrels)
    assert read_qrels(tmp_path / "qrels") == qrels


def test_runs_are_ordered_and_ranked(tmp_path) -> None:
    write_run(tmp_path / "run", {"q": {"a": 1.0, "b": 2.5}}, tag="mine")
    assert (tmp_path / "run").read_text() == "q Q0 b 1 2.5 mine\nq Q0 a 2 1.0 mine\n"
    for bad in ({"q 1": {"a": 1.0}}, {"q": {"": 1.0}}, {"q": {"a": float("nan")}}):
        with pytest.raises(EvaluationError):
            write_run(tmp_path / "run", bad)
    assert read_run(tmp_path / "run") == {"q": {"a": 1.0, "b": 2.5}}  # nothing was lost


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 2.0\n", "run:1: expected .* got 5 fields"),
        ("q Q0 d 1 x t\n", "run:1: the score must be a number"),
        ("q Q0 d 1 nan t\n", "run:1: the score must be finite"),
        ("q Q0 d 1 2 t\n\nq Q0 d 2 1 t\n", "run:3: query 'q' has document 'd' twice"),
    ],
)
def test_malformed_runs(tmp_path, text, message) -> None:
    (tmp_path / "run").write_text(text)
    with pytest.raises(DataError, match=message):
        read_run(tmp_path / "run")


@given(st.binary(max_size=80))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, noise) -> None:
    for reader in (read_run, read_qrels, load_vectors):
        (tmp_path / "file.npy").write_bytes(noise)
        try:
            reader(tmp_path / "file.npy")
        except MogridError as error:
            assert "\n" not in str(error)


def stored(tmp_path, domain, model):
    encoded = encode_split(model, domain, Role.TEST)
    save_vectors(tmp_path / "q.npy", encoded.query_ids, encoded.queries)
    save_vectors(tmp_path / "d.npy", encoded.document_ids, encoded.documents)
    return encoded


def test_precomputed_vectors_are_judged_as_their_model(tmp_path, domain, model) -> None:
    encoded = stored(tmp_path, domain, model)
    split = split_from_vectors(domain, Role.TEST, tmp_path / "q.npy", tmp_path / "d.npy")
    theirs, ours = evaluate_embeddings(encoded), evaluate_embeddings(split)
    assert (theirs.ndcg, theirs.ce) == (ours.ndcg, ours.ce)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, d: np.save(d, np.full((96, 32), np.nan, np.float32)), r"d.npy 0 is not finite"),
        (lambda q, d: np.save(d, np.ones((96, 16), np.float32)), "32 dimensions, .* 16: not of one model"),
        (lambda q, d: np.save(d, np.ones((95, 32), np.float32)), "96 ids for the 95 vectors"),
        (lambda q, d: np.save(d, np.ones(96, np.float32)), "expected a matrix of floats"),
        (lambda q, d: np.save(d, np.array([{}] * 96), allow_pickle=True), "not a readable array"),
        (lambda q, d: d.write_bytes(d.read_bytes()[:200]), "not a readable array"),
        (lambda q, d: (d.parent / "d.ids.txt").unlink(), "d.ids.txt: cannot be read"),
        (lambda q, d: save_vectors(d, ["d0", "d0"], np.ones((2, 32))), r"d.ids.txt:2: id 'd0' stands on line 1"),
        (lambda q, d: save_vectors(d, ["d0"], np.ones((1, 32))), "95 of 96 have no vector, such as document 'd1'"),
        (lambda q, d: save_vectors(q, ["q95"], np.ones((1, 32))), "have no vector, such as query 'q30'"),
    ],
)
def test_bad_vectors(tmp_path, domain, model, change, message) -> None:
    stored(tmp_path, domain, model)
    change(tmp_path / "q.npy", tmp_path / "d.npy")
    with pytest.raises(MogridError, match=message):
        split_from_vectors(domain, Role.TEST, tmp_path / "q.npy", tmp_path / "d.npy")


def test_vectors_of_documents_nobody_knows(tmp_path, domain, model) -> None:
    encoded = stored(tmp_path, domain, model)
    more = np.vstack([encoded.documents, np.ones((1, 32))])
    save_vectors(tmp_path / "d.npy", [*encoded.document_ids, "else"], more)
    with pytest.raises(DataError, match="'else' is not in the corpus"):
        split_from_vectors(domain, Role.TEST, tmp_path / "q.npy", tmp_path / "d.npy")


def test_shards_are_searched_as_one(tmp_path, domain, model) -> None:
    shards = encode_in_shards(model, domain.corpus, tmp_path / "s", rows=20)
    assert shards.sizes == (20, 20, 20, 20, 16)
    documents = encode(model, list(domain.corpus.values()), "document")
    np.testing.assert_allclose(np.vstack(list(shards)), documents, atol=1e-6)
    queries = np.vstack(list(shards))[:7]
    for k in (1, 10, 50, 200):
        scores, rows = shards.search(queries, k)
        expected, places = search(queries, np.vstack(list(shards)), k)
        assert np.array_equal(rows, places)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_shards_are_not_encoded_twice_and_not_mixed(tmp_path, domain, model, tokenizer, monkeypatch) -> None:
    folder = tmp_path / "s"
    encode_in_shards(model, domain.corpus, folder, rows=40)
    (folder / "shard-00001.npy").unlink()
    counted = []

    def counting(model, texts, kind, **options):
        counted.append(len(texts))
        return encode(model, texts, kind, **options)

    monkeypatch.setattr(vectors_module, "encode", counting)
    encode_in_shards(model, domain.corpus, folder, rows=40)
    assert counted == [40]
    other = build_retriever("1x32", tokenizer, dropout=0.0, seed=5)
    for change, message in (
        ((other, domain.corpus, 40), "another model"),
        ((model, {**domain.corpus, "d0": "changed"}, 40), "another corpus"),
        ((model, domain.corpus, 41), "another size"),
    ):
        with pytest.raises(DataError, match=message):
            encode_in_shards(*change[:2], folder, rows=change[2])
    (folder / "shards.json").write_text("{")
    with pytest.raises(DataError, match="not readable"):
        encode_in_shards(model, domain.corpus, folder, rows=40)


def test_a_full_disk_loses_nothing(tmp_path, domain, model, monkeypatch) -> None:
    real, calls = vectors_module.write_bytes, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(vectors_module, "write_bytes", full)
    with pytest.raises(DataError, match="No space left on device; finished shards are kept"):
        encode_in_shards(model, domain.corpus, tmp_path / "s", rows=40)
    assert sorted(p.name for p in (tmp_path / "s").glob("*.npy")) == ["shard-00000.npy"]
    monkeypatch.undo()
    assert encode_in_shards(model, domain.corpus, tmp_path / "s", rows=40).sizes == (40, 40, 16)


KILLED = """
import os, signal, sys
from sentence_transformers import SentenceTransformer
from mogrid.retrieval import encode_in_shards
from mogrid.retrieval import vectors
model, folder = SentenceTransformer(sys.argv[1], device="cpu"), sys.argv[2]
real, calls = vectors.write_bytes, []
def dying(path, data):
    calls.append(path)
    if len(calls) == 3:
        path.with_suffix(".partial").write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, data)
vectors.write_bytes = dying
encode_in_shards(model, {f"d{i}": f"river {i} stone" for i in range(50)}, folder, rows=10)
"""


@pytest.mark.slow
def test_a_killed_encoding_goes_on(tmp_path, model) -> None:
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(tmp_path / "s")]
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(list((tmp_path / "s").glob("*.npy"))) == 2
    corpus = {f"d{i}": f"river {i} stone" for i in range(50)}
    shards = encode_in_shards(model, corpus, tmp_path / "s", rows=10)
    np.testing.assert_allclose(
        np.vstack(list(shards)), encode(model, list(corpus.values()), "document"), rtol=1e-4, atol=1e-5
    )


ODD = ["a\u2028b", "c\x85", "\u2029d", "e\x0bf", "\x0cg", "h\x1ci", "j k", "\xa0l"]


def test_ids_with_odd_line_breaks_survive_save_and_load(tmp_path) -> None:
    vectors = np.eye(len(ODD), dtype=np.float32)
    save_vectors(tmp_path / "v.npy", ODD, vectors)
    ids, matrix = load_vectors(tmp_path / "v.npy")
    assert ids == ODD
    assert np.array_equal(matrix, vectors)
    for bad in ("a\nb", "a\rb", "", "\ufeffa"):
        with pytest.raises(EvaluationError, match="line break"):
            save_vectors(tmp_path / "w.npy", [bad], vectors[:1])
    names = tmp_path / "v.ids.txt"
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes().replace(b"\n", b"\r\n"))  # as an editor on Windows leaves it
    assert load_vectors(tmp_path / "v.npy")[0] == ODD


def test_an_id_that_trec_eval_reads_as_one_word_is_written(tmp_path) -> None:
    run = {"q\u2028": {"a\x85b": 2.0, "\xa0c": 1.0}}
    write_run(tmp_path / "run", run)
    assert read_run(tmp_path / "run") == run
    write_qrels(tmp_path / "qrels", {"q\u2028": {"a\x85b": 1}})
    assert read_qrels(tmp_path / "qrels") == {"q\u2028": {"a\x85b": 1}}
    for bad in ("a b", "a\x0bb", "a\x0cb", "a\tb", "\ufeffa"):
        with pytest.raises(EvaluationError, match="no way to write"):
            write_run(tmp_path / "run", {bad: {"d": 1.0}})


def test_ids_of_beirs_judgements_may_hold_spaces(tmp_path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq 1\td\t1\nq\td 2\t2\n")
    assert read_qrels(path) == {"q 1": {"d": 1}, "q": {"d 2": 2}}


def test_marks_and_headers_of_runs_and_judgements_are_no_ids(tmp_path) -> None:
    mark = "\ufeff"
    for text in ("q Q0 d 1 2.5 t\r\n", "query_id Q0 doc_id rank score tag\nq Q0 d 1 2.5 t\n", "\nq\tQ0\td\t1\t2.5\tt"):
        (tmp_path / "run").write_text(mark + text, encoding="utf-8", newline="")
        assert read_run(tmp_path / "run") == {"q": {"d": 2.5}}
    for text in ("q 0 d 1.0\r\n", "query-id\tcorpus-id\tscore\nq\td\t1\n", "qid\titer\tdocid\trel\nq\t0\td\t1\n"):
        (tmp_path / "qrels").write_text(mark + text, encoding="utf-8", newline="")
        assert read_qrels(tmp_path / "qrels") == {"q": {"d": 1}}
    (tmp_path / "qrels").write_text("q 0 d 1\nq 0 d 2\n")
    with pytest.raises(DataError, match="qrels:2: query 'q' and document 'd' are judged twice, differently"):
        read_qrels(tmp_path / "qrels")
