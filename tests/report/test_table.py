"""One table in three renderings: the same cells, and nothing of them taken for markup."""

from __future__ import annotations

import io
import re
from html import unescape

import pytest
from rich.console import Console

from mogrid.report.table import Table, cell, mark, printer

NASTY = "<b>|[red]x[/red]`*_\\ &\n"
ROWS = [("BM25", ".567±.029▲", "a"), (NASTY, ".3", "b")]
TABLE = Table("Results", ("strategy", "nDCG@10 ↑", "words"), ROWS, NASTY, frozenset({1}), frozenset({0, 2}))


def test_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(TABLE)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[0] == "Results"
    assert text.count("<b>|[red]x[/red]`*_\\ &") == 2
    assert re.search(r"BM25 +\.567±\.029▲  a", text)


def test_words_wrap_and_numbers_stay_whole_in_a_narrow_terminal() -> None:
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    name = "a strategy whose name is as long as names of strategies get"
    console.print(Table("", ("", "in domain", "typos"), [(name, ".303±.027▲", ".178±.022▼")]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ".303±.027▲" in text
    assert ".178±.022▼" in text
    assert max(map(len, text.splitlines())) <= 40
    assert " ".join(text.split()).count("strategies") == 1


@pytest.mark.parametrize("width", [56, 80, 200])
def test_names_of_rows_stay_where_headings_are_long(width: int) -> None:
    columns = ("", "FLOPs", "seeds", "nDCG@10", "other domains' nDCG@10", "worst other nDCG@10", "typos nDCG@10")
    row = ("effectiveness only", "6.1e+11", "3", ".803±.036", ".633±.017", ".502±.036", ".638±.039")
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(Table("", columns, [row]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [number for number in row[1:] if number not in text] == []
    assert "effectiveness only" in " ".join(text.split())
    assert "…" not in text


def test_a_pipe_is_wide(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printer().width == 160
    monkeypatch.setenv("COLUMNS", "91")
    assert printer().width == 91


def test_html() -> None:
    html = TABLE.html()
    assert html.count("<tr") == 3
    assert html.count('<tr class="mark">') == 1
    assert "<b>" not in html
    cells = [unescape(found) for found in re.findall(r"<td[^>]*>(.*?)</td>", html, re.S)]
    assert cells == [text for row in ROWS for text in row]
    assert html.count('<td class="l">') == 4
    assert '<p class="note">&lt;b&gt;' in html


def test_markdown() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[:3] == ["| strategy | nDCG@10 ↑ | words |", "| --- | --: | --- |", "| BM25 | .567±.029▲ | a |"]
    assert {line.count("|") for line in lines[:4]} == {4}
    assert re.fullmatch(r"\| \*\*.*\*\* \| \.3 \| b \|", lines[3])
    inside = lines[3].split("**")[1]
    assert not set(inside) & set("<>|`[]*_\\")
    assert unescape(inside) == NASTY.strip()


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table 'T': 2 columns, but the row \['a'\]"):
        Table("T", ("a", "b"), [("a",)])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((0.3031, 0.0269), ".303±.027"),
        ((-0.3031,), "-.303"),
        ((1.0, 0.0), "1.000±.000"),
        ((10.25,), "10.250"),
        ((0.5, float("nan")), ".500"),
        ((float("nan"), 0.1), "-"),
    ],
)
def test_cells(given, shown) -> None:
    assert cell(*given) == shown


def test_marks() -> None:
    assert [mark(1, 0.01), mark(-1, 0.01), mark(-1, 0.05), mark(1, float("nan"))] == ["▲", "▼", "", ""]
    assert cell(0.5, 0.1, digits=2, mark="▲") == ".50±.10▲"
