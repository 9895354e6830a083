"""Merge models that were tuned from one base: average their weights, by the shares that select-role data ask for.

Every share on a lattice is judged on select-role data, then up to three more where a surface through these foretells
better ones; the front is shown with 95 % intervals over queries, one merge is chosen, and that one is compared with the
models it is made of on test-role data, once. The objectives are the source by its name, `ood` (the mean of the other
domains of the role) and `typos` (of the source's queries), all as nDCG@10.

example: mogrid merge ./tuned --base all-MiniLM-L6-v2 --data ~/beir --at-least ood=base-0.005 --out ./merged
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.commands._common import add_data, load_collection, load_model, quiet
from mogrid.errors import ConfigError, nearest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from mogrid.frontier.merges import Merges

__all__ = ["add_arguments", "run"]


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
    parser.add_argument(
        "--method",
        default="linear",
        help="linear, slerp, nuslerp or multislerp, or with --base task_arithmetic, ties, dare_linear, dare_ties, "
        "della, della_linear, breadcrumbs or breadcrumbs_ties (default: linear)",
    )
    parser.add_argument("--max-queries", type=int, metavar="N", help="of every select-role split")
    parser.add_argument("--max-documents", type=int, metavar="N", help="of every select-role corpus, and the relevant")
    parser.add_argument("--max-length", type=int, help="tokens read of a text (default: the models' own)")
    parser.add_argument("--pooling", default="mean", help="of a bare encoder: cls or mean (default: mean)")
    parser.add_argument("--device", help="such as cpu or cuda (default: the best there is)")
    parser.add_argument("--seed", type=int, default=0, help="of perturbations (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from mogrid.data import Role
    from mogrid.frontier.rules import importance
    from mogrid.progress import Progress, status
    from mogrid.report.table import printer
    from mogrid.retrieval.merging import blend
    from mogrid.runs import versions
    from mogrid.sweep.merge_card import RECORD, front_table, said_of, test_table, write_merge
    from mogrid.sweep.merging import compare_merge, judged_places, search_merges, values_at

    out: Path = arguments.out
    if (out / RECORD).is_file():
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
        select, places = judged_places(collection, Role.SELECT, arguments.max_queries, arguments.max_documents)
    if not places:
        raise ConfigError("there is no select-role data to choose shares on")
    preference = _preference(arguments.preference, tuple(places))
    asked = [_least(text, tuple(places), based=bool(arguments.base)) for text in arguments.at_least]
    importance(tuple(places), preference, "weighted")
    with status(console, "loading the models"):
        models = {name: load_model(arguments, name) for name in names}
        # What cannot be done is said before anything is judged.
        blend(models, dict.fromkeys(names, 1 / len(names)), method=arguments.method, base=arguments.base)

    def values(model: SentenceTransformer) -> dict[str, dict[str, float]]:
        return values_at(model, select, places, arguments.seed)

    def least_of(merges: Merges) -> dict[str, float]:
        return {
            name: least + (merges.values[merges.corner(arguments.base), merges.objectives.index(name)] if based else 0)
            for name, least, based in asked
        }

    with Progress(console, "judging merges", total=1.0) as bar:
        merges = search_merges(
            models, values, arguments.parts, method=arguments.method, base=arguments.base, progress=bar.update,
            propose=lambda merges: merges.proposal(preference, least_of(merges), knee=arguments.knee),
        )  # fmt: skip
    at_least = least_of(merges)
    chosen = merges.choose(preference, at_least, knee=arguments.knee)
    shares = dict(zip(merges.names, map(float, merges.shares[chosen]), strict=True))
    merged = blend(models, shares, method=arguments.method, base=arguments.base)
    with status(console, "comparing the chosen merge on test-role data"):
        tests = compare_merge(merged, models, collection, arguments.seed)
    tables = [front_table(merges, chosen), *([test_table(tests)] if tests else [])]
    record = {
        "shares": shares, "method": arguments.method, "preference": preference, "at_least": at_least,
        **merges.to_json(), "chosen": chosen, "test": {f"{o} against {m}": vars(t) for (o, m), t in tests.items()},
        "versions": versions(),
    }  # fmt: skip
    write_merge(out, merged, merges, chosen, record, tables, arguments.base)
    screen = printer()
    for table in tables:
        screen.print(table)
    if not tests:
        print("there is no test-role data: the chosen merge is compared with nothing that did not choose it")
    for line in said_of(merges, chosen):
        print(line)
    print(f"model: {out}")
    return 0


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
