"""One self-contained HTML page: tables, figures, provenance. Opens without a network, in light and dark, on a phone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mogrid.state import write_text

__all__ = ["Figure", "Report", "Table", "write_report"]


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows. Cells are text already formatted for people."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A PNG, embedded in the page."""

    title: str
    path: Path
    caption: str = ""


@dataclass(frozen=True)
class Report:
    """What the page says, in order: lead, tables and figures as given, provenance."""

    title: str
    lead: Sequence[str]
    parts: Sequence[Table | Figure]
    provenance: Mapping[str, str] = field(default_factory=dict)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #fff; --line: #d0d7de; --mark: #fff4ce; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --line: #30363d; --mark: #3b3214; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 48rem; }
.note, figcaption { color: var(--soft); font-size: .9rem; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tr.mark td { background: var(--mark); }
figure { margin: 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>{{ report.title }}</h1>
{% for text in report.lead %}<p>{{ text }}</p>
{% endfor %}
{% for part in parts %}<h2>{{ part.item.title }}</h2>
{% if part.image %}<figure>
<img src="data:image/png;base64,{{ part.image }}" alt="{{ part.item.title }}">
{% if part.item.caption %}<figcaption>{{ part.item.caption }}</figcaption>{% endif %}
</figure>
{% else %}<div class="scroll"><table>
<thead><tr>{% for name in part.item.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.item.rows %}<tr{% if loop.index0 in part.item.highlight %} class="mark"{% endif %}>
{%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% if part.item.note %}<p class="note">{{ part.item.note }}</p>{% endif %}
{% endif %}
{% endfor %}
{% if report.provenance %}<h2>Provenance</h2>
<dl>{% for key, value in report.provenance.items() %}<dt>{{ key }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>{% endif %}
</body>
</html>
"""


def write_report(path: Path, report: Report) -> None:
    """Write the page atomically. Everything that came from data is escaped."""
    import jinja2

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    parts = [
        {
            "item": part,
            "image": base64.b64encode(part.path.read_bytes()).decode() if isinstance(part, Figure) else "",
        }
        for part in report.parts
    ]
    write_text(path, template.render(report=report, parts=parts))
