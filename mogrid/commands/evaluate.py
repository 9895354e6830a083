"""Judge any retriever in domain and out of it, on clean and perturbed queries, beside BM25 and fused with it.

Measures are nDCG@10, RR@10, R@100 with 95 % intervals over queries, and contrastive entropy at a temperature that is
calibrated on select-role data. Ties count against the system.

example: mogrid evaluate ./my-model --data ~/beir --domains domains.yaml --role test --out evaluation.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mogrid.commands._common import add_data, add_model, load_collection, load_model, parse_settings, quiet
from mogrid.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mogrid.attacks.base import Attack
    from mogrid.data import Role
    from mogrid.evaluation import Evaluation

__all__ = ["add_arguments", "run"]

_ROLES = ("select", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser)
    parser.add_argument("--role", default="select", help="select while anything may be chosen, test once at the end")
    parser.add_argument(
        "--perturb", action="append", metavar="NAME[:KEY=VALUE,...]",
        help="perturb queries, such as misspellings or typos:kinds=[swap] (default: typos of the role)",
    )  # fmt: skip
    parser.add_argument("--no-baselines", action="store_true", help="leave BM25 and the fusion with it out")
    parser.add_argument("--seed", type=int, default=0, help="of perturbations and negatives (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the whole record as JSON")
    parser.add_argument("--figure", type=Path, metavar="PNG", help="draw nDCG@10 by domain and system")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="write TREC run files")
    parser.add_argument("--json", action="store_true", help="print the rows of the table as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.role not in _ROLES:
        raise ConfigError(f"--role {arguments.role!r}{nearest(arguments.role, _ROLES)}")
    quiet()
    from rich.console import Console

    from mogrid.data import Role
    from mogrid.evaluation import evaluate_retriever

    role = Role(arguments.role)
    perturbations = _perturbations(arguments.perturb, role)
    console = Console(stderr=True)
    with console.status("reading the data") as status:
        collection = load_collection(arguments)
        model = load_model(arguments)
        result = evaluate_retriever(
            model,
            collection,
            role,
            name=arguments.model,
            perturbations=perturbations,
            baselines=not arguments.no_baselines,
            seed=arguments.seed,
            runs=arguments.runs,
            progress=lambda what, share: status.update(f"judging {what}: {share:.0%}"),
        )
    if arguments.out is not None:
        result.save(arguments.out)
    if arguments.figure is not None:
        from mogrid.report.figures.systems import plot_systems

        plot_systems(arguments.figure, result.rows(), f"{result.model}: {result.role} data")
    if arguments.json:
        print(json.dumps(result.rows(), indent=1))
    else:
        _show(result)
    if result.collapsed:
        print("mogrid: embeddings tie, or lie near one line: the model has collapsed", file=sys.stderr)
    return 0


def _perturbations(given: list[str] | None, role: Role) -> dict[str, Attack]:
    from mogrid.attacks import ATTACKS, attack_from_config
    from mogrid.attacks.base import Attack

    found: dict[str, Attack] = {}
    for text in given if given is not None else ["typos"]:
        name, _, settings = text.partition(":")
        if name in ATTACKS and ATTACKS[name][0] != "queries":
            raise ConfigError(f"--perturb {name}: it attacks {ATTACKS[name][0]}; see mogrid attack")
        pairs = _split(settings)
        config: dict[str, Any] = {"name": name, **parse_settings(pairs), "role": str(role)}
        attack = attack_from_config(config)
        assert isinstance(attack, Attack)
        found[text.replace("/", "-")] = attack
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


def _show(result: Evaluation) -> None:
    from rich.console import Console

    from mogrid.report.table import Table, cell, mark

    rows: list[tuple[str, ...]] = []
    bm25 = {(row["domain"], row["condition"]): row["ndcg"] for row in result.rows() if row["system"] == "BM25"}
    for row in result.rows():
        low, high = row["ndcg_interval"]
        p = row["p_against_bm25"]
        sign = "" if p is None else mark(row["ndcg"] - bm25[row["domain"], row["condition"]], p)
        domain = row["domain"] if row["condition"] == "clean" else f"{row['domain']}, {row['condition']}"
        ndcg = cell(row["ndcg"], (high - low) / 2, mark=sign)
        entropy = "" if row["ce"] is None else cell(row["ce"], digits=2)
        rows.append((domain, f"{row['queries']:,}", row["system"], ndcg, cell(row["rr"]), cell(row["recall"]), entropy))
    columns = ("domain", "queries", "system", "nDCG@10", "RR@10", "R@100", "CE")
    title = f"{result.model}: {result.role} data {result.data[:12]}"
    note = "± half of a 95 % interval over queries; ▲ ▼ better or worse than BM25 (paired, Holm-corrected, p < .05)"
    Console().print(Table(title, columns, rows, note, left=frozenset({0, 2})))
    for system, values in result.summary().items():
        print(f"{system}: " + ", ".join(f"{key.replace('_', ' ')} {value:.3f}" for key, value in values.items()))
    if len(result.systems) > 1:
        print(f"weight of BM25 in the fusion, tuned on select-role data: {result.weight:.1f}")
