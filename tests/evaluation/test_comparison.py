"""Files of any tool compared with each other: the same numbers whoever wrote them, and what is missing is said."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import pytrec_eval
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from mogrid import cli
from mogrid.data.domain import Collection, Role
from mogrid.errors import ConfigError, DataError, EvaluationError
from mogrid.evaluation import (
    JudgedSplit,
    Scores,
    compare_files,
    compare_scores,
    evaluate_retriever,
    holm,
    judging,
    paired_test,
    read_groups,
    read_scores,
    write_qrels,
    write_run,
)
from mogrid.evaluation.evaluator import RobustnessEvaluator
from mogrid.retrieval.models import build_retriever

MTEB = {
    "dataset_revision": "c22ab2a51041ffd869aaddef7af8d8215647e41a",
    "task_name": "ArguAna",
    "mteb_version": "2.1.0",
    "scores": {
        "test": [
            {"ndcg_at_10": 0.5, "mrr_at_10": 0.4, "recall_at_100": 0.9, "nauc_ndcg_at_10_max": 0.1, "main_score": 0.5,
             "hf_subset": "default", "languages": ["eng-Latn"]}
        ]
    },
    "evaluation_time": 3.0,
}  # fmt: skip


@pytest.fixture
def other(tokenizer):
    return build_retriever("1x32", tokenizer, dropout=0.0, seed=5)


@pytest.fixture
def files(model, other, domain, tmp_path):
    """The same two retrievers, as every tool writes them."""
    split = domain.split(Role.TEST)
    qrels = {q: dict(judged) for q, judged in split.qrels.items()}
    write_qrels(tmp_path / "qrels.txt", qrels)
    beir = "".join(f"{q}\t{d}\t{r}\n" for q, judged in qrels.items() for d, r in judged.items())
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + beir)
    found = {"trec": [], "json run": [], "gz": [], "predictions": [], "pytrec_eval": [], "trec_eval": [],
             "ir_measures": [], "csv": [], "ours": []}  # fmt: skip
    relevant = {q: set(judged) for q, judged in qrels.items()}
    for name, retriever in (("a", model), ("b", other)):
        folder = tmp_path / name
        (cell,) = judging(retriever, [JudgedSplit(domain, Role.TEST)])
        write_run(folder / "plain.run", cell.run)
        found["trec"].append(folder / "plain.run")
        (folder / "run.json").write_text(json.dumps(cell.run))
        found["json run"].append(folder / "run.json")
        (folder / "run.gz").write_bytes(gzip.compress((folder / "plain.run").read_bytes()))
        found["gz"].append(folder / "run.gz")
        InformationRetrievalEvaluator(
            dict(split.queries), dict(domain.corpus), relevant, ndcg_at_k=[10], mrr_at_k=[10], name="test",
            precision_recall_at_k=[100], map_at_k=[101], accuracy_at_k=[1], write_predictions=True,
        )(retriever, output_path=str(folder), epoch=1, steps=2)  # fmt: skip
        found["predictions"].append(next(folder.glob("*predictions*.jsonl")))
        found["csv"].append(next(folder.glob("*results.csv")))
        values = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recall.100"}).evaluate(cell.run)
        (folder / "values.json").write_text(json.dumps(values))
        found["pytrec_eval"].append(folder / "values.json")
        trec = "".join(f"{m:22}\t{q}\t{v}\n" for q, own in values.items() for m, v in own.items())
        (folder / "trec_eval.txt").write_text(trec + f"runid\tall\t{name}\nndcg_cut_10 \tall\t0.5\n")
        found["trec_eval"].append(folder / "trec_eval.txt")
        lines = "".join(f"{q}\tnDCG@10\t{own['ndcg_cut_10']}\n" for q, own in values.items())
        (folder / "ir_measures.txt").write_text(lines + "all\tnDCG@10\t0.5\n")
        found["ir_measures"].append(folder / "ir_measures.txt")
    return found, tmp_path / "qrels.txt", tmp_path / "test.tsv"


def test_the_same_comparison_whoever_wrote_the_files(files, model, other, domain) -> None:
    found, qrels, beir = files
    first, second = (next(judging(m, [JudgedSplit(domain, Role.TEST)])).result.ndcg for m in (model, other))
    expected = paired_test(second, first)
    for kind, paths in found.items():
        if kind in ("csv", "ours"):
            continue
        for judged in (qrels, beir):
            (row,) = compare_files(paths, qrels=judged, measures=["nDCG@10"]).rows
            assert row.before == pytest.approx(np.mean(list(first.values())), abs=1e-9), kind
            assert row.difference == pytest.approx(expected.difference, abs=1e-9), kind
            assert (row.low, row.high) == pytest.approx((expected.low, expected.high), abs=1e-9), kind
            assert row.p_value == pytest.approx(expected.p_value), kind
            assert row.queries == 66
    mixed = compare_files([found["trec"][0], found["predictions"][1]], qrels=qrels, measures=["nDCG@10"]).rows[0]
    assert mixed.difference == pytest.approx(expected.difference, abs=1e-9)


def test_tables_of_means_are_compared_as_such(files, tmp_path) -> None:
    found, qrels, _ = files
    compared = compare_files(found["csv"])
    assert {row.measure for row in compared.rows} == {"nDCG@10", "RR@10", "R@100"}
    assert all(row.p_value is None and row.low is None for row in compared.rows)
    assert any("no interval and no test" in note for note in compared.notes)
    assert any("AP@101" in note for note in compared.notes)
    by_query = compare_files(found["trec"], qrels=qrels, measures=["nDCG@10"]).rows[0]
    means = next(row for row in compared.rows if row.measure == "nDCG@10")
    assert (means.before, means.after) == pytest.approx((by_query.before, by_query.after), abs=1e-6)
    mixed = compare_files([found["csv"][0], found["trec"][1]], qrels=qrels)
    assert all(row.p_value is None for row in mixed.rows)


def test_result_files_of_mteb(tmp_path) -> None:
    paths = []
    for name, value in (("a", 0.5), ("b", 0.6)):
        (tmp_path / name).mkdir()
        record = json.loads(json.dumps(MTEB))
        record["scores"]["test"][0]["ndcg_at_10"] = value
        (tmp_path / name / "ArguAna.json").write_text(json.dumps(record))
        paths.append(tmp_path / name / "ArguAna.json")
    found = compare_files(paths)
    rows = {row.measure: row for row in found.rows}
    assert set(rows) == {"nDCG@10", "RR@10", "R@100", "main_score"}
    assert rows["nDCG@10"].place == "ArguAna, test"
    assert rows["nDCG@10"].difference == pytest.approx(0.1)
    assert rows["nDCG@10"].first.endswith("a/ArguAna.json")
    old = {"mteb_dataset_name": "ArguAna", "mteb_version": "1.0", "test": {"ndcg_at_10": 0.4, "evaluation_time": 2.0}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (row,) = compare_files([paths[0], tmp_path / "old.json"]).rows
    assert row.after == 0.4
    (tmp_path / "none.json").write_text(json.dumps({"task_name": "x", "scores": {"test": []}}))
    with pytest.raises(DataError, match="without scores"):
        read_scores(tmp_path / "none.json")


def test_evaluations_of_ours_are_compared_set_by_set(model, other, domain, tmp_path) -> None:
    collection = Collection(domain)
    for name, retriever in (("a", model), ("b", other)):
        evaluate_retriever(retriever, collection, Role.TEST, name=name).save(tmp_path / f"{name}.json")
    found = compare_files([tmp_path / "a.json", tmp_path / "b.json"])
    assert {(row.place, row.measure) for row in found.rows} == {
        ("words, test, clean", measure) for measure in ("nDCG@10", "RR@10", "R@100", "CE")
    }
    raw = {row.measure: row for row in found.rows}
    alone = [compare_files([tmp_path / "a.json", tmp_path / "b.json"], measures=[m]).rows[0] for m in raw]
    corrected = holm([row.p_value for row in alone])
    assert [raw[row.measure].p_value for row in alone] == pytest.approx(list(corrected))
    bm25 = compare_files([tmp_path / "a.json", tmp_path / "b.json"], system="BM25")
    assert {row.difference for row in bm25.rows} == {0}
    assert {row.measure for row in bm25.rows} == {"nDCG@10", "RR@10", "R@100"}
    with pytest.raises(DataError, match="no system 'BM52'; did you mean 'BM25'"):
        compare_files([tmp_path / "a.json"] * 2, system="BM52")


def test_our_evaluators_csv(model, other, domain, tmp_path) -> None:
    evaluator = RobustnessEvaluator(Collection(domain))
    for name, retriever in (("a", model), ("b", other)):
        evaluator(retriever, str(tmp_path / name))
    found = compare_files([tmp_path / n / "robustness_evaluation.csv" for n in "ab"], measures=["typo_ndcg"])
    assert found.rows[0].difference != 0


def test_groups_of_queries(tmp_path) -> None:
    rng = np.random.default_rng(0)
    first = {f"q{i}": float(v) for i, v in enumerate(rng.uniform(size=90))}
    second = {q: v + (0.3 if i % 3 == 0 else 0.0) for i, (q, v) in enumerate(first.items())}
    (tmp_path / "groups.tsv").write_text("".join(f"q{i}\t{'long' if i % 3 == 0 else 'short'}\n" for i in range(60)))
    systems = [Scores(n, {"": {"m": v}}, {"": {"m": 0.0}}) for n, v in (("a", first), ("b", second))]
    rows = compare_scores(systems, groups=read_groups(tmp_path / "groups.tsv")).rows
    assert [(row.group, row.queries) for row in rows] == [("all", 90), ("long", 20), ("short", 40)]
    assert [row.difference for row in rows] == pytest.approx([0.1, 0.3, 0.0])
    raw = [
        paired_test({q: second[q] for q in own}, {q: first[q] for q in own}).p_value
        for own in (list(first), [f"q{i}" for i in range(0, 60, 3)], [f"q{i}" for i in range(60) if i % 3])
    ]
    assert [row.p_value for row in rows] == pytest.approx(list(holm(raw)))
    for text, message in (("q1 a\n", "separated by a tab"), ("q1\ta\nq1\tb\n", ":2: query 'q1' is in two groups")):
        (tmp_path / "bad.tsv").write_text(text)
        with pytest.raises(DataError, match=message):
            read_groups(tmp_path / "bad.tsv")


def test_other_queries_are_an_error_unless_asked_for() -> None:
    """A retriever that failed on a query would win by leaving it out."""
    one, other = (Scores(n, {"": {"m": v}}, {"": {"m": 0.5}}) for n, v in (
        ("a", {"q": 0.1, "r": 0.2, "s": 0.3}), ("b", {"q": 0.2, "r": 0.3})))  # fmt: skip
    with pytest.raises(EvaluationError, match="not judged on the same queries: 1 differ, such as 's'; --common"):
        compare_scores([one, other])
    (row,) = compare_scores([one, other], common=True).rows
    assert (row.queries, row.before) == (2, pytest.approx(0.15))
    with pytest.raises(EvaluationError, match="no set and measure in common: a has one set"):
        compare_scores([one, Scores("c", {}, {"": {"n": 0.5}})])
    with pytest.raises(ConfigError, match="at least two"):
        compare_scores([one])
    with pytest.raises(ConfigError, match="'k' is not in both files"):
        compare_scores([one, one], measures=["k"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "not JSON"),
        ("x.json", "[]", "not a file of results"),
        ("x.json", "{}", "not a file of results"),
        ("x.json", '{"a": 1}', "not a file of results"),
        ("x.json", '{"systems": {}}', "not an evaluation"),
        ("x.json", '{"mteb_version": 1, "scores": {"test": 3}}', "not a result file of MTEB"),
        ("x.run", "q Q0 d 1 0.5 t\n", "give --qrels"),
        ("x.json", json.dumps({f"q{i}": {f"d{j}": 1.0 for j in range(80)} for i in range(3)}), "give --qrels"),
        ("x.txt", "hello\n", "not a file of results"),
        ("x.txt", "", "not a file of results"),
        ("x.txt", "map q 0.5\nmap q\n", "x.txt:2: expected measure, query and value"),
        ("x.txt", "map q 0.5\nmap q 0.6\n", "x.txt:2: query 'q' has 'map' twice"),
        ("x.csv", "a,b\n1,2\n", "begin epoch,steps"),
        ("x.csv", "epoch,steps,cosine-NDCG@10\n1,2,x\n", "'x' is no number"),
        ("x.jsonl", '{"query_id": "q"}\n', "x.jsonl:1: expected query_id and results"),
        ("none.run", None, "cannot be read"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, message) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / name)


def test_the_command(files, capsys) -> None:
    found, qrels, _ = files
    argv = [str(path) for path in found["trec"]]
    assert cli.main(["compare", *argv, "--qrels", str(qrels)]) == 0
    out = capsys.readouterr().out
    assert "nDCG@10" in out
    assert "B - A" in out
    assert cli.main(["compare", *argv, argv[0], "--qrels", str(qrels), "--json", "--measure", "nDCG@10"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["difference"] == 0 for row in record["rows"]] == [False, True]
    assert cli.main(["compare", *argv]) == 2
    err = capsys.readouterr().err
    assert "give --qrels" in err
    assert err.count("\n") == 1
    assert cli.main(["compare", *map(str, found["csv"])]) == 0
    assert "no interval and no test" in capsys.readouterr().out
