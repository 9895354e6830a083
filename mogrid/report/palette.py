"""Colours and markers of every figure and of the page: one palette, safe for the colour-blind."""

from __future__ import annotations

__all__ = ["COLOURS", "FAINT", "GREY", "INK", "MARKERS"]

# Okabe & Ito's palette, in an order that keeps neighbours apart; its yellow is too faint for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Matplotlib's names of shapes, which charts draw too: colour never stands alone.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#8c8c8c"
INK = "#222222"
FAINT = "#a9b8c6"
