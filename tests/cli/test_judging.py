"""evaluate, attack and data: what they print, write and refuse, on small files and a real folder of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mogrid import cli
from mogrid.evaluation import Evaluation, read_run
from mogrid.retrieval.models import build_retriever

CASES = Path(__file__).parents[1] / "cases"

YAML = """source: {folder: in, kind: pairs}
ood:
  train: [{folder: a, kind: pairs}]
  select: [{folder: b, kind: pairs, split: test}]
  test: [{folder: c, kind: pairs}]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, texts, tokenizer):
    root = tmp_path_factory.mktemp("cli")
    for folder, splits in (("in", ("train", "dev", "test")), ("a", ("train",)), ("b", ("test",)), ("c", ("test",))):
        (root / folder).mkdir()
        for n, split in enumerate(splits):
            rows = texts[30 * n : 30 * n + 30]
            lines = (
                json.dumps({"query": f"{q} {folder}", "document": f"{d} definitely weird {folder}"}) for q, d in rows
            )
            (root / folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (root / "domains.yaml").write_text(YAML)
    build_retriever("1x32", tokenizer, dropout=0.0).save_pretrained(str(root / "model"), create_model_card=False)
    return root


def run(capsys, *argv) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_evaluate(place, tmp_path, capsys) -> None:
    argv = ("evaluate", place / "model", "--data", place, "--out", tmp_path / "e.json", "--figure", tmp_path / "e.png")
    code, out, _ = run(capsys, *argv, "--runs", tmp_path / "runs")
    assert code == 0
    for word in ("in, typos (100%)", "BM25 + model", "ood ndcg", "weight of BM25"):
        assert word in out
    found = Evaluation.load(tmp_path / "e.json")
    assert {(r.domain, r.condition) for r in found.systems["model"]} == {
        (d, c) for d in ("in", "b") for c in ("clean", "typos")
    }
    assert (tmp_path / "e.png").stat().st_size > 10_000
    assert len(read_run(tmp_path / "runs" / "in.select.clean.run")) == 30
    summary = found.summary()
    assert summary["BM25"]["ndcg"] > summary["model"]["ndcg"]
    assert summary["BM25 + model"]["ndcg"] >= summary["BM25"]["ndcg"] - 0.1
    assert found.tests()["in", "clean"].p_value < 0.05


def test_one_query_has_no_interval(place, tmp_path, capsys) -> None:
    """Its resamples are itself: ± 0 would say that nothing is surer."""
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    documents = [json.dumps({"_id": f"d{i}", "text": f"{i} mail"}) for i in range(5)]
    (tmp_path / "set" / "corpus.jsonl").write_text("\n".join(documents) + "\n")
    (tmp_path / "set" / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "one mail"}) + "\n")
    (tmp_path / "set" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n")
    judged = ("evaluate", place / "model", "--data", tmp_path / "set", "--perturb", "none")
    files = [tmp_path / f"{i}.json" for i in range(2)]
    for file in files:
        code, out, err = run(capsys, *judged, "--out", file)
        assert code == 0, err
        assert "nDCG@10" in out
        assert "±" not in out.replace("± half", "")
    code, out, err = run(capsys, "compare", *files)
    assert code == 0, err
    assert "of A" in out
    assert "±" not in out.replace("± half", "")


def test_numbers_are_shown_before_they_are_written(place, tmp_path, capsys, monkeypatch) -> None:
    """A disk that fills up at the end costs the file, not the hours that the table took."""

    def full(path, *rest):
        raise OSError(28, "No space left on device", str(path))

    argv = ("evaluate", place / "model", "--data", place, "--no-baselines", "--perturb", "none")
    with monkeypatch.context() as patch:
        patch.setattr("mogrid.files.write_bytes", full)
        code, out, err = run(capsys, *argv, "--out", tmp_path / "e.json")
        assert (code, "nDCG@10" in out, "No space left" in err) == (2, True, True)
        code, out, err = run(capsys, *argv, "--runs", tmp_path / "runs")
        assert (code, "nDCG@10" in out, "No space left" in err) == (2, True, True)


def test_what_cannot_be_written_is_said_before_anything_is_encoded(place, texts, tmp_path, capsys, monkeypatch) -> None:
    """Without a model, even: none is loaded."""
    (tmp_path / "file").write_text("x")
    for flag, where, message in (
        ("--out", tmp_path, "is a folder"),
        ("--out", tmp_path / "file" / "e.json", "nothing can be written in"),
        ("--runs", tmp_path / "file", "is a file"),
        ("--figure", tmp_path, "is a folder"),
    ):
        code, out, err = run(capsys, "evaluate", "no/such-model", "--data", place, flag, where)
        assert (code, out) == (2, "")
        assert message in err
    shutil.copytree(place, tmp_path / "data", ignore=shutil.ignore_patterns("model"))
    folder = tmp_path / "data" / "spaced"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "river"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q 0", "text": "stone"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq 0\td\t1\n")
    (tmp_path / "data" / "domains.yaml").write_text(YAML.replace("{folder: c, kind: pairs}", "{folder: spaced}"))
    argv = ("evaluate", "no/such-model", "--data", tmp_path / "data", "--role", "test", "--runs", tmp_path / "runs")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert "queries of spaced: the TREC format has no way to write 'q 0'" in err


