"""Judge any retriever in domain and out of it, on clean and perturbed queries, beside BM25 and fused with it.

Measures are nDCG@10, RR@10, R@100 with 95 % intervals over queries, and contrastive entropy at a temperature that is
calibrated on select-role data. Ties count against the system.

A single data set needs no file of domains: mogrid evaluate ./my-model --data ~/beir/scifact

example: mogrid evaluate ./my-model --data ~/beir --domains domains.yaml --role test --out evaluation.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.commands._common import (
    ROLES,
    add_judged,
    check_places,
    check_samples,
    load_collection,
    load_model,
    parse_settings,
    quiet,
)
from mogrid.errors import ConfigError, MogridError, nearest

if TYPE_CHECKING:
    from mogrid.attacks.base import Attack
    from mogrid.data import Collection, Role
    from mogrid.evaluation import Evaluation

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_judged(parser)
    parser.add_argument("--role", help="select while anything may be chosen, test once at the end (default: select, "
                        "or test of data without a select split)")  # fmt: skip
    parser.add_argument(
        "--perturb", action="append", metavar="NAME[:KEY=VALUE,...]",
        help="perturb queries, such as misspellings or typos:kinds=[swap]; with +spelling, judge them after a spell "
        "checker, too; none for clean ones alone (default: typos)",
    )  # fmt: skip
    parser.add_argument("--no-baselines", action="store_true", help="leave BM25 and the fusion with it out")
    parser.add_argument("--max-queries", type=int, metavar="N", help="judge at most so many queries of a set")
    parser.add_argument(
        "--max-documents", type=int, metavar="N",
        help="search at most so many documents beside the relevant ones; values are higher than over all",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of perturbations and negatives (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the whole record as JSON")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw nDCG@10 by domain and system")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="write TREC run files")
    parser.add_argument("--json", action="store_true", help="print the rows of the table as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.role is not None and arguments.role not in ROLES:
        raise ConfigError(f"--role {arguments.role!r}{nearest(arguments.role, ROLES)}")
    check_samples(arguments)
    check_places(arguments, "out", "figure", folder="runs")
    quiet()
    from rich.console import Console

    from mogrid.data import Role
    from mogrid.evaluation import Cell, evaluate_retriever, write_run
    from mogrid.progress import Progress, status

    console, failed = Console(stderr=True), list[Exception]()
    with status(console, "reading the data"):
        collection = load_collection(arguments)
    role = Role(arguments.role or ("select" if collection.with_role(Role.SELECT) else "test"))
    if not collection.with_role(role):
        raise ConfigError(f"no data set has a {role} split to judge on")
    perturbations = _perturbations(arguments.perturb, role)
    if arguments.runs is not None:
        _check_names(collection, role)
    with status(console, "loading the model"):
        model = load_model(arguments)

    def write(cell: Cell) -> None:
        # What was judged so far is worth its table, whether or not it can be written.
        try:
            if arguments.runs is not None and not failed:
                write_run(arguments.runs / f"{cell.domain.name}.{role}.{cell.condition}.run", cell.run)
        except (OSError, MogridError) as error:
            failed.append(error)

    with Progress(console, "judging", total=1.0) as bar:
        result = evaluate_retriever(
            model,
            collection,
            role,
            name=arguments.model,
            perturbations=perturbations,
            baselines=not arguments.no_baselines,
            max_queries=arguments.max_queries,
            max_documents=arguments.max_documents,
            seed=arguments.seed,
            observe=write,
            progress=lambda what, share: bar.update(share, said=what),
        )
    if arguments.json:
        print(json.dumps(result.rows(), indent=1), flush=True)
    else:
        _show(result, sampled=arguments.max_queries is not None or arguments.max_documents is not None)
    if result.collapsed:
        print("mogrid: embeddings tie, or lie near one line: the model has collapsed", file=sys.stderr)
    if failed:
        raise failed[0]
    if arguments.out is not None:
        result.save(arguments.out)
    if arguments.figure is not None:
        from mogrid.report.figures.systems import plot_systems

        plot_systems(arguments.figure, result.rows(), f"{result.model}: {result.role} data")
    return 0


def _check_names(collection: Collection, role: Role) -> None:
    """Raise before anything is encoded where runs could not be written after all."""
    from mogrid.evaluation.trec import check_ids

    for domain in collection.with_role(role):
        if "/" in domain.name:
            raise ConfigError(f"--runs: a set called {domain.name!r} cannot be part of a file's name")
        check_ids(domain.split(role).queries, f"--runs, queries of {domain.name}")
        check_ids(domain.corpus, f"--runs, documents of {domain.name}")


def _perturbations(given: list[str] | None, role: Role) -> dict[str, Attack]:
    from mogrid.attacks import ATTACKS, Corrected
    from mogrid.attacks.registry import attack_for

    if given == ["none"]:
        return {}
    found: dict[str, Attack] = {}
    for text in given if given is not None else ["typos"]:
        plain, plus, checked = text.partition("+")
        name, _, settings = plain.partition(":")
        if name in ATTACKS and ATTACKS[name][0] != "queries":
            raise ConfigError(f"--perturb {name}: it attacks {ATTACKS[name][0]}; see mogrid attack")
        attack = attack_for({"name": name, **parse_settings(_split(settings))}, role)
        found[plain.replace("/", "-")] = attack
        if plus:
            checker, _, language = checked.partition("=")
            if checker != "spelling":
                raise ConfigError(
                    f"--perturb {text}: after + stands 'spelling', or 'spelling=LANGUAGE', got {checked!r}"
                )
            found[text.replace("/", "-")] = Corrected(attack, language or "en", drawn_as=plain.replace("/", "-"))
    return found


def _split(settings: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for letter in settings:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def _show(result: Evaluation, *, sampled: bool) -> None:

    from mogrid.report.table import Table, cell, mark, printer

    rows: list[tuple[str, ...]] = []
    bm25 = {(row["domain"], row["condition"]): row["ndcg"] for row in result.rows() if row["system"] == "BM25"}
    for row in result.rows():
        low, high = row["ndcg_interval"]
        p = row["p_against_bm25"]
        sign = "" if p is None else mark(row["ndcg"] - bm25[row["domain"], row["condition"]], p)
        changed = "" if row["changed"] is None else f", {row['condition']} ({row['changed']:.0%})"
        half = (high - low) / 2 if row["queries"] > 1 else None  # one query has nothing to resample
        ndcg = cell(row["ndcg"], half, mark=sign)
        entropy = "" if row["ce"] is None else cell(row["ce"], digits=2)
        name = f"{row['domain']}{changed}"
        rows.append((name, f"{row['queries']:,}", row["system"], ndcg, cell(row["rr"]), cell(row["recall"]), entropy))
    columns = ("domain", "queries", "system", "nDCG@10", "RR@10", "R@100", "CE")
    title = f"{result.model}: {result.role} data {result.data[:12]}{', a sample' if sampled else ''}"
    note = "± half of a 95 % interval over queries; ▲ ▼ better or worse than BM25 (paired, Holm-corrected, p < .05)"
    if any(row["changed"] is not None for row in result.rows()):
        note += "; in brackets the share of queries that a perturbation changed"
    printer().print(Table(title, columns, rows, note, left=frozenset({0, 2})))
    for system, values in result.summary().items():
        print(f"{system}: " + ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in values.items()))
    for line in result.notes():
        print(line)
    sys.stdout.flush()
