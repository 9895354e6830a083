"""How fast the five-flip attack is against a loop over documents, and what every attack does to a real retriever.

    python -m benchmarks.attacks

The victim is a small encoder trained here for a minute on the embedded data. *Speed*: the same attack, all documents
together and one at a time, in turn; outcomes are compared, too. *Attacks*: conditional SR@10 and nDCG@10 on test-role
data, white-box, and crafted on another seed's encoder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.data import Domain

__all__ = ["main"]

_BUDGET = 1e11
_WEIGHTS = [{"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]


def main(argv: Sequence[str] | None = None) -> int:
    """Print both parts and write them as JSON; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attacks.json"))
    arguments = parser.parse_args(argv)
    from benchmarks.dpr import _quiet

    _quiet()
    import torch

    torch.set_num_threads(1)
    from mogrid.experiment.cells import DataSource
    from mogrid.runs import versions
    from mogrid.state import write_json

    collection = DataSource().load()
    victim, other = (_trained(collection, seed) for seed in (0, 1))
    record = {
        "command": "python -m benchmarks.attacks",
        "setting": {"documents": arguments.documents, "rounds": arguments.rounds, "threads": 1, "encoder": "1x32"},
        "versions": versions(),
        "data": collection.fingerprint,
        "speed": _speed(victim, collection.source, arguments.documents, arguments.rounds),
        "attacks": _attacks(victim, other, collection.source, arguments.documents),
    }
    write_json(arguments.out, record)
    _show(record)
    return 0


def _trained(collection: Any, seed: int) -> SentenceTransformer:
    from mogrid.experiment.cells import fixed, new_model
    from mogrid.experiment.settings import ExperimentSettings
    from mogrid.experiment.training import train, training_datasets

    settings = ExperimentSettings.model_validate(
        {
            "encoder": {"size": "1x32", "towers": 1, "dropout": 0.0},
            "training": {"budget": _BUDGET, "batch_size": 48, "learning_rate": 1.5e-2, "warmup": 0.05},
            "weights": _WEIGHTS,
        }
    )
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        model = new_model(collection, settings, Path(scratch), seed)
        datasets = training_datasets(collection, settings, seed)
        only = fixed({"effectiveness": 1.0, "ood": 0.0, "adversarial": 0.0})
        train(model, datasets, settings, only, steps=300, seed=seed, folder=Path(scratch) / "training")
    return model.eval()


def _speed(model: SentenceTransformer, source: Domain, documents: int, rounds: int) -> dict[str, Any]:
    import numpy as np

    from mogrid.attacks import EmbeddingNeighbourFlips, Target, attack_success
    from mogrid.attacks.flips import Words, climb
    from mogrid.data import Role
    from mogrid.evaluation import encode

    found = attack_success(model, source, Role.TEST, EmbeddingNeighbourFlips(), targets=documents)
    texts = [source.corpus[outcome.document] for outcome in found.outcomes]
    asked = [source.split(Role.TEST).queries[outcome.query] for outcome in found.outcomes]
    attack, rng = EmbeddingNeighbourFlips(), np.random.default_rng(0)
    ratios, ours, theirs = [], [], []
    same = 0
    for _ in range(rounds):
        started = time.perf_counter()
        together = attack.perturb(texts, Target(model, asked), rng)
        middle = time.perf_counter()
        words = Words(model)  # what a loop, too, would find out once
        apart = [
            climb(words, [t], encode(model, [q], "query"), attack.flips, attack.candidates)[0]
            for t, q in zip(texts, asked, strict=True)
        ]
        ours.append(middle - started)
        theirs.append(time.perf_counter() - middle)
        ratios.append(theirs[-1] / ours[-1])
        same = sum(a == b for a, b in zip(together, apart, strict=True))
    return {
        "documents": len(texts),
        "documents_per_second": len(texts) / statistics.median(ours),
        "one_at_a_time_per_second": len(texts) / statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "same_texts": same,
        "success_rate": found.success_rate,
        "target": 2.0,
    }


def _attacks(
    model: SentenceTransformer, other: SentenceTransformer, source: Domain, targets: int
) -> list[dict[str, Any]]:
    from mogrid.attacks import (
        CorpusPoisoning,
        EmbeddingNeighbourFlips,
        HotFlip,
        QueryStuffing,
        attack_success,
        poisoning_success,
    )
    from mogrid.data import Role
    from mogrid.evaluation import encode_split

    encoded = encode_split(model, source, Role.TEST)
    rows = []
    for crafted_on in (None, other):
        for attack in (QueryStuffing(), EmbeddingNeighbourFlips(1), EmbeddingNeighbourFlips(), HotFlip()):
            if crafted_on is not None and not attack.white_box:
                continue
            result = attack_success(
                model, source, Role.TEST, attack, targets=targets, encoded=encoded, crafted_on=crafted_on
            )
            ndcg = result.robust_ndcg or (float("nan"),) * 2
            rows.append(
                {
                    "attack": result.attack,
                    "knowledge": result.knowledge,
                    "budget": result.budget,
                    "success": result.success_rate,
                    "boost": result.median_boost,
                    "perturbed": result.perturbed,
                    "ndcg": list(ndcg),
                    "seconds": result.seconds,
                }
            )
        for passages in (1, 10):
            poisoned = poisoning_success(
                model, source, Role.TEST, CorpusPoisoning(passages, flips=60), encoded=encoded, crafted_on=crafted_on
            )
            clean = statistics.fmean(poisoned.clean.values())
            rows.append(
                {
                    "attack": poisoned.attack,
                    "knowledge": poisoned.knowledge,
                    "budget": poisoned.budget,
                    "success": poisoned.success_rate(),
                    "boost": None,
                    "perturbed": None,
                    "ndcg": [clean, poisoned.robust_ndcg],
                    "seconds": poisoned.seconds,
                }
            )
    return rows


def _show(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    speed = record["speed"]
    print(
        f"five flips: {speed['documents_per_second']:.1f} documents a second together, "
        f"{speed['one_at_a_time_per_second']:.1f} one at a time: {speed['ratio']:.2f}x; "
        f"{speed['same_texts']} of {speed['documents']} texts the same"
    )
    table = Table("attack", "knowledge", "SR@10", "boost", "nDCG@10", "attacked", "s", show_edge=False)
    for row in record["attacks"]:
        boost = "" if row["boost"] is None else f"{row['boost']:.0f}"
        clean, attacked = row["ndcg"]
        table.add_row(
            f"{row['attack']}: {row['budget'].split(',')[0]}", row["knowledge"], f"{row['success']:.2f}", boost,
            f"{clean:.3f}", f"{attacked:.3f}", f"{row['seconds']:.1f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
