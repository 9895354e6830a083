"""Figures of benchmarks: fronts over seeds, weights over scale, the joint plane; drawn whole, the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.figures import Trace, _stairs, plot_attainment, plot_joint, plot_weights_over_scale
from mogrid.frontier import Front

OBJECTIVES = ("effectiveness", "ood", "adversarial")


def front(seeds: int) -> Front:
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 3, (6, 3))
    values = np.vstack([base + 0.05 * rng.standard_normal(base.shape) for _ in range(seeds)])
    labels = tuple(f"s{i}" for _ in range(seeds) for i in range(6))
    return Front(OBJECTIVES, values, labels, tuple(s for s in range(seeds) for _ in range(6)))


def trace(shift: float) -> Trace:
    steps = np.arange(3.0)
    return Trace(10**steps, 3 - steps + shift, 4 - steps, efficient=shift == 0)


DRAW = {
    "attainment": lambda p: plot_attainment(p, {"one": front(3), "two": front(1)}, dict.fromkeys(OBJECTIVES, "loss")),
    "joint": lambda p: plot_joint(p, {"size": {f"s{i}": trace(i) for i in range(9)}}, ("x", "y"), title="t"),
    "weights": lambda p: plot_weights_over_scale(
        p, [(size, 10.0**i, dict.fromkeys(OBJECTIVES, (0.3, 0.2, 0.4))) for i in range(3) for size in "ab"], OBJECTIVES
    ),
}


@pytest.mark.parametrize("name", DRAW)
def test_drawn_the_same_each_time(tmp_path, name) -> None:
    for file in ("a.png", "b.png"):
        DRAW[name](tmp_path / file)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 15_000


def test_stairs_bound_what_is_dominated() -> None:
    path = _stairs(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([3.0, 3.0]))
    assert path.tolist() == [[1, 3], [1, 2], [2, 2], [2, 1], [3, 1]]
