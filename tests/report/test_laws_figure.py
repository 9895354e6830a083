"""Figures of laws and of systems are drawn whole, the same each time, and say what the laws are."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.frontier import fit_laws
from mogrid.report.figures import laws as module
from mogrid.report.figures import plot_laws
from mogrid.report.figures.systems import plot_systems
from tests.frontier.truth import sweep

RNG = np.random.default_rng(0)
LAWS = fit_laws(sweep(sizes=(1e5, 4e5), rng=RNG), form="exchange", draws=20)


@pytest.mark.parametrize("metric", ["ce", "ndcg"])
def test_every_objective_has_its_law_residuals_and_what_was_held_out(tmp_path, monkeypatch, metric) -> None:
    kept = []
    save = module.save
    monkeypatch.setattr(module, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    plot_laws(tmp_path / "laws.png", LAWS, metric, title="t")
    assert (tmp_path / "laws.png").stat().st_size > 15_000
    panels = np.array(kept[0].axes).reshape(3, 3)
    runs = len(LAWS.runs)
    for k, (left, middle, right) in enumerate(panels):
        fit = LAWS.fits[metric][k]
        assert f"R² {fit.fitted.r2:.3f}" in left.texts[0].get_text()
        assert sum(len(line.get_xdata()) for line in middle.lines[:-1]) == runs  # the last is the zero line
        named = [text.get_text() for text in right.get_legend().get_texts()]
        assert [name.split(":")[0] for name in named] == [f"largest {axis}" for axis in fit.held_out[fit.name]]


def test_systems_are_drawn_the_same_each_time(tmp_path) -> None:
    rows = [
        {"domain": d, "condition": c, "system": s, "ndcg": 0.4, "ndcg_interval": [0.3, 0.5]}
        for d in ("a", "b") for c in ("clean", "typos") for s in ("model", "BM25")
    ]  # fmt: skip
    for file in ("a.png", "b.png"):
        plot_systems(tmp_path / file, rows, "t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 15_000
