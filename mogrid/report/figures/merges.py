"""What merging two models, or more, reaches: values over shares, or the front."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mogrid.frontier.merges import Merges
from mogrid.frontier.points import Front
from mogrid.report.figures.base import COLOURS, DASHES, GREY, Style, clean, legend_below, new_figure, save
from mogrid.report.figures.front import plot_front

__all__ = ["plot_merges"]


def plot_merges(path: Path, merges: Merges, chosen: int) -> None:
    """Draw every objective over the second model's share with its interval; of more models, the front of the merges.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    merges : Merges
    chosen : int
        The row that stands out.
    """
    if len(merges.names) > 2:
        labels = tuple("/".join(f"{share:.2g}" for share in row) for row in merges.shares)
        front = Front(merges.objectives, 1 - merges.values, labels, (0,) * len(labels))
        styles = {labels[chosen]: Style(COLOURS[1], size=11, group="chosen")}
        plot_front(
            path, front, styles, {name: f"{name}, 1 − nDCG@10" for name in merges.objectives},
            title=f"Shares of {', '.join(merges.names)}",
        )  # fmt: skip
        return
    share = merges.shares[:, 1]
    order = np.argsort(share)
    figure = new_figure(6.4, 4.4)
    panel = figure.subplots()
    for k, name in enumerate(merges.objectives):
        colour = COLOURS[k % len(COLOURS)]
        panel.fill_between(share[order], merges.low[order, k], merges.high[order, k], color=colour, alpha=0.15, lw=0)
        panel.plot(share[order], merges.values[order, k], color=colour, linestyle=DASHES[k % len(DASHES)], label=name)
    panel.axvline(share[chosen], color=GREY, linewidth=0.9)
    panel.annotate(
        "chosen", (share[chosen], 1.0), xycoords=("data", "axes fraction"), fontsize=9, color=GREY, va="bottom",
        ha="center",
    )  # fmt: skip
    panel.set_xlabel(f"share of {merges.names[1]}; the rest is {merges.names[0]}")
    panel.set_ylabel("nDCG@10 (bands: 95 % over queries)")
    clean(panel)
    own, names = panel.get_legend_handles_labels()
    legend_below(figure, dict(zip(names, own, strict=True)))
    save(figure, path)