def test_one_set_with_a_test_split_alone(place, tmp_path, capsys) -> None:
    """No file of domains, nothing to calibrate on: contrastive entropy is left out, and said to be."""
    argv = ("evaluate", place / "model", "--data", CASES / "test-split-only", "--out", tmp_path / "e.json")
    code, out, err = run(capsys, *argv)
    assert code == 0, err
    assert "contrastive entropy is left out" in out
    assert "the fusion with BM25 is left out" in out
    found = Evaluation.load(tmp_path / "e.json")
    assert found.role == "test"
    assert set(found.systems) == {"model", "BM25"}
    assert [r.condition for r in found.systems["model"]] == ["clean", "typos"]
    assert all(r.ce is None for r in found.systems["model"])
    assert found.systems["BM25"][0].means["ndcg"] == 1
    code, out, err = run(capsys, *argv, "--role", "select")
    assert (code, out) == (2, "")
    assert "no data set has a select split" in err


def test_queries_in_the_corpus_are_counted_and_said_once(place, capsys) -> None:
    argv = ("evaluate", place / "model", "--data", CASES / "query-is-a-document")
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert out.count("4 queries stand in the corpus under their own id") == 1


def test_misspellings_of_german_are_refused_by_name(place, capsys) -> None:
    """They gave exactly the clean numbers, as if the model were robust."""
    argv = ("evaluate", place / "model", "--data", CASES / "german", "--perturb", "misspellings")
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert "german, test: 'misspellings' changes 0 of 3 texts" in err


def test_a_sample_is_judged_and_called_so(place, tmp_path, capsys) -> None:
    argv = ("evaluate", place / "model", "--data", place, "--no-baselines", "--out", tmp_path / "e.json")
    code, out, _ = run(capsys, *argv, "--max-documents", 5, "--max-queries", 10)
    assert code == 0
    assert "a sample" in " ".join(out.split())
    found = Evaluation.load(tmp_path / "e.json")
    assert {result.queries for result in found.systems["model"]} == {10}
    run(capsys, *argv)
    whole = Evaluation.load(tmp_path / "e.json")
    assert found.summary()["model"]["ndcg"] > whole.summary()["model"]["ndcg"]
    assert run(capsys, *argv, "--max-documents", 0)[0] == 2


def test_a_log_has_lines_with_what_is_left(place, capsys) -> None:
    code, _, err = run(capsys, "evaluate", place / "model", "--data", place, "--no-baselines")
    assert code == 0
    assert "judging: 0%" in err
    assert "judging: 100%" in err


def test_evaluate_json_and_perturbations(place, capsys) -> None:
    argv = ("evaluate", place / "model", "--data", place, "--role", "test", "--no-baselines", "--json")
    code, out, _ = run(
        capsys, *argv, "--perturb", "misspellings:rate=1.0", "--perturb", "typos:kinds=[swap,delete],rate=0.5"
    )
    assert code == 0
    rows = json.loads(out)
    assert {row["condition"] for row in rows} == {
        "clean",
        "misspellings:rate=1.0",
        "typos:kinds=[swap,delete],rate=0.5",
    }
    assert {row["system"] for row in rows} == {"model"}


