"""Scaling laws: the fit of every objective, its residuals, and what a fit without the largest scale foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mogrid.report.figures.base import COLOURS, DASHES, GREY, MARKERS, Floats, clean, new_figure, save
from mogrid.scaling import Laws, ScalingRuns

__all__ = ["plot_laws"]


def plot_laws(path: Path, laws: Laws, *, unit: str = "contrastive entropy (nats)", title: str = "") -> None:
    """Draw, a row an objective: the law over D at every N, residuals over D, and predictions of the largest N.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    laws : Laws
    unit : str
        Of the losses, for the axes.
    title : str
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    runs = laws.runs
    sizes = np.unique(runs.sizes)
    nearest = _most_even(runs)
    figure = new_figure(12.6, 3.1 * len(laws.objectives) + 0.8)
    panels = figure.subplots(len(laws.objectives), 3, squeeze=False)
    predicted = laws.predict(runs.sizes, runs.pairs, runs.weights)
    handles: dict[str, Any] = {}
    for k, name in enumerate(laws.objectives):
        left, middle, right = panels[k]
        _draw_curves(left, laws, k, sizes, nearest, handles)
        left.set_ylabel(f"{name}:\n{unit}")
        for i, size in enumerate(sizes):
            own = runs.sizes == size
            middle.plot(
                runs.pairs[own], 100 * (runs.values[own, k] / predicted[own, k] - 1), linestyle="none", alpha=0.75,
                marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], markersize=4.5,
            )  # fmt: skip
        middle.axhline(0, color=GREY, linewidth=0.8)
        middle.set_ylabel("measured / law − 1 (%)")
        middle.set_xscale("log")
        fit = laws.fits[k]
        for i, (axis, held) in enumerate(fit.foretold.items()):
            told = fit.unit * np.exp(held.foretold)
            error = f"largest {axis}: median error {100 * held.error:.1f} %"
            _draw_foretold(right, laws.fitted.values[held.rows, k], told, i, error)
        right.set_ylabel(f"measured {name}")
        right.legend(fontsize=8.5, frameon=False, loc="upper left", handletextpad=0.2)
        clean(left)
        clean(middle)
        clean(right)
    panels[0, 0].set_title("law at equal weights; band: 90 %", fontsize=10, loc="left")
    panels[0, 1].set_title("residuals, all weightings", fontsize=10, loc="left")
    panels[0, 2].set_title("the largest scale, by a fit without it", fontsize=10, loc="left")
    for panel in panels[:, :2].ravel():
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize=8.5)
    for panel in panels[-1, :2]:
        panel.set_xlabel("D, pairs seen of each objective")
    panels[-1, 2].set_xlabel("foretold")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _most_even(runs: ScalingRuns) -> Floats:
    """Return the sweep's weighting that is nearest to equal weights."""
    distance = np.abs(runs.weights - runs.weights.mean(axis=1, keepdims=True)).sum(axis=1)
    return np.asarray(runs.weights[int(distance.argmin())])


def _draw_curves(panel: Any, laws: Laws, k: int, sizes: Floats, weights: Floats, handles: dict[str, Any]) -> None:
    runs = laws.runs
    here = np.abs(runs.weights - weights).sum(axis=1) < 1e-6
    ticks = np.geomspace(runs.pairs[here].min(), runs.pairs[here].max(), 40)
    for i, size in enumerate(sizes):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        draws = laws.predict_draws(size, ticks, weights)[:, :, k]
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        panel.fill_between(ticks, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.plot(ticks, laws.predict(size, ticks, weights)[:, k], color=colour, linestyle=DASHES[i % len(DASHES)])
        own = here & (runs.sizes == size)
        handles[f"N = {size:,.0f}"] = panel.plot(
            runs.pairs[own], runs.values[own, k], marker=marker, color=colour, linestyle="none", markersize=5.5
        )[0]
    panel.set_xscale("log")


def _draw_foretold(panel: Any, measured: Floats, told: Floats, number: int, label: str) -> None:
    ends = [min(measured.min(), told.min()), max(measured.max(), told.max())]
    panel.plot(ends, ends, color=GREY, linewidth=0.8)
    panel.plot(
        told, measured, linestyle="none", markersize=4.5, alpha=0.8, label=label, color=COLOURS[1 + number],
        marker=MARKERS[number],
    )  # fmt: skip
