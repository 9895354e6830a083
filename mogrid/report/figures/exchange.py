"""The exchange matrix: what one more pair of each objective is worth to each other one."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.frontier import ExchangeRates
from mogrid.report.figures.base import COLOURS, GREY, INK, new_figure, save

__all__ = ["plot_exchange"]

_LARGE = 10  # has no digits behind the point


def plot_exchange(path: Path, rates: ExchangeRates, *, said: str = "", title: str = "") -> None:
    """Draw a heat table: a row an objective that is helped, a column a kind of pair; values and intervals in the cells.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    rates : ExchangeRates
        The diagonal is 1 by definition and left white; the last column has what the base model brings.
    said : str
        Stands under it: whether mixing pays, as `mogrid.frontier.mixing_pays` says.
    title : str
    """
    from matplotlib.colors import LinearSegmentedColormap

    objectives, count = rates.objectives, len(rates.objectives)
    figure = new_figure(3.75 + 1.35 * count, 1.9 + 0.85 * count)
    panel = figure.subplots()
    # Vermilion harms, blue helps, and white is worth nothing: red and green would be one colour to some readers.
    colours = LinearSegmentedColormap.from_list("exchange", [COLOURS[1], "#ffffff", COLOURS[0]])
    shown = np.full((count, count + 1), np.nan)
    shown[:, :count] = np.clip(rates.value, -1, 1)
    np.fill_diagonal(shown, np.nan)
    panel.imshow(shown, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for k in range(count):
        for j in range(count):
            own = k == j
            ink = "white" if abs(shown[k, j]) > 0.75 else GREY if own else INK
            middle = "1" if own else _shown(rates.value[k, j])
            below = "its own" if own else _range(rates.low[k, j], rates.high[k, j])
            _write(panel, j, k, middle, below, ink)
        below = _range(rates.base_low[k], rates.base_high[k], 0)
        _write(panel, count, k, _shown(rates.base[k], 0), below, INK)
    names = [*(f"a pair of\n{name}" for name in objectives), "the base\nbrings, in pairs"]
    panel.set_xticks(range(count + 1), names, fontsize=10)
    panel.xaxis.tick_top()
    panel.set_yticks(range(count), [f"is worth to\n{name}" for name in objectives], fontsize=10)
    panel.tick_params(length=0)
    for i in range(1, count + 1):
        panel.axvline(i - 0.5, color="white", linewidth=3)
    for i in range(1, count):
        panel.axhline(i - 0.5, color="white", linewidth=3)
    panel.spines[:].set_visible(False)
    lines = [
        *([said[:1].upper() + said[1:] + "."] if said else []),
        f"In pairs of its own, of {rates.said}. Brackets: 90 %. Blue helps, orange harms.",
    ]
    letters = int(figure.get_figwidth() * 13)
    wrapped = "\n".join(line for text in lines for line in textwrap.wrap(text, letters))
    figure.supxlabel(wrapped, fontsize=9.5, x=0.01, ha="left", color=INK)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _write(panel: Any, x: int, y: int, middle: str, below: str, ink: str) -> None:
    panel.text(x, y - 0.12, middle, ha="center", va="center", fontsize=14, color=ink)
    panel.text(x, y + 0.24, below, ha="center", va="center", fontsize=8.5, color=ink)


def _shown(value: float, digits: int = 2) -> str:
    return "-" if np.isnan(value) else f"{value:,.{digits if abs(value) < _LARGE else 0}f}"


def _range(low: float, high: float, digits: int = 2) -> str:
    return "" if np.isnan(low) else f"[{_shown(low, digits)}, {_shown(high, digits)}]"
