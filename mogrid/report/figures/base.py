"""What all figures share: sizes, clean axes, and files that are whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mogrid.files import write_bytes
from mogrid.report.palette import COLOURS, FAINT, GREY, INK, MARKERS

__all__ = ["COLOURS", "DASHES", "DPI", "FAINT", "GREY", "INK", "MARKERS", "Floats", "clean", "new_figure", "save"]

Floats = NDArray[np.float64]

_GRID = "#ebebeb"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
DPI = 150


def new_figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


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
