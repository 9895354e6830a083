"""How fast texts become embeddings and embeddings become rankings, against named peers in one run.

    python -m benchmarks.encode [--model FOLDER]

Encoding: `mogrid.retrieval.encode`, sentence-transformers' `encode` and a hand-written loop that sorts by length, in
turn on the same texts. Search: `mogrid.retrieval.search` and faiss's IndexFlatIP as shipped, in turn on the same
vectors; the results must equal brute force.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__all__ = ["main"]

BATCH = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Run both parts, print ratios, write the record; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encode", description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder or Hub id; a from-scratch 2x128 when left out")
    parser.add_argument("--documents", type=int, default=16_000)
    parser.add_argument("--peer-documents", type=int, default=2_000, help="texts that the peers encode too")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/encode.json"))
    arguments = parser.parse_args(argv)
    import torch

    from mogrid.data import embedded_collection
    from mogrid.files import write_json
    from mogrid.runs import versions

    torch.set_num_threads(arguments.threads)
    domain = embedded_collection().source
    model = _model(arguments.model)
    corpus = list(domain.corpus.values())[: arguments.documents]
    queries = list(next(iter(domain.splits.values())).queries.values())[:1000]
    whole = _encode_and_search(model, corpus, queries)
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.encode {' '.join(argv if argv is not None else sys.argv[1:])}".strip(),
        "versions": versions(),
        "threads": arguments.threads,
        "encode_and_search": whole,
        "encode": _peers(model, corpus[: arguments.peer_documents], arguments.rounds),
        "search": _search_peers(arguments.rounds),
    }
    write_json(arguments.out, record)
    print(f"encode {whole['documents']:,} documents and search {whole['queries']:,} queries: {whole['seconds']:.1f} s")
    for part in ("encode", "search"):
        for name, row in record[part].items():
            print(f"{part:7} {name:34} {row['rate']:9.1f} /s   {row['ratio']:.3f} of mogrid's time")
    return 0


def _model(path: str | None) -> Any:
    from mogrid.data import embedded_collection, training_pairs
    from mogrid.retrieval.models import build_retriever, load_retriever, train_tokenizer

    if path is not None:
        return load_retriever(path, towers=1, pooling="mean", max_length=128)
    rows = training_pairs(embedded_collection().source)
    tokenizer = train_tokenizer([*rows["query"][:], *rows["document"][:]], 8192, 128)
    with tempfile.TemporaryDirectory() as folder:  # a tokenizer as users have it: saved and loaded
        from transformers import AutoTokenizer

        tokenizer.save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder)
    return build_retriever("2x128", loaded, towers=1, pooling="mean", dropout=0.0, seed=0)


def _encode_and_search(model: Any, corpus: Sequence[str], queries: Sequence[str]) -> dict[str, float]:
    from mogrid.retrieval import encode, search

    started = time.perf_counter()
    documents = encode(model, corpus, "document")
    search(encode(model, queries, "query"), documents, 1000)
    return {"documents": len(corpus), "queries": len(queries), "seconds": time.perf_counter() - started}


def _peers(model: Any, texts: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    from mogrid.retrieval import encode

    def shipped() -> Any:
        return model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)

    ways: dict[str, Callable[[], Any]] = {
        "mogrid": lambda: encode(model, texts, "document"),
        "sentence-transformers": shipped,
        "length-sorted loop": lambda: _sorted_loop(model, texts),
    }
    reference = shipped()
    for name, way in ways.items():
        error = float(np.abs(way() - reference).max())
        if error > 1e-4:
            raise SystemExit(f"{name}: embeddings differ from sentence-transformers' by {error:.1e}")
    return _interleaved(ways, rounds, len(texts))


def _sorted_loop(model: Any, texts: Sequence[str]) -> np.ndarray:
    """Encode as someone who reads the manual would: tokenise, sort by tokens, batches of a fixed size."""
    import torch

    model.eval()
    ids = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
    order = sorted(range(len(texts)), key=lambda i: -len(ids[i]))
    rows = []
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            batch = model.tokenizer.pad(
                {"input_ids": [ids[i] for i in order[start : start + BATCH]]}, return_tensors="pt"
            )
            rows.append(model(dict(batch))["sentence_embedding"].numpy())
    result = np.empty((len(texts), rows[0].shape[1]), np.float32)
    result[order] = np.concatenate(rows)
    return result


def _search_peers(rounds: int, size: int = 100_000, width: int = 384, count: int = 300, k: int = 100) -> dict[str, Any]:
    """Search as evaluation does, a few hundred queries at once: there faiss as shipped keeps to plain loops."""
    import faiss

    from mogrid.retrieval import search

    rng = np.random.default_rng(0)
    documents = rng.standard_normal((size, width), dtype=np.float32)
    queries = rng.standard_normal((count, width), dtype=np.float32)
    index = faiss.IndexFlatIP(width)
    index.add(documents)
    scores = queries.astype(np.float64) @ documents.astype(np.float64).T
    exact = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = search(queries, documents, k)[1]
    if not np.array_equal(found, exact):
        places = float((found != exact).mean())
        worst = float(np.abs(np.take_along_axis(scores, found, 1) - np.take_along_axis(scores, exact, 1)).max())
        if worst > 1e-4:  # float32 may swap neighbours whose float64 scores differ by less
            raise SystemExit(f"search differs from brute force at {places:.1%} of the places, by up to {worst:.1e}")
    ways = {
        "mogrid": lambda: search(queries, documents, k),
        "faiss IndexFlatIP as shipped": lambda: index.search(queries, k),
    }
    return _interleaved(ways, rounds, count)


def _interleaved(ways: Mapping[str, Callable[[], Any]], rounds: int, count: int) -> dict[str, dict[str, float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    base = seconds["mogrid"]
    return {
        name: {
            "seconds": statistics.median(values),
            "rate": count / statistics.median(values),
            "ratio": statistics.median(value / own for value, own in zip(values, base, strict=True)),
        }
        for name, values in seconds.items()
    }


if __name__ == "__main__":
    sys.exit(main())
