"""Figures: colour-blind safe, legible at a page's width."""

from mogrid.report.figures.base import COLOURS
from mogrid.report.figures.front import Style, plot_front
from mogrid.report.figures.laws import plot_laws
from mogrid.report.figures.path import plot_path
from mogrid.report.figures.scaling import Trace, plot_attainment, plot_joint, plot_replay, plot_weights_over_scale
from mogrid.report.figures.weights import plot_weights

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
