"""Search how much of each model to merge: judge the averages of their weights on a lattice of shares."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mogrid.evaluation.intervals import bootstrap_interval
from mogrid.frontier.merges import Merges
from mogrid.retrieval.merging import check_mergeable, fill
from mogrid.sweep.grid import lattice

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["search_merges", "usual_parts"]

Values = Mapping[str, Mapping[str, float]]
"""Objective → query → value, higher is better; an objective is the mean over its queries."""

_AFFORDED = 36
"""Models that are judged at most, unless more is asked for."""


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
    progress: Callable[[float], None] = lambda share: None,
) -> Merges:
    """Judge the averages of some models' weights, their shares on a lattice of the simplex with all corners.

    Parameters
    ----------
    models : mapping of name to SentenceTransformer
        Of one architecture and base; those given are left as they are.
    judge : callable
        Gives a model's values by objective and query, on select-role data.
    parts : int, optional
        Shares are multiples of 1 / `parts`; `usual_parts` when left out.
    progress : callable of the share done

    Raises
    ------
    ConfigError
        The models cannot be merged.
    """
    check_mergeable(models)
    names = tuple(models)
    rows = list(lattice(len(names), usual_parts(len(names)) if parts is None else parts))
    states: Sequence[Any] = [model.state_dict() for model in models.values()]
    trial = copy.deepcopy(next(iter(models.values()))).eval()
    judged: list[list[tuple[float, float, float]]] = []
    objectives: tuple[str, ...] = ()
    for number, shares in enumerate(rows):
        fill(trial, states, shares)
        found = judge(trial)
        objectives = tuple(found)
        judged.append([_with_interval(list(found[name].values())) for name in objectives])
        progress((number + 1) / len(rows))
    table = np.array(judged)
    return Merges(names, objectives, np.array(rows), table[..., 0], table[..., 1], table[..., 2])


def _with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    return (float(np.mean(values)), *bootstrap_interval(values))
