"""One self-contained HTML page: tables, figures, provenance. Opens without a network, in light and dark, on a phone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mogrid.files import write_text
from mogrid.report.charts import key_mark
from mogrid.report.figures.base import DPI
from mogrid.report.palette import COLOURS
from mogrid.report.table import Table

__all__ = ["Chart", "Figure", "Note", "Report", "write_report"]


@dataclass(frozen=True)
class Figure:
    """A PNG, embedded in the page."""

    title: str
    path: Path
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """Drawings of `mogrid.report.charts`, side by side where there is room.

    Attributes
    ----------
    choice : str
        Parts with a choice are shown one at a time, by a selector above the first of them.
    keys : sequence of (group, name)
        The legend of groups of points.
    """

    title: str
    drawings: Sequence[str]
    caption: str = ""
    choice: str = ""
    keys: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Note:
    """A paragraph in place of what could not be shown."""

    title: str
    text: str


@dataclass(frozen=True)
class Report:
    """What the page says, in order: lead, tables and figures as given, provenance."""

    title: str
    lead: Sequence[str]
    parts: Sequence[Table | Figure | Chart | Note]
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
th.l, td.l { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tr.mark td { background: var(--mark); }
figure { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: .5rem 1rem; }
.chart { width: 100%; height: auto; display: block; overflow: visible; font: 11px system-ui, sans-serif; }
.chart text { fill: var(--soft); }
.chart .name { fill: var(--ink); font-size: 12px; }
.chart .grid { stroke: var(--line); stroke-width: .6; }
.chart .axis { fill: none; stroke: var(--soft); }
.line { fill: none; stroke-width: 1.8; stroke: var(--c); }
.d1 { stroke-dasharray: 6 3; }
.d2 { stroke-dasharray: 2 2.5; }
.mark { fill: var(--c); stroke: var(--c); cursor: pointer; }
.mark path { vector-effect: non-scaling-stroke; }
.mark.weak { fill-opacity: .15; stroke-width: 1.2; }
.mark:hover, .mark:focus { stroke: var(--ink); stroke-width: 2.5; outline: none; }
{% for colour in colours %}.c{{ loop.index0 }} { --c: {{ colour }}; }
{% endfor %}.keys { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; max-width: none; }
.key { display: inline-flex; align-items: center; gap: .35rem; }
.key .mark { cursor: default; }
#says { position: fixed; z-index: 1; pointer-events: none; white-space: pre-line; max-width: 17rem;
  padding: .4rem .6rem; font-size: .82rem; line-height: 1.35;
  color: var(--ink); background: var(--paper); border: 1px solid var(--soft);
  border-radius: 4px; box-shadow: 0 2px 8px #0004; }
#says[hidden] { display: none; }
select { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 4px;
  padding: .2rem .4rem; max-width: 100%; }
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
{% for part in parts %}{% if part.kind == "Chart" %}{% if part.opens %}<h2>{{ part.item.title }}</h2>
{% if part.choices %}<p><label>scale <select data-chooses="{{ part.item.title }}">
{% for choice in part.choices %}<option>{{ choice }}</option>{% endfor %}
</select></label></p>{% endif %}{% endif %}
<section{% if part.item.choice %} data-choice="{{ part.item.choice }}" data-of="{{ part.item.title }}"{% endif %}>
{% if part.item.keys %}<p class="keys">{% for group, name in part.item.keys %}<span class="key">
<svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true">{{ part.marks[loop.index0] }}</svg>
{{ name }}</span>{% endfor %}</p>{% endif %}
<div class="charts">{% for drawing in part.drawings %}<div>{{ drawing }}</div>{% endfor %}</div>
{% if part.item.caption %}<p class="note">{{ part.item.caption }}</p>{% endif %}
</section>
{% else %}<h2>{{ part.item.title }}</h2>
{% if part.kind == "Note" %}<p>{{ part.item.text }}</p>
{% elif part.image %}<figure>
<img src="data:image/png;base64,{{ part.image }}" width="{{ part.width }}" alt="{{ part.item.title }}">
{% if part.item.caption %}<figcaption>{{ part.item.caption }}</figcaption>{% endif %}
</figure>
{% else %}{{ part.table }}
{% endif %}{% endif %}
{% endfor %}
{% if report.provenance %}<h2>Provenance</h2>
<dl>{% for key, value in report.provenance.items() %}<dt>{{ key }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>{% endif %}
{% if script %}<div id="says" role="status" hidden></div>
<script>{{ script }}</script>
{% endif %}</body>
</html>
"""

# Text reaches the page through textContent alone.
_SCRIPT = """
"use strict";
const box = document.getElementById("says");
function say(mark) {
  box.textContent = mark.dataset.says;
  box.hidden = false;
  const at = mark.getBoundingClientRect(), size = box.getBoundingClientRect();
  const x = Math.min(Math.max(8, at.right + 8), document.documentElement.clientWidth - size.width - 8);
  const y = at.top - size.height - 8 > 0 ? at.top - size.height - 8 : at.bottom + 8;
  box.style.left = x + "px";
  box.style.top = y + "px";
}
for (const mark of document.querySelectorAll("[data-says]")) {
  for (const event of ["mouseenter", "focus", "click"]) mark.addEventListener(event, () => say(mark));
  for (const event of ["mouseleave", "blur"]) mark.addEventListener(event, () => { box.hidden = true; });
}
for (const select of document.querySelectorAll("[data-chooses]")) {
  const show = () => {
    for (const part of document.querySelectorAll("[data-choice]"))
      if (part.dataset.of === select.dataset.chooses) part.hidden = part.dataset.choice !== select.value;
  };
  select.addEventListener("change", show);
  show();
}
"""

# Black is no colour for a dark page: there, as in the light, it is the ink's.
_COLOURS = tuple("var(--ink)" if colour == "#000000" else colour for colour in COLOURS)


def write_report(path: Path, report: Report) -> None:
    """Write the page atomically. Everything that came from data is escaped."""
    import jinja2
    from markupsafe import Markup

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    seen: set[str] = set()
    parts = [_view(part, report, seen) for part in report.parts]
    script = Markup(_SCRIPT) if any(isinstance(part, Chart) for part in report.parts) else ""
    write_text(path, template.render(report=report, parts=parts, script=script, colours=_COLOURS))


def _view(part: Table | Figure | Chart | Note, report: Report, seen: set[str]) -> dict[str, Any]:
    from markupsafe import Markup

    view: dict[str, Any] = {"item": part, "kind": type(part).__name__, "image": ""}
    if isinstance(part, Table):
        view["table"] = Markup(part.html())  # escaped there
    elif isinstance(part, Figure):
        data = part.path.read_bytes()
        view["image"] = base64.b64encode(data).decode()
        view["width"] = round(int.from_bytes(data[16:20]) * 96 / DPI)  # of the PNG's header: letters as large as text
    elif isinstance(part, Chart):
        same = [p for p in report.parts if isinstance(p, Chart) and p.title == part.title]
        view["opens"] = part.title not in seen
        view["choices"] = [p.choice for p in same if p.choice] if len(same) > 1 else []
        view["drawings"] = [Markup(drawing) for drawing in part.drawings]  # escaped where they were drawn
        view["marks"] = [Markup(key_mark(group)) for group, _ in part.keys]
        seen.add(part.title)
    return view
