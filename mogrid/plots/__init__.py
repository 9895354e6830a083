"""Figures: colour-blind safe, legible at a page's width."""

from mogrid.plots.base import COLOURS
from mogrid.plots.front import Style, plot_front
from mogrid.plots.laws import plot_laws
from mogrid.plots.path import plot_path
from mogrid.plots.scaling import Trace, plot_attainment, plot_joint, plot_replay, plot_weights_over_scale
from mogrid.plots.weights import plot_weights

__all__ = [
    "COLOURS",
    "Style",
    "Trace",
    "plot_attainment",
    "plot_front",
    "plot_joint",
    "plot_laws",
    "plot_path",
    "plot_replay",
    "plot_weights",
    "plot_weights_over_scale",
]
