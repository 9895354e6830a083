"""Figures: the front, and the weights over a training. Colour-blind safe, legible at a page's width."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.frontier.points import Front
from mogrid.state import write_bytes

__all__ = ["COLOURS", "Style", "plot_front", "plot_weights"]

Floats = NDArray[np.float64]

# Okabe & Ito's palette, in an order that keeps neighbours apart; its yellow is too faint for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#8c8c8c"
_INK = "#222222"
_FAINT = "#a9b8c6"
_GRID = "#ebebeb"
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
_DPI = 150
_SMALL = 8.5


@dataclass(frozen=True)
class Style:
    """How a group of strategies is drawn.

    Attributes
    ----------
    colour : str
    size : float
        Diameter of the marker, in points.
    filled : bool
    group : str
        Its name in the legend; strategies of one group share a marker.
    framed : bool
        Whether the axes stretch to hold it. If not, and it lies outside, it is drawn at the edge with its values.
    """

    colour: str
    size: float = 7.0
    filled: bool = True
    group: str = ""
    framed: bool = True


def plot_front(
    path: Path,
    front: Front,
    styles: Mapping[str, Style],
    axes: Mapping[str, str],
    *,
    predicted: Floats | None = None,
    marked: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
) -> None:
    """Draw the runs' seed means in every pair of objectives, with 95 % intervals over seeds.

    Strategies are labelled where they stand: dark where no other's mean is at least as good in every objective, grey
    where one is.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    front : Front
    styles : mapping of strategy to Style
        Strategies left out are drawn in grey.
    axes : mapping of objective to axis label, with its unit
    predicted : ndarray, shape (m, K), optional
        The surrogate's front, drawn as small dots behind the runs, with two objectives as a line.
    marked : mapping of name to K values, optional
        Points that were predicted, not run, such as the knee and the choice; drawn as rings.
    title : str
    """
    count = len(front.objectives)
    pairs = list(combinations(range(count), 2))
    # Three panels and their key fill a square that is still legible in a column of text; a row of three is not.
    if count == 3:
        pairs = [(0, 1), (2, 1), (0, 2)]
    columns = 1 if len(pairs) == 1 else 2 if count == 3 else 3
    rows = -(-(len(pairs) + (count == 3)) // columns)
    figure = _figure(6.4 if columns == 1 else 4.7 * columns, (5.2 if columns == 1 else 4.3 * rows) + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    names, means, widths = front.means()
    shown = [styles.get(name, Style(_GREY)) for name in names]
    markers = _markers(shown)
    handles: dict[str, Any] = {}
    for panel, (a, b) in zip(panels, pairs, strict=False):
        if predicted is not None and len(predicted):
            handles["predicted front"] = _draw_predicted(panel, np.asarray(predicted)[:, [a, b]], line=count == 2)
        for i, style in enumerate(shown):
            bars = np.where(np.isnan(widths[i]), 0.0, widths[i])
            drawn = panel.errorbar(
                means[i, a],
                means[i, b],
                xerr=bars[a] or None,
                yerr=bars[b] or None,
                marker=markers[i],
                markersize=style.size,
                color=style.colour,
                markerfacecolor=style.colour if style.filled else "white",
                markeredgecolor="white" if style.filled else style.colour,
                markeredgewidth=0.7 if style.filled else 1.3,
                linestyle="none",
                elinewidth=0.9,
                zorder=3 + style.size / 100,
            )
            if style.group:
                handles.setdefault(style.group, drawn)
        for name, point in (marked or {}).items():
            x, y = point[a], point[b]
            colour, size = _ring(list(marked or {}).index(name))
            handles[f"{name} (predicted)"] = panel.plot(
                x, y, marker="o", markersize=size, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.6,
                linestyle="none", zorder=5,
            )[0]  # fmt: skip
        panel.set_xlabel(axes[front.objectives[a]])
        panel.set_ylabel(axes[front.objectives[b]])
        _clean(panel)
        _frame(panel, means[:, [a, b]], shown, [row for row in (predicted, *_points(marked)) if row is not None], a, b)
    for panel in panels[len(pairs) :]:
        panel.set_axis_off()
    note = [
        "Lower left is better.",
        "Bars: 95 % over seeds.",
        "Grey label: another strategy's",
        "mean is better in every objective.",
    ]
    if count == 3:
        key = panels[3]
        legend = key.legend(
            handles=list(handles.values()), labels=list(handles), loc="upper left", frameon=False, fontsize=10,
            labelspacing=0.7, title="\n".join(note), title_fontsize=9.5, alignment="left",
        )  # fmt: skip
        legend.get_title().set_color(_GREY)
    else:
        figure.legend(
            handles=list(handles.values()), labels=list(handles), loc="outside lower center", frameon=False, fontsize=9,
            ncols=min(3, max(len(handles), 1)), title=" ".join(note), title_fontsize=8.5,
        )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    # Labels are placed in pixels, so the layout must have come to rest.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    optimal = _non_dominated(means)
    colours = [_INK if best else _GREY for best in optimal]
    for panel, (a, b) in zip(panels, pairs, strict=False):
        rings = [np.asarray(point, dtype=np.float64)[[a, b]] for point in (marked or {}).values()]
        _label(panel, names, means[:, [a, b]], np.nan_to_num(widths[:, [a, b]]), shown, colours, rings)
    _save(figure, path)


def plot_weights(
    path: Path,
    trajectories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    objectives: Sequence[str],
    *,
    title: str = "",
) -> None:
    """Draw each solver's weights over its training: one panel a strategy, one colour an objective.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    trajectories : mapping of strategy to runs (one a seed), each a list of step records with ``weight/OBJECTIVE``
        Thin lines are the seeds, smoothed over a twentieth of the steps; the thick one is their mean.
    objectives : sequence of str
    title : str
    """
    count = len(trajectories)
    columns = min(count, 2) if count != 3 else 3
    rows = -(-count // columns)
    figure = _figure(max(4.2 * columns, 5.0), 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    handles: dict[str, Any] = {}
    for panel, (name, runs) in zip(panels, trajectories.items(), strict=False):
        length = min(len(run) for run in runs)
        steps = np.array([step.get("step", i + 1) for i, step in enumerate(runs[0][:length])])
        window = max(length // 20, 1)
        for i, objective in enumerate(objectives):
            colour, dashes = COLOURS[i % len(COLOURS)], _DASHES[i % len(_DASHES)]
            lines = [np.array([step[f"weight/{objective}"] for step in run[:length]], dtype=np.float64) for run in runs]
            smooth = [_smooth(line, window) for line in lines]
            for line in smooth:
                panel.plot(steps, line, color=colour, linewidth=0.7, alpha=0.45)
            drawn = panel.plot(steps, np.mean(smooth, axis=0), color=colour, linewidth=2, linestyle=dashes)
            handles[objective] = drawn[0]
        panel.set_title(f"{name} ({len(runs)} seed{'s' if len(runs) > 1 else ''})", fontsize=10.5, loc="left")
        panel.set_xlabel("optimiser step")
        panel.set_ylim(-0.02, 1.02)
        _clean(panel)
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("weight")
    figure.legend(
        handles=list(handles.values()), labels=list(handles), loc="outside lower center", ncols=len(objectives),
        fontsize=10, frameon=False, handlelength=3,
    )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=_DPI)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    # No software version: equal records give equal bytes.
    figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": None})
    write_bytes(Path(path), buffer.getvalue())


def _clean(panel: Any) -> None:
    panel.grid(visible=True, color=_GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _ring(index: int) -> tuple[str, float]:
    return (COLOURS[6], 14.0) if index == 0 else (COLOURS[3], 11.0)


def _points(marked: Mapping[str, Sequence[float]] | None) -> list[Floats]:
    return [np.asarray(point, dtype=np.float64)[None] for point in (marked or {}).values()]


def _markers(styles: Sequence[Style]) -> list[str]:
    """Return a marker for each strategy: the same for those that look the same, so that colour never stands alone."""
    kinds = list(dict.fromkeys((style.colour, style.filled, style.group) for style in styles))
    return [_MARKERS[kinds.index((style.colour, style.filled, style.group)) % len(_MARKERS)] for style in styles]


def _draw_predicted(panel: Any, points: Floats, *, line: bool) -> Any:
    ordered = points[np.lexsort(points.T[::-1])]
    return panel.plot(
        ordered[:, 0], ordered[:, 1], color=_FAINT, linewidth=1.5, linestyle="-" if line else "none",
        marker="" if line else ".", markersize=5.5, markeredgewidth=0, zorder=1,
    )[0]  # fmt: skip


def _frame(panel: Any, means: Floats, styles: Sequence[Style], others: Sequence[Floats], a: int, b: int) -> None:
    """Set limits that hold all framed strategies and predictions, with room for labels."""
    kept = means[[style.framed for style in styles]]
    points = np.vstack([kept if len(kept) else means, *[np.asarray(other)[:, [a, b]] for other in others]])
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0) * 0.1)
    panel.set_xlim(low[0] - 0.12 * span[0], high[0] + 0.14 * span[0])
    panel.set_ylim(low[1] - 0.10 * span[1], high[1] + 0.12 * span[1])


def _non_dominated(values: Floats) -> NDArray[np.bool_]:
    import moocore

    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)


def _label(panel: Any, names: Sequence[str], points: Floats, styles: Sequence[Style], colours: Sequence[str]) -> None:
    """Write each name beside its point where it hides no marker, no other name and stays inside the panel."""
    figure = panel.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    frame = panel.get_window_extent(renderer)
    place = panel.transData.transform(points)
    inside = np.column_stack([
        np.clip(place[:, 0], frame.x0 + 6 * scale, frame.x1 - 6 * scale),
        np.clip(place[:, 1], frame.y0 + 6 * scale, frame.y1 - 6 * scale),
    ])  # fmt: skip
    reach = np.array([style.size * scale / 2 for style in styles])
    taken = [(x - r, y - r, x + r, y + r, 20.0) for (x, y), r in zip(inside, reach, strict=True)]
    for x, y in [panel.transData.transform(ring) for ring in rings]:
        taken.append((x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale, 5.0))
    ends = [panel.transData.transform(points + sign * bars) for sign in (-1, 1)]
    for (x, y), (x0, y0), (x1, y1) in zip(place, *ends, strict=True):
        taken += [(x0, y - scale, x1, y + scale, 4.0), (x - scale, y0, x + scale, y1, 4.0)]
    gaps = np.linalg.norm(inside[:, None] - inside[None], axis=2) + np.where(np.eye(len(inside)), np.inf, 0)
    for i in np.argsort(gaps.min(axis=1) if len(inside) > 1 else [0]):
        outside = bool(np.abs(inside[i] - place[i]).max() > 1)
        text = f"{names[i]} ({points[i, 0]:.2f}, {points[i, 1]:.2f})" if outside else names[i]
        if outside:
            panel.plot(
                *panel.transData.inverted().transform(inside[i]), marker=_arrow(place[i] - inside[i]), markersize=8,
                color=styles[i].colour, linestyle="none", clip_on=False,
            )  # fmt: skip
        note = panel.annotate(
            text, inside[i], xycoords="figure pixels", fontsize=_SMALL, color=colours[i], va="center", ha="center",
            annotation_clip=False, zorder=6, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        box = note.get_window_extent(renderer)
        x, y = _free_spot(inside[i], reach[i], box.width, box.height, taken, frame, scale)
        note.set_position((x, y))
        note.xyann = (x, y)
        corner = (x - box.width / 2, y - box.height / 2)
        opposite = (x + box.width / 2, y + box.height / 2)
        taken.append((*corner, *opposite, 20.0))
        nearest = np.clip(inside[i], corner, opposite)
        if np.linalg.norm(nearest - inside[i]) > reach[i] + 7 * scale:
            panel.annotate(
                "", inside[i], nearest, xycoords="figure pixels", textcoords="figure pixels",
                arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.6, "shrinkB": 3, "shrinkA": 0},
            )  # fmt: skip


def _arrow(direction: Floats) -> str:
    if abs(direction[0]) > abs(direction[1]):
        return ">" if direction[0] > 0 else "<"
    return "^" if direction[1] > 0 else "v"


def _free_spot(
    point: Floats,
    reach: float,
    width: float,
    height: float,
    taken: Sequence[tuple[float, float, float, float, float]],
    frame: Any,
    scale: float,
) -> tuple[float, float]:
    """Return the centre of a box near a point that covers as little as possible of what is taken, in pixels.

    Taken are boxes (x0, y0, x1, y1) with the price of covering a square pixel of each.
    """
    best, least = (float(point[0]), float(point[1])), np.inf
    for gap in (3, 9, 18, 30, 44, 60, 80):
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            dx, dy = np.cos(angle), np.sin(angle)
            x = point[0] + dx * (reach + gap * scale) + np.sign(np.round(dx, 6)) * width / 2 * min(1, 2 * abs(dx))
            y = point[1] + dy * (reach + gap * scale) + np.sign(np.round(dy, 6)) * height / 2
            x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            cost = 0.02 * gap * scale * height
            for u0, v0, u1, v1, price in taken:
                cost += (
                    price * max(0.0, min(x1, u1) - max(x0, u0) + scale) * max(0.0, min(y1, v1) - max(y0, v0) + scale)
                )
            beyond = (
                max(0.0, frame.x0 - x0) + max(0.0, x1 - frame.x1) + max(0.0, frame.y0 - y0) + max(0.0, y1 - frame.y1)
            )
            cost += 20 * beyond * height
            if cost < least - 1e-9:
                best, least = (float(x), float(y)), cost
    return best


def _smooth(values: Floats, window: int) -> Floats:
    """Moving average that is shorter at the ends instead of inventing values beyond them."""
    kernel = np.ones(window)
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))
