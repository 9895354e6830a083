"""Figures: colour-blind safe, legible at a page's width."""

from mogrid.report.figures.base import COLOURS, Style
from mogrid.report.figures.exchange import plot_exchange
from mogrid.report.figures.front import plot_front
from mogrid.report.figures.laws import plot_laws
from mogrid.report.figures.path import plot_path

__all__ = [
    "COLOURS",
    "Style",
    "plot_exchange",
    "plot_front",
    "plot_laws",
    "plot_path",
]
