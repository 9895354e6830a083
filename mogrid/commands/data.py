"""Describe and check data sets: sizes, roles, the fingerprint that every run records, and leaks.

Without arguments, the embedded data. With --leaks, select- and test-role text is held against all training text by
MinHash, and near-duplicates are counted.

example: mogrid data ~/beir --domains domains.yaml --leaks
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mogrid.commands._common import load_collection

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", type=Path, metavar="DIR", help="folder of data sets (default: embedded)")
    parser.add_argument("--domains", type=Path, metavar="YAML", help="what is what (default: DIR/domains.yaml)")
    parser.add_argument("--leaks", action="store_true", help="count near-duplicates between training and measured text")
    parser.add_argument("--threshold", type=float, default=0.8, help="Jaccard similarity of word triples (default: .8)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.data import leak_report
    from mogrid.progress import status
    from mogrid.report.table import Table

    with status(Console(stderr=True), "reading the data") as stage:
        collection = load_collection(arguments)
        report = None
        if arguments.leaks:
            stage.say("looking for near-duplicates")
            report = leak_report(collection, threshold=arguments.threshold)
    rows = collection.summary()
    if arguments.json:
        keys = ("domain", "role", "documents", "queries", "judgements")
        record = {
            "fingerprint": collection.fingerprint,
            "splits": [dict(zip(keys, row, strict=True)) for row in rows],
            "leaks": None if report is None else report.to_json(),
        }
        print(json.dumps(record, indent=1))
        return 0
    shown = [(name, role, *(f"{count:,}" for count in counts)) for name, role, *counts in rows]
    columns = ("domain", "role", "documents", "queries", "judgements")
    console = Console()
    console.print(Table(f"data {collection.fingerprint[:12]}", columns, shown, left=frozenset({0, 1})))
    if report is not None:
        console.print(f"\nnear-duplicates of training text (similarity ≥ {report.threshold:g}): {report.leaks}")
        for key, (found, total) in report.counts.items():
            if found:
                console.print(f"  {key}: {found} of {total:,}", soft_wrap=True)
                for measured, trained, similarity in report.examples[key]:
                    line = f"    {similarity:.2f}  {measured[:60]!r} / {trained[:60]!r}"
                    console.print(line, soft_wrap=True, markup=False, highlight=False)
    return 0
