"""Whether training against perturbations makes a retriever hold under attacks it has not seen, at equal FLOPs.

    python -m benchmarks.adversarial --data DATA

A 2x128 encoder from scratch: effectiveness alone; half the weight on consistency under typos (swapped and dropped
letters); a fifth of every batch on it; half the weight on FGM steps on the embeddings. Judged on test-role typos
(keyboard neighbours), on misspellings that people make, on word flips and stuffed queries, and on domains that nothing
was trained or selected on. ``--domains`` chooses the data: squad-wiki in domain, or debian.yaml's. Three seeds;
finished runs are kept, and the same command continues. ``--show`` redraws the table from records, without DATA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.dpr import _quiet

__all__ = ["main"]

BASE = "effectiveness only"
_BUDGET = 9e12
_WEIGHTS = [{"effectiveness": w, "ood": 0.9 - w, "adversarial": 0.1} for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
_HALF = {"effectiveness": 0.5, "adversarial": 0.5}
_FIFTH = {"effectiveness": 0.8, "adversarial": 0.2}
DOMAINS = Path(__file__).parent / "domains" / "squad.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, print the table and write it as JSON; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adversarial", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of BEIR folders")
    parser.add_argument("--domains", type=Path, default=DOMAINS)
    parser.add_argument("--store", type=Path, default=Path("benchmarks/results/adversarial"))
    parser.add_argument("--budget", type=float, default=_BUDGET, help="training FLOPs of one run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="STRATEGY", help="train some strategies alone")
    parser.add_argument("--show", action="store_true", help="only the table of the runs there are")
    arguments = parser.parse_args(argv)
    _quiet()
    from mogrid.errors import MogridError

    try:
        if not arguments.show:
            _train(arguments)
        _show(arguments.store)
    except MogridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished runs and checkpoints are kept; the same command continues", file=sys.stderr)
        return 3
    return 0


def _train(arguments: argparse.Namespace) -> None:
    from benchmarks.running import run_cells
    from mogrid.errors import ConfigError, nearest
    from mogrid.experiment.cells import DataSource, tokenizer_of
    from mogrid.experiment.plan import Plan
    from mogrid.experiment.settings import ExperimentSettings

    if arguments.data is None:
        raise ConfigError("--data: name the folder of BEIR folders, or --show what is in the store")
    source = DataSource(arguments.data, arguments.domains)
    collection = source.load()
    cells = []
    for adversarial, label in (("typos", "typo consistency"), ("fgm", "FGM")):
        settings = ExperimentSettings.model_validate(
            {
                "encoder": {"size": "2x128", "towers": 1, "dropout": 0.1},
                "training": {
                    "budget": arguments.budget,
                    "batch_size": 32,
                    "learning_rate": 2.5e-3,
                    "warmup": 0.05,
                    "adversarial": adversarial,
                },
                "evaluation": {"max_documents": 3000, "attack_targets": 100},
                "seeds": list(range(arguments.seeds)),
                "weights": _WEIGHTS,
            }
        )
        (arguments.store / "runs").mkdir(parents=True, exist_ok=True)
        tokenizer_of(collection, settings, arguments.store)
        plan = Plan(settings, source, collection, arguments.store)
        cells += plan.fixed_cells(_HALF, "solver", label)
        if adversarial == "typos":
            cells += plan.fixed_cells({"effectiveness": 1.0}, "solver", BASE)
            cells += plan.share_cells(_FIFTH, "typo consistency, a fifth of the batch")
    if arguments.only:
        known = {cell.strategy for cell in cells}
        for name in arguments.only:
            if name not in known:
                raise ConfigError(f"--only {name!r}{nearest(name, known)}")
        cells = [cell for cell in cells if cell.strategy in arguments.only]
    run_cells(cells, arguments.workers)
    _attack(cells, collection, arguments.store)


def _attack(cells: Sequence[Any], collection: Any, store: Path) -> None:
    """Judge every trained model under attacks beyond those that a run measures itself."""
    from sentence_transformers import SentenceTransformer

    from mogrid.attacks import HotFlip, Misspellings, QueryStuffing
    from mogrid.data import Role
    from mogrid.evaluation import JudgedSplit, attack_success, judging, sample_domain
    from mogrid.files import write_json
    from mogrid.runs import RunStore

    domain = sample_domain(collection.source, None, 3000)
    attacks = {"query stuffing": QueryStuffing(), "HotFlip, 1 word": HotFlip(1), "HotFlip, 5 words": HotFlip(5)}
    for cell in cells:
        path = store / "attacks" / f"{cell.name}.json"
        if path.is_file():
            continue
        model = SentenceTransformer(str(RunStore(store).folder(cell.name) / "model"), device="cpu")
        temperature = RunStore(store).read(cell.name, queries=False).temperature
        wrong = {"misspellings": Misspellings()}
        clean, misspelt = judging(model, [JudgedSplit(domain, Role.TEST, wrong)], temperature=temperature)
        success = {
            name: attack_success(model, domain, Role.TEST, attack, targets=100, encoded=clean.encoded).outcomes
            for name, attack in attacks.items()
        }
        found = {
            "misspellings": misspelt.result.ndcg,
            "success": {name: [int(o.after <= 10) for o in outcomes] for name, outcomes in success.items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)


def _show(store: Path) -> None:
    """Print means over seeds and tests against effectiveness alone; write them beside the runs."""
    import json

    from mogrid.errors import DataError
    from mogrid.evaluation import compare, holm
    from mogrid.files import write_json
    from mogrid.runs import RunStore

    values: dict[str, dict[str, dict[str, list[float]]]] = {}  # strategy → measure → query → one value a seed
    success: dict[str, dict[str, list[int]]] = {}
    seeds: dict[str, set[int]] = {}
    for record in RunStore(store):
        path = store / "attacks" / f"{record.name}.json"
        if not path.is_file():
            continue
        more = json.loads(path.read_text("utf-8"))
        seeds.setdefault(record.strategy, set()).add(record.seed)
        measures = values.setdefault(record.strategy, {})
        own = success.setdefault(record.strategy, {})
        source = record.results[0]["domain"]
        for result in (r for r in record.results if r["role"] == "test"):
            name = "typos" if result["condition"] != "clean" else "clean" if result["domain"] == source else "OOD"
            for query, value in result["ndcg"].items():
                measures.setdefault(name, {}).setdefault(f"{result['domain']}/{query}", []).append(value)
        for query, value in more["misspellings"].items():
            measures.setdefault("misspellings", {}).setdefault(query, []).append(value)
        for attack in record.attacks:
            flips = [int(o["after"] <= 10) for o in attack["outcomes"]]
            own.setdefault("neighbour flips, 5 words", []).extend(flips)
        for name, outcomes in more["success"].items():
            own.setdefault(name, []).extend(outcomes)
    if BASE not in values:
        raise DataError(f"{store}: no finished run of {BASE!r}")
    rows: list[dict[str, Any]] = []
    for measure in ("clean", "OOD", "typos", "misspellings"):
        means = {s: {q: float(np.mean(v)) for q, v in m[measure].items()} for s, m in values.items()}
        tests = compare({s: v for s, v in means.items() if s != BASE}, means[BASE])
        for strategy, per_query in means.items():
            test = tests.get(strategy)
            rows.append(
                {
                    "measure": f"nDCG@10, {measure}",
                    "strategy": strategy,
                    "value": float(np.mean(list(per_query.values()))),
                    "difference": None if test is None else [test.difference, test.low, test.high],
                    "p": None if test is None else test.p_value,
                }
            )
    for name, base in success[BASE].items():
        others = [s for s in success if s != BASE]
        p_values = holm([_unpaired(success[s][name], base)[3] for s in others])
        mean = float(np.mean(base))
        rows.append({"measure": f"SR@10, {name}", "strategy": BASE, "value": mean, "difference": None, "p": None})
        for strategy, p in zip(others, p_values, strict=True):
            value = success[strategy][name]
            difference = list(_unpaired(value, base)[:3])
            rows.append(
                {
                    "measure": f"SR@10, {name}",
                    "strategy": strategy,
                    "value": float(np.mean(value)),
                    "difference": difference,
                    "p": float(p),
                }
            )
    write_json(
        store / "table.json",
        {
            "command": f"python -m benchmarks.adversarial --store {store} --show",
            "seeds": {strategy: sorted(found) for strategy, found in seeds.items()},
            "rows": rows,
        },
    )
    table = Table("measure", "strategy", "value", "difference to it [95 %]", "p (Holm)", show_edge=False)
    for row in rows:
        difference = row["difference"]
        shown = "" if difference is None else f"{difference[0]:+.3f} [{difference[1]:+.3f}, {difference[2]:+.3f}]"
        p = "" if row["p"] is None else f"{row['p']:.4f}"
        table.add_row(row["measure"], row["strategy"], f"{row['value']:.3f}", shown, p)
    Console().print(table)


def _unpaired(first: Sequence[int], second: Sequence[int]) -> tuple[float, float, float, float]:
    """Return the difference of two rates, its 95 % bootstrap interval, and a permutation test's p.

    Each model is attacked on targets that stand at ranks 51 to 100 for it: not the same ones.
    """
    rng = np.random.default_rng(0)
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    observed = float(a.mean() - b.mean())
    drawn = [rng.choice(a, len(a)).mean() - rng.choice(b, len(b)).mean() for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    both = np.concatenate([a, b])
    extreme = 0
    for _ in range(5000):
        mixed = rng.permutation(both)
        extreme += abs(mixed[: len(a)].mean() - mixed[len(a) :].mean()) >= abs(observed) - 1e-12
    return observed, float(low), float(high), (1 + extreme) / 5001


if __name__ == "__main__":
    raise SystemExit(main())
