"""Attack any retriever: documents that are to rise for a query, or passages that many queries are to find.

Judged on text that the model reads again. Only documents outside the top 10 are attacked: a success is one that came
into it (conditional SR@10). White-box attacks look into the victim, or into --crafted-on for a transfer attack.

example: mogrid attack ./my-model --attack hotflip --set flips=3 --data ~/beir --domains domains.yaml --role test
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mogrid.commands._common import ROLES, add_judged, check_places, load_collection, load_model, parse_settings, quiet
from mogrid.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mogrid.evaluation import AttackResult, PoisoningResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_judged(parser)
    parser.add_argument(
        "--attack",
        default="embedding_neighbour_flips",
        metavar="NAME",
        help="of documents or the corpus (default: %(default)s)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, such as flips=3")
    parser.add_argument("--domain", help="which data set of the collection (default: the source, or the first)")
    parser.add_argument("--role", default="select", help="select while anything may be chosen, test once at the end")
    parser.add_argument("--targets", type=int, default=50, help="documents to attack (default: 50)")
    parser.add_argument("--crafted-on", metavar="MODEL", help="craft on this model instead: a transfer attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the whole record as JSON")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def run(arguments: argparse.Namespace) -> int:
    if arguments.role not in ROLES:
        raise ConfigError(f"--role {arguments.role!r}{nearest(arguments.role, ROLES)}")
    check_places(arguments, "out")
    quiet()
    from rich.console import Console

    from mogrid.attacks import ATTACKS, CorpusPoisoning, attack_from_config
    from mogrid.attacks.flips import told_progress
    from mogrid.data import Role
    from mogrid.evaluation import attack_success, poisoning_success
    from mogrid.files import write_json
    from mogrid.progress import Progress, status

    role = Role(arguments.role)
    if arguments.attack in ATTACKS and ATTACKS[arguments.attack][0] == "queries":
        raise ConfigError(f"--attack {arguments.attack}: it perturbs queries; see mogrid evaluate --perturb")
    attack = attack_from_config({"name": arguments.attack, **parse_settings(arguments.set), "role": str(role)})
    console = Console(stderr=True)
    with status(console, "reading the data") as stage:
        collection = load_collection(arguments)
        domains = {domain.name: domain for domain in collection.with_role(role)}
        chosen = arguments.domain or next(iter(domains), collection.source.name)
        if chosen not in domains:
            others = [other for other in ROLES if any(d.name == chosen for d in collection.with_role(Role(other)))]
            hint = f"; it has the role {others[0]}: give --role {others[0]}" if others else nearest(chosen, domains)
            raise ConfigError(f"--domain {chosen!r}: no such set with the role {role}{hint}")
        stage.say("loading the model")
        model = load_model(arguments)
        other = load_model(arguments, arguments.crafted_on) if arguments.crafted_on else None
    what = f"{arguments.attack} on {chosen}"
    with Progress(console, what, total=1.0) as crafted, told_progress(crafted.update):
        result: AttackResult | PoisoningResult
        shared: dict[str, Any] = {"seed": arguments.seed, "crafted_on": other}
        if isinstance(attack, CorpusPoisoning):
            trained = collection.with_role(Role.TRAIN)
            known = [query for domain in trained for query in domain.split(Role.TRAIN).queries.values()]
            if domains[chosen] in trained:
                known = []
            result = poisoning_success(model, domains[chosen], role, attack, known=known or None, **shared)
        else:
            result = attack_success(model, domains[chosen], role, attack, targets=arguments.targets, **shared)
    record = result.to_json()
    if arguments.json:
        print(json.dumps(record, indent=1), flush=True)
    else:
        _show(arguments.model, result)
    if arguments.out is not None:
        write_json(arguments.out, record)
    return 0


def _show(model: str, result: AttackResult | PoisoningResult) -> None:
    from mogrid.evaluation import AttackResult, bootstrap_interval

    print(f"{result.attack} on {model}, {result.domain} ({result.role}), {result.knowledge}: {result.budget}")
    if isinstance(result, AttackResult):
        low, high = bootstrap_interval([float(o.after <= 10) for o in result.outcomes])
        print(f"conditional SR@10  {result.success_rate:.3f} [{low:.3f}, {high:.3f}] of {result.targets} targets")
        print(f"from ranks         {result.band[0]} to {result.band[1]}; median boost {result.median_boost:g} ranks")
        print(f"words changed      {result.perturbed:.1%} on average, in {result.changed:.0%} of the targets")
        if result.robust_ndcg is not None:
            print("nDCG@10            {:.3f} clean, {:.3f} attacked".format(*result.robust_ndcg))
    else:
        values = list(result.ranks.values())
        print(f"crafted for {result.known:,} known queries, judged by {len(values):,} others")
        for top in (10, 20):
            low, high = bootstrap_interval([float(rank <= top) for rank in values])
            print(f"queries with a passage in the top {top}  {result.success_rate(top):.3f} [{low:.3f}, {high:.3f}]")
        print(f"nDCG@10  {fmean(result.clean.values()):.3f} clean, {result.robust_ndcg:.3f} poisoned")
    print(f"crafted in {result.seconds:.1f} s, {result.calls:,} calls of the model, {result.flops:.3g} FLOPs")
