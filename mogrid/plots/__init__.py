"""Figures: colour-blind safe, legible at a page's width."""

from mogrid.plots.base import COLOURS
from mogrid.plots.front import Style, plot_front
from mogrid.plots.weights import plot_weights

__all__ = ["COLOURS", "Style", "plot_front", "plot_weights"]
