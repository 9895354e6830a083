"""Runs in one objective, as a ranking, and in many, as lines across parallel axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np

from mogrid.frontier.points import Front
from mogrid.report.figures.base import DASHES, RINGS, Floats, Style, clean, new_figure, non_dominated, save
from mogrid.report.palette import COLOURS, FAINT, GREY, INK, MARKERS

__all__ = ["plot_lines", "plot_ranking"]

Styles = Mapping[str, Style]
Axes = Mapping[str, str]
Rings = Mapping[str, Floats]


def plot_ranking(path: Path, front: Front, styles: Styles, axes: Axes, rings: Rings, title: str) -> None:
    """Draw runs in a single objective, the best on top; parameters as those of `plot_front`."""
    names, means, widths = front.means()
    rows = [(float(means[i, 0]), float(np.nan_to_num(widths[i, 0])), name) for i, name in enumerate(names)]
    rows += [(float(point[0]), 0.0, f"{name} (predicted)") for name, point in rings.items()]
    figure = new_figure(6.4, 1.3 + 0.3 * len(rows))
    panel = figure.subplots()
    for height, (mean, width, name) in enumerate(sorted(rows, reverse=True)):
        predicted = name not in names
        style = styles.get(name, Style(INK if predicted else GREY, filled=not predicted))
        panel.errorbar(
            mean, height, xerr=width or None, marker="o", markersize=style.size, color=style.colour,
            markerfacecolor=style.colour if style.filled else "white",
        )  # fmt: skip
    panel.set_yticks(range(len(rows)), [name for _, _, name in sorted(rows, reverse=True)])
    panel.set_xlabel(f"{axes[front.objectives[0]]}; lower is better, bars: 95 % over seeds")
    clean(panel)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def plot_lines(path: Path, front: Front, styles: Styles, axes: Axes, rings: Rings, title: str) -> None:
    """Draw a line a strategy across one axis an objective, each from its worst value (top) to its best.

    Parameters are those of `plot_front`. What another strategy is as good as or better in everything is faint.
    """
    names, means, widths = front.means()
    optimal = non_dominated(means)
    points = np.vstack([means, *rings.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    count = len(front.objectives)
    figure = new_figure(1.9 * count + 2.2, 5.6)
    panel = figure.subplots()
    places = np.arange(count)
    ends = []
    for i, name in enumerate(names):
        size = styles.get(name, Style(GREY)).size
        heights = (means[i] - low) / span
        panel.errorbar(
            places, heights, yerr=np.nan_to_num(widths[i]) / span, color=COLOURS[i % 6] if optimal[i] else FAINT,
            marker=MARKERS[i % len(MARKERS)], markersize=size, linewidth=1.6 if optimal[i] else 0.9, elinewidth=0.8,
            linestyle=DASHES[i // 6 % len(DASHES)], zorder=3 if optimal[i] else 2,
        )  # fmt: skip
        ends.append((float(heights[-1]), name, INK if optimal[i] else GREY))
    for (name, point), (colour, size) in zip(rings.items(), cycle(RINGS), strict=False):
        heights = (point - low) / span
        panel.plot(
            places, heights, color=colour, linestyle=":", marker="o", markersize=size, markerfacecolor="none", zorder=4
        )
        ends.append((float(heights[-1]), f"{name} (predicted)", INK))
    for height, (at, name, ink) in zip(_apart([end[0] for end in ends], 0.045), ends, strict=True):
        panel.annotate(
            name, (count - 1, at), (count - 0.82, height), fontsize=8.5, color=ink, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkB": 5},
        )  # fmt: skip
    for place in places:
        panel.axvline(place, ymin=0.09, ymax=0.93, color=GREY, linewidth=0.8, zorder=1)
        for height, value in ((-0.11, low[place]), (1.09, high[place])):
            panel.text(place, height, f"{value:.3g}", ha="center", fontsize=8.5, color=GREY)
    panel.set_xticks(places, [axes[name] for name in front.objectives], fontsize=9)
    panel.set_xlim(-0.4, count + 0.35)
    panel.set_ylim(-0.15, 1.16)
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    note = "Lower is better on every axis. Bars: 95 % over seeds. Faint: another's mean is as good everywhere."
    figure.supxlabel(note, fontsize=8.5, x=0.01, ha="left", color=GREY)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _apart(heights: Sequence[float], gap: float) -> Floats:
    """Return heights at least a gap apart, in the same order and near the given ones."""
    placed = np.array(heights, dtype=np.float64)
    for before, after in pairwise(np.argsort(placed, kind="stable")):
        placed[after] = max(placed[after], placed[before] + gap)
    return np.asarray(placed - max(float(placed.max()) - 1.0, 0.0) / 2)
