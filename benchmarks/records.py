"""What keeping records costs: the share of a training that goes into steps.jsonl, logs and the watch over checkpoints.

    python -m benchmarks.records

Two hundred steps of MGDA on three objectives with a 1x64 encoder, the smallest of use: larger models take longer a
step and write the same. Prints microseconds a step and the share of the training's wall time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

_STEPS = 200


def main() -> int:
    """Train, with a clock in front of everything that records; return the process's exit code."""
    from benchmarks.dpr import _quiet

    _quiet()
    from mogrid.data import embedded_collection
    from mogrid.experiment.cells import new_model
    from mogrid.experiment.settings import ExperimentSettings
    from mogrid.experiment.training import TrainingWatch, train, training_datasets
    from mogrid.trainer.mixin import MultiObjectiveMixin

    weights = [{"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    settings = ExperimentSettings.model_validate(
        {"encoder": {"size": "1x64", "towers": 1}, "training": {"budget": 1.0, "batch_size": 32}, "weights": weights}
    )
    collection = embedded_collection()
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **keywords: Any) -> Any:
            nonlocal spent
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                spent += time.perf_counter() - started

        return inner

    recorders: tuple[tuple[type[Any], str], ...] = (
        (MultiObjectiveMixin, "_record"),
        (MultiObjectiveMixin, "log"),
        (TrainingWatch, "on_step_end"),
    )
    for owner, name in recorders:
        setattr(owner, name, timed(getattr(owner, name)))
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        model = new_model(collection, settings, Path(scratch), seed=0)
        datasets = training_datasets(collection, settings, seed=0)
        started = time.perf_counter()
        train(model, datasets, settings, {"name": "mgda"}, steps=_STEPS, seed=0, folder=Path(scratch) / "training")
        whole = time.perf_counter() - started
    print(f"{1e6 * spent / _STEPS:.0f} µs a step, {spent / whole:.2%} of the training's wall time ({_STEPS} steps)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
