"""One table, for a terminal (rich), the page (HTML), and cards and documentation (Markdown)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

__all__ = ["Table", "cell", "mark", "markdown_text", "printer"]

_GAP = 2  # between columns
_WHOLE = 24  # characters: a longer word is broken
_NO_TERMINAL = 160  # columns of a file or pipe


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes
    ----------
    title : str
        Stands above it; empty for none.
    columns : sequence of str
    rows : sequence of sequences of str
        Cells are formatted for people already, see `cell`; nothing in them is taken for markup.
    note : str
        Stands below: what marks and intervals mean.
    highlight : frozenset of int
        Rows that stand out, by their place.
    left : frozenset of int
        Columns of words, set flush left as the first is; the others hold numbers, flush right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: frozenset[int] = frozenset()
    left: frozenset[int] = frozenset({0})

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: {len(self.columns)} columns, but the row {list(row)}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), collapse_padding=True, pad_edge=False)
        widths = self._widths(options.max_width)
        for i, (name, width) in enumerate(zip(self.columns, widths, strict=True)):
            side: Literal["left", "right"] = "left" if i in self.left else "right"
            table.add_column(Text(name), justify=side, width=width)
        for i, row in enumerate(self.rows):
            table.add_row(*map(Text, row), style="bold" if i in self.highlight else None)
        # Rich's own title and caption are no wider than the table.
        if self.title:
            yield Text(self.title, style="italic")
        if sum(widths) + _GAP * (len(widths) - 1) <= options.max_width:
            yield table
        else:  # no table fits: a paragraph a row
            for i, (first, *rest) in enumerate(self.rows):
                said = [f"{name} {text}" for name, text in zip(self.columns[1:], rest, strict=True) if text]
                yield Text(f"{first}: {', '.join(said)}", style="bold" if i in self.highlight else "")
        if self.note:
            yield Text(self.note, style="dim")

    def _widths(self, room: int) -> list[int]:
        """Return what every column gets: with little room, words and headings wrap, and numbers stay whole."""
        least, most = [], []
        for i, name in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            parts = [part for text in cells for part in text.split()] if i in self.left else cells
            least.append(min(_WHOLE, max(map(len, [*parts, *name.split()]), default=0)))
            most.append(max(map(len, [*cells, name])))
        left = room - sum(least) - _GAP * (len(least) - 1)
        for i in sorted(range(len(least)), key=lambda i: i not in self.left):
            more = min(max(left, 0), most[i] - least[i])
            least[i], left = least[i] + more, left - more
        return least

    def html(self) -> str:
        """Return a table and its note, without the title, for the page's style sheet."""

        def cells(tag: str, row: Sequence[str]) -> str:
            sides = [' class="l"' if i in self.left else "" for i in range(len(row))]
            return "".join(f"<{tag}{side}>{escape(text)}</{tag}>" for side, text in zip(sides, row, strict=True))

        marks = [' class="mark"' if i in self.highlight else "" for i in range(len(self.rows))]
        rows = "\n".join(f"<tr{mark}>{cells('td', row)}</tr>" for mark, row in zip(marks, self.rows, strict=True))
        head = f"<thead><tr>{cells('th', self.columns)}</tr></thead>"
        note = f'\n<p class="note">{escape(self.note)}</p>' if self.note else ""
        return f'<div class="scroll"><table>{head}\n<tbody>\n{rows}\n</tbody></table></div>{note}'

    def markdown(self) -> str:
        """Return a table and its note, without the title: where it stands decides the level of its heading."""
        rule = ["---" if i in self.left else "--:" for i in range(len(self.columns))]
        lines = [[markdown_text(text) for text in row] for row in (self.columns, *self.rows)]
        for i in self.highlight:
            lines[i + 1][0] = f"**{lines[i + 1][0]}**"
        text = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
        return f"{text}\n\n{markdown_text(self.note)}\n" if self.note else f"{text}\n"


def printer() -> Console:
    """Return what prints tables: as wide as the terminal, and wide where standard output is a file or a pipe."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_NO_TERMINAL)


def cell(value: float, half: float | None = None, *, digits: int = 3, mark: str = "") -> str:
    """Return ``.303±.027▲``: a value, half of its interval, and a mark; zeros before the point say nothing.

    Parameters
    ----------
    value, half : float
        NaN is shown as ``-``, and a `half` that is None or NaN is left out.
    digits : int
        Behind the point.
    mark : str
        See the function of that name.
    """
    if value != value:
        return "-"
    spread = "" if half is None or half != half else f"±{_short(half, digits)}"
    return f"{_short(value, digits)}{spread}{mark}"


def mark(difference: float, p_value: float, *, alpha: float = 0.05) -> str:
    """Return ▲ or ▼ where a value is significantly higher or lower than its baseline, and nothing where it is not."""
    if not p_value < alpha:
        return ""
    return "▲" if difference > 0 else "▼"


def markdown_text(text: str) -> str:
    """Return text that cannot leave its cell or become markup."""
    plain = " ".join(text.split())
    for sign in "\\|<>`[]*_":
        plain = plain.replace(sign, f"&#{ord(sign)};")
    return plain


def _short(value: float, digits: int) -> str:
    shown = f"{value:.{digits}f}"
    return shown.replace("0.", ".", 1) if shown.startswith(("0.", "-0.")) else shown
