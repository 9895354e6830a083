"""The weights over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.report.figures.base import COLOURS, DASHES, Floats, clean, new_figure, save

__all__ = ["plot_weights"]


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
    figure = new_figure(max(4.2 * columns, 5.0), 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    handles: dict[str, Any] = {}
    for panel, (name, runs) in zip(panels, trajectories.items(), strict=False):
        length = min(len(run) for run in runs)
        steps = np.array([step.get("step", i + 1) for i, step in enumerate(runs[0][:length])])
        window = max(length // 20, 1)
        for i, objective in enumerate(objectives):
            colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            lines = [np.array([step[f"weight/{objective}"] for step in run[:length]], dtype=np.float64) for run in runs]
            smooth = [_smooth(line, window) for line in lines]
            for line in smooth:
                panel.plot(steps, line, color=colour, linewidth=0.7, alpha=0.45)
            drawn = panel.plot(steps, np.mean(smooth, axis=0), color=colour, linewidth=2, linestyle=dashes)
            handles[objective] = drawn[0]
        panel.set_title(f"{name} ({len(runs)} seed{'s' if len(runs) > 1 else ''})", fontsize=10.5, loc="left")
        panel.set_xlabel("optimiser step")
        panel.set_ylim(-0.02, 1.02)
        clean(panel)
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
    save(figure, path)


def _smooth(values: Floats, window: int) -> Floats:
    """Moving average that is shorter at the ends instead of inventing values beyond them."""
    kernel = np.ones(window)
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))
