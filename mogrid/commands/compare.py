"""Compare retrievers by what any tool wrote of them: differences per query, their intervals, paired tests.

Files may be evaluations of mogrid, TREC runs, predictions or CSV files of sentence-transformers, result files of MTEB,
and values per query of trec_eval, ir_measures or pytrec_eval. Each is compared with the first; p-values are of a
randomisation test, Holm-corrected over the whole table. Where a file has no values per query, means alone are compared.

example: mogrid compare base.run tuned.run --qrels qrels/test.tsv
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mogrid.evaluation import Comparison

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="results, each compared with the first")
    parser.add_argument("--qrels", type=Path, metavar="FILE", help="judgements that runs are measured by")
    parser.add_argument("--groups", type=Path, metavar="FILE", help="query id, tab, group: rows of each group, too")
    parser.add_argument("--measure", action="append", metavar="NAME", help="only this one, such as nDCG@10; repeatable")
    parser.add_argument("--system", default="model", help="of an evaluation: model, BM25 or 'BM25 + model'")
    parser.add_argument("--common", action="store_true", help="compare over the queries that both files have")
    parser.add_argument("--seed", type=int, default=0, help="of intervals and tests (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")


def run(arguments: argparse.Namespace) -> int:
    from mogrid.evaluation import compare_files

    found = compare_files(
        arguments.files,
        qrels=arguments.qrels,
        groups=arguments.groups,
        measures=arguments.measure,
        common=arguments.common,
        system=arguments.system,
        seed=arguments.seed,
    )
    if arguments.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        _show(found)
    return 0


def _show(found: Comparison) -> None:
    from mogrid.report.table import Table, cell, mark, printer

    several = {row.second for row in found.rows}
    rows = []
    for row in found.rows:
        tested = row.low is not None and row.high is not None and row.p_value is not None
        sign = mark(row.difference, row.p_value) if row.p_value is not None else ""
        half = (row.high - row.low) / 2 if row.low is not None and row.high is not None else None
        half = None if row.queries == 1 else half  # one query has nothing to resample
        where = row.place + ("" if row.group == "all" else f", {row.group}" if row.place else row.group)
        rows.append(
            (
                where or "all queries",
                *([row.second] if len(several) > 1 else []),
                row.measure,
                "" if row.queries is None else f"{row.queries:,}",
                cell(row.before),
                cell(row.after),
                cell(row.difference, half, mark=sign),
                f"{row.p_value:.4f}" if tested else "",
            )
        )
    first = found.rows[0]
    columns = ["set", *(["B"] if len(several) > 1 else []), "measure", "queries", "of A", "of B", "B - A", "p"]
    title = f"A: {first.first}" + ("" if len(several) > 1 else f"\nB: {first.second}")
    note = "± half of a 95 % interval over queries; ▲ ▼ higher or lower (paired randomisation, Holm-corrected, p < .05)"
    printer().print(Table(title, columns, rows, note, left=frozenset({0, 1} if len(several) == 1 else {0, 1, 2})))
    for line in found.notes:
        print(line)
