"""Damaged files of every kind: what is read is what json, csv, pandas and pyarrow read; what is not is one line of ours."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from mogrid.data import Role, read_domain
from mogrid.errors import MogridError
from mogrid.evaluation import read_qrels, read_run

disable_progress_bars()
HEADER = "query-id\tcorpus-id\tscore\n"
Texts = dict[str, dict[str, int]]  # query text → document text → relevance

# -- whole files of every kind ----------------------------------------------------------------------------------------

PAIRS = [{"query": f"what {n}", "document": f"text {n % 3}", "relevance": n % 2} for n in range(1, 6)]
FLAG = [{"query": f"what {n}", "pos": [f"good {n}", f"fine {n % 2}"], "neg": [f"bad {n}"] * (n % 2)} for n in range(4)]
TEVATRON = [
    {
        "query_id": str(n),
        "query": f"what {n}",
        "positive_passages": [{"docid": f"d{n}", "title": "T", "text": f"good {n}"}],
        "negative_passages": [{"docid": f"e{n}", "title": "", "text": f"bad {n}"}],
    }
    for n in range(4)
]
DPR = [
    {
        "question": f"what {n}",
        "answers": ["x"],
        "positive_ctxs": [{"title": "T", "text": f"good {n}", "passage_id": ""}],
        "hard_negative_ctxs": [{"title": None, "text": f"bad {n}"}],
        "negative_ctxs": [],
    }
    for n in range(4)
]
TRIPLETS = [{"anchor": f"what {n}", "positive": f"good {n}", "negative": f"bad {n}"} for n in range(4)]


def lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def table(records: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, records[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


FILES: dict[str, dict[str, str]] = {
    "beir": {
        "corpus.jsonl": lines([{"_id": f"d{n}", "title": "T" * (n % 2), "text": f"text {n}"} for n in range(5)]),
        "queries.jsonl": lines([{"_id": n, "text": f"what {n}"} for n in range(5)]),
        "qrels/test.tsv": HEADER + "".join(f"{n}\td{n}\t{n % 3}\n" for n in range(5)),
    },
    "msmarco": {
        "collection.tsv": "".join(f"d{n}\ttext {n}" + "\tmore" * (n % 3) + "\n" for n in range(5)),
        "queries.test.tsv": "".join(f"q{n}\twhat {n}\n" for n in range(5)),
        "qrels.test.tsv": "".join(f"q{n}\t0\td{n}\t{n % 3}\n" for n in range(5)),
    },
    "dl_typo": {
        "collection.tsv": "".join(f"{n}\ttext {n}\n" for n in range(5)),
        "query.tsv": "".join(f"{n}\twhat {n}\n" for n in range(5)),
        "query.typo.tsv": "".join(f"{n}\twaht {n}\n" for n in range(5)),
        "qrels.txt": "".join(f"{n} Q0 {n} {n % 3}\n" for n in range(5)),
    },
    "pairs": {"test.jsonl": lines(PAIRS)},
    "flagembedding": {"test.jsonl": lines(FLAG)},
    "tevatron": {"test.jsonl": lines(TEVATRON)},
    "triplets": {"test.jsonl": lines(TRIPLETS)},
    "dpr": {"test.json": json.dumps(DPR, indent=1)},
    "csv": {"test.csv": table(PAIRS)},
    "tsv": {"test.tsv": table(TRIPLETS, "\t")},
    "parquet": {"test.parquet": ""},
    "huggingface": {"test": ""},
    "run": {"run": "".join(f"q{n % 2} Q0 d{n} {n} {5.5 - n} tag\n" for n in range(5))},
    "judged": {"judged": "".join(f"q{n % 2} 0 d{n} {n % 3}\n" for n in range(5))},
}
TABLES = [PAIRS, FLAG, TEVATRON, TRIPLETS]

# -- damage -----------------------------------------------------------------------------------------------------------

BITS = [
    "\ufeff", "\t", "\t\t", "\n", "\r\n", "\r", '"', '""', ",", ";", " ", "", "\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\xa0", "\0",
    "null", "NaN", "1.0", "1e3", "-1", "+1", "1_0", "１", "9" * 25, "9" * 5000, "true", "[]", "{}", '{"_id": 1}', "\\ud800", "\\u0000",
    "水", "é", "e\u0301", "query", "document", "id\ttext", "q0", "d1", "0", "' '", "\\", "\\n", "-", "#", "query-id\tcorpus-id\tscore",
]  # fmt: skip
VALUES: list[Any] = [None, True, 0, 7, -3, 1.0, 0.5, float("nan"), "", " ", "x", "d1", [], ["a"], [None], [["b"]], {}, {"text": "t"},
                     {"text": "t", "title": None, "docid": 3}, {"title": "t"}, "\u2028", "é" * 3]  # fmt: skip


def damage(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few changes of the kinds that files suffer."""
    for _ in range(rng.randint(1, 3)):
        kind, at = rng.randrange(9), rng.randint(0, len(data))
        rows = data.split(b"\n")
        row = rng.randrange(len(rows))
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + rng.randint(1, 8) :]
        elif kind in (2, 3):
            data = data[:at] + rng.choice(BITS).encode("utf-8", "surrogatepass") + data[at + rng.choice((0, 0, 1)) :]
        elif kind == 4:
            data = data[:at]
        elif kind == 5:
            data = b"\n".join([*rows[:row], rows[row], *rows[row:]])
        elif kind == 6:
            data = b"\n".join([*rows[:row], *rows[row + 1 :]])
        elif kind == 7:
            data = b"\n".join([*rows[:row], rng.choice(BITS).encode(), *rows[row:]])
        else:
            data = rng.choice((b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data + data, data.rstrip(b"\n")))
    return data


