"""Peak memory and time of a step by mode, over objectives, batch and parameters."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor
from transformers import BertConfig, BertModel

from mogrid.gradients import make_engine
from mogrid.progress import Progress
from mogrid.solvers import MGDA, FixedWeights, Solver

__all__ = ["GRID", "MODES", "measure_grid"]

GRID = [
    *((k, 32, "2x128") for k in (2, 3, 5, 8)),
    *((3, batch, "2x128") for batch in (8, 128)),
    *((3, 32, size) for size in ("1x64", "4x256")),
]
MODES = ("fixed", "exact", "last_layers", "sketch", "representation", "cached")
ROUNDS = 5
TOKENS = 24


class _Encoder(torch.nn.Module):
    def __init__(self, size: str) -> None:
        super().__init__()
        layers, width = (int(part) for part in size.split("x"))
        config = BertConfig(
            vocab_size=8192, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(width // 32, 1),
            intermediate_size=4 * width, max_position_embeddings=64,
        )  # fmt: skip
        torch.manual_seed(0)
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.bert(features["input_ids"]).last_hidden_state.mean(dim=1)}


def measure_grid() -> list[dict[str, Any]]:
    """Return a row for every cell and mode; times are medians, modes in turn."""
    rows = []
    with Progress(Console(stderr=True), "modes over K, batch and parameters", len(GRID)) as bar:
        for count, batch, size in GRID:
            steps = {mode: _step(mode, count, batch, size) for mode in MODES}
            times: dict[str, list[float]] = {mode: [] for mode in MODES}
            for _ in range(ROUNDS + 1):
                for mode, (step, _) in steps.items():
                    started = time.perf_counter()
                    step()
                    times[mode].append(time.perf_counter() - started)
            for mode, (step, parameters) in steps.items():
                rows.append(
                    {
                        "mode": mode,
                        "objectives": count,
                        "batch": batch,
                        "size": size,
                        "gradient_mb": parameters * 4 / 2**20,
                        "peak_mb": _peak_bytes(step) / 2**20,
                        "seconds": statistics.median(times[mode][1:]),
                    }
                )
            bar.advance()
    return rows


def _step(mode: str, count: int, batch_size: int, size: str) -> tuple[Callable[[], None], int]:
    """Return what forms the combined gradient of `count` objectives with batches of their own, and P."""
    model = _Encoder(size)
    names = tuple(f"objective {k}" for k in range(count))
    solver: Solver = FixedWeights() if mode == "fixed" else MGDA()
    gradients: Any = {"fixed": "exact", "last_layers": {"mode": mode, "layers": 1}}.get(mode, mode)
    trained = list(model.parameters())
    engine = make_engine(gradients, model, trained, names, solver, gradient_statistics=mode != "fixed")
    generator = torch.Generator().manual_seed(0)
    pairs = [
        [{"input_ids": torch.randint(1, 8192, (batch_size, TOKENS), generator=generator)} for _ in range(2)]
        for _ in names
    ]

    def loss(k: int) -> Tensor:
        query, document = (model(dict(features))["sentence_embedding"] for features in pairs[k])
        return F.cross_entropy(query @ document.T, torch.arange(batch_size))

    def step() -> None:
        engine.accumulate({name: partial(loss, k) for k, name in enumerate(names)})
        for p in trained:
            p.grad = None

    return step, sum(p.numel() for p in trained)


def _peak_bytes(step: Callable[[], None]) -> int:
    """Return the most that torch's allocator holds during a step, over what it held before.

    Counted from the allocator's own events: the resident size of a process keeps what was freed.
    """
    from torch.profiler import ProfilerActivity, profile

    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory(prefix="mogrid-") as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    changes = sorted((e["ts"], i, e["args"]["Bytes"]) for i, e in enumerate(events) if e.get("name") == "[memory]")
    held = peak = 0
    for _, _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the profiler's C++ side writes to the standard error away from the terminal."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
