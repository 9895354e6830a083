"""What a training step with a solver costs, in time and memory, and how far each mode's weights are from exact ones.

    python -m benchmarks.step

*Trainer*: whole steps of ``ParetoTrainer`` on the same joint batches of three objectives of real text (the embedded
data), in turn. *Shared*: three losses of one forward (ranking, ranking with typos, agreement of the two) in a plain
loop, TorchJD beside it where it is installed. *Weight errors*: taken at every step of a real training with exact MGDA.
*Grid*: time, and the allocator's peak, of forming the combined gradient, over K, batch and parameters. Ratios are
medians over rounds of paired times.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__all__ = ["main"]

FIXED = "fixed weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Print ratios and errors, write them as JSON and a figure; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="2x128", help="layers x width (default: 2x128)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="of the training that weight errors are taken in")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step.json"))
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    from benchmarks.step_figure import draw
    from benchmarks.step_grid import measure_grid
    from benchmarks.step_parts import plain_loop, trainer_steps, weight_errors
    from mogrid.files import write_json
    from mogrid.runs import versions

    shape = arguments.size, arguments.batch_size
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        record: dict[str, Any] = {
            "command": "python -m benchmarks.step",
            "setting": {k: str(v) for k, v in vars(arguments).items() if k != "out"},
            "versions": versions(),
            "trainer": _interleaved(trainer_steps(*shape, Path(scratch)), arguments.rounds),
            "shared": _interleaved(plain_loop(*shape), arguments.rounds),
            "weight_errors": weight_errors(*shape, arguments.steps, Path(scratch)),
            "grid": measure_grid(),
        }
    write_json(arguments.out, record)
    draw(record, arguments.out.with_suffix(".png"))
    _show(record)
    return 0


def _interleaved(steps: Mapping[str, Callable[[int], None]], rounds: int) -> dict[str, dict[str, float]]:
    """Time one step of every variant a round, in turn; drop the first three rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 3):
        for name, step in steps.items():
            started = time.perf_counter()
            step(round_)
            if round_ >= 3:
                times[name].append(time.perf_counter() - started)
    base = times[FIXED]
    return {
        name: {
            "median_ms": 1000 * statistics.median(values),
            "ratio": statistics.median(v / b for v, b in zip(values, base, strict=True)),
        }
        for name, values in times.items()
    }


def _show(record: Mapping[str, Any]) -> None:
    for part in ("trainer", "shared"):
        print(f"{part}:")
        for name, row in record[part].items():
            print(f"  {name:34s} {row['median_ms']:8.1f} ms   {row['ratio']:.3f}x")
    print("weights, mean |w - exact| / 2 over the steps of a training (0 none, 1 all of it elsewhere):")
    for name, row in record["weight_errors"].items():
        print(f"  {name:34s} {row['mean']:.3f}   largest {row['largest']:.3f}")
    print("peak memory over fixed weights, in copies of the gradient (K = 3, batch 32):")
    rows = [r for r in record["grid"] if (r["objectives"], r["batch"]) == (3, 32)]
    base = {r["size"]: r["peak_mb"] for r in rows if r["mode"] == "fixed"}
    for r in rows:
        more = r["peak_mb"] - base[r["size"]]
        print(
            f"  {r['size']:6s} {r['mode']:16s} {r['peak_mb']:8.1f} MB {more:+8.1f} MB {more / r['gradient_mb']:+6.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
