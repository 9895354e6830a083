"""What the gradient cache costs with a solver in it: ``python -m benchmarks.cached``.

Three objectives over the same (query, document) pairs, every text 64 random tokens long, so that sorting by length
gains nothing. Time: CPU seconds of one step on one thread, variants in turn in one process, medians over rounds of the
ratio to the cache with one loss and no solver. Memory: resident size of a process of its own that takes one step, at
its peak and before the step. Writes ``cached.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

__all__ = ["main"]

LENGTH = 64
NAMES = ("ranking", "reverse", "hard")
BASE = "cache, one loss"
SOLVED = "cache, MGDA"
TIMED = (BASE, SOLVED, "cache, MGDA on exact gradients", "sentence-transformers' cached losses, MGDA")
MEASURED = (("no cache, one loss", 128), (BASE, 128), (SOLVED, 128), (SOLVED, 512))
SLOW_ROUNDS = 3  # of the variants that are there for comparison only
TARGETS = {"time ratio": 1.03, "peak MB at batch 128": 1300}


def main(argv: Sequence[str] | None = None) -> int:
    """Print time and memory and write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cached", description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2", help="folder or id (default: the one that pip brings)")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of a timed step (default: 32)")
    parser.add_argument("--mini-batch-size", type=int, default=16, help="texts encoded at a time (default: 16)")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cached.json"))
    parser.add_argument("--measure", nargs=2, metavar=("VARIANT", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.measure:
        print(json.dumps(_memory(arguments, arguments.measure[0], int(arguments.measure[1]))))
        return 0
    times = _times(arguments)
    memory = []
    for variant, batch in MEASURED:
        command = [sys.executable, "-m", "benchmarks.cached", "--measure", variant, str(batch)]
        command += ["--encoder", arguments.encoder, "--mini-batch-size", str(arguments.mini_batch_size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        memory.append(json.loads(done.stdout.splitlines()[-1]))
        row = memory[-1]
        print(f"{variant:45s} batch {batch:4d}   peak {row['peak_mb']:5d} MB   before {row['before_mb']:4d} MB")
    from mogrid.files import write_json
    from mogrid.runs import versions

    setting = {
        "encoder": Path(arguments.encoder).name,
        "batch_size": arguments.batch_size,
        "mini_batch_size": arguments.mini_batch_size,
        "rounds": arguments.rounds,
        "tokens": LENGTH,
        "threads": 1,
    }
    record = {"setting": setting, "versions": versions(), "targets": TARGETS, "time": times, "memory": memory}
    write_json(arguments.out, record)
    return 0


def _times(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    steps = {name: _step(name, arguments, arguments.batch_size) for name in TIMED}
    seconds: dict[str, list[float]] = {name: [] for name in TIMED}
    for round_ in range(arguments.rounds + 1):
        names = list(TIMED if round_ <= SLOW_ROUNDS else TIMED[:2])
        for name in names if round_ % 2 else names[::-1]:  # what drifts during a round then favours nobody
            started = time.process_time()
            steps[name](round_)
            if round_ > 0:
                seconds[name].append(time.process_time() - started)
    report = {}
    for name, values in seconds.items():
        ratio = statistics.median(v / b for v, b in zip(values, seconds[BASE], strict=False))
        report[name] = {
            "median_s": round(statistics.median(values), 4),
            "ratio": round(ratio, 4),
            "rounds": len(values),
        }
        print(f"{name:45s} {report[name]['median_s']:8.2f} s   {ratio:.3f}x")
    return report


def _memory(arguments: argparse.Namespace, variant: str, batch: int) -> dict[str, Any]:
    step = _step(variant, arguments, batch)
    before = _resident("VmRSS")
    step(0)
    return {"variant": variant, "batch": batch, "peak_mb": _resident("VmHWM"), "before_mb": before}


def _resident(key: str) -> int:
    """MB of this process now (VmRSS) or at most (VmHWM); ``getrusage`` would count the parent's before the exec."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return round(int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024)


def _step(name: str, arguments: argparse.Namespace, batch: int) -> Callable[[int], None]:
    """Return a function that leaves one step's combined gradient in ``.grad``, of the round's batch."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.util import dot_score
    from torch import Tensor

    from mogrid.gradients import CachedEngine, GradientEngine
    from mogrid.objectives import masked_info_nce
    from mogrid.retrieval.models import load_retriever
    from mogrid.solvers import MGDA, FixedWeights

    torch.set_num_threads(1)
    model = load_retriever(arguments.encoder, max_length=LENGTH).train()
    size = arguments.mini_batch_size

    def batch_of(round_: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(round_)
        ids = torch.randint(1000, 30000, (2, batch, LENGTH), generator=generator)
        query, document = ({"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids)
        return query, document

    def losses(query: Tensor, document: Tensor) -> dict[str, Tensor]:
        return {
            "ranking": masked_info_nce(query, document, temperature=0.05),
            "reverse": masked_info_nce(document, query, temperature=0.05),
            "hard": masked_info_nce(query, document, temperature=0.02),
        }

    if name == "no cache, one loss":

        def plain(round_: int) -> None:
            model.zero_grad()
            query, document = (model(column)["sentence_embedding"] for column in batch_of(round_))
            sum(losses(query, document).values(), torch.zeros(())).backward()

        return plain
    if name.startswith("sentence-transformers"):
        engine = GradientEngine(model.parameters(), NAMES, MGDA())
        cached = {
            objective: CachedMultipleNegativesRankingLoss(
                model, scale=scale, similarity_fct=dot_score, mini_batch_size=size
            )
            for objective, scale in zip(NAMES, (20.0, 20.0, 50.0), strict=True)
        }

        def one_by_one(round_: int) -> None:
            pair = batch_of(round_)
            columns = {"ranking": pair, "reverse": pair[::-1], "hard": pair}
            engine.accumulate(
                {n: (lambda n=n: cached[n]([dict(c) for c in columns[n]], None)) for n in NAMES}  # type: ignore[misc]
            )

        return one_by_one
    if name == BASE:
        single = CachedEngine(model, ("sum",), FixedWeights(), mini_batch_size=size)

        def summed(round_: int) -> None:
            query, document = (single.encode(column) for column in batch_of(round_))
            single.backward({"sum": sum(losses(query, document).values(), torch.zeros(()))})

        return summed
    several = CachedEngine(
        model,
        NAMES,
        MGDA(),
        mini_batch_size=size,
        gramian="exact" if name.endswith("exact gradients") else "representation",
    )

    def solved(round_: int) -> None:
        query, document = (several.encode(column) for column in batch_of(round_))
        several.backward(losses(query, document))

    return solved


if __name__ == "__main__":
    sys.exit(main())
