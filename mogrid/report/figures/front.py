"""The front of measured runs: in every pair of objectives, or, of one and of many, as `many` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.frontier.points import Front
from mogrid.report.figures.base import RINGS, Floats, Style, clean, new_figure, non_dominated, save
from mogrid.report.figures.labels import place_labels
from mogrid.report.figures.many import plot_lines, plot_ranking
from mogrid.report.palette import FAINT, GREY, INK, MARKERS

__all__ = ["plot_front"]

_MOST_PAIRED = 4
"""Objectives whose pairs are still legible as panels."""


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
    """Draw the runs' seed means, with 95 % intervals over seeds.

    Two to four objectives are drawn in every pair, more along parallel axes, and a single one as a ranking.
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
        Such as ``ood, CE (nats)``.
    predicted : ndarray, shape (m, K), optional
        The surrogate's front, drawn as small dots behind the runs, with two objectives as a line.
    marked : mapping of name to K values, optional
        Points that were predicted, not run, such as the knee and the choice; drawn as rings.
    title : str
    """
    count = len(front.objectives)
    rings = {name: np.asarray(point, dtype=np.float64) for name, point in (marked or {}).items()}
    if count == 1 or count > _MOST_PAIRED:
        draw = plot_ranking if count == 1 else plot_lines
        draw(path, front, styles, axes, rings, title)
        return
    pairs = list(combinations(range(count), 2))
    # Three panels and their key fill a square that is still legible in a column of text; a row of three is not.
    if count == 3:
        pairs = [(0, 1), (2, 1), (0, 2)]
    columns = 1 if len(pairs) == 1 else 2 if count == 3 else 3
    rows = -(-(len(pairs) + (count == 3)) // columns)
    figure = new_figure(6.4 if columns == 1 else 4.7 * columns, (5.2 if columns == 1 else 4.3 * rows) + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    names, means, widths = front.means()
    shown = [styles.get(name, Style(GREY)) for name in names]
    markers = _markers(shown)
    handles: dict[str, Any] = {}
    for panel, (a, b) in zip(panels, pairs, strict=False):
        if predicted is not None and len(predicted):
            handles["predicted front"] = _draw_predicted(panel, np.asarray(predicted)[:, [a, b]], line=count == 2)
        for i, style in enumerate(shown):
            drawn = _draw_strategy(panel, means[i, [a, b]], widths[i, [a, b]], style, markers[i])
            if style.group:
                handles.setdefault(style.group, drawn)
        for (name, point), (colour, size) in zip(rings.items(), cycle(RINGS), strict=False):
            handles[f"{name} (predicted)"] = panel.plot(
                point[a], point[b], marker="o", markersize=size, markerfacecolor="none", markeredgecolor=colour,
                markeredgewidth=1.6, linestyle="none", zorder=5,
            )[0]  # fmt: skip
        panel.set_xlabel(axes[front.objectives[a]])
        panel.set_ylabel(axes[front.objectives[b]])
        clean(panel)
        framed = [style.framed for style in shown]
        points = [means[framed], *([] if predicted is None else [predicted]), *rings.values()]
        _frame(panel, np.vstack(points)[:, [a, b]], means[framed][:, [a, b]], np.nan_to_num(widths[framed][:, [a, b]]))
    for panel in panels[len(pairs) :]:
        panel.set_axis_off()
    _key(figure, panels[3] if count == 3 else None, handles)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    # Labels are placed in pixels, so the layout must have come to rest.
    figure.canvas.draw()
    figure.set_layout_engine("none")
    optimal = non_dominated(means)
    colours = [(style.colour, INK if best else GREY) for style, best in zip(shown, optimal, strict=True)]
    for panel, (a, b) in zip(panels, pairs, strict=False):
        bars = np.nan_to_num(widths[:, [a, b]])
        free = [point[[a, b]] for point in rings.values()]
        place_labels(panel, names, means[:, [a, b]], bars, [style.size for style in shown], colours, free)
    save(figure, path)


def _key(figure: Any, panel: Any, handles: Mapping[str, Any]) -> None:
    """Write the legend into an empty panel, or below the figure where there is none."""
    note = (
        "Lower left is better. Bars: 95 % over seeds.",
        "Grey label: another strategy's mean is",
        "as good or better in every objective.",
    )
    if panel is not None:
        legend = panel.legend(
            list(handles.values()), list(handles), loc="upper left", frameon=False, fontsize=10,
            labelspacing=0.7, title="\n".join(note), title_fontsize=9.5, alignment="left",
        )  # fmt: skip
    else:
        legend = figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", frameon=False, fontsize=9,
            ncols=3, title=f"{note[0]}\n{note[1]} {note[2]}", title_fontsize=8.5,
        )  # fmt: skip
    legend.get_title().set_color(GREY)


def _draw_strategy(panel: Any, mean: Floats, width: Floats, style: Style, marker: str) -> Any:
    bars = [None if np.isnan(half) or half == 0 else half for half in width]
    return panel.errorbar(
        mean[0], mean[1], xerr=bars[0], yerr=bars[1], marker=marker, markersize=style.size, color=style.colour,
        markerfacecolor=style.colour if style.filled else "white",
        markeredgecolor="white" if style.filled else style.colour, markeredgewidth=0.7 if style.filled else 1.3,
        linestyle="none", elinewidth=0.9, zorder=3 + style.size / 100,
    )  # fmt: skip


def _markers(styles: Sequence[Style]) -> list[str]:
    """Return a marker for each strategy: the same for those that look the same, so that colour never stands alone."""
    kinds = list(dict.fromkeys((style.colour, style.filled, style.group) for style in styles))
    return [MARKERS[kinds.index((style.colour, style.filled, style.group)) % len(MARKERS)] for style in styles]


def _draw_predicted(panel: Any, points: Floats, *, line: bool) -> Any:
    ordered = points[np.lexsort(points.T[::-1])]
    return panel.plot(
        ordered[:, 0], ordered[:, 1], color=FAINT, linewidth=1.5, linestyle="-" if line else "none",
        marker="" if line else ".", markersize=5.5, markeredgewidth=0, zorder=1,
    )[0]  # fmt: skip


def _frame(panel: Any, points: Floats, means: Floats, bars: Floats) -> None:
    """Set limits that hold the points, with room for labels, and the bars; no bar may more than triple the room."""
    if not len(points):
        return
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0) * 0.1)
    if len(means):
        low = np.minimum(low, np.maximum((means - bars).min(axis=0), low - span))
        high = np.maximum(high, np.minimum((means + bars).max(axis=0), high + span))
        span = np.where(high > low, high - low, span)
    panel.set_xlim(low[0] - 0.12 * span[0], high[0] + 0.14 * span[0])
    panel.set_ylim(low[1] - 0.10 * span[1], high[1] + 0.12 * span[1])
