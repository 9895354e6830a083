"""What a budget of FLOPs buys a training whose gradients go through a cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mogrid.cli import main
from mogrid.training.costs import row_costs
from mogrid.training.recipe import read_recipe
from mogrid.training.run import materials
from tests.training.tiny import write_run


@pytest.mark.parametrize("gramian", ["representation", "exact"])
def test_a_gradient_cache_is_in_the_budget(gramian, tmp_path) -> None:
    """It reads every text twice, forward, and pads it less."""
    cached = {"mode": "cached", "mini_batch_size": 8, "gramian": gramian}
    path = write_run(
        tmp_path,
        model={"size": "1x32", "vocabulary": 300, "max_length": 64},
        objectives={"a": {"datasets": [{"path": "home"}]}, "b": {"datasets": [{"path": "east"}]}},
        solver="mgda",
        training={"budget": 2e9, "batch_size": 16, "checkpoints": 1, "gradients": cached},
    )
    _lengthen(tmp_path / "data" / "home" / "corpus.jsonl")
    assert main(["train", str(path)]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["flops"]["total"] == pytest.approx(2e9, rel=0.05)


def _lengthen(corpus: Path) -> None:
    """Make every fourth text seven times as long."""
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["text"] = " ".join([row["text"]] * (7 if number % 4 == 0 else 1))
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_price_is_measured_anew_for_another_cache_alone(tmp_path) -> None:
    path = write_run(tmp_path, solver="fixed", training={"budget": 1e9, "batch_size": 8})
    for gradients in ("exact", "sketch", "{mode: last_layers, layers: 1}", "representation"):
        given = materials(read_recipe(path, [f"training.gradients={gradients}"]), tmp_path)
        plain = row_costs(given.recipe, given.build, given.datasets, tmp_path, given.data)
        assert len(list(tmp_path.glob("costs-*.json"))) == 1
    for mini, gramian in ((2, "exact"), (2, "representation"), (4, "exact")):
        changes = [f"training.gradients={{mode: cached, mini_batch_size: {mini}, gramian: {gramian}}}"]
        given = materials(read_recipe(path, changes), tmp_path)
        costs = row_costs(given.recipe, given.build, given.datasets, tmp_path, given.data)
        assert all(costs[name] > 1.1 * price for name, price in plain.items())
    assert len(list(tmp_path.glob("costs-*.json"))) == 3
