"""Charts as inline SVG that answer to a pointer, a finger and a keyboard; no script or font from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mogrid.report.palette import COLOURS, MARKERS

__all__ = ["Line", "Point", "key_mark", "line_chart", "scatter_chart"]

# Of `MARKERS`, about the origin, of about the same weight each.
_SHAPES = {
    "o": "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0z",
    "s": "M-1,-1h2v2h-2z",
    "D": "M0,-1.3l1.3,1.3l-1.3,1.3l-1.3,-1.3z",
    "^": "M0,-1.2l1.2,2.1h-2.4z",
    "v": "M0,1.2l1.2,-2.1h-2.4z",
    "P": "M-.4,-1.2h.8v.8h.8v.8h-.8v.8h-.8v-.8h-.8v-.8h.8z",
    "X": "M0,-.55l.6,-.6l.55,.55l-.6,.6l.6,.6l-.55,.55l-.6,-.6l-.6,.6l-.55,-.55l.6,-.6l-.6,-.6l.55,-.55z",
}
_WIDTH, _HEIGHT = 420.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 14.0, 44.0


@dataclass(frozen=True)
class Point:
    """A mark with what it says when pointed at: lines of text. A strong one stands out."""

    x: float
    y: float
    says: Sequence[str]
    group: int = 0
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """A named line; its colour and dashes follow its place in the chart."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def scatter_chart(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Return an SVG of points.

    Every text is escaped. What a point says is in its ``data-says``, which the page's script shows, and in a title for
    readers without one.
    """
    frame = _Frame([p.x for p in points], [p.y for p in points])
    marks = []
    for point in sorted(points, key=lambda p: p.strong):
        said = escape("\n".join(point.says), quote=True)
        shape = _mark(point.group, frame.x(point.x), frame.y(point.y), 6.0 if point.strong else 4.5)
        strength = "strong" if point.strong else "weak"
        marks.append(
            f'<g class="mark {_colour(point.group)} {strength}" tabindex="0" role="img" aria-label="{said}" '
            f'data-says="{said}">{shape}</g>'
        )
    return frame.svg("".join(marks), x_label, y_label)


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, *, low: float | None = None, high: float | None = None
) -> str:
    """Return an SVG of lines with a legend below; `low` and `high` fix the vertical axis."""
    xs = [x for line in lines for x in line.xs]
    ys = [y for line in lines for y in line.ys if math.isfinite(y)]
    ys += [value for value in (low, high) if value is not None]
    frame = _Frame(xs, ys, pad=0.0)
    drawn = []
    for number, line in enumerate(lines):
        path = " ".join(
            f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)
        )
        said = escape(line.name, quote=True)
        drawn.append(
            f'<polyline class="line {_colour(number)} d{number % 3}" points="{path}"><title>{said}</title></polyline>'
        )
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 24 8" width="24" height="8" aria-hidden="true">'
        f'<line class="line {_colour(number)} d{number % 3}" x1="0" x2="24" y1="4" y2="4"/></svg>'
        f"{escape(line.name)}</span>"
        for number, line in enumerate(lines)
    )
    return frame.svg("".join(drawn), x_label, y_label) + f'<p class="keys">{keys}</p>'


def key_mark(group: int) -> str:
    """Return the mark of a group, about the origin, for a legend."""
    return f'<g class="mark {_colour(group)} strong">{_mark(group, 0.0, 0.0, 5.0)}</g>'


class _Frame:
    """Axes of round numbers around some values."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], *, pad: float = 0.05) -> None:
        self.x_low, self.x_high = _room(xs, pad)
        self.y_low, self.y_high = _room(ys, max(pad, 0.03))

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)

    def svg(self, inside: str, x_label: str, y_label: str) -> str:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        parts = []
        for tick in _ticks(self.x_low, self.x_high):
            x = self.x(tick)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
        for tick in _ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
        middle = (_TOP + bottom) / 2
        parts.append(f'<path class="axis" d="M{_LEFT},{_TOP}V{bottom}H{right}"/>')
        parts.append(
            f'<text class="name" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
            f'<text class="name" transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">'
            f"{escape(y_label)}</text>"
        )
        label = escape(f"{y_label} against {x_label}", quote=True)
        return (
            f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="group" aria-label="{label}">'
            f"{''.join(parts)}{inside}</svg>"
        )


def _room(values: Sequence[float], pad: float) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    width = (high - low) or max(abs(high), 1.0) * 0.1
    return low - pad * width, high + (pad if high > low else 1.0) * width


def _ticks(low: float, high: float) -> list[float]:
    """Return some five round numbers between."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10) + 0.0:.4g}"


def _mark(group: int, x: float, y: float, r: float) -> str:
    shape = _SHAPES[MARKERS[group % len(MARKERS)]]
    return f'<path transform="translate({x:.1f},{y:.1f}) scale({r})" d="{shape}"/>'


def _colour(number: int) -> str:
    """Return the class of the style sheet that gives a colour."""
    return f"c{number % len(COLOURS)}"