def test_a_damaged_record(tmp_path) -> None:
    from mogrid.errors import DataError

    for text in ("{", "[]", '{"format": 1}', '{"format": 2}', '{"format": 1, "systems": {"model": [{}]}}'):
        (tmp_path / "e.json").write_text(text)
        with pytest.raises(DataError, match=r"e\.json|record of an evaluation"):
            Evaluation.load(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (("--attack", "query_stuffing"), ("conditional SR@10", "black-box", "median boost")),
        (("--attack", "hotflip", "--set", "flips=1"), ("1 words", "white-box", "nDCG@10")),
        (("--attack", "corpus_poisoning", "--set", "passages=1", "--set", "flips=2"), ("top 20", "poisoned")),
    ],
)
def test_attack(place, tmp_path, capsys, attack, words) -> None:
    argv = ("attack", place / "model", "--data", place, "--targets", 5, "--out", tmp_path / "a.json", *attack)
    code, out, err = run(capsys, *argv)
    assert code == 0, err
    assert all(word in out for word in words)
    assert json.loads((tmp_path / "a.json").read_text())["role"] == "select"


def test_transfer(place, capsys, tokenizer, tmp_path) -> None:
    build_retriever("1x32", tokenizer, seed=4).save_pretrained(str(tmp_path / "other"), create_model_card=False)
    argv = ("attack", place / "model", "--data", place, "--targets", 3, "--crafted-on", tmp_path / "other", "--json")
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert json.loads(out)["knowledge"] == "black-box"


def test_data(place, capsys) -> None:
    code, out, _ = run(capsys, "data", place, "--leaks")
    assert code == 0
    assert "source, train" in out
    assert "near-duplicates" in out
    code, out, _ = run(capsys, "data", place, "--leaks", "--json")
    record = json.loads(out)
    assert len(record["fingerprint"]) == 64
    assert record["leaks"]["counts"]["c, test, documents"][1] == 30


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("evaluate", "MODEL", "--data", "PLACE", "--role", "tset"), "did you mean 'test'"),
        (("evaluate", "none/such", "--data", "PLACE"), "'none/such': no such folder, and no network"),
        (("evaluate", "MODEL", "--data", "PLACE/none"), "none: no such file or folder"),
        (("evaluate", "MODEL", "--domains", "x.yaml"), "below --data DIR"),
        (("evaluate", "MODEL", "--data", "PLACE", "--perturb", "typo"), "did you mean 'typos'"),
        (("evaluate", "MODEL", "--data", "PLACE", "--perturb", "hotflip"), "see mogrid attack"),
        (("evaluate", "MODEL", "--data", "PLACE", "--perturb", "typos:rate=7"), "rate in"),
        (("evaluate", "MODEL", "--data", "PLACE", "--device", "abacus"), "--device 'abacus'"),
        (("attack", "MODEL", "--data", "PLACE", "--attack", "typos"), "see mogrid evaluate --perturb"),
        (("attack", "MODEL", "--data", "PLACE", "--attack", "hotflop"), "did you mean 'hotflip'"),
        (("attack", "MODEL", "--data", "PLACE", "--set", "flip=3"), "did you mean 'flips'"),
        (("attack", "MODEL", "--data", "PLACE", "--set", "flips"), "expected KEY=VALUE"),
        (
            ("attack", "MODEL", "--data", "PLACE", "--domain", "c"),
            "role select; it has the role test: give --role test",
        ),
        (("attack", "MODEL", "--data", "PLACE", "--domain", "d"), "no such set with the role select; "),
        (("attack", "MODEL", "--data", "PLACE", "--role", "train"), "--role 'train'"),
        (("data", "PLACE/none"), "no such file or folder"),
        (("data", "PLACE", "--leaks", "--threshold", "2"), "threshold in"),
    ],
)
def test_bad_input_is_one_line_and_code_2(place, capsys, argv, message) -> None:
    known = {"MODEL": place / "model", "PLACE": place, "PLACE/none": place / "none"}
    code, out, err = run(capsys, *(known.get(a, a) for a in argv))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("mogrid: ")
    assert err.count("\n") == 1
