"""What a step with a solver costs: interleaved steps of two trainers on the same joint batches.

    python -m benchmarks.step

A round times one step of every variant on the same three batches, in turn; ratios are of medians over rounds against
fixed weights with one plain backward of the weighted sum (no per-objective gradients at all).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__all__ = ["main"]

# Never trained with here; settings ask for enough of them to fit a front.
_WEIGHTS = [{"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "fixed weights": ({"name": "fixed"}, False),
    "fixed weights, gradients logged": ({"name": "fixed"}, True),
    "MGDA": ({"name": "mgda"}, True),
    "MGDA, loss+ normalised": ({"name": "mgda", "normalise": "loss+"}, True),
    "ParetoTarget": (
        {"name": "pareto_target", "preference": {"effectiveness": 2, "ood": 1, "adversarial": 1}},
        True,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the ratios and write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="2x128", help="layers x width (default: 2x128)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step.json"))
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        steps = {name: _variant(name, arguments, Path(scratch)) for name in VARIANTS}
        times: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for round_ in range(arguments.rounds + 3):
            for name, step in steps.items():
                started = time.perf_counter()
                step(round_)
                if round_ >= 3:
                    times[name].append(time.perf_counter() - started)
    base = times["fixed weights"]
    report = {
        name: {
            "median_ms": 1000 * statistics.median(values),
            "ratio": statistics.median(v / b for v, b in zip(values, base, strict=True)),
        }
        for name, values in times.items()
    }
    for name, row in report.items():
        print(f"{name:34s} {row['median_ms']:8.1f} ms   {row['ratio']:.3f}x")
    from mogrid.runs import versions
    from mogrid.state import write_json

    setting = {k: str(v) for k, v in vars(arguments).items() if k != "out"}
    write_json(arguments.out, {"setting": setting, "versions": versions(), "variants": report})
    print(json.dumps({"written": str(arguments.out)}))
    return 0


def _variant(name: str, arguments: argparse.Namespace, scratch: Path) -> Callable[[int], None]:
    """Return a function that runs one whole training step (gradients, clipping, optimiser) on the round's batch."""
    import torch

    from mogrid.experiment.cells import DataSource, new_model
    from mogrid.experiment.settings import ExperimentSettings
    from mogrid.experiment.training import build_losses, training_datasets
    from mogrid.retriever import ROUTES
    from mogrid.trainer import ParetoTrainer, ParetoTrainingArguments

    solver, statistics_on = VARIANTS[name]
    settings = ExperimentSettings.model_validate(
        {
            "encoder": {"size": arguments.size, "towers": 1, "dropout": 0.0},
            "training": {"budget": 1e12, "batch_size": arguments.batch_size, "typo_variants": 1},
            "weights": _WEIGHTS,
        }
    )
    collection = DataSource().load()
    model = new_model(collection, settings, scratch, seed=0)
    trainer = ParetoTrainer(
        model=model,
        args=ParetoTrainingArguments(
            output_dir=str(scratch / name.replace(" ", "-")),
            per_device_train_batch_size=arguments.batch_size,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
            gradient_statistics=statistics_on,
            router_mapping=ROUTES,
        ),
        train_dataset=training_datasets(collection, settings, seed=0),
        loss=build_losses(model, settings),
        solver=solver,
    )
    loader = iter(trainer.get_train_dataloader())
    batches = [next(loader) for _ in range(8)]
    optimiser = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1

    def step(round_: int) -> None:
        batch = {k: dict(v) for k, v in batches[round_ % len(batches)].items()}
        trainer.training_step(model, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


if __name__ == "__main__":
    sys.exit(main())
