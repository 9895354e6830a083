"""Where fine-tuning is free, where it costs, and where it hurts: gain in domain against change on other domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from mogrid.errors import DataError
from mogrid.report.figures.base import COLOURS, GREY, INK, MARKERS, Floats, clean, new_figure, save
from mogrid.runs import RunRecord
from mogrid.runs.summary import Measure, measures_of
from mogrid.training.settings import ModelSettings

__all__ = ["Trail", "plot_regime", "trails_of"]


@dataclass(frozen=True)
class Trail:
    """One way to train over growing data: a learning rate, say, of full fine-tuning or of LoRA.

    Attributes
    ----------
    pairs : ndarray, shape (s,)
        D, growing.
    gain, gain_half : ndarray, shape (s,)
        In domain, against the base model, and half of its interval; NaN for none.
    elsewhere, elsewhere_half : ndarray, shape (s,)
        The same on domains that were not trained on.
    """

    pairs: Floats
    gain: Floats
    gain_half: Floats
    elsewhere: Floats
    elsewhere_half: Floats


def trails_of(records: Sequence[RunRecord], role: str) -> dict[str, dict[str, Trail]]:
    """Return what `plot_regime` draws of records: a panel a base model, a trail a way to train it and a mix."""
    home, *others = [m for m in measures_of(records, role) if m.key == "ndcg"]
    away = next((m for m in others if m.name.startswith("other domains'")), None)
    if away is None:
        raise DataError(f"no run was judged on other domains of role {role}")
    base = {r.model: np.array([_value(r, home), _value(r, away)]) for r in records if r.kind == "base"}
    runs: dict[tuple[str, str], dict[float, list[Floats]]] = {}
    for record in sorted(records, key=lambda record: record.parameters):  # panels by size
        if record.kind == "trained" and record.model in base:
            mix, _, way = record.label.partition(", ")
            plain = {k: v for k, v in record.recipe.get("model", {}).items() if k not in ("lora", "freeze")}
            label = ModelSettings.model_validate(plain).label
            panel = label if record.model.startswith(f"{label}, ") else record.model
            way = ", ".join(filter(None, (record.model.removeprefix(panel).removeprefix(", "), way)))
            gains = np.array([_value(record, home), _value(record, away)]) - base[record.model]
            pairs = float(sum(record.pairs.values()))
            runs.setdefault((panel, f"{way}: {mix}" if way else mix), {}).setdefault(pairs, []).append(gains)
    panels: dict[str, dict[str, Trail]] = {}
    for (panel, name), by_pairs in runs.items():
        grown = sorted(by_pairs)
        means = np.array([np.mean(by_pairs[pairs], axis=0) for pairs in grown])
        halves = np.array([_half(np.array(by_pairs[pairs])) for pairs in grown])
        panels.setdefault(panel, {})[name] = Trail(
            np.array(grown), means[:, 0], halves[:, 0], means[:, 1], halves[:, 1]
        )
    return panels


def _value(record: RunRecord, measure: Measure) -> float:
    return float(np.mean([result.means[measure.key] for result in record.results if measure.chosen(result)]))


def _half(values: Floats) -> Floats:
    """Return half of a 95 % t-interval over seeds (n, 2); NaN for one or two, whose interval says nothing."""
    count = len(values)
    if count < 3:
        return np.full(2, np.nan)
    return np.asarray(stdtrit(count - 1, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(count))


def plot_regime(
    path: Path,
    panels: Mapping[str, Mapping[str, Trail]],
    *,
    measure: str = "nDCG@10",
    elsewhere: str = "other domains",
    title: str = "",
) -> None:
    """Draw, a panel a base model, every trail from the base model (the origin) through growing data.

    Parameters
    ----------
    path : Path
        Of the PNG, written atomically.
    panels : mapping of base model to (mapping of way to train to Trail)
        A name is ``WAY: MIX`` or a way alone: ways have one colour in all panels, mixes one marker and line.
    measure : str
        What the differences are of.
    elsewhere : str
        What the vertical axis is measured on.
    title : str
    """
    count = len(panels)
    columns = min(count, 3 if count > 4 else 2)
    rows = -(-count // columns)
    figure = new_figure(4.9 * columns + 0.4, 3.7 * rows + 0.8)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    names = sorted({tuple(name.partition(": ")[::2]) for own in panels.values() for name in own})
    ways, mixes = (list(dict.fromkeys(name[i] for name in names)) for i in range(2))
    trails = [trail for own in panels.values() for trail in own.values()]
    most = max(float(trail.pairs.max()) for trail in trails)
    handles: dict[str, Any] = {}
    for panel, (title_of, own) in zip(grid, panels.items(), strict=False):
        for name, trail in own.items():
            way, _, mix = name.partition(": ")
            colour, marker = COLOURS[ways.index(way) % len(COLOURS)], MARKERS[mixes.index(mix) % len(MARKERS)]
            line = ("-", "--", ":")[mixes.index(mix) % 3]
            panel.plot(
                [0, *trail.gain], [0, *trail.elsewhere], color=colour, linewidth=1.1, alpha=0.7, linestyle=line
            )  # fmt: skip
            panel.errorbar(
                trail.gain, trail.elsewhere, xerr=np.nan_to_num(trail.gain_half),
                yerr=np.nan_to_num(trail.elsewhere_half), linestyle="none", color=colour, elinewidth=0.7, alpha=0.6,
            )  # fmt: skip
            sizes = 22 + 90 * np.sqrt(trail.pairs / most)
            panel.scatter(trail.gain, trail.elsewhere, s=sizes, color=colour, marker=marker, zorder=3, linewidth=0)
            handles[name] = panel.plot([], [], color=colour, marker=marker, linewidth=1.1, linestyle=line)[0]
        panel.plot(0, 0, marker="o", color=INK, markersize=5, zorder=4)
        panel.set_title(title_of, fontsize=10.5, loc="left")
        clean(panel)
    for panel in grid[count:]:
        panel.set_visible(False)
    gain, change = (np.concatenate([getattr(trail, name) for trail in trails]) for name in ("gain", "elsewhere"))
    for panel in grid[:count]:
        panel.locator_params(axis="x", nbins=6)
        _quadrants(panel, gain, change)
    for panel in grid[max(count - columns, 0) : count]:
        panel.set_xlabel(f"{measure} gained in domain")
        panel.xaxis.set_tick_params(labelbottom=True)
    for panel in grid[:count:columns]:
        panel.set_ylabel(f"{measure} gained\non {elsewhere}")
    legend = figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", frameon=False, fontsize=9,
        ncols=2 if len(mixes) > 1 else min(len(ways), 5), title_fontsize=9,
        title="From the base model (black) through growing data: larger marks, more pairs.",
    )  # fmt: skip
    legend.get_title().set_color(GREY)
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    save(figure, path)


def _quadrants(panel: Any, gain: Floats, change: Floats) -> None:
    """Name what it means to lie there, where anything does."""
    panel.axhline(0, color=GREY, linewidth=0.8)
    panel.axvline(0, color=GREY, linewidth=0.8)
    for text, there, x, y, across, up in (
        ("free", (gain > 0) & (change >= 0), 0.985, 0.975, "right", "top"),
        ("a trade-off", (gain > 0) & (change < 0), 0.985, 0.025, "right", "bottom"),
        ("it hurts", gain <= 0, 0.015, 0.025, "left", "bottom"),
    ):
        if there.any():
            panel.text(x, y, text, transform=panel.transAxes, ha=across, va=up, fontsize=9, color=GREY, style="italic")
