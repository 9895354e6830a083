"""What all figures share: sizes, clean axes, and files that are whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.files import write_bytes
from mogrid.report.palette import COLOURS, FAINT, GREY, INK, MARKERS

__all__ = [
    "COLOURS",
    "DASHES",
    "DPI",
    "FAINT",
    "GREY",
    "INK",
    "MARKERS",
    "RINGS",
    "Floats",
    "Style",
    "clean",
    "legend_below",
    "new_figure",
    "non_dominated",
    "save",
]

Floats = NDArray[np.float64]

_GRID = "#ebebeb"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
DPI = 150
RINGS = ((COLOURS[6], 14.0), (COLOURS[3], 11.0), (COLOURS[4], 17.0))
"""Colours and sizes of points that were predicted, not run."""


@dataclass(frozen=True)
class Style:
    """How a group of strategies is drawn.

    Attributes
    ----------
    colour : str
    size : float
        Diameter of the marker, in points.
    filled : bool
    group : str
        Its name in the legend; strategies of one group share a marker.
    framed : bool
        Whether the axes stretch to hold it. If not, and it lies outside, it is drawn at the edge with its values.
    """

    colour: str
    size: float = 7.0
    filled: bool = True
    group: str = ""
    framed: bool = True


def new_figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: Any, handles: Mapping[str, Any]) -> None:
    """Write a figure's legend under it, in as many columns as there is room for."""
    longest = max(map(len, handles), default=0) + 6  # characters, with the marker
    columns = max(1, min(len(handles), int(13 * figure.get_figwidth() / longest)))
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5
    )


def save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    # No software version: equal records give equal bytes.
    figure.savefig(buffer, dpi=DPI, format="png", metadata={"Software": None})
    write_bytes(Path(path), buffer.getvalue())


def clean(panel: Any) -> None:
    panel.grid(visible=True, color=_GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def non_dominated(values: Floats) -> NDArray[np.bool_]:
    """Return which of the rows (s, K) no other is at least as good as in everything; lower is better."""
    import moocore

    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)
