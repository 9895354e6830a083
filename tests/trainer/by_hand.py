"""The training that every host must equal: plain autograd, the Jacobian written out, plain gradient descent."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mogrid.solvers import Solver, StepStatistics

RATE = 0.05
QUIET: dict[str, Any] = {
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 3,
}
SETTINGS: dict[str, Any] = {
    **QUIET,
    "per_device_train_batch_size": 4,
    "max_steps": 2,
    "learning_rate": RATE,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}


def train_by_hand(
    model: nn.Module,
    losses: Callable[[dict[str, Any]], Mapping[str, Tensor]],
    batches: Sequence[dict[str, Any]],
    solver: Solver,
) -> list[dict[str, float]]:
    """Descend along Σ w_k g_k for each joint batch; return each step's losses, weights and gradient norms by key."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    records = []
    for step, batch in enumerate(batches):
        values = losses(copy.deepcopy(batch))
        rows = []
        for value in values.values():
            gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
            rows.append(torch.cat([part.flatten() for part in parts]))
        jacobian = torch.stack(rows)
        products = jacobian.double() @ jacobian.double().T
        names = tuple(values)
        weights = solver.weights(StepStatistics(names, gramian=products, step=step))
        descent = (weights.to(jacobian.dtype) @ jacobian).split([p.numel() for p in parameters])
        with torch.no_grad():
            for p, d in zip(parameters, descent, strict=True):
                p -= RATE * d.view_as(p)
        norms = products.diagonal().sqrt()
        record: dict[str, float] = {}
        for i, name in enumerate(names):
            record[f"loss/{name}"] = values[name].item()
            record[f"weight/{name}"] = weights[i].item()
            record[f"gradient_norm/{name}"] = norms[i].item()
        records.append(record)
    return records


def recorded(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def assert_equal_training(
    trainer: Any,
    twin: nn.Module,
    losses: Callable[[dict[str, Any]], Mapping[str, Tensor]],
    solver: Solver,
) -> None:
    """Train with the trainer and by hand on its own batches; records and final parameters must be equal."""
    batches = [batch for batch, _ in zip(trainer.get_train_dataloader(), range(2), strict=False)]
    expected = train_by_hand(twin.train(), losses, batches, solver)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    steps = recorded(Path(trainer.args.output_dir))
    assert len(steps) == len(expected) == 2
    for step, record in zip(steps, expected, strict=True):
        for key, value in record.items():
            torch.testing.assert_close(step[key], value, rtol=2e-4, atol=1e-6, msg=f"{key}: {step[key]} != {value}")
    moved = 0.0
    for (name, p), (_, q) in zip(trainer.model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6, msg=name)
        moved = max(moved, (p.detach() - before[name]).abs().max().item())
    assert moved > 1e-4
