"""Laws: the fit of every objective, its residuals, and what a fit without the largest scale foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mogrid.frontier import Laws, Measurements
from mogrid.frontier.measurements import is_loss
from mogrid.report.figures.base import COLOURS, DASHES, GREY, MARKERS, Floats, clean, legend_below, new_figure, save

__all__ = ["UNITS", "plot_laws"]

UNITS = {"ce": "CE (nats)", "ndcg": "nDCG@10"}
"""What axes call a metric."""


def plot_laws(path: Path, laws: Laws, metric: str | None = None, *, title: str = "") -> None:
    """Draw, a row an objective: the law over D at every N, residuals over D, and the held-out largest scales.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    laws : Laws
    metric : str, optional
        The first that has laws when left out.
    title : str
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    metric = laws.metric(metric)
    runs = laws.runs
    unit = UNITS.get(metric, metric)
    total = runs.pairs.sum(axis=1)
    here = _most_even(runs)
    values, predicted = runs.values[metric], laws.predict(runs.parameters, runs.effort, metric)
    relative = is_loss(metric)
    off = 100 * (values / predicted - 1) if relative else values - predicted
    figure = new_figure(12.6, 3.1 * len(laws.objectives) + 0.8)
    panels = figure.subplots(len(laws.objectives), 3, squeeze=False)
    handles: dict[str, Any] = {}
    for k, name in enumerate(laws.objectives):
        left, middle, right = panels[k]
        _draw_curves(left, laws, metric, k, here, handles)
        left.set_ylabel(f"{name}:\n{unit}")
        for i, size in enumerate(runs.sizes.values()):
            own = runs.parameters == size
            middle.plot(total[own], off[own, k], linestyle="none", alpha=0.75, markersize=4.5, **_look(i))
        middle.axhline(0, color=GREY, linewidth=0.8)
        middle.set_ylabel("measured / law − 1 (%)" if relative else "measured − law")
        fit = laws.fits[metric][k]
        for number, (axis, held) in enumerate(fit.held_out[fit.name].items()):
            error = float(np.median(held.errors))
            said = f"{100 * error:.1f} %" if relative else f"{error:.3f}"
            held_out = f"largest {axis}" if axis in ("N", "D") else f"{axis} left out"
            _draw_foretold(right, values[held.rows, k], held.foretold, number, f"{held_out}: median error {said}")
        right.set_ylabel(f"measured {name}")
        if right.lines:
            right.legend(fontsize=8.5, frameon=False, loc="upper left", handletextpad=0.2)
        said = f"{fit.name}\nR² {fit.fitted.r2:.3f}"
        left.text(0.03, 0.04, said, transform=left.transAxes, fontsize=8.5, color=GREY)
        for panel in (left, middle, right):
            clean(panel)
    mix = ", ".join(f"{share:.2f}" for share in runs.mix[here][0])
    panels[0, 0].set_title(f"law at the mix {mix}; band: 90 %", fontsize=10, loc="left")
    panels[0, 1].set_title("residuals, all mixes", fontsize=10, loc="left")
    panels[0, 2].set_title("held out, by a fit without it", fontsize=10, loc="left")
    for panel in panels[:, :2].ravel():
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize=8.5)
    for panel in panels[-1, :2]:
        panel.set_xlabel("D, pairs of all objectives")
    panels[-1, 2].set_xlabel("foretold")
    legend_below(figure, handles)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _look(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _most_even(runs: Measurements) -> Any:
    """Return a mask of the runs of the mix that is nearest to an equal one."""
    distance = np.abs(runs.mix - runs.mix.mean(axis=1, keepdims=True)).sum(axis=1)
    return np.abs(runs.mix - runs.mix[int(distance.argmin())]).sum(axis=1) < 1e-6


def _draw_curves(panel: Any, laws: Laws, metric: str, k: int, here: Any, handles: dict[str, Any]) -> None:
    runs = laws.runs
    total = runs.pairs.sum(axis=1)
    first, last = total[here].min(), total[here].max()
    ticks = np.geomspace(first, max(last, 1.1 * first), 40)
    effort = ticks[:, None] * (runs.effort[here][0] / total[here][0])
    for i, (model, size) in enumerate(runs.sizes.items()):
        look = _look(i)
        low, high = np.quantile(laws.predict_draws(size, effort, metric)[:, :, k], [0.05, 0.95], axis=0)
        panel.fill_between(ticks, low, high, color=look["color"], alpha=0.15, linewidth=0)
        middle = laws.predict(size, effort, metric)[:, k]
        panel.plot(ticks, middle, color=look["color"], linestyle=DASHES[i % len(DASHES)])
        own = here & (runs.parameters == size)
        handles[f"{model} (N = {size:,.0f})"] = panel.plot(
            total[own], runs.values[metric][own, k], linestyle="none", markersize=5.5, **look
        )[0]


def _draw_foretold(panel: Any, measured: Floats, told: Floats, number: int, label: str) -> None:
    ends = [min(measured.min(), told.min()), max(measured.max(), told.max())]
    panel.plot(ends, ends, color=GREY, linewidth=0.8)
    panel.plot(told, measured, linestyle="none", markersize=4.5, alpha=0.8, label=label, **_look(number + 1))
