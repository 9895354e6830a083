"""The main job says what it cannot do before it trains anything."""

from __future__ import annotations

import yaml

from benchmarks.dpr import main
from tests.training.tiny import settings, write_data


def test_a_length_that_would_buy_a_dear_strategy_too_few_steps_is_refused_before_the_pilots(tmp_path, capsys) -> None:
    write_data(tmp_path / "data")
    value = settings(solver="fixed", spend="rows", evaluation={"role": "test", "redraws": 2})
    value["training"] = {"pairs": 64, "batch_size": 6, "learning_rate": 1.0e-2, "checkpoints": 1}
    value["evaluation"]["domains"] = "data/domains.yaml"
    recipe = tmp_path / "run.yaml"
    recipe.write_text(yaml.safe_dump(value, sort_keys=False))
    out = tmp_path / "out"
    assert main(["--recipe", str(recipe), "--out", str(out), "--workers", "1"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("benchmarks.dpr: training.pairs: 64 are too few for ")
    assert not list(out.glob("*/runs.jsonl"))
