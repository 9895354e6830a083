"""nDCG@10 beside that of sentence-transformers' evaluator and of pytrec_eval, on any folders of data sets.

    python -m benchmarks.agreement FOLDER [FOLDER ...]

For a model that compares by cosine without a Normalize module, by inner product, and by cosine of its first dimensions.
sentence-transformers knows no grades, and so is compared over judgements without. Neither counts ties against the
system, and so documents that read the same to the model are left out but for the first. Ends with 1 where a set differs
by 1e-6.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

__all__ = ["main"]

KINDS = {"cosine": ("cosine", None), "dot": ("dot", None), "truncated": ("cosine", 96)}


def main(argv: Sequence[str] | None = None) -> int:
    """Judge every set three times by three judges, print differences; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="a data set, with a test split")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--layers", type=int, default=2, help="kept of the model (default: 2)")
    parser.add_argument("--max-length", type=int, default=48, help="tokens read of a text (default: 48)")
    parser.add_argument("--queries", type=int, default=100, help="of a set, at most (default: 100)")
    parser.add_argument("--documents", type=int, default=500, help="beside the judged ones, at most (default: 500)")
    arguments = parser.parse_args(argv)
    from sentence_transformers import SimilarityFunction

    from mogrid.data import Role, read_domain
    from mogrid.evaluation.sample import sample_domain
    from mogrid.retrieval.pretrained import load_retriever
    from mogrid.retrieval.thinning import thin

    model = load_retriever(arguments.model, max_length=arguments.max_length)
    thin(model, arguments.layers)
    del model[2:]  # Normalize
    worst = 0.0
    print(f"{'set':18} {'similarity':10} {'nDCG@10':>8}  {'to ST':>8}  {'to trec_eval':>12}")
    for folder in arguments.folders:
        domain = sample_domain(read_domain(folder, {Role.TEST: "test"}), arguments.queries, arguments.documents)
        for kind, (function, width) in KINDS.items():
            model.similarity_fn_name, model.truncate_dim = SimilarityFunction(function), width
            ours, theirs, trec = _differences(model, domain, function)
            worst = max(worst, theirs, trec)
            print(f"{domain.name:18} {kind:10} {ours:8.5f}  {theirs:8.1e}  {trec:12.1e}", flush=True)
    print(f"worst {worst:.1e}")
    return int(worst >= 1e-6)


def _differences(model: Any, domain: Any, function: str) -> tuple[float, float, float]:
    """Return our mean, how far sentence-transformers' mean is off, and how far trec_eval's worst query is."""
    import pytrec_eval
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    from mogrid.data import Role
    from mogrid.evaluation import evaluate_embeddings
    from mogrid.retrieval import encode_split

    twins = encode_split(model, domain, Role.TEST).twins
    corpus = {document: text for document, text in domain.corpus.items() if document not in twins}
    split = domain.split(Role.TEST)
    qrels = {q: {d: r for d, r in judged.items() if d in corpus} for q, judged in split.qrels.items()}
    qrels = {q: judged for q, judged in qrels.items() if any(r > 0 for r in judged.values())}
    queries = {q: split.queries[q] for q in qrels}
    split = replace(split, queries=queries, qrels=qrels)
    encoded = encode_split(model, replace(domain, corpus=corpus, splits={Role.TEST: split}), Role.TEST)

    found = evaluate_embeddings(encoded).ndcg
    vectors = model.encode_query(list(queries.values())), model.encode_document(list(corpus.values()))
    scores = model.similarity(*vectors).numpy()
    run = {q: dict(zip(corpus, row, strict=True)) for q, row in zip(queries, scores.tolist(), strict=True)}
    trec = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    off = max(abs(found[query] - values["ndcg_cut_10"]) for query, values in trec.items())

    relevant = {q: {d for d, r in judged.items() if r > 0} for q, judged in qrels.items()}
    plain = {q: dict.fromkeys(own, 1) for q, own in relevant.items()}
    theirs = InformationRetrievalEvaluator(
        queries, corpus, relevant, ndcg_at_k=[10], mrr_at_k=[10], accuracy_at_k=[1], precision_recall_at_k=[1],
        map_at_k=[1], write_csv=False,
    )(model)[f"{function}_ndcg@10"]  # fmt: skip
    binary = fmean(evaluate_embeddings(replace(encoded, qrels=plain)).ndcg.values())
    return fmean(found.values()), abs(binary - theirs), off


if __name__ == "__main__":
    sys.exit(main())
