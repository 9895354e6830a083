"""Columns of training files under their usual names: labels and scores, titles and ids of documents."""

from __future__ import annotations

import json

import pytest

from mogrid.data import Columns, read_domain
from mogrid.errors import DataError
from tests.data.test_kinds import TRAIN, texts


@pytest.mark.parametrize(
    ("name", "values", "grades"),
    [
        ("label", [1, 0], [1, 0]),
        ("label", ["1", "0"], [1, 0]),
        ("score", [0.87, 0.0], [1, 0]),
        ("label", [True, False], [1, 0]),
        ("label", [3, 2], [1, 1]),
        ("label", ["yes", "no"], [1, 1]),
        ("score", [0.5, None], [1, 1]),
        ("relevance", [2, 0], [2, 0]),
    ],
)
def test_a_label_or_score_of_0_is_a_negative(tmp_path, name, values, grades) -> None:
    rows = [{"query": "a", "document": text, name: value} for text, value in zip("bc", values, strict=True)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert texts(read_domain(tmp_path, TRAIN)) == {"a": dict(zip("bc", grades, strict=True))}


def test_labels_that_are_all_0_are_said_to_be_none(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("query,document,label\na,b,0\n")
    with pytest.raises(DataError, match=r"no relevant .* pair \(.*train\.csv:2: a label of 0 is not relevant\)"):
        read_domain(tmp_path, TRAIN)
    given = read_domain(
        tmp_path / "train.csv", TRAIN, columns=Columns(query="query", document="document", title="label")
    )
    assert texts(given) == {"a": {"0 b": 1}}  # a column that is something else is no grade


def test_titles_and_ids_of_documents_are_read_by_their_usual_names(tmp_path) -> None:
    row = {"query": "a", "title": "T", "document": "b", "document_id": 7}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    domain = read_domain(tmp_path, TRAIN)
    assert domain.corpus == {"7": "T b"}
    (tmp_path / "train.jsonl").write_text(json.dumps({**row, "title": None, "negative": "c"}) + "\n")
    assert texts(read_domain(tmp_path, TRAIN)) == {"a": {"b": 1, "c": 0}}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    asked = read_domain(tmp_path, TRAIN, columns=Columns(query="title"))
    assert texts(asked) == {"T": {"b": 1}}  # what is the query is no title
