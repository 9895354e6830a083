"""Merge models that were tuned from one base: average their weights, by the shares that select-role data ask for.

Every share on a lattice is judged on select-role data, then up to three more where a surface through these foretells
better ones; the front is shown with 95 % intervals over queries, one merge is chosen, and that one is compared with the
models it is made of on test-role data, once. The objectives are the source by its name, `ood` (the mean of the other
domains of the role) and `typos` (of the source's queries), all as nDCG@10.

example: mogrid merge ./tuned --base all-MiniLM-L6-v2 --data ~/beir --at-least ood=base-0.005 --out ./merged
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mogrid.commands._common import (
    add_data,
    check_places,
    check_samples,
    load_collection,
    load_model,
    parse_bounds,
    parse_numbers,
    quiet,
)
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
    from mogrid.sweep.merge_card import RECORD, asked_of, front_table, said_of, test_table, write_merge
    from mogrid.sweep.merging import compare_merge, judged_places, search_merges, values_at
    from mogrid.trainer.keep import bound

    out: Path = arguments.out
    if (out / RECORD).is_file():
        raise ConfigError(f"{out} holds a merge that has been looked at on test-role data: name another folder")
    if out.exists():
        raise ConfigError(f"{out} is there already: name a new folder")
    check_places(arguments, folder="out")
    check_samples(arguments)
    names = [*([arguments.base] if arguments.base else []), *arguments.models]
    _check_names(names)
    if arguments.parts is not None and arguments.parts < 1:
        raise ConfigError(f"--parts must be at least 1, got {arguments.parts}")
    if arguments.knee and arguments.preference:
        raise ConfigError("--knee and --preference are two ways to choose: give one")
    preference = parse_numbers("--preference", arguments.preference)
    asked = {name: bound(name, value) for name, value in parse_bounds(arguments.at_least).items()}
    quiet()
    console = Console(stderr=True)
    with status(console, "reading the data"):
        collection = load_collection(arguments)
        select, places = judged_places(collection, Role.SELECT, arguments.max_queries, arguments.max_documents)
    if not places:
        raise ConfigError("there is no select-role data to choose shares on")
    for name, (relative, _) in asked.items():
        if name not in places:
            raise ConfigError(f"--at-least: no objective {name!r}{nearest(name, places)}")
        if relative and not arguments.base:
            raise ConfigError(f"--at-least: {name!r} is counted from the base: say which model that is, with --base")
    importance(tuple(places), preference, "weighted")
    with status(console, "loading the models"):
        models = {name: load_model(arguments, name) for name in names}
        notes = _one_length(models, arguments.models[0])
        # What cannot be done is said before anything is judged.
        blend(models, dict.fromkeys(names, 1 / len(names)), method=arguments.method, base=arguments.base)

    def values(model: SentenceTransformer) -> dict[str, dict[str, float]]:
        return values_at(model, select, places, arguments.seed)

    def least_of(merges: Merges) -> dict[str, float]:
        return {
            name: least + (merges.values[merges.corner(arguments.base), merges.objectives.index(name)] if based else 0)
            for name, (based, least) in asked.items()
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
        "shares": shares, "method": arguments.method, "base": arguments.base, "preference": preference,
        "knee": arguments.knee, "at_least": at_least,
        **merges.to_json(), "chosen": chosen, "test": {f"{o} against {m}": vars(t) for (o, m), t in tests.items()},
        "versions": versions(),
    }  # fmt: skip
    said = [asked_of(merges.objectives, record), *said_of(merges, chosen), *notes]
    write_merge(out, merged, merges, chosen, record, tables, said)
    screen = printer()
    for table in tables:
        screen.print(table)
    if not tests:
        print("there is no test-role data: the chosen merge is compared with nothing that did not choose it")
    for line in said:
        print(line)
    print(f"model: {out}")
    return 0


def _check_names(names: list[str]) -> None:
    """Raise where a model is named twice, by one spelling or by two."""
    seen: dict[str, str] = {}
    for name in names:
        path = Path(name).expanduser()
        place = str(path.resolve()) if path.is_dir() else name
        if place in seen:
            twice = repr(name) if seen[place] == name else f"{seen[place]!r} and {name!r}"
            raise ConfigError(f"a model is named twice: {twice}")
        seen[place] = name


def _one_length(models: Mapping[str, SentenceTransformer], first: str) -> list[str]:
    """Let all models read as much of a text as the first tuned one does, which a merge can have one of; say so."""
    lengths = {name: model.max_seq_length for name, model in models.items()}
    wanted = lengths[first]
    if wanted is None or all(length == wanted for length in lengths.values()):
        return []
    for model in models.values():
        model.max_seq_length = wanted
    own = ", ".join(f"{name} {length}" for name, length in lengths.items())
    return [f"maximum lengths differ ({own} tokens): all are judged, and the merge is saved, with {wanted}"]
