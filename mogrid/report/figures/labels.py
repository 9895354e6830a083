"""Names beside the points of a figure, where they hide the least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["place_labels"]

Floats = NDArray[np.float64]
Box = tuple[float, float, float, float, float]

_GREY = "#8c8c8c"
_SMALL = 8.5
_GAPS = (3, 9, 18, 30, 44, 60, 80)


def place_labels(
    panel: Any,
    names: Sequence[str],
    points: Floats,
    bars: Floats,
    sizes: Sequence[float],
    colours: Sequence[tuple[str, str]],
    rings: Sequence[Floats],
) -> None:
    """Write each name beside its point, inside the panel, hiding no marker or other name and as little else as can be.

    A point outside the panel becomes an arrow at its edge, and its values are written behind its name. The figure must
    have been drawn and its layout fixed: places are in pixels.

    Parameters
    ----------
    panel : matplotlib.axes.Axes
    names : sequence of s str
        What the labels say.
    points, bars : ndarray, shape (s, 2)
        Means and half-lengths of error bars, in data units.
    sizes : sequence of s float
        Diameters of the markers, in points.
    colours : sequence of s (marker, name)
        Those of each point and of its label.
    rings : sequence of ndarray, shape (2,)
        Other points to keep free, in data units.
    """
    from matplotlib.patheffects import withStroke

    figure = panel.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    frame = panel.get_window_extent(renderer)
    place = panel.transData.transform(points)
    inside = np.column_stack([
        np.clip(place[:, 0], frame.x0 + 6 * scale, frame.x1 - 6 * scale),
        np.clip(place[:, 1], frame.y0 + 6 * scale, frame.y1 - 6 * scale),
    ])  # fmt: skip
    reach = np.asarray(sizes) * scale / 2
    taken = [(x - r, y - r, x + r, y + r, 20.0) for (x, y), r in zip(inside, reach, strict=True)]
    for x, y in [panel.transData.transform(ring) for ring in rings]:
        taken.append((x - 7 * scale, y - 7 * scale, x + 7 * scale, y + 7 * scale, 5.0))
    ends = [panel.transData.transform(points + sign * bars) for sign in (-1, 1)]
    for (x, y), (x0, y0), (x1, y1) in zip(place, *ends, strict=True):
        taken += [(x0, y - scale, x1, y + scale, 4.0), (x - scale, y0, x + scale, y1, 4.0)]
    gaps = np.linalg.norm(inside[:, None] - inside[None], axis=2) + np.where(np.eye(len(inside)), np.inf, 0)
    for i in np.argsort(gaps.min(axis=1) if len(inside) > 1 else [0]):
        outside = bool(np.abs(inside[i] - place[i]).max() > 1)
        text = f"{names[i]} ({points[i, 0]:.2f}, {points[i, 1]:.2f})" if outside else names[i]
        if outside:
            panel.plot(
                *panel.transData.inverted().transform(inside[i]), marker=_arrow(place[i] - inside[i]), markersize=8,
                color=colours[i][0], linestyle="none", clip_on=False,
            )  # fmt: skip
        note = panel.annotate(
            text, inside[i], xycoords="figure pixels", fontsize=_SMALL, color=colours[i][1], va="center", ha="center",
            annotation_clip=False, zorder=6, path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        box = note.get_window_extent(renderer)
        x, y = _free_spot(inside[i], reach[i], box.width, box.height, taken, frame, scale)
        note.set_position((x, y))
        note.xyann = (x, y)
        corner = (x - box.width / 2, y - box.height / 2)
        opposite = (x + box.width / 2, y + box.height / 2)
        taken.append((*corner, *opposite, 20.0))
        nearest = np.clip(inside[i], corner, opposite)
        if np.linalg.norm(nearest - inside[i]) > reach[i] + 7 * scale:
            panel.annotate(
                "", inside[i], nearest, xycoords="figure pixels", textcoords="figure pixels",
                arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.6, "shrinkB": 3, "shrinkA": 0},
            )  # fmt: skip


def _arrow(direction: Floats) -> str:
    if abs(direction[0]) > abs(direction[1]):
        return ">" if direction[0] > 0 else "<"
    return "^" if direction[1] > 0 else "v"


def _free_spot(
    point: Floats, reach: float, width: float, height: float, taken: Sequence[Box], frame: Any, scale: float
) -> tuple[float, float]:
    """Return the centre of a box near a point that covers as little as possible of what is taken, in pixels.

    Taken are boxes (x0, y0, x1, y1) with the price of covering a square pixel of each.
    """
    gap, angle = (a.ravel() for a in np.meshgrid(_GAPS, np.linspace(0, 2 * np.pi, 24, endpoint=False), indexing="ij"))
    dx, dy = np.round(np.cos(angle), 6), np.round(np.sin(angle), 6)
    x = point[0] + dx * (reach + gap * scale) + np.sign(dx) * width / 2 * np.minimum(1, 2 * np.abs(dx))
    y = point[1] + dy * (reach + gap * scale) + np.sign(dy) * height / 2
    x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    u0, v0, u1, v1, price = np.array(taken).T
    wide = np.maximum(0, np.minimum(x1[:, None], u1) - np.maximum(x0[:, None], u0) + scale)
    high = np.maximum(0, np.minimum(y1[:, None], v1) - np.maximum(y0[:, None], v0) + scale)
    edge = 4 * scale  # a label that touches an axis reads as part of its ticks
    over = (frame.x0 + edge - x0, x1 - frame.x1 + edge, frame.y0 + edge - y0, y1 - frame.y1 + edge)
    beyond = sum(np.maximum(0, far) for far in over)
    cost = 0.02 * gap * scale * height + (wide * high) @ price + 20 * beyond * height
    best = int(cost.argmin())
    return float(x[best]), float(y[best])
