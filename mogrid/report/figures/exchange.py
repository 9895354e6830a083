"""The exchange matrix: what a pair of each objective is worth to each other one, and whether mixing pays."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.report.figures.base import COLOURS, GREY, INK, Floats, new_figure, save

__all__ = ["plot_exchange", "whether_mixing_pays"]

_PAYS = 0.10
"""A mix that serves the worst-served objective better than any single one by more than this part pays."""


def plot_exchange(
    path: Path,
    objectives: Sequence[str],
    rates: Floats,
    low: Floats,
    high: Floats,
    *,
    base: tuple[Floats, Floats, Floats] | None = None,
    title: str = "",
) -> None:
    """Draw a heat table: a row an objective that is helped, a column a kind of pair; values and intervals in the cells.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    objectives : sequence of K str
    rates, low, high : ndarray, shape (K, K)
        t_kj: what a pair of objective j (column) is worth to objective k (row) in pairs of its own, and its 90 %
        interval. The diagonal is 1 by definition.
    base : (value, low, high), each an ndarray of shape (K,), optional
        T_k: what the base model brings, in pairs; shown in a last column.
    title : str
    """
    from matplotlib.colors import LinearSegmentedColormap

    count = len(objectives)
    columns = count + (base is not None)
    figure = new_figure(2.4 + 1.35 * columns, 1.9 + 0.85 * count)
    panel = figure.subplots()
    # Vermilion harms, blue helps, and white is worth nothing: red and green would be one colour to some readers.
    colours = LinearSegmentedColormap.from_list("exchange", [COLOURS[1], "#ffffff", COLOURS[0]])
    shown = np.full((count, columns), np.nan)
    shown[:, :count] = np.clip(rates, -1, 1)
    # The diagonal says nothing: it is left white.
    np.fill_diagonal(shown, np.nan)
    panel.imshow(shown, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for k in range(count):
        for j in range(count):
            own = k == j
            ink = "white" if abs(shown[k, j]) > 0.75 else GREY if own else INK
            middle = "1" if own else f"{rates[k, j]:.2f}"
            below = "its own" if own else _range(low[k, j], high[k, j])
            _write(panel, j, k, middle, below, ink)
        if base is not None:
            value, least, most = (column[k] for column in base)
            _write(panel, count, k, f"{value:,.0f}", _range(least, most, ",.0f"), INK)
    names = [f"a pair of\n{name}" for name in objectives] + ["the base\nbrings, in pairs"] * (base is not None)
    panel.set_xticks(range(columns), names, fontsize=10)
    panel.xaxis.tick_top()
    panel.set_yticks(range(count), [f"is worth to\n{name}" for name in objectives], fontsize=10)
    panel.tick_params(length=0)
    for i in range(1, columns):
        panel.axvline(i - 0.5, color="white", linewidth=3)
    for i in range(1, count):
        panel.axhline(i - 0.5, color="white", linewidth=3)
    panel.spines[:].set_visible(False)
    said = (whether_mixing_pays(objectives, rates), "In pairs of its own; brackets: 90 %. Blue helps, orange harms.")
    letters = int(figure.get_figwidth() * 13)
    wrapped = "\n".join(line for text in said for line in textwrap.wrap(text, letters))
    figure.supxlabel(wrapped, fontsize=9.5, x=0.01, ha="left", color=INK)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def whether_mixing_pays(objectives: Sequence[str], rates: Floats) -> str:
    """Say in a sentence what the best mix gives the worst-served objective, beside the best single objective.

    Of pairs spent in shares λ, objective k gets the worth of Σ_j t_kj·λ_j pairs of its own each; the mix is the one
    whose least of these is largest.

    Parameters
    ----------
    objectives : sequence of K str
    rates : ndarray, shape (K, K)
    """
    from scipy.optimize import linprog

    count = len(objectives)
    if count == 1:
        return f"There is nothing to mix with {objectives[0]}."
    single = int(rates.min(axis=0).argmax())
    alone = float(rates[:, single].min())
    found = linprog(
        np.append(np.zeros(count), -1.0),
        A_ub=np.column_stack([-rates, np.ones(count)]),
        b_ub=np.zeros(count),
        A_eq=np.append(np.ones(count), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, 1.0)] * count + [(None, None)],
    )
    *shares, mixed = np.asarray(found.x).tolist()
    mix = ", ".join(f"{name} {share:.2f}" for name, share in zip(objectives, shares, strict=True) if share > 0.005)
    verdict = "Mixing pays" if mixed > alone + _PAYS * abs(alone) and mixed > 0.005 else "Mixing hardly pays"
    return (
        f"{verdict}: the worst-served objective gets {mixed:.2f} of an own pair from each pair of the most even "
        f"mix ({mix}), and {alone:.2f} from {objectives[single]} alone."
    )


def _write(panel: Any, x: int, y: int, middle: str, below: str, ink: str) -> None:
    panel.text(x, y - 0.12, middle, ha="center", va="center", fontsize=14, color=ink)
    panel.text(x, y + 0.24, below, ha="center", va="center", fontsize=8.5, color=ink)


def _range(low: float, high: float, form: str = ".2f") -> str:
    return f"[{low:{form}}, {high:{form}}]"
