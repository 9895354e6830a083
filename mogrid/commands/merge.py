"""Merge models that were tuned from one base: average their weights, by the shares that select-role data ask for.

Every share on a lattice is judged on select-role data, the front is shown with 95 % intervals over queries, one merge
is chosen, and that one is compared with the models it is made of on test-role data, once. The objectives are the
source by its name, `ood` (the mean of the other domains of the role) and `typos` (of the source's queries), all as
nDCG@10.

example: mogrid merge ./tuned --base all-MiniLM-L6-v2 --data ~/beir --at-least ood=base-0.005 --out ./merged
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from mogrid.attacks.registry import attack_for
from mogrid.commands._common import add_data, load_collection, load_model, quiet
from mogrid.data import Collection, Role
from mogrid.errors import ConfigError, nearest
from mogrid.evaluation import CLEAN, JudgedSplit, PairedTest, holm, judge, paired_test, sample_domain
from mogrid.files import write_json, write_text
from mogrid.frontier.merges import Merges
from mogrid.frontier.rules import importance
from mogrid.progress import Progress, status
from mogrid.report.figures.merges import plot_merges
from mogrid.report.table import Table, cell, mark, markdown_text
from mogrid.retrieval.merging import blend
from mogrid.runs import versions
from mogrid.sweep.merging import search_merges

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["add_arguments", "run"]

_RECORD = "merge.json"
Places = Mapping[str, Sequence[tuple[str, str]]]
"""Objective → domains and conditions that it is the mean of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders or Hub ids that share a base")
    parser.add_argument("--base", metavar="MODEL", help="merge this one too, and call it base in --at-least")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the merged model")
    parser.add_argument("--preference", metavar="NAME=NUMBER,...", help="importance of objectives (default: equal)")
    parser.add_argument(
        "--at-least", action="append", default=[], metavar="NAME=LEAST", help="such as ood=base-0.005, or typos=.8"
    )
    parser.add_argument("--knee", action="store_true", help="take the front's knee instead")
    parser.add_argument("--parts", type=int, metavar="N", help="shares are multiples of 1/N (10 for two models)")
    parser.add_argument("--method", default="linear", help="how the chosen shares are merged: linear, or mergekit's")
    parser.add_argument("--max-queries", type=int, metavar="N", help="of every select-role split")
    parser.add_argument("--max-documents", type=int, metavar="N", help="of every select-role corpus, and the relevant")
    parser.add_argument("--max-length", type=int, help="tokens read of a text (default: the models' own)")
    parser.add_argument("--pooling", default="mean", help="of a bare encoder: cls or mean (default: mean)")
    parser.add_argument("--device", help="such as cpu or cuda (default: the best there is)")
    parser.add_argument("--seed", type=int, default=0, help="of perturbations (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if (out / _RECORD).is_file():
        raise ConfigError(f"{out} holds a merge that has been looked at on test-role data: name another folder")
    if out.exists():
        raise ConfigError(f"{out} is there already: name a new folder")
    names = [*([arguments.base] if arguments.base else []), *arguments.models]
    if len(set(names)) < len(names):
        raise ConfigError("a model is named twice")
    if arguments.parts is not None and arguments.parts < 1:
        raise ConfigError(f"--parts must be at least 1, got {arguments.parts}")
    if arguments.knee and arguments.preference:
        raise ConfigError("--knee and --preference are two ways to choose: give one")
    quiet()
    console = Console(stderr=True)
    with status(console, "reading the data"):
        collection = load_collection(arguments)
    select, places = _splits(collection, Role.SELECT, arguments.max_queries, arguments.max_documents)
    if not places:
        raise ConfigError("there is no select-role data to choose shares on")
    preference = _preference(arguments.preference, tuple(places))
    asked = [_least(text, tuple(places), based=bool(arguments.base)) for text in arguments.at_least]
    importance(tuple(places), preference, "weighted")
    models = {name: load_model(arguments, name) for name in names}
    # What cannot be done is said before anything is judged.
    blend(models, dict.fromkeys(names, 1 / len(names)), method=arguments.method, base=arguments.base)

    def values(model: SentenceTransformer) -> dict[str, dict[str, float]]:
        return _values(model, select, places, arguments.seed)

    with Progress(console, "judging merges", total=1.0) as bar:
        merges = search_merges(models, values, arguments.parts, progress=bar.update)
    at_least = {
        name: least + (merges.values[merges.corner(arguments.base), merges.objectives.index(name)] if based else 0.0)
        for name, least, based in asked
    }
    chosen = merges.choose(preference, at_least, knee=arguments.knee)
    shares = dict(zip(merges.names, map(float, merges.shares[chosen]), strict=True))
    merged = blend(models, shares, method=arguments.method, base=arguments.base)
    with status(console, "comparing the chosen merge on test-role data"):
        tests = _tests(merged, models, collection, arguments.seed)
    tables = [_front(merges, chosen), *([_tested(tests)] if tests else [])]
    record = {
        "shares": shares, "method": arguments.method, "preference": preference, "at_least": at_least,
        **merges.to_json(), "chosen": chosen, "test": {f"{o} against {m}": vars(t) for (o, m), t in tests.items()},
        "versions": versions(),
    }  # fmt: skip
    _write(out, merged, merges, chosen, record, tables, arguments.base)
    screen = Console()
    for table in tables:
        screen.print(table)
    if not tests:
        print("there is no test-role data: the chosen merge is compared with nothing that did not choose it")
    for line in _said(merges, chosen):
        print(line)
    print(f"model: {out}")
    return 0


# -- what is judged ---------------------------------------------------------------------------------------------------


def _splits(
    collection: Collection, role: Role, queries: int | None = None, documents: int | None = None
) -> tuple[list[JudgedSplit], dict[str, list[tuple[str, str]]]]:
    source = collection.source
    splits: list[JudgedSplit] = []
    places: dict[str, list[tuple[str, str]]] = {}
    if role in source.splits:
        splits.append(JudgedSplit(source, role, {"typos": attack_for("typos", role)}))
        places = {source.name: [(source.name, CLEAN)], "typos": [(source.name, "typos")]}
    others = collection.ood_with(role)
    if others:
        splits += [JudgedSplit(domain, role) for domain in others]
        places["ood"] = [(domain.name, CLEAN) for domain in others]
    return [replace(split, domain=sample_domain(split.domain, queries, documents)) for split in splits], places


def _values(
    model: SentenceTransformer, splits: Sequence[JudgedSplit], places: Places, seed: int
) -> dict[str, dict[str, float]]:
    """Return nDCG@10 by objective and query, weighted so that an objective's mean is the mean of its domains' means."""
    found = {(r.domain, r.condition): r.ndcg for r in judge(model, splits, redraws=1, seed=seed)}
    values: dict[str, dict[str, float]] = {}
    for objective, own in places.items():
        parts = {place: found[place] for place in own}
        even = sum(map(len, parts.values())) / len(parts)
        values[objective] = {
            f"{domain}/{query}": value * even / len(part)
            for (domain, _), part in parts.items()
            for query, value in part.items()
        }
    return values


def _tests(
    merged: SentenceTransformer, models: Mapping[str, SentenceTransformer], collection: Collection, seed: int
) -> dict[tuple[str, str], PairedTest]:
    """Compare the merge with each model on test-role data; p-values are Holm-corrected over all of the comparisons."""
    splits, places = _splits(collection, Role.TEST)
    if not places:
        return {}
    own = _values(merged, splits, places, seed)
    found: dict[tuple[str, str], PairedTest] = {}
    for name, model in models.items():
        other = _values(model, splits, places, seed)
        found |= {(objective, name): paired_test(own[objective], other[objective], seed=seed) for objective in places}
    corrected = holm([test.p_value for test in found.values()])
    return {key: replace(test, p_value=float(p)) for (key, test), p in zip(found.items(), corrected, strict=True)}


# -- what is asked for ------------------------------------------------------------------------------------------------


def _preference(text: str | None, objectives: tuple[str, ...]) -> dict[str, float] | None:
    if text is None:
        return None
    return {
        name: value for name, value, _ in (_least(part, objectives, option="--preference") for part in text.split(","))
    }


def _least(
    text: str, objectives: tuple[str, ...], *, based: bool = False, option: str = "--at-least"
) -> tuple[str, float, bool]:
    """Return an objective, a number, and whether that is counted from the base model's value."""
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in objectives:
        raise ConfigError(f"{option}: no objective {name!r}{nearest(name, objectives)}")
    from_base = option == "--at-least" and value.startswith("base")
    if from_base and not based:
        raise ConfigError(f"{option} {text!r}: say which model is the base, with --base")
    try:
        number = float(value.removeprefix("base") or 0) if from_base else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "a number, base, or base-0.005" if option == "--at-least" else "a number"
        raise ConfigError(f"{option} {text!r}: expected NAME={kind}")
    return name, number, from_base


# -- what is shown ----------------------------------------------------------------------------------------------------


def _front(merges: Merges, chosen: int) -> Table:
    best = merges.front()
    half = (merges.high - merges.low) / 2
    rows = [
        (*(cell(share, digits=2) for share in merges.shares[i]), *map(cell, merges.values[i], half[i]),
         "chosen" if i == chosen else "front" if best[i] else "")
        for i in range(len(merges.shares))
    ]  # fmt: skip
    return Table(
        "Merges on select-role data", (*merges.names, *merges.objectives, ""), rows,
        note="shares of the models, and nDCG@10 ± half of a 95 % interval over queries",
        highlight=frozenset({chosen}), left=frozenset({len(merges.names) + len(merges.objectives)}),
    )  # fmt: skip


def _tested(tests: Mapping[tuple[str, str], PairedTest]) -> Table:
    rows = [
        (f"{objective}, against {model}", f"{test.difference:+.3f}{mark(test.difference, test.p_value)}",
         f"{test.low:+.3f} to {test.high:+.3f}", f"{test.p_value:.3f}", str(test.queries))
        for (objective, model), test in tests.items()
    ]  # fmt: skip
    return Table(
        "The chosen merge on test-role data", ("objective", "gain", "95 %", "p", "queries"), rows,
        note="nDCG@10 over each of its models; ▲ ▼ p < .05, paired, Holm",
    )  # fmt: skip


def _said(merges: Merges, chosen: int) -> list[str]:
    lines = []
    for basin in merges.basins():
        worst = max(basin.barrier, key=lambda name: basin.barrier[name])
        said = (
            f"{basin.ends[0]} to {basin.ends[1]}: the path's barrier is {basin.barrier[worst]:+.3f} nDCG@10 ({worst})"
        )
        lines.append(said if basin.shared else f"{said}; the models share no basin: merging them does not pay")
    if merges.shares[chosen].max() > 1 - 1e-9:
        name = merges.names[int(merges.shares[chosen].argmax())]
        lines.append(f"nothing is merged: {name} alone is the best of these for what was asked")
    return lines


def _write(
    out: Path,
    merged: SentenceTransformer,
    merges: Merges,
    chosen: int,
    record: Mapping[str, Any],
    tables: Sequence[Table],
    base: str | None,
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(str(partial), create_model_card=False)
    plot_merges(partial / "merges.png", merges, chosen)
    shares = ", ".join(f"{markdown_text(name)} {share:.3g}" for name, share in record["shares"].items())
    head = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "mogrid", "dense-retrieval", "merge"],
        "base_model": base or list(record["shares"]),
    }
    lines = [
        "---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {markdown_text(out.name)}", "",
        f"A dense retriever merged with mogrid ({record['method']}): {shares}.", "", "```python",
        "from sentence_transformers import SentenceTransformer", "",
        f'model = SentenceTransformer("{markdown_text(out.name)}")', "```", "",
    ]  # fmt: skip
    for table in tables:
        lines += [f"## {table.title}", "", table.markdown()]
    lines += [
        "![nDCG@10 by shares](merges.png)",
        "",
        *(f"- {markdown_text(line)}" for line in _said(merges, chosen)),
        "",
    ]
    write_text(partial / "README.md", "\n".join(lines))
    write_json(partial / _RECORD, record)
    partial.rename(out)
