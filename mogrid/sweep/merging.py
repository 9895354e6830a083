"""Search how much of each model to merge: judge the averages of their weights on a lattice of shares."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mogrid.attacks.registry import attack_for
from mogrid.data import Collection, Role
from mogrid.evaluation import CLEAN, JudgedSplit, PairedTest, judge, paired_test, sample_domain
from mogrid.evaluation.intervals import bootstrap_interval, corrected
from mogrid.frontier.merges import Merges
from mogrid.retrieval.merging import blend, check_mergeable, fill
from mogrid.sweep.grid import lattice

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["by_query", "compare_merge", "judged_places", "search_merges", "usual_parts", "values_at"]

Values = Mapping[str, Mapping[str, float]]
"""Objective → query → value, higher is better; an objective is the mean over its queries."""

Places = Mapping[str, Sequence[tuple[str, str]]]
"""Objective → domains and conditions that it is the mean of."""

_AFFORDED, _PROPOSED = 36, 3
"""Models of a lattice that are judged at most, unless more is asked for, and beyond it."""


def usual_parts(count: int) -> int:
    """Return the steps of the lattice of so many models: 10 for two, and about as many models to judge for more."""
    parts = 10
    while parts > 2 and len(list(lattice(count, parts))) > _AFFORDED:
        parts -= 1
    return parts


def search_merges(
    models: Mapping[str, SentenceTransformer],
    judge: Callable[[SentenceTransformer], Values],
    parts: int | None = None,
    *,
    method: str = "linear",
    base: str | None = None,
    propose: Callable[[Merges], NDArray[np.float64] | None] = lambda merges: None,
    progress: Callable[[float], None] = lambda share: None,
) -> Merges:
    """Judge merges of some models, their shares on a lattice of the simplex with all corners, then what is proposed.

    Parameters
    ----------
    models : mapping of name to SentenceTransformer
        Of one architecture and base; those given are left as they are.
    judge : callable
        Gives a model's values by objective and query, on select-role data.
    parts : int, optional
        Shares are multiples of 1 / `parts`; `usual_parts` when left out.
    method, base
        As for `mogrid.retrieval.merging.blend`.
    propose : callable
        Takes what was judged and gives the shares to judge next, up to three times, or None: `Merges.proposal`, say.
    progress : callable of the share done
        Called as merges are judged.

    Raises
    ------
    ConfigError
        The models cannot be merged, or not by this method.
    """
    check_mergeable(models)
    names = tuple(models)
    rows = list(lattice(len(names), usual_parts(len(names)) if parts is None else parts))
    planned = len(rows)
    states: Sequence[Any] = [model.state_dict() for model in models.values()]
    trial = copy.deepcopy(next(iter(models.values()))).eval()
    judged: list[list[tuple[float, float, float]]] = []
    objectives: tuple[str, ...] = ()
    number = 0
    while number < len(rows):
        shares = rows[number]
        if method == "linear":
            fill(trial, states, shares)
        else:
            trial = blend(models, dict(zip(names, shares, strict=True)), method=method, base=base)
        found = judge(trial)
        objectives = tuple(found)
        judged.append([_with_interval(list(found[name].values())) for name in objectives])
        number += 1
        progress(number / (planned + _PROPOSED))
        if number == len(rows):
            table = np.array(judged)
            merges = Merges(names, objectives, np.array(rows), table[..., 0], table[..., 1], table[..., 2])
            more = propose(merges) if number < planned + _PROPOSED else None
            rows += [] if more is None else [tuple(map(float, more))]
    progress(1.0)
    return merges


def _with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    return (float(np.mean(values)), *bootstrap_interval(values))


def judged_places(
    collection: Collection, role: Role, queries: int | None = None, documents: int | None = None
) -> tuple[list[JudgedSplit], dict[str, list[tuple[str, str]]]]:
    """Return what a collection has to be judged on in a role, and the objectives that stand for it, with their places.

    The objectives are the source by its name and under ``typos``, and ``ood``, the mean of the other domains.

    Parameters
    ----------
    collection : Collection
        Whose domains of the role are judged.
    role : Role
        Select while shares are chosen, test once they are.
    queries, documents : int, optional
        Judge samples of so many of each split and corpus.
    """
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


def values_at(
    model: SentenceTransformer, splits: Sequence[JudgedSplit], places: Places, seed: int
) -> dict[str, dict[str, float]]:
    """Return nDCG@10 by objective and query, weighted so that an objective's mean is the mean of its domains' means."""
    found = {(r.domain, r.condition): r.ndcg for r in judge(model, splits, redraws=1, seed=seed)}
    return by_query(found, places)


def by_query(found: Mapping[tuple[str, str], Mapping[str, float]], places: Places) -> dict[str, dict[str, float]]:
    """Return values of domains and conditions by objective and query; see `values_at`."""
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


def compare_merge(
    merged: SentenceTransformer, models: Mapping[str, SentenceTransformer], collection: Collection, seed: int
) -> dict[tuple[str, str], PairedTest]:
    """Compare the merge with each model on test-role data; p-values are Holm-corrected over all of the comparisons."""
    splits, places = judged_places(collection, Role.TEST)
    if not places:
        return {}
    own = values_at(merged, splits, places, seed)
    found: dict[tuple[str, str], PairedTest] = {}
    for name, model in models.items():
        other = values_at(model, splits, places, seed)
        found |= {(objective, name): paired_test(own[objective], other[objective], seed=seed) for objective in places}
    return corrected(found)
