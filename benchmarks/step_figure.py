"""The figure of `benchmarks.step`: memory and time against objectives, batch and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["draw"]

# Okabe and Ito's palette; markers differ too.
_STYLES = {
    "fixed": ("fixed weights", "#000000", "o"),
    "exact": ("MGDA, exact", "#D55E00", "s"),
    "sketch": ("MGDA, sketch", "#CC79A7", "P"),
    "last_layers": ("MGDA, last_layers", "#009E73", "^"),
    "representation": ("MGDA, representation", "#0072B2", "v"),
    "cached": ("MGDA, cached", "#E69F00", "D"),
}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Write the figure as PNG."""
    from matplotlib.figure import Figure

    rows = record["grid"]
    panels = (
        ("objectives K (batch 32, 2x128)", "objectives", lambda r: (r["batch"], r["size"]) == (32, "2x128")),
        ("batch per objective (K = 3, 2x128)", "batch", lambda r: (r["objectives"], r["size"]) == (3, "2x128")),
        ("parameters, million (K = 3, batch 32)", "parameters", lambda r: (r["objectives"], r["batch"]) == (3, 32)),
    )
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3, sharey="row")
    for column, (label, key, chosen) in enumerate(panels):
        ticks: list[float] = []
        for mode, (name, colour, marker) in _STYLES.items():
            own = [r for r in rows if chosen(r) and r["mode"] == mode]
            xs = [r["gradient_mb"] * 2**20 / 4e6 if key == "parameters" else r[key] for r in own]
            ticks = sorted(set(xs))
            for row, measure in enumerate(("peak_mb", "seconds")):
                points = sorted(zip(xs, (r[measure] for r in own), strict=True))
                axes[row, column].plot(*zip(*points, strict=True), marker=marker, color=colour, label=name, alpha=0.85)
        for row in range(2):
            axis = axes[row, column]
            axis.set_xlabel(label)
            axis.set_yscale("log")
            axis.grid(alpha=0.25, which="both")
            axis.spines[["top", "right"]].set_visible(False)
            if key != "objectives":
                axis.set_xscale("log")
            axis.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
            axis.set_xticks([], minor=True)
    axes[0, 0].set_ylabel("peak memory beyond the model (MB)")
    axes[1, 0].set_ylabel("gradients of one step (s)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle("A step with MGDA by mode, and with fixed weights", x=0.01, ha="left")
    figure.savefig(path, dpi=110)
