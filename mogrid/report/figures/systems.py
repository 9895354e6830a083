"""Systems side by side over domains and conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mogrid.report.figures.base import COLOURS, MARKERS, clean, legend_below, new_figure, save

__all__ = ["plot_systems"]


def plot_systems(path: Path, rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Draw nDCG@10 with 95 % intervals: one line a domain and condition, one marker a system.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    rows : sequence of dict
        As `mogrid.evaluation.Evaluation.rows`.
    title : str
    """
    places = list(dict.fromkeys((row["domain"], row["condition"]) for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    figure = new_figure(7.4, 1.4 + 0.34 * len(places))
    panel = figure.subplots()
    for number, system in enumerate(systems):
        own = {(row["domain"], row["condition"]): row for row in rows if row["system"] == system}
        values = [own[place]["ndcg"] for place in places]
        low = [value - own[place]["ndcg_interval"][0] for value, place in zip(values, places, strict=True)]
        high = [own[place]["ndcg_interval"][1] - value for value, place in zip(values, places, strict=True)]
        heights = [-i + 0.22 * ((len(systems) - 1) / 2 - number) for i in range(len(places))]
        panel.errorbar(
            values, heights, xerr=[low, high], linestyle="none", marker=MARKERS[number], color=COLOURS[number],
            markersize=5.5, elinewidth=1.0, label=system,
        )  # fmt: skip
    labels = [domain if condition == "clean" else f"{domain}, {condition}" for domain, condition in places]
    panel.set_yticks([-i for i in range(len(places))], labels)
    panel.set_xlabel("nDCG@10 (95 % over queries)")
    panel.set_xlim(left=0)
    clean(panel)
    own, names = panel.get_legend_handles_labels()
    legend_below(figure, dict(zip(names, own, strict=True)))
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    save(figure, path)
