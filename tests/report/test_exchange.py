"""Exchange matrix and fronts of any number of objectives: drawn whole, and what is said under them is so."""

from __future__ import annotations

import numpy as np
import pytest

from mogrid.frontier import ExchangeRates, Front
from mogrid.report.figures import (
    COLOURS,
    Style,
    exchange,
    plot_exchange,
    plot_front,
)

PILOT = np.array([[1, 0.63, 0.23], [0.69, 1, 0.23], [0.72, 0.45, 1]])
NAMES = ("effectiveness", "typos", "ood")


def texts(figure) -> str:
    return "\n".join(text.get_text() for panel in figure.axes for text in panel.texts)


def test_the_matrix_shows_every_rate_with_its_interval(tmp_path, monkeypatch) -> None:
    kept = []
    save = exchange.save
    monkeypatch.setattr(exchange, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    base = (np.array([1203.0, 0, 8000]), np.zeros(3), np.full(3, 9000.0))
    rates = ExchangeRates(NAMES, PILOT, PILOT - 0.1, PILOT + 0.1, *base, np.full(3, 1207.4))
    for name in ("a.png", "b.png"):
        plot_exchange(tmp_path / name, rates, said="mixing pays: " + "very much " * 20, title="t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    found = texts(kept[0])
    for k in range(3):
        for j in range(3):
            shown = f"[{PILOT[k, j] - 0.1:.2f}, {PILOT[k, j] + 0.1:.2f}]"
            assert (shown in found) == (k != j)
    assert "1,203" in found
    assert "[0, 9,000]" in found
    under = kept[0]._supxlabel.get_text().splitlines()
    assert under[0].startswith("Mixing pays: very")
    assert len(under) > 2
    assert "of one more pair, at 1,207 pairs of each." in " ".join(under)


def test_what_is_not_known_is_a_dash_and_large_rates_are_whole(tmp_path, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(exchange, "save", lambda figure, path: kept.append(figure))
    value = np.array([[1, -24.49, 0.23], [0.69, 1, 0.23], [np.nan, np.nan, 1]])
    base = (np.array([1203.0, 0, np.nan]), np.array([0, 0, np.nan]), np.array([2e3, 2e3, np.nan]))
    rates = ExchangeRates(NAMES, value, 90 * value, value + 20, *base, np.array([900, 100, 2000]))
    plot_exchange(tmp_path / "a.png", rates)
    found = texts(kept[0])
    assert "-24\n[-2,204, -4.49]" in found
    assert "nan" not in found
    assert found.splitlines().count("-") == 3
    under = " ".join(kept[0]._supxlabel.get_text().split())
    assert "at 900 pairs of effectiveness, 100 of typos, 2,000 of ood; -: its own pairs do not help it" in under


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_fronts_of_any_number_of_objectives(tmp_path, count) -> None:
    rng = np.random.default_rng(count)
    names = ("base", "effectiveness only", "the choice")
    values = np.vstack([rng.uniform(1, 2, count) + 0.01 * rng.normal(size=(2, count)) for _ in names])
    objectives = tuple(f"o{k}" for k in range(count))
    front = Front(objectives, values, tuple(n for n in names for _ in range(2)), (0, 1) * 3)
    plot_front(
        tmp_path / "a.png", front, {"base": Style(COLOURS[6], filled=False)}, {o: f"{o} (nats)" for o in objectives},
        marked={"the choice": values.min(axis=0)}, title="t",
    )  # fmt: skip
    assert (tmp_path / "a.png").stat().st_size > 10_000
