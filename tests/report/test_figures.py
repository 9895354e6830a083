"""Figures are drawn whole, the same each time, and their labels hide no marker."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mogrid.frontier import Front
from mogrid.report.figures import COLOURS, Style, front, plot_front

OBJECTIVES = ("effectiveness", "ood", "adversarial")
AXES = {name: f"{name} contrastive entropy, nats" for name in OBJECTIVES}
MEANS = {
    "effectiveness only": (2.45, 3.59, 3.84), "OOD only": (3.42, 1.08, 4.57), "adversarial only": (2.52, 3.79, 3.31),
    "0.8/0.1/0.1": (3.02, 1.82, 4.12), "0.1/0.8/0.1": (3.28, 1.49, 4.29), "equal weights": (2.95, 1.58, 3.93),
    "MGDA": (2.93, 1.61, 3.89), "Pareto training": (2.88, 1.66, 3.87), "untrained": (5.4, 5.5, 5.5),
}  # fmt: skip
STYLES = {
    "MGDA": Style(COLOURS[1], group="solvers"),
    "Pareto training": Style(COLOURS[2], size=11, group="chosen"),
    "untrained": Style(COLOURS[6], filled=False, framed=False),
}


def runs(objectives: tuple[str, ...] = OBJECTIVES, seeds: int = 3) -> Front:
    rng = np.random.default_rng(0)
    values = [np.array(v)[: len(objectives)] * (1 + 0.01 * rng.normal()) for v in MEANS.values() for _ in range(seeds)]
    labels = tuple(name for name in MEANS for _ in range(seeds))
    return Front(objectives, np.array(values), labels, tuple(range(seeds)) * len(MEANS))


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("seeds", [1, 3])
def test_front_is_drawn_the_same_each_time(tmp_path, count, seeds) -> None:
    front = runs(OBJECTIVES[:count], seeds)
    predicted = np.random.default_rng(1).uniform(1.5, 4, (60, count))
    for name in ("a.png", "b.png"):
        plot_front(
            tmp_path / name, front, STYLES, AXES, predicted=predicted, marked={"choice": predicted[0]}, title="Front"
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert min(size(tmp_path / "a.png")) > 700
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_labels_cover_no_marker_and_no_other_label(tmp_path, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(front, "save", lambda figure, path: kept.append(figure))
    plot_front(tmp_path / "front.png", runs(), STYLES, AXES)
    figure = kept[0]
    renderer = figure.canvas.get_renderer()
    for panel, (a, b) in zip(figure.axes, [(0, 1), (2, 1), (0, 2)], strict=False):
        texts = [text for text in panel.texts if text.get_text()]
        assert len(texts) == len(MEANS)
        boxes = [text.get_window_extent(renderer) for text in texts]
        frame = panel.get_window_extent(renderer)
        points = panel.transData.transform(runs().means()[1][:, [a, b]])
        for i, box in enumerate(boxes):
            assert frame.x0 - 1 <= box.x0
            assert box.x1 <= frame.x1 + 1
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert not any(box.contains(x, y) for x, y in points)
    untrained = [text.get_text() for text in figure.axes[0].texts if "untrained" in text.get_text()]
    assert untrained == [f"untrained ({runs().means()[1][-1, 0]:.2f}, {runs().means()[1][-1, 1]:.2f})"]


def test_no_global_state(tmp_path) -> None:
    plot_front(tmp_path / "front.png", runs(), {}, AXES)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_failed_figure_leaves_the_old_one(tmp_path) -> None:
    path = tmp_path / "front.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        plot_front(path, runs(), {}, {"effectiveness": "nats"})
    assert path.read_bytes() == b"old"
