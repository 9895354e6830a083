"""Fronts over scale: attainment over seeds, the chosen weights over the budget, strategies in the joint plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.frontier.points import Front
from mogrid.report.figures.base import COLOURS, DASHES, FAINT, GREY, INK, MARKERS, Floats, clean, new_figure, save

__all__ = ["Trace", "plot_attainment", "plot_joint", "plot_replay", "plot_weights_over_scale"]


@dataclass(frozen=True)
class Trace:
    """One strategy over growing scales.

    Attributes
    ----------
    flops, first, second : ndarray, shape (s,)
        Training FLOPs, and the losses on the two axes.
    efficient : bool
    """

    flops: Floats
    first: Floats
    second: Floats
    efficient: bool


def plot_attainment(path: Path, fronts: Mapping[str, Front], axes: Mapping[str, str], *, title: str = "") -> None:
    """Draw, a row a scale: what all, half and one of the seeds' fronts attain, in every pair of objectives, and in 3-D.

    The band lies between what the front of every seed attains and what the front of some seed does (empirical
    attainment function, Grunert da Fonseca et al., 2001, by moocore); the line is attained by half of them.

    Parameters
    ----------
    path : Path
    fronts : mapping of scale's name to Front
        With several seeds a strategy.
    axes : mapping of objective to axis label
    title : str
    """
    pairs = list(combinations(range(3), 2))
    figure = new_figure(15.2, 3.6 * len(fronts) + 0.5)
    grid = figure.add_gridspec(len(fronts), 4)
    for row, (name, front) in enumerate(fronts.items()):
        names, means, _ = front.means()
        for column, (a, b) in enumerate(pairs):
            panel = figure.add_subplot(grid[row, column])
            _draw_attainment(panel, front, a, b)
            panel.plot(means[:, a], means[:, b], linestyle="none", marker="o", color=COLOURS[0], markersize=5)
            panel.set_xlabel(axes[front.objectives[a]])
            panel.set_ylabel(axes[front.objectives[b]])
            clean(panel)
            if column == 0:
                panel.set_title(f"{name} ({len(set(front.seeds))} seeds)", fontsize=10.5, loc="left")
        panel = figure.add_subplot(grid[row, 3], projection="3d")
        best = Front(front.objectives, means, names, (0,) * len(names)).non_dominated()
        for chosen, colour, label in ((best, COLOURS[1], "not dominated"), (~best, GREY, "dominated")):
            panel.scatter(*means[chosen].T, color=colour, s=22, label=label, depthshade=False)
        for setter, objective in zip(("x", "y", "z"), front.objectives, strict=True):
            getattr(panel, f"set_{setter}label")(objective, fontsize=8.5)
            panel.tick_params(axis=setter, labelsize=7)
        panel.legend(fontsize=8, frameon=False, loc="upper left")
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _draw_attainment(panel: Any, front: Front, a: int, b: int) -> None:
    import moocore

    seeds = np.array(front.seeds)
    sets = np.searchsorted(np.unique(seeds), seeds) + 1
    surfaces = np.asarray(moocore.eaf(front.values[:, [a, b]], sets))
    levels = np.unique(surfaces[:, 2])
    high = front.values[:, [a, b]].max(axis=0)
    corner = high + 0.05 * np.ptp(front.values[:, [a, b]], axis=0)
    stairs = {level: _stairs(surfaces[surfaces[:, 2] == level][:, :2], corner) for level in levels}
    middle = levels[len(levels) // 2]
    if len(levels) > 1:
        outer, inner = stairs[levels[0]], stairs[levels[-1]]
        panel.fill(*np.vstack([outer, inner[::-1]]).T, color=FAINT, alpha=0.5, linewidth=0)
    panel.plot(*stairs[middle].T, color=INK, linewidth=1.3)
    panel.set_xlim(right=corner[0])
    panel.set_ylim(top=corner[1])


def _stairs(points: Floats, corner: Floats) -> Floats:
    """Return the boundary of what points dominate, from the top left to the bottom right."""
    ordered = points[np.argsort(points[:, 0])]
    path = [(ordered[0, 0], corner[1])]
    for (x, y), following in zip(ordered, [*ordered[1:, 0], corner[0]], strict=True):
        path += [(x, y), (following, y)]
    return np.array(path)


def plot_weights_over_scale(
    path: Path,
    scales: Sequence[tuple[str, float, Mapping[str, tuple[float, float, float]]]],
    objectives: Sequence[str],
    *,
    title: str = "",
) -> None:
    """Draw the weights chosen at every scale, with intervals, over its training FLOPs; one marker a model size.

    Parameters
    ----------
    path : Path
    scales : sequence of (model size, FLOPs, objective → (weight, low, high))
    objectives : sequence of str
    title : str
    """
    figure = new_figure(7.6, 4.4)
    panel = figure.subplots()
    sizes = list(dict.fromkeys(size for size, _, _ in scales))
    handles: dict[str, Any] = {}
    for i, objective in enumerate(objectives):
        for number, size in enumerate(sizes):
            rows = sorted((flops, *weights[objective]) for own, flops, weights in scales if own == size)
            flops, value, low, high = np.array(rows).T
            panel.fill_between(flops, low, high, color=COLOURS[i], alpha=0.13, linewidth=0)
            panel.plot(flops, value, color=COLOURS[i], linestyle=DASHES[i], marker=MARKERS[number], markersize=6)
            handles[f"size {size}"] = panel.plot([], [], color=GREY, marker=MARKERS[number], linestyle="none")[0]
        handles[objective] = panel.plot([], [], color=COLOURS[i], linestyle=DASHES[i])[0]
    panel.set_xscale("log")
    panel.set_ylim(-0.02, 1.02)
    panel.set_xlabel("training FLOPs of a run")
    panel.set_ylabel("chosen weight (band: 90 %)")
    clean(panel)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def plot_joint(
    path: Path, traces: Mapping[str, Mapping[str, Trace]], labels: tuple[str, str], *, title: str = ""
) -> None:
    """Draw strategies as lines through growing scales: down and to the left is better at both.

    Parameters
    ----------
    path : Path
    traces : mapping of panel's name to (strategy → Trace)
    labels : (str, str)
        Of the axes.
    title : str
    """
    figure = new_figure(5.2 * len(traces), 5.0)
    panels = figure.subplots(1, len(traces), squeeze=False)[0]
    colours: dict[str, int] = {}
    handles: dict[str, Any] = {}
    for panel, (name, strategies) in zip(panels, traces.items(), strict=True):
        for strategy, trace in strategies.items():
            number = colours.setdefault(strategy, len(colours))
            drawn = panel.plot(
                trace.first, trace.second, color=COLOURS[number % len(COLOURS)] if trace.efficient else GREY,
                marker=MARKERS[number % len(MARKERS)], markersize=5.5, linewidth=1.6 if trace.efficient else 0.9,
                linestyle=DASHES[number // len(COLOURS) % len(DASHES)], zorder=3 if trace.efficient else 2,
            )[0]  # fmt: skip
            if trace.efficient or strategy not in handles:
                handles[strategy] = drawn
        panel.set_title(name, fontsize=10.5, loc="left")
        panel.set_xlabel(labels[0])
        clean(panel)
    panels[0].set_ylabel(labels[1])
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def plot_replay(path: Path, series: Mapping[str, Sequence[tuple[float, float]]], *, title: str = "") -> None:
    """Draw the error of a predicted front's hypervolume against the share of a sweep's FLOPs that it was made from.

    Parameters
    ----------
    path : Path
    series : mapping of how runs were chosen to points
        (share of the FLOPs, relative error).
    title : str
    """
    figure = new_figure(6.4, 4.2)
    panel = figure.add_subplot()
    for (how, points), colour, marker in zip(series.items(), COLOURS, MARKERS, strict=False):
        shares, errors = np.array(sorted(points)).T
        panel.plot(100 * shares, 100 * errors, color=colour, marker=marker, markersize=4.5, linewidth=1, label=how)
    panel.axhline(3, color=GREY, linewidth=0.8, linestyle=":")
    panel.axvline(25, color=GREY, linewidth=0.8, linestyle=":")
    panel.set_yscale("log")
    panel.set_xlabel("% of the sweep's training FLOPs")
    panel.set_ylabel("error of the front's hypervolume, %")
    panel.legend(frameon=False)
    clean(panel)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)
