"""The way of one training through the objectives' losses, and the weights on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.report.figures.base import COLOURS, GREY, INK, Floats, clean, new_figure, save

__all__ = ["plot_path"]

_POINTS, _PAIRS = 24, 3


def plot_path(path: Path, steps: Sequence[Mapping[str, Any]], objectives: Sequence[str], *, title: str = "") -> None:
    """Draw where a training went: losses against each other from its start to its end, and weights over its steps.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    steps : sequence of mapping
        Lines of ``steps.jsonl``: ``loss/NAME`` and ``weight/NAME`` of every optimiser step; means over windows are
        drawn. An objective without a loss (weight 0) is left out.
    objectives : sequence of str
        Whose losses and weights are drawn.
    title : str
    """
    names = [name for name in objectives if any(f"loss/{name}" in step for step in steps)]
    windows = np.array_split(np.arange(len(steps)), min(_POINTS, len(steps)))
    losses = {name: _means(steps, f"loss/{name}", windows) for name in names}
    pairs = list(combinations(names, 2))[:_PAIRS]
    figure = new_figure(3.9 * (len(pairs) + 1), 3.6)
    grid = figure.subplots(1, len(pairs) + 1, squeeze=False)[0]
    for panel, (a, b) in zip(grid, pairs, strict=False):
        panel.plot(losses[a], losses[b], color=COLOURS[0], linewidth=1.2)
        panel.plot(losses[a][0], losses[b][0], marker="o", color=GREY, markersize=7, linestyle="none", label="start")
        panel.plot(losses[a][-1], losses[b][-1], marker="*", color=INK, markersize=11, linestyle="none", label="end")
        panel.set_xlabel(f"{a}, training loss (nats)")
        panel.set_ylabel(f"{b}, training loss (nats)")
        panel.legend(frameon=False, fontsize=8)
        clean(panel)
    middle = [float(window.mean()) + 1 for window in windows]
    for number, name in enumerate(names):
        weights = _means(steps, f"weight/{name}", windows)
        grid[-1].plot(middle, weights, color=COLOURS[number % len(COLOURS)], linewidth=1.2, label=name)
    grid[-1].set_xlabel("optimiser step")
    grid[-1].set_ylabel("weight")
    grid[-1].set_ylim(-0.02, 1.02)
    grid[-1].legend(frameon=False, fontsize=8)
    clean(grid[-1])
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _means(steps: Sequence[Mapping[str, Any]], key: str, windows: Sequence[Any]) -> Floats:
    values = np.array([float(step.get(key, np.nan)) for step in steps])
    return np.array([np.nanmean(values[window]) if np.isfinite(values[window]).any() else np.nan for window in windows])
