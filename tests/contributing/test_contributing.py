"""What CONTRIBUTING.md tells a contributor to write works as written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mogrid.attacks import ATTACKS, attack_from_config
from mogrid.data import Role, read_collection
from mogrid.errors import ConfigError
from mogrid.evaluation import evaluate_retriever
from mogrid.objectives import LOSSES, loss_from_config
from mogrid.solvers import SolverError, StepStatistics, from_config, register, registry
from tests.training.tiny import write_data, write_run

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def blocks() -> Iterator[list[dict[str, Any]]]:
    """The guide's three blocks of Python, run; what they registered is taken back."""
    found = []
    for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S):
        namespace: dict[str, Any] = {"__name__": "contributed"}
        exec(compile(code, str(GUIDE), "exec"), namespace)
        found.append({**namespace, "lines": len([line for line in code.splitlines() if line.strip()])})
    assert len(found) == 3
    yield found
    registry._BY_NAME.pop("inverse_norm")
    LOSSES.pop("smoothed_infonce")
    ATTACKS.pop("lost_spaces")


def test_a_solver_in_thirty_lines(blocks) -> None:
    assert blocks[0]["lines"] <= 30
    solver = from_config({"name": "inverse_norm", "power": 1.0})
    gradients = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    for scale in (1e-20, 1.0, 1e20):
        step = StepStatistics(("a", "b", "c"), gramian=(scale * gradients) @ (scale * gradients).T)
        weights = solver.weights(step)
        np.testing.assert_allclose(weights, [1 / 6, 5 / 6, 0.0], atol=1e-12)
    zero = StepStatistics(("a", "b"), gramian=torch.zeros(2, 2))
    assert solver.weights(zero).tolist() == [0.5, 0.5]
    with pytest.raises(SolverError, match="taken"):
        register(blocks[0]["InverseNorm"])
    with pytest.raises(SolverError, match="no setting 'powr'; did you mean 'power'"):
        from_config({"name": "inverse_norm", "powr": 2})


def test_all_three_in_a_training(blocks, tmp_path) -> None:
    """By name, in one configuration: the solver weighs, the objective is trained for, the attack perturbs."""
    import json

    from mogrid.cli import main

    path = write_run(
        tmp_path,
        solver={"name": "inverse_norm", "power": 0.5},
        objectives={
            "smooth": {"datasets": [{"path": "home"}], "loss": {"name": "smoothed_infonce", "smoothing": 0.2}},
            "lost": {"datasets": [{"path": "home"}], "perturb": "lost_spaces", "loss": "consistency"},
        },
    )
    assert main(["train", str(path)]) == 0
    steps = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert len(steps) == 12
    first = steps[0]
    norms = np.array([first["gradient_norm/smooth"], first["gradient_norm/lost"]])
    weights = np.array([first["weight/smooth"], first["weight/lost"]])
    np.testing.assert_allclose(weights, norms**-0.5 / (norms**-0.5).sum(), rtol=1e-5)
    assert np.mean([s["loss/smooth"] for s in steps[-3:]]) < np.mean([s["loss/smooth"] for s in steps[:3]])


def test_an_objective(blocks) -> None:
    with pytest.raises(ConfigError, match="did you mean 'smoothing'"):
        loss_from_config({"name": "smoothed_infonce", "smooting": 0.1}, None)


def test_an_attack(blocks, tmp_path) -> None:
    from mogrid.retrieval.models import build_retriever, train_tokenizer

    attack: Any = attack_from_config({"name": "lost_spaces", "rate": 1.0, "role": "test"})
    assert attack.perturb(["a b c"], None, np.random.default_rng(0)) == ["abc"]
    write_data(tmp_path / "data")
    collection = read_collection(tmp_path / "data")
    model = build_retriever("1x32", train_tokenizer(collection.source.corpus.values(), 200, 16))
    found = evaluate_retriever(model, collection, Role.TEST, perturbations={"lost": attack})
    assert {row["condition"] for row in found.rows()} == {"clean", "lost"}
    bm25 = found.summary()["BM25"]
    assert bm25["lost_ndcg"] < bm25["ndcg"]