def distort(rng: random.Random, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records with values, keys or whole records of another sort."""
    records = json.loads(json.dumps(records))
    for _ in range(rng.randint(1, 2)):
        record = rng.choice(records)
        key = rng.choice(list(record) or ["query"])
        kind = rng.randrange(5)
        if kind == 0:
            record.pop(key, None)
        elif kind == 1:
            record[rng.choice(("query", "negative_1", "relevance", "title", "answer"))] = rng.choice(VALUES)
        elif kind == 2 and isinstance(record.get(key), list) and record[key]:
            record[key][0] = rng.choice(VALUES)
        else:
            record[key] = rng.choice(VALUES)
    return records


def write(rng: random.Random, kind: str, folder: Path) -> None:
    """Write the files of a kind, one of them damaged."""
    (folder / "qrels").mkdir(parents=True)
    hurt = rng.choice(sorted(FILES[kind]))
    for name, text in FILES[kind].items():
        data, path = text.encode(), folder / name
        if name == hurt and name.endswith((".jsonl", ".json")) and rng.random() < 0.5:
            records = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
            records = distort(rng, records)
            data = (json.dumps(records) if name.endswith(".json") else lines(records)).encode()
        elif name.endswith(".parquet"):
            out = io.BytesIO()
            records = rng.choice(TABLES)
            pq.write_table(parquet(rng, distort(rng, records) if rng.random() < 0.7 else records), out)
            data = out.getvalue() if rng.random() < 0.7 else damage(rng, out.getvalue())
        elif kind == "huggingface":
            save(rng, folder)
            continue
        elif name == hurt:
            data = damage(rng, data)
        if name == hurt and rng.random() < 0.05 and kind not in ("parquet", "run", "judged"):
            path, data = path.with_name(f"{path.name}.gz"), gzip.compress(data)
        path.write_bytes(data)


def save(rng: random.Random, folder: Path) -> None:
    """Write a data set as `save_to_disk` does, and damage one of its files."""
    (folder / "qrels").rmdir()
    records = rng.choice(TABLES)
    table = parquet(rng, distort(rng, records) if rng.random() < 0.7 else records)
    DatasetDict({"test": Dataset(table)}).save_to_disk(folder)
    if rng.random() < 0.5:
        path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        path.write_bytes(damage(rng, path.read_bytes()))


def parquet(rng: random.Random, records: list[dict[str, Any]]) -> pa.Table:
    """Return an Arrow table; columns that have no one type are written as text."""
    columns = {}
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record.get(key) for record in records]
        try:
            columns[key] = pa.array(values)
            pq.write_table(pa.table({key: columns[key]}), io.BytesIO())
        except (pa.ArrowException, TypeError):
            columns[key] = pa.array([json.dumps(value) for value in values])
        if pa.types.is_string(columns[key].type) and rng.random() < 0.2:
            columns[key] = rng.choice(
                (lambda c: c.cast(pa.large_string()), lambda c: c.dictionary_encode(), lambda c: c.cast(pa.binary()))
            )(columns[key])
    return pa.table(columns)


# -- the same files, read by others -----------------------------------------------------------------------------------


def content(path: Path) -> bytes:
    packed = path.with_name(f"{path.name}.gz")
    return gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()


def rows_of(path: Path) -> list[str]:
    return [
        row
        for row in (line.rstrip("\r").lstrip("\ufeff") for line in content(path).decode().split("\n"))
        if row.strip(" \t\v\f")
    ]


def named(value: Any) -> str:
    assert isinstance(value, (str, int)), value
    assert not isinstance(value, bool)
    assert value != ""
    return str(value)


def whole(value: Any) -> int:
    number = float(value)
    assert number == int(number), value
    return int(number)


def together(*texts: str | None) -> str:
    return " ".join(text or "" for text in texts).strip()


def judged(rows: list[list[str]], queries: dict[str, str], corpus: dict[str, str]) -> Texts:
    found: Texts = {}
    for query, document, relevance in rows:
        if query in queries and document in corpus and queries[query].strip():
            found.setdefault(query, {})[document] = whole(relevance)
    return {queries[q]: {corpus[d]: r for d, r in of.items()} for q, of in found.items()}


def by_json_and_csv(folder: Path) -> Texts:
    """BEIR."""
    corpus = {
        named(r["_id"]): together(r.get("title"), r["text"]) for r in map(json.loads, rows_of(folder / "corpus.jsonl"))
    }
    queries = {named(r["_id"]): r["text"] or "" for r in map(json.loads, rows_of(folder / "queries.jsonl"))}
    rows = [row.split("\t") if row.count("\t") in (2, 3) else spaced(row) for row in rows_of(folder / "qrels/test.tsv")]
    header = rows and re.fullmatch(r"[+-]?\d{1,18}(\.0*)?", rows[0][-1].strip()) is None
    assert all(len(row) in (3, 4) for row in rows[header:])
    return judged([[row[0], *row[-2:]] for row in rows[header:]], queries, corpus)


def spaced(row: str) -> list[str]:
    return [word.decode() for word in row.encode().split()]


def heads(row: list[str]) -> bool:
    names = [word for word in row if word not in ("0", "Q0")]
    return len(names) > 1 and set(names) <= {"id", "text", "query", "query-id", "corpus-id", "score", "document"}


def by_split(folder: Path) -> Texts:
    """MS MARCO and DL-typo."""
    tables = []
    typo = (folder / "qrels.txt").is_file() or (folder / "qrels.txt.gz").is_file()
    for name in ("collection.tsv", "query.tsv" if typo else "queries.test.tsv"):
        rows = [row.split("\t") for row in rows_of(folder / name)]
        assert all(len(row) > 1 and row[0] for row in rows)
        tables.append({row[0]: together(*row[1:]) for row in rows[heads(rows[0]) :]})
    rows = [
        row.split("\t") if row.count("\t") == 3 else spaced(row)
        for row in rows_of(folder / ("qrels.txt" if typo else "qrels.test.tsv"))
    ]
    rows = [[row[0], row[-2], row[-1]] for row in rows[heads(rows[0]) :] if len(row) in (3, 4)]
    return judged(rows, tables[1], tables[0])


def by_library(read: Callable[[Path], Iterator[dict[str, Any]]]) -> Callable[[Path], Texts]:
    """Records, whose rows another library reads."""

    def texts(value: Any) -> Iterator[str]:
        for passage in value if isinstance(value, list) else [value]:
            if isinstance(passage, list):
                yield from texts(passage)
            elif passage is not None:
                text = together(passage.get("title"), passage["text"]) if isinstance(passage, dict) else passage
                assert isinstance(text, str)
                if text.strip():
                    yield text

    def read_all(folder: Path) -> Texts:
        found: Texts = {}
        saved = (folder / "dataset_dict.json").is_file()
        for record in read(folder if saved else next(path for path in folder.iterdir() if path.is_file())):
            (query,) = (record[key] for key in ("query", "question", "anchor") if key in record)
            documents = [
                key
                for key in record
                if key in ("document", "positive", "pos", "positive_passages", "positive_ctxs", "answer")
            ]
            (document,) = (
                [key for key in documents if key != "answer"]
                if len(documents) > 1 and named_kind(folder)
                else documents
            )
            value = 1 if record.get("relevance") is None else whole(record["relevance"])
            titled = "title" in record and isinstance(record[document], str)  # a passage has its own
            parts = [(together(record["title"], text) if titled else text, value) for text in texts(record[document])]
            parts += [(text, 0) for key in record if key in NEGATIVES for text in texts(record[key])]
            if query is not None and query.strip():
                for text, relevance in parts:
                    own = found.setdefault(query, {})
                    own[text] = max(relevance, own.get(text, relevance))
        return found

    return read_all


NEGATIVES = ("neg", "negative", "negative_1", "negative_passages", "hard_negative_ctxs", "negative_ctxs")


def named_kind(folder: Path) -> bool:
    return folder.name.split("-")[0] in ("pairs", "triplets", "flagembedding", "tevatron", "dpr")


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    data = content(path.with_name(path.name.removesuffix(".gz"))).decode("utf-8-sig")
    if ".jsonl" not in path.name:
        try:
            yield from json.loads(data)
            return
        except json.JSONDecodeError:
            pass
    for line in data.split("\n"):
        if line.strip("\ufeff \t\r\v\f"):
            yield json.loads(line.lstrip("\ufeff"))


def pandas_records(path: Path) -> Iterator[dict[str, Any]]:
    data = content(path.with_name(path.name.removesuffix(".gz")))
    frame = pd.read_csv(
        io.BytesIO(data), sep="\t" if ".tsv" in path.name else ",", dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=True
    )  # fmt: skip
    frame.columns = frame.columns.str.strip()
    yield from frame.to_dict("records")


def pyarrow_records(path: Path) -> Iterator[dict[str, Any]]:
    yield from pq.read_table(path).to_pylist()


def arrow_records(folder: Path) -> Iterator[dict[str, Any]]:
    for part in json.loads((folder / "test" / "state.json").read_text("utf-8"))["_data_files"]:
        yield from pa.ipc.open_stream(folder / "test" / part["filename"]).read_all().to_pylist()


OTHERS: dict[str, Callable[[Path], Texts]] = {
    "beir": by_json_and_csv,
    "msmarco": by_split,
    "dl_typo": by_split,
    **dict.fromkeys(("pairs", "flagembedding", "tevatron", "triplets", "dpr"), by_library(json_records)),
    **dict.fromkeys(("csv", "tsv"), by_library(pandas_records)),
    "parquet": by_library(pyarrow_records),
    "huggingface": by_library(arrow_records),
}


def trec(path: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for line in rows_of(path):
        words = [word.decode() for word in line.encode().split()]  # of bytes: C's white space
        if words and not (not found and heads(words)):
            found.setdefault(words[0], {})[words[2] if len(words) > 3 else words[1]] = float(
                words[4 if len(words) == 6 else -1]
            )
    return found


def ours(kind: str, folder: Path) -> Any:
    if kind == "run":
        return read_run(folder / "run")
    if kind == "judged":
        return read_qrels(folder / "judged")
    domain = read_domain(folder, {Role.TEST: "test"}, kind=kind)
    split = domain.split(Role.TEST)
    found: Texts = {}
    for query, judged in split.qrels.items():
        own = found.setdefault(split.queries[query], {})
        for document, relevance in judged.items():
            text = domain.corpus[document]
            own[text] = max(relevance, own.get(text, relevance))
    return found


def check(kind: str, seed: int, folder: Path) -> bool:
    """Damage a file and read it twice; return whether it could be read."""
    write(random.Random(f"{kind} {seed}"), kind, folder)
    try:
        found = ours(kind, folder)
    except MogridError as error:
        assert "\n" not in str(error)
        assert str(folder) in str(error)
        return False
    assert found == (trec(folder / kind) if kind in ("run", "judged") else OTHERS[kind](folder)), (kind, seed)
    return True


@pytest.mark.parametrize("kind", FILES)
def test_two_hundred_damaged_files(tmp_path, kind) -> None:
    read = [check(kind, seed, tmp_path / f"{kind}-{seed}") for seed in range(200 // len(FILES))]
    assert 0 < sum(read) < len(read)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_ten_thousand_damaged_files(tmp_path, kind) -> None:
    for seed in range(1000, 1000 + 10_000 // len(FILES) + 1):
        check(kind, seed, tmp_path / f"{kind}-{seed}")
