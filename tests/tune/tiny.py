"""A tune of seconds: two objectives of the made-up data, from scratch, and a budget of three pilots and a training."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.training.tiny import settings, write_data

BUDGET = "1.6e9"


def write_recipe(folder: Path, **changes: object) -> Path:
    if not (folder / "data").exists():
        write_data(folder / "data")
    value = settings(solver="fixed", spend="rows", evaluation={"role": "test", "redraws": 2, "perturb": ["typos"]})
    del value["objectives"]["typos"]
    value["training"] = {"steps": 12, "batch_size": 6, "learning_rate": 2.0e-2, "checkpoints": 2}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(value | changes, sort_keys=False))
    return path
