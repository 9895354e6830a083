"""Stores of runs of a known law, over any objectives and base models, as a sweep would have written them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mogrid.runs import Result, RunRecord, RunStore, run_name


def label_of(names: Sequence[str], mix: Sequence[float]) -> str:
    """Name a mix as runs do."""
    return f"{names[mix.index(1)]} only" if 1 in mix else "/".join(f"{share:.3g}" for share in mix)


NAMES = ("effectiveness", "ood", "typos", "speed", "german", "long")
MIXES = {
    1: [[1.0]],
    2: [[1, 0], [0.5, 0.5], [0.2, 0.8], [0, 1]],
    3: [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1 / 3] * 3],
}
SOLVERS = ("mgda", "upgrad", "famo", "pcgrad", "cagrad", "nash_mtl", "fairgrad", "aligned_mtl")
MODEL = "mini, {} layers"
WORTH, BASE = 0.4, 800.0


def losses(parameters: float, pairs: np.ndarray) -> np.ndarray:
    """Every objective's loss: pairs of others are worth `WORTH` of an own one, the base brings `BASE`."""
    effective = BASE + WORTH * pairs.sum() + (1 - WORTH) * pairs
    return 0.5 + 20 * parameters**-0.3 + 12 * effective**-0.35


def write_store(
    root: Path,
    count: int = 3,
    *,
    layers: Sequence[int] = (1, 2),
    totals: Sequence[int] = (1280, 2560, 5120),
    seeds: int = 2,
    solvers: Sequence[str] = ("mgda",),
    queries: int = 20,
    judged: bool = True,
) -> RunStore:
    """Write a full grid, with the base model, BM25, a merged model and one run a solver; all at three domains."""
    names = NAMES[:count]
    mixes = MIXES.get(count) or [*np.eye(count).tolist(), np.full(count, 1 / count).tolist()]
    store, rng = RunStore(root), np.random.default_rng(0)

    def results(level: float) -> tuple[Result, ...]:
        found = []
        for domain, role, condition in (
            ("home", "select", "clean"), ("home", "test", "clean"), ("home", "test", "typos"), ("away", "test", "clean"),
        ):  # fmt: skip
            values = {f"q{i}": float(v) for i, v in enumerate(np.clip(level + 0.1 * rng.normal(size=queries), 0, 1))}
            kept = {"ndcg": values, "ce": {q: 3 - v for q, v in values.items()}}
            means = {k: float(np.mean(list(v.values()))) for k, v in kept.items()}
            found.append(Result(domain, role, condition, means, kept, {"home": True} if domain == "home" else {}))
        return tuple(found) if judged else ()

    def add(label, kind, layer, seed, pairs, mix=None, solver="", parents=None, entropy=True) -> RunRecord:
        size = 1.8e6 * layer
        ce = losses(size, pairs) * np.exp(0.01 * rng.normal(size=count))
        ndcg = np.exp(-0.3 * ce)
        values = {
            n: {"ndcg": float(b)} | ({"ce": float(a)} if entropy else {})
            for n, a, b in zip(names, ce, ndcg, strict=True)
        }
        recipe = {
            "objectives": {n: {"datasets": [{"path": f"set-{n}"}]} for n in names},
            "mix": None if mix is None else dict(zip(names, mix, strict=True)),
            "spend": "rows", "seed": seed, "model": {"path": "mini", "layers": layer}, "solver": solver or "fixed",
            "training": {"pairs": int(pairs.sum()) or 2},
        }  # fmt: skip
        record = RunRecord(
            name=run_name(label, seed, f"{layer}-{int(pairs.sum())}"), label=label, kind=kind, seed=seed,
            model="" if kind == "bm25" else MODEL.format(layer), data="d" * 64, recipe=recipe,
            parameters=0 if kind == "bm25" else int(size), mix={} if mix is None else dict(zip(names, mix, strict=True)),
            spend="rows", solver=solver, pairs={n: int(p) for n, p in zip(names, pairs, strict=True)} if solver else {},
            steps=int(pairs.sum()) // 64, flops={"total": 6 * size * 60 * float(pairs.sum())},
            seconds={"training": float(pairs.sum()) / 50}, objectives=values, results=results(float(ndcg.mean())),
            parents=parents or {}, versions={"mogrid": "0"},
        )  # fmt: skip
        store.add(record)
        return record

    nothing = np.zeros(count)
    add("BM25", "bm25", 0.5, 0, nothing, entropy=False)
    for layer in layers:
        add("base", "base", layer, 0, nothing)
        for total in totals:
            for seed in range(seeds):
                for mix in mixes:
                    add(label_of(names, mix), "trained", layer, seed, total * np.array(mix), mix, "fixed")
    even = np.full(count, 1 / count)
    for solver in solvers:
        record = add(solver, "trained", layers[0], 0, totals[-1] * even, even, solver)
        folder = store.folder(record.name)
        folder.mkdir(parents=True)
        lines = [
            {"step": i + 1, **{f"weight/{n}": 1 / count for n in names}}
            | {f"cosine/{a}/{b}": 0.1 for i, a in enumerate(names) for b in names[i + 1 :]}
            for i in range(5)
        ]
        (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        add(f"{solver}, merged", "merged", layers[0], 0, totals[-1] * even, parents={record.name: 0.5, "": 0.5})
    return store


def main() -> None:
    """Say what `mogrid plan` and `mogrid report` take on a store of 400 runs: ``python -m tests.report.stores``."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        totals = (640, 1280, 2560, 5120, 10240, 20480)
        store = write_store(root, layers=(1, 2, 3), totals=totals, seeds=3, solvers=SOLVERS, queries=300)
        print(f"{len(store)} runs of 3 models, 7 mixes, {len(totals)} lengths and 3 seeds, 300 queries a split")
        for command in (
            ["plan", str(root), "--budget", "1e15", "--preference", "ood=2,typos=1"],
            ["report", str(root)],
        ):
            taken = []
            for _ in range(3):
                before = os.times()
                subprocess.run([sys.executable, "-m", "mogrid", *command], check=True, capture_output=True)
                after = os.times()
                taken.append(
                    after.children_user - before.children_user + after.children_system - before.children_system
                )
            print(
                f"mogrid {command[0]}: {min(taken):.1f} s of CPU at best, {max(taken):.1f} s at most, of {len(taken)}"
            )


if __name__ == "__main__":
    main()
