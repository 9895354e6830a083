"""What people bring: training files of other tools, tables, parquet, one set alone, sets as they are distributed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from datasets import Dataset

from mogrid.cli import main
from mogrid.data import (
    READERS,
    Columns,
    Role,
    domain_from_dataset,
    leak_report,
    read_beir,
    read_collection,
    read_domain,
    read_msmarco,
    read_single,
    training_pairs,
)
from mogrid.errors import ConfigError, DataError, MogridError, RoleError

CASES = Path(__file__).parents[1] / "cases"
TRAIN = {Role.TRAIN: "train"}
HEADER = "query-id\tcorpus-id\tscore\n"


def texts(domain, role: Role = Role.TRAIN) -> dict[str, dict[str, int]]:
    """Query text → document text → relevance."""
    split = domain.split(role)
    return {
        split.queries[query]: {domain.corpus[document]: relevance for document, relevance in judged.items()}
        for query, judged in split.qrels.items()
    }


# -- training files ---------------------------------------------------------------------------------------------------

KETTLE, BED, BICYCLE = "A kettle boils water.", "A bed is for sleeping.", "A bicycle has two wheels."


@pytest.mark.parametrize(
    ("file", "kind", "expected"),
    [
        ("flagembedding.jsonl", "flagembedding", {KETTLE: 1, BED: 0, BICYCLE: 0}),
        ("tevatron.jsonl", "tevatron", {f"Kettle {KETTLE}": 1, f"Bed {BED}": 0}),
        ("triplets.jsonl", "triplets", {KETTLE: 1, BED: 0}),
        ("faq.csv", "csv", {"A kettle, or a pot.": 1}),
        ("haystack-dpr.json", "dpr", {f"Kettle {KETTLE}": 1, f"Bed {BED}": 0}),
    ],
)
def test_training_files_by_name_and_unnamed(file, kind, expected) -> None:
    for given in (kind, None):
        domain = read_domain(file, TRAIN, kind=given, root=CASES / "training-files")
        assert texts(domain)["what boils water"] == expected
        assert domain.name == file.split(".")[0]


def test_all_positives_and_negatives_of_flagembedding_are_read() -> None:
    rows = texts(read_domain(CASES / "training-files" / "flagembedding.jsonl", TRAIN))
    assert rows["where to sleep"] == {BED: 1, "A couch will do.": 1}


ROWS = [
    {"frage": "womit kochen", "antwort": "mit dem Topf", "falsch": "im Bett", "auch falsch": "", "titel": "Topf", "nr": "7"},
    {"frage": "wo schlafen", "antwort": "im Bett", "falsch": "im Topf", "auch falsch": "im Rad", "titel": "Bett", "nr": "8"},
]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_columns_are_mapped_in_every_kind_of_file(tmp_path, ending) -> None:
    path = tmp_path / f"faq.{ending}"
    if ending in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ROWS[0], delimiter="\t" if ending == "tsv" else ";")
            writer.writeheader()
            writer.writerows(ROWS)
    elif ending == "parquet":
        Dataset.from_list(ROWS).to_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in ROWS))
    columns = Columns(
        query="frage", document="antwort", negative=["falsch", "auch falsch"], title="titel", document_id="nr"
    )
    for kind in (ending, None):
        domain = read_domain(path, TRAIN, kind=kind, columns=columns)
        assert texts(domain) == {
            "womit kochen": {"Topf mit dem Topf": 1, "im Bett": 0},
            "wo schlafen": {"Bett im Bett": 1, "im Topf": 0, "im Rad": 0},
        }
        assert domain.corpus["7"] == "Topf mit dem Topf"
    with pytest.raises(DataError, match=r"which column holds the query.*'frage', 'antwort'.*say columns:"):
        read_domain(path, TRAIN)
    with pytest.raises(DataError, match=r"no column 'antwrot'; did you mean 'antwort'"):
        read_domain(path, TRAIN, columns=Columns(query="frage", document="antwrot"))
    with pytest.raises(ConfigError, match=r"has no columns that could be named"):
        read_domain(CASES / "chinese", {Role.TEST: "test"}, columns=columns)


def test_shards_and_folders_of_the_hub(tmp_path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    for number, row in enumerate(ROWS):
        Dataset.from_list([{"query": row["frage"], "answer": row["antwort"]}]).to_parquet(
            tmp_path / "set" / "data" / f"train-{number:05}-of-00002.parquet"
        )
    domain = read_domain(tmp_path / "set", TRAIN)
    assert texts(domain) == {row["frage"]: {row["antwort"]: 1} for row in ROWS}
    assert READERS["parquet"].splits(tmp_path / "set") == ["train"]
    (tmp_path / "set" / "data" / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match=r"has 1 of its 2 files"):
        read_domain(tmp_path / "set", TRAIN)


def test_a_saved_dataset_of_triplets_has_negatives(tmp_path) -> None:
    rows = Dataset.from_list([{"anchor": "a", "positive": "b", "negative_1": "c", "negative_2": "d"}])
    rows.save_to_disk(tmp_path / "set")
    expected = {"a": {"b": 1, "c": 0, "d": 0}}
    assert texts(read_domain(tmp_path / "set", TRAIN)) == expected
    assert texts(domain_from_dataset({Role.TRAIN: rows}, "set")) == expected
    assert texts(domain_from_dataset({Role.TRAIN: rows}, "set", query="anchor", document="negative_2")) == {
        "a": {"d": 1, "c": 0}
    }
    with pytest.raises(ConfigError, match=r"'documents'; did you mean 'document'"):
        domain_from_dataset({Role.TRAIN: rows}, "set", documents="b")


def test_json_lines_called_json_and_records_without_text(tmp_path) -> None:
    lines = [{"query": "a", "document": "b"}, {"query": " ", "document": "c"}, {"query": "d", "document": None}]
    (tmp_path / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    domain = read_domain(tmp_path, TRAIN)
    assert texts(domain) == {"a": {"b": 1}}
    assert domain.dropped == {"records without a query": 1, "records without a document": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('query,document\n"a,b\n', r"train\.csv:2: not a table of texts"),
        ("query,document\na,b,c\n", r"train\.csv:2: 3 fields, where the header has 2"),
        ("query,query,document\na,b,c\n", r"train\.csv:1: a column stands here twice"),
        ("query,document,relevance\na,b,high\n", r"train\.csv:2: relevance must be an integer, got 'high'"),
        (
            "query,answer,document\na,b,c\n",
            r"train\.csv:2: which column holds the query.*'query', 'answer', 'document'",
        ),
        ("query,document\n", r"train\.csv: split 'train' holds no relevant"),
        ("", r"train\.csv: split 'train' holds no relevant"),
    ],
)
def test_faulty_tables(tmp_path, text, message) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_domain(tmp_path, TRAIN)


def test_a_damaged_parquet_file_is_one_line(tmp_path) -> None:
    Dataset.from_list([{"query": "a", "document": "b"}]).to_parquet(tmp_path / "train.parquet")
    data = (tmp_path / "train.parquet").read_bytes()
    for damaged in (b"", data[:50], data[:20] + b"\0" * 30 + data[50:]):
        (tmp_path / "train.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"train\.parquet: not a readable parquet file") as caught:
            read_domain(tmp_path, TRAIN)
        assert "\n" not in str(caught.value)


def test_two_files_of_one_split_are_told_apart_by_kind(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("query,document\na,b\n")
    (tmp_path / "train.jsonl").write_text('{"query": "c", "document": "d"}\n')
    with pytest.raises(DataError, match=r"both 'train\.jsonl' and 'train\.csv' are there"):
        read_domain(tmp_path, TRAIN)
    assert texts(read_domain(tmp_path, TRAIN, kind="csv")) == {"a": {"b": 1}}


# -- BEIR, MS MARCO and DL-typo as they are distributed ---------------------------------------------------------------


def test_beir_as_distributed() -> None:
    domain = read_beir(CASES / "beir-as-distributed", {Role.TEST: "test"})
    assert domain.corpus == {"1": f"Kettle {KETTLE}", "2": BED, "3": BICYCLE}
    assert domain.split(Role.TEST).qrels == {"10": {"1": 1}, "11": {"2": 1}, "12": {"3": 1}}
    assert domain.dropped == {
        "documents that stand twice": 1,
        "judgements that stand twice": 1,
        "judgements of documents that are not there": 1,
    }


def test_what_is_left_out_of_the_judgements_is_logged(caplog) -> None:
    read_beir(CASES / "beir-as-distributed", {Role.TEST: "test"})
    assert "left out: 1 judgements of documents that are not there" in caplog.text


def write_beir(folder: Path, corpus: str, queries: str, qrels: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, text in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def test_byte_order_marks_and_line_ends_of_windows_are_no_text(tmp_path) -> None:
    mark = "\ufeff"
    beir = write_beir(
        tmp_path / "beir",
        mark + '{"_id": "d", "text": "x"}\r\n',
        mark + '{"_id": "q", "text": "y"}\r\n',
        f"{mark}Query_ID\tCorpus_ID\tScore\r\nq\td\t1.0\r\n",
    )
    assert texts(read_beir(beir, {Role.TEST: "test"}), Role.TEST) == {"y": {"x": 1}}
    folder = tmp_path / "msmarco"
    folder.mkdir()
    for name, text in (
        ("collection.tsv", "pid\tpassage\r\nd\tx\ty\r\n"),
        ("queries.test.tsv", "qid\tquery\r\nq\tz\r\n"),
        ("qrels.test.tsv", "query-id\t0\tcorpus-id\tscore\r\nq\t0\td\t1\r\n"),
    ):
        (folder / name).write_text(mark + text, encoding="utf-8", newline="")
    domain = read_msmarco(folder, {Role.TEST: "test"})
    assert (domain.corpus, domain.split(Role.TEST).queries) == ({"d": "x y"}, {"q": "z"})
    (folder / "collection.tsv").write_text("d\tx\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"collection\.tsv:1: not UTF-8 but UTF-16; save it as UTF-8"):
        read_msmarco(folder, {Role.TEST: "test"})


def test_tabs_inside_a_passage_lose_nothing() -> None:
    domain = read_msmarco(CASES / "msmarco-tabs", TRAIN)
    assert domain.corpus["1"] == "A kettle boils water in the kitchen every day"
    assert texts(domain)["what boils water"] == {domain.corpus["1"]: 1}


def test_odd_line_breaks_are_part_of_ids_and_texts(tmp_path) -> None:
    odd = "a\u2028b\x85c\x0bd\x0ce\x1cf"
    folder = write_beir(
        tmp_path / "set",
        json.dumps({"_id": odd, "text": odd}, ensure_ascii=False).replace("\\u000b", "\\u000b") + "\n",
        json.dumps({"_id": "q\u2029", "text": odd}, ensure_ascii=False) + "\n",
        f"{HEADER}q\u2029\t{odd}\t1\n",
    )
    domain = read_beir(folder, {Role.TEST: "test"})
    assert domain.corpus == {odd: odd}
    assert domain.split(Role.TEST).qrels == {"q\u2029": {odd: 1}}


def write_dl_typo(folder: Path) -> Path:
    folder.mkdir()
    (folder / "collection.tsv").write_text("0\tclean the silver\n1\tplant a garden\n")
    (folder / "query.tsv").write_text("104009\thow to clean silver\n104063\thow to plant a garden\n7\tnot judged\n")
    (folder / "query.typo.tsv").write_text("104009\tow to clean siver\n104063\thow to plant a graden\n")
    (folder / "query.typo.ms.tsv").write_text("104009\tow to clean silver\n104063\thow to plant a garden\n")
    (folder / "qrels.txt").write_text("104009 Q0 0 3\n104009 Q0 1 0\n104063 Q0 1 2\n104063 Q0 5770072 2\n")
    return folder


def test_dl_typo(tmp_path) -> None:
    folder = write_dl_typo(tmp_path / "dl-typo")
    for kind in ("dl_typo", None):
        domain = read_domain(folder, {Role.TEST: "test"}, kind=kind)
        split = domain.split(Role.TEST)
        assert split.queries == {"104009": "how to clean silver", "104063": "how to plant a garden"}
        assert split.variants["typo"] == {"104009": "ow to clean siver", "104063": "how to plant a graden"}
        assert split.variants["typo.ms"]["104009"] == "ow to clean silver"
        assert split.qrels == {"104009": {"0": 3, "1": 0}, "104063": {"1": 2}}
        assert domain.dropped == {"judgements of documents that are not there": 1}
    before = read_domain(folder, {Role.TEST: "test"}).fingerprint
    (folder / "query.typo.tsv").write_text("104009\tow to clean siver\n104063\thow to plant a gardn\n")
    assert read_domain(folder, {Role.TEST: "test"}).fingerprint != before
    (folder / "query.typo.tsv").write_text("104009\tow to clean siver\n")
    with pytest.raises(DataError, match=r"query\.typo\.tsv has no text for query '104063'"):
        read_domain(folder, {Role.TEST: "test"})


def test_judgements_of_beir_without_a_header_or_in_trecs_columns(tmp_path) -> None:
    docs = '{"_id": "d 1", "text": "x"}\n{"_id": "e", "text": "z"}\n'
    for text in ("q\td 1\t1\nq\te\t2\n", "q\t0\td 1\t1\nq 0 e 2\n", "QueryId\tDoc\tlevel\nq\td 1\t1\nq\te\t2.0\n"):
        folder = write_beir(tmp_path / str(len(text)), docs, '{"_id": "q", "text": "y"}', text)
        assert read_beir(folder, {Role.TEST: "test"}).split(Role.TEST).qrels == {"q": {"d 1": 1, "e": 2}}


@pytest.mark.parametrize(
    "name", ["negative", "negative1", "Negative_0", "hard_neg", "negs", "hard-negatives", "neg_scores"]
)
def test_columns_of_negatives_by_any_usual_name(tmp_path, name) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"Query": "a", "Positives": ["p"], name: ["n"]}))
    pairs = training_pairs(read_domain(path, TRAIN))
    assert pairs.column_names[:-2] == ["query", "document", *([] if name == "neg_scores" else ["negative_1"])]


# -- one set alone, and collections that name only what is needed -----------------------------------------------------


def test_one_set_with_a_test_split_and_no_domains_file() -> None:
    for collection in (read_single(CASES / "test-split-only"), read_collection(CASES / "test-split-only")):
        assert [list(domain.splits) for domain in collection.with_role(Role.TEST)] == [[Role.TEST]]
        assert collection.with_role(Role.SELECT) == ()
        assert len(collection.source.split(Role.TEST).queries) == 3
    with pytest.raises(ConfigError, match=r"no data of role select, which is needed \(there is: test\)"):
        read_collection(CASES / "test-split-only", need=[Role.SELECT])


def test_one_file_and_a_split_of_another_name_are_there_to_be_judged(tmp_path) -> None:
    assert list(read_single(CASES / "training-files" / "faq.csv").source.splits) == [Role.TEST]
    folder = write_beir(tmp_path / "a", '{"_id": "d", "text": "x"}', '{"_id": "q", "text": "y"}', f"{HEADER}q\td\t1")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "2019.tsv")
    assert list(read_single(folder).source.splits) == [Role.TEST]
    (folder / "qrels" / "2020.tsv").write_text(f"{HEADER}q\td\t1")
    with pytest.raises(ConfigError, match=r"which of its splits is what \(2019, 2020\)"):
        read_single(folder)


def test_a_domains_file_names_only_what_is_needed(tmp_path) -> None:
    for name in ("a", "b"):
        write_beir(tmp_path / name, '{"_id": "d", "text": "x"}', '{"_id": "q", "text": "y"}', f"{HEADER}q\td\t1")
    (tmp_path / "faq.csv").symlink_to(CASES / "training-files" / "faq.csv")
    file = tmp_path / "domains.yaml"
    for text, expected in (
        ("ood: {test: [{folder: a}, {folder: b}]}", ["a", "b"]),
        ("source: {folder: a}", ["a"]),
        (
            "source: {folder: a, test: test}\nood: {test: [{folder: faq.csv, columns: {document: answer}}]}",
            ["a", "faq"],
        ),
    ):
        file.write_text(text)
        collection = read_collection(tmp_path, need=[Role.TEST])
        assert [domain.name for domain in collection.with_role(Role.TEST)] == expected
        assert len(collection.summary()) == len(expected)
        with pytest.raises(ConfigError, match="no data of role train, which is needed"):
            read_collection(tmp_path, need=[Role.TRAIN])
    for text, message in (
        ("source: {folder: a, select: devel}", r"devel\.tsv: no such file"),
        ("ood: {}", "a collection needs a domain"),
        (
            "ood: {test: [{folder: faq.csv, columns: {dokument: answer}}]}",
            r"unknown key .*dokument.*did you mean 'document'",
        ),
        ("ood: {test: [{folder: a}], select: [{folder: a}]}", r"'a' is named as OOD select and as OOD test"),
    ):
        file.write_text(text)
        with pytest.raises(MogridError, match=message):
            read_collection(tmp_path)
    with pytest.raises(RoleError, match="no train split"):
        file.write_text("ood: {test: [{folder: a}]}")
        read_collection(tmp_path).source.split(Role.TRAIN)


def test_a_mistyped_folder_says_so(tmp_path) -> None:
    (tmp_path / "beir" / "scifact").mkdir(parents=True)
    for path, message in (
        (tmp_path / "bier", rf"bier: no such file or folder; did you mean '{tmp_path}/beir'\?"),
        (tmp_path / "bier" / "scifact", rf"no such file or folder \({tmp_path} has no 'bier'\); did you mean"),
        (tmp_path / "beir" / "sifact", r"did you mean '.*/beir/scifact'"),
    ):
        for read in (read_collection, read_single, lambda path: read_domain(path, TRAIN)):
            with pytest.raises(DataError, match=message):
                read(path)
    with pytest.raises(DataError, match=r"no file or folder 'sifact' in .*; did you mean 'scifact'"):
        read_domain("sifact", TRAIN, root=tmp_path / "beir")
    with pytest.raises(DataError, match=r"holds no data set of a kind that is known .* no domains\.yaml"):
        read_collection(tmp_path / "beir")
    write_beir(tmp_path / "beir" / "nfcorpus", "", "", HEADER)
    with pytest.raises(DataError, match=r"it holds sets in folders of their own \(nfcorpus\)"):
        read_collection(tmp_path / "beir")


# -- what `mogrid data` shows ------------------------------------------------------------------------------------------


def test_the_command_shows_what_was_left_out_and_what_caps_a_score(tmp_path, capsys) -> None:
    assert main(["data", str(CASES / "beir-as-distributed")]) == 0
    shown = capsys.readouterr().out
    for what in (
        "documents that stand twice",
        "judgements that stand twice",
        "judgements of documents that are not there",
    ):
        assert f"1 {what}" in shown
    assert main(["data", str(CASES / "query-is-a-document")]) == 0
    assert "4 queries stand in the corpus under their own id" in capsys.readouterr().out
    folder = write_beir(
        tmp_path / "set",
        '{"_id": "d", "text": "x"}\n{"_id": "e", "text": "x"}\n{"_id": "f", "text": "y"}\n',
        '{"_id": "q", "text": "a"}\n{"_id": "r", "text": "b"}\n',
        f"{HEADER}q\td\t1\nr\tf\t1\n",
    )
    assert main(["data", str(folder)]) == 0
    said = (
        "relevant documents of 1 queries have exact copies in the corpus (1 copies in all): nDCG@10 cannot pass 0.815"
    )
    assert said in capsys.readouterr().out
    assert main(["data", str(folder), "--json"]) == 0
    (split,) = json.loads(capsys.readouterr().out)["splits"]
    assert (split["copies"], split["queries_with_copies"], split["queries_in_corpus"]) == (1, 1, 0)
    assert split["ceiling"] == pytest.approx((1 + 0.6309) / 2, abs=1e-3)
    assert main(["data", str(folder), "--leaks"]) == 2
    assert "no training data" in capsys.readouterr().err


def test_leaks_in_chinese_are_counted(tmp_path) -> None:
    """A training set holds a test document but for its punctuation and two letters, as copies on the web do."""
    text = "水壶可以把水烧开，用于泡茶。这是厨房里最常见的电器之一，几乎每个家庭都有一个，早上用它泡咖啡或者茶。"
    write_beir(
        tmp_path / "set", json.dumps({"_id": "d", "text": text}), '{"_id": "q", "text": "烧水"}', f"{HEADER}q\td\t1"
    )
    pair = {"query": "怎么烧水", "document": text.replace("，", ", ").replace("用于", "用来") + "！"}
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "train.jsonl").write_text(json.dumps(pair))
    (tmp_path / "domains.yaml").write_text("source: {folder: set}\nood: {train: [{folder: pairs}]}")
    assert leak_report(read_collection(tmp_path)).counts["set, test, documents"] == (1, 1)


# -- one query in two splits ------------------------------------------------------------------------------------------


def test_a_query_in_two_splits_is_shown_and_can_be_dropped_from_training(tmp_path) -> None:
    folder = write_beir(
        tmp_path / "set",
        '{"_id": "d", "text": "x"}',
        '{"_id": "q", "text": "what boils"}\n{"_id": "r", "text": "What  boils"}\n{"_id": "s", "text": "else"}\n',
        f"{HEADER}q\td\t1",
    )
    (folder / "qrels" / "train.tsv").write_text(f"{HEADER}q\td\t1\nr\td\t1\ns\td\t1\n")
    both = {Role.TRAIN: "train", Role.TEST: "test"}
    with pytest.raises(RoleError, match=r"'q' is in both train and test splits: 'what boils'; drop_overlap: true"):
        read_beir(folder, both)
    with pytest.raises(RoleError, match=r"as in a domains\.yaml: source: \{folder: set, drop_overlap: true\}"):
        read_single(folder)
    domain = read_beir(folder, both, drop_overlap=True)
    assert domain.split(Role.TRAIN).queries == {"s": "else"}
    assert domain.split(Role.TEST).queries == {"q": "what boils"}
    assert domain.dropped == {"queries of train that stand in a later split": 2}
    (tmp_path / "domains.yaml").write_text("source: {folder: set, drop_overlap: true}")
    assert read_collection(tmp_path).source.fingerprint == domain.fingerprint
    (folder / "qrels" / "train.tsv").write_text(f"{HEADER}q\td\t1\n")
    with pytest.raises(DataError, match=r"split 'train' holds no relevant .* \(query 'q' stands in two splits\)"):
        read_beir(folder, both, drop_overlap=True)


def test_ids_that_number_each_split_anew_are_no_overlap(tmp_path) -> None:
    for name, query in (("train", "a"), ("test", "b")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"query_id": "1", "query": query, "pos": ["x"]}))
    domain = read_domain(tmp_path, {Role.TRAIN: "train", Role.TEST: "test"})
    assert [split.queries for split in domain.splits.values()] == [{"1": "a"}, {"1": "b"}]
