"""Figures of laws, fronts over seeds, weights over scale and the joint plane are drawn whole, the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.frontier import Front
from mogrid.report.figures import Trace, plot_attainment, plot_joint, plot_laws, plot_weights_over_scale
from mogrid.report.figures.scaling import _stairs
from mogrid.report.figures.systems import plot_systems
from mogrid.scaling import fit_laws
from tests.scaling.known import additive_law, grid_of, sweep

OBJECTIVES = ("effectiveness", "ood", "adversarial")


def front(seeds: int) -> Front:
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 3, (6, 3))
    values = np.vstack([base + 0.05 * rng.standard_normal(base.shape) for _ in range(seeds)])
    labels = tuple(f"s{i}" for _ in range(seeds) for i in range(6))
    return Front(OBJECTIVES, values, labels, tuple(s for s in range(seeds) for _ in range(6)))


def rows() -> list[dict]:
    return [
        {"domain": d, "condition": c, "system": s, "ndcg": 0.4, "ndcg_interval": [0.3, 0.5]}
        for d in ("a", "b") for c in ("clean", "typos") for s in ("model", "BM25")
    ]  # fmt: skip


def trace(shift: float) -> Trace:
    steps = np.arange(3.0)
    return Trace(10**steps, 3 - steps + shift, 4 - steps, efficient=shift == 0)


DRAW = {
    "attainment": lambda p: plot_attainment(p, {"one": front(3), "two": front(1)}, dict.fromkeys(OBJECTIVES, "loss")),
    "joint": lambda p: plot_joint(p, {"size": {f"s{i}": trace(i) for i in range(9)}}, ("x", "y"), title="t"),
    "weights": lambda p: plot_weights_over_scale(
        p, [(size, 10.0**i, dict.fromkeys(OBJECTIVES, (0.3, 0.2, 0.4))) for i in range(3) for size in "ab"], OBJECTIVES
    ),
    "laws": lambda p: plot_laws(p, LAWS, title="t"),
    "systems": lambda p: plot_systems(p, rows(), "t"),
}
LAWS = fit_laws(sweep(additive_law, **grid_of("additive"), rng=np.random.default_rng(0)), draws=20)


@pytest.mark.parametrize("name", DRAW)
def test_drawn_the_same_each_time(tmp_path, name) -> None:
    for file in ("a.png", "b.png"):
        DRAW[name](tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 15_000


def test_stairs_bound_what_is_dominated() -> None:
    path = _stairs(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([3.0, 3.0]))
    assert path.tolist() == [[1, 3], [1, 2], [2, 2], [2, 1], [3, 1]]
