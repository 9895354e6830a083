"""What only benchmarks draw: regimes of fine-tuning, from a store's records."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import figures
from benchmarks.figures import Trail, plot_regime, trails_of
from mogrid.errors import DataError
from tests.report.stores import write_store


def texts(figure) -> str:
    return "\n".join(text.get_text() for panel in figure.axes for text in panel.texts)


@pytest.mark.parametrize(
    ("gain", "elsewhere", "named"),
    [
        ([0.1, 0.2], [0.0, 0.1], {"free"}),
        ([0.1, 0.2], [0.1, -0.1], {"free", "a trade-off"}),
        ([-0.1, 0.2], [-0.1, -0.1], {"it hurts", "a trade-off"}),
    ],
)
def test_regimes_are_named_where_something_lies(tmp_path, monkeypatch, gain, elsewhere, named) -> None:
    kept = []
    save = figures.save
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    trail = Trail(np.array([1.0, 4.0]), np.array(gain), np.array([0.01, np.nan]), np.array(elsewhere), np.zeros(2))
    plot_regime(
        tmp_path / "a.png",
        {"1 layer": {"lr 1e-4: half": trail, "lr 1e-4: all": trail}, "2 layers": {"LoRA": trail}},
        title="t",
    )
    assert set(texts(kept[0]).split("\n")) == named


def test_trails_are_gains_over_the_base(tmp_path) -> None:
    records = list(write_store(tmp_path, 2, layers=(1, 2), seeds=3, solvers=()))
    panels = trails_of(records, "test")
    assert list(panels) == ["mini, 1 layers", "mini, 2 layers"]
    trail = panels["mini, 2 layers"]["effectiveness only"]
    assert trail.pairs.tolist() == [1280, 2560, 5120]
    own = [
        r for r in records if r.kind == "trained" and r.model == "mini, 2 layers" and r.label == "effectiveness only"
    ]
    base = next(r for r in records if r.kind == "base" and r.model == "mini, 2 layers")

    def at(record, domain: str) -> float:
        return record.result(domain, "test").means["ndcg"]

    gains = [at(r, "away") - at(base, "away") for r in own if sum(r.pairs.values()) == 1280]
    assert trail.elsewhere[0] == pytest.approx(np.mean(gains))
    assert trail.elsewhere_half[0] == pytest.approx(4.3027 * np.std(gains, ddof=1) / np.sqrt(3), rel=1e-3)
    with pytest.raises(DataError, match="other domains of role select"):
        trails_of(records, "select")
