"""Describe and check data sets: sizes, roles, what was left out, what caps a score, the fingerprint that runs record.

DIR is a folder of data sets with a domains.yaml, or one data set; without it, the embedded data. With --leaks, select-
and test-role text is held against all training text by MinHash, and near-duplicates are counted.

example: mogrid data ~/beir --domains domains.yaml --leaks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.commands._common import load_collection
from mogrid.errors import ConfigError

if TYPE_CHECKING:
    from mogrid.data import Collection, Domain, Role

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", type=Path, metavar="DIR", help="folder of data sets (default: embedded)")
    parser.add_argument("--domains", type=Path, metavar="YAML", help="what is what (default: DIR/domains.yaml)")
    parser.add_argument("--leaks", action="store_true", help="count near-duplicates between training and measured text")
    parser.add_argument("--threshold", type=float, default=0.8, help="Jaccard similarity of word triples (default: .8)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.data import Role, leak_report
    from mogrid.progress import status
    from mogrid.report.table import Table, printer

    with status(Console(stderr=True), "reading the data") as stage:
        collection = load_collection(arguments)
        report = None
        if arguments.leaks:
            if not collection.with_role(Role.TRAIN):
                raise ConfigError("--leaks: there is no training data that anything could be leaked from")
            stage.say("looking for near-duplicates")
            report = leak_report(collection, threshold=arguments.threshold)
    splits = [_split(domain, role) for domain in collection.domains for role in domain.splits]
    labels = [row[1] for row in collection.summary()]
    if arguments.json:
        record = {
            "fingerprint": collection.fingerprint,
            "splits": [{**split, "role": label} for split, label in zip(splits, labels, strict=True)],
            "left_out": {domain.name: dict(domain.dropped) for domain in collection.domains if domain.dropped},
            "leaks": None if report is None else report.to_json(),
        }
        print(json.dumps(record, indent=1))
        return 0
    columns = ("domain", "role", "documents", "queries", "judgements")
    shown = [
        (split["domain"], label, *(f"{split[column]:,}" for column in columns[2:]))
        for split, label in zip(splits, labels, strict=True)
    ]
    console = printer()
    console.print(Table(f"data {collection.fingerprint[:12]}", columns, shown, left=frozenset({0, 1})))
    for line in [*_left_out(collection), *(note for split in splits for note in _notes(split))]:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if report is not None:
        console.print(f"\nnear-duplicates of training text (similarity ≥ {report.threshold:g}): {report.leaks}")
        for key, (found, total) in report.counts.items():
            if found:
                console.print(f"  {key}: {found} of {total:,}", soft_wrap=True)
                for measured, trained, similarity in report.examples[key]:
                    line = f"    {similarity:.2f}  {measured[:60]!r} / {trained[:60]!r}"
                    console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 0


def _split(domain: Domain, role: Role) -> dict[str, Any]:
    """Return what there is to say of a split, by name."""
    from mogrid.evaluation.measures import ceiling
    from mogrid.retrieval.splits import equal_texts, queries_in_corpus

    split = domain.split(role)
    copies = equal_texts(domain.corpus)
    copied = {*copies, *copies.values()}
    return {
        "domain": domain.name,
        "role": str(role),
        "documents": len(domain.corpus),
        "queries": len(split.queries),
        "judgements": sum(len(judged) for judged in split.qrels.values()),
        "copies": len(copies),
        "queries_with_copies": sum(
            any(relevance > 0 and document in copied for document, relevance in judged.items())
            for judged in split.qrels.values()
        ),
        "ceiling": ceiling(split.qrels, copies),
        "queries_in_corpus": len(queries_in_corpus(split.queries, domain.corpus, split.qrels)),
        "variants": sorted(split.variants),
    }


def _left_out(collection: Collection) -> Iterator[str]:
    for domain in collection.domains:
        if domain.dropped:
            what = ", ".join(f"{count:,} {name}" for name, count in domain.dropped.items())
            yield f"{domain.name}: left out: {what}"


def _notes(split: dict[str, Any]) -> Iterator[str]:
    where = f"{split['domain']}, {split['role']}"
    if split["ceiling"] < 0.9995:
        yield (
            f"{where}: relevant documents of {split['queries_with_copies']:,} queries have exact copies in the corpus "
            f"({split['copies']:,} copies in all): nDCG@10 cannot pass {split['ceiling']:.3f}"
        )
    if split["queries_in_corpus"]:
        yield (
            f"{where}: {split['queries_in_corpus']:,} queries stand in the corpus under their own id, and are no "
            "results of their own"
        )
    if split["variants"]:
        yield f"{where}: queries are also there as written by others: {', '.join(split['variants'])}"
