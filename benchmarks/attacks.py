"""How fast the five-flip attack is against a loop over documents, and what every attack does to a real retriever.

    python -m benchmarks.attacks

The victim is a small encoder trained here for a minute on the embedded data. *Speed*: the same attack, all documents
together, one document at a time, and one text at a time, in turn; outcomes are compared, too. *Attacks*: conditional
SR@10 and nDCG@10 on test-role data, white-box, and crafted on another seed's encoder.
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

import numpy as np
import torch

from mogrid.attacks import CorpusPoisoning, EmbeddingNeighbourFlips, HotFlip, QueryStuffing, Target
from mogrid.attacks.flips import Words, _guess, climb
from mogrid.commands._common import quiet
from mogrid.data import Domain, Role, embedded_collection
from mogrid.evaluation import attack_success, poisoning_success
from mogrid.files import write_json
from mogrid.report.table import Table, cell, printer
from mogrid.retrieval import encode, encode_split
from mogrid.runs import versions
from mogrid.training import Recipe, materials
from mogrid.training.fit import build_base, fit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print both parts and write them as JSON; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attacks.json"))
    arguments = parser.parse_args(argv)
    quiet()
    torch.set_num_threads(1)
    collection = embedded_collection()
    victim, other = (_trained(seed) for seed in (0, 1))
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


def _trained(seed: int) -> SentenceTransformer:
    recipe = {
        "seed": seed,
        "model": {"size": "1x32", "dropout": 0.0},
        "objectives": {"effectiveness": {"datasets": ["botocore"]}},
        "training": {"steps": 300, "batch_size": 48, "learning_rate": 1.5e-2, "warmup": 0.05},
    }
    given = materials(Recipe.model_validate(recipe), Path())
    model = build_base(given.recipe, given.datasets, given.base)
    with tempfile.TemporaryDirectory(prefix="mogrid-") as scratch:
        fit(given.recipe, model, given.datasets, Path(scratch) / "training", 300)
    return model.eval()


def _speed(model: SentenceTransformer, source: Domain, documents: int, rounds: int) -> dict[str, Any]:
    found = attack_success(model, source, Role.TEST, EmbeddingNeighbourFlips(), targets=documents)
    texts = [source.corpus[outcome.document] for outcome in found.outcomes]
    asked = [source.split(Role.TEST).queries[outcome.query] for outcome in found.outcomes]
    attack, rng = EmbeddingNeighbourFlips(), np.random.default_rng(0)

    def by_document() -> list[str]:
        words = Words(model)  # what a loop, too, finds out once
        return [
            climb(words, [t], encode(model, [q], "query"), attack.flips, attack.candidates)[0]
            for t, q in zip(texts, asked, strict=True)
        ]

    ways = {
        "together": lambda: attack.perturb(texts, Target(model, asked), rng),
        "one document at a time": by_document,
        "one text at a time": lambda: _plain_loop(model, attack, texts, asked),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            made[name] = way()
            seconds[name].append(time.perf_counter() - started)
    base = seconds["together"]
    return {
        "success_rate": found.success_rate,
        "documents": len(texts),
        "ways": {
            name: {
                "documents_per_second": len(texts) / statistics.median(own),
                "ratio": statistics.median(b / a for a, b in zip(base, own, strict=True)),
                "same_texts": sum(a == b for a, b in zip(made["together"], made[name], strict=True)),
            }
            for name, own in seconds.items()
        },
        "target": 2.0,
    }


def _plain_loop(model: SentenceTransformer, attack: Any, texts: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Attack as one writes it down: document after document, guess after guess, sentence-transformers' encode."""
    words, done = Words(model), []
    for document, question in zip(texts, asked, strict=True):
        query = model.encode_query([question], show_progress_bar=False)
        score = (model.encode_document([document], show_progress_bar=False) @ query.T).item()
        text, flipped = document, set[int]()
        for _ in range(attack.flips):
            guesses = _guess(words, [text], query, [flipped], attack.candidates)
            reached = [(model.encode_document([g.text], show_progress_bar=False) @ query.T).item() for g in guesses]
            if reached and max(reached) > score:
                best = guesses[reached.index(max(reached))]
                score, text = max(reached), best.text
                flipped.add(best.word)
        done.append(text)
    return done


def _attacks(
    model: SentenceTransformer, other: SentenceTransformer, source: Domain, targets: int
) -> list[dict[str, Any]]:
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
            found = {name: getattr(result, name) for name in ("attack", "knowledge", "budget", "seconds")}
            found |= {"success": result.success_rate, "boost": result.median_boost, "perturbed": result.perturbed}
            rows.append({**found, "ndcg": list(ndcg)})
        for passages in (1, 10):
            poisoned = poisoning_success(
                model, source, Role.TEST, CorpusPoisoning(passages, flips=60), encoded=encoded, crafted_on=crafted_on
            )
            clean = statistics.fmean(poisoned.clean.values())
            found = {name: getattr(poisoned, name) for name in ("attack", "knowledge", "budget", "seconds")}
            found |= {"success": poisoned.success_rate(), "boost": None, "perturbed": None}
            rows.append({**found, "ndcg": [clean, poisoned.robust_ndcg]})
    return rows


def _show(record: dict[str, Any]) -> None:
    speed = record["speed"]
    print(f"five flips, {speed['documents']} documents, one thread:")
    for name, row in speed["ways"].items():
        print(
            f"  {name:24s} {row['documents_per_second']:6.1f} documents/s, together is {row['ratio']:.2f}x as fast; "
            f"{row['same_texts']} texts the same"
        )
    rows = []
    for row in record["attacks"]:
        boost = "" if row["boost"] is None else f"{row['boost']:.0f}"
        name = f"{row['attack']}: {row['budget'].split(',')[0]}"
        values = (cell(row["success"], digits=2), boost, *map(cell, row["ndcg"]), f"{row['seconds']:.1f}")
        rows.append((name, row["knowledge"], *values))
    columns = ("attack", "knowledge", "SR@10", "boost", "nDCG@10", "attacked", "s")
    printer().print(Table("", columns, rows, left=frozenset({0, 1})))


if __name__ == "__main__":
    raise SystemExit(main())
