"""Tell strategies and base models apart that were given one name: only seeds of one recipe may be averaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from mogrid.runs.record import RunRecord

__all__ = ["by_scale", "told_apart"]

_NEAR = 1.3
"""Trainings whose FLOPs differ by less are of one scale: as many pairs of other objectives cost that much more."""
_SAME = 1.05
"""Budgets that differ by less are one: what pairs cost is measured anew for every seed of a model from scratch."""
_NO_MATTER = ("seed", "data", "output", "evaluation.domains", "training.report_to", "training.checkpoints")
"""What no number follows from; what the data say is in their fingerprint."""
_CHOOSES = ("preference", "at_least")
_BY_NAME = ("solver", "loss", "perturb", "gradients")
"""Settings whose short form is a name alone."""
_LENGTHS = ("training.steps", "training.epochs", "training.pairs", "training.budget")
_SECTIONS = ("model", "objectives", "solver", "training")
_LONG = 24  # characters of a value

_Flat = dict[str, Any]


def by_scale(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Return the trainings of some runs, those of one base model at about the same FLOPs together, smallest first."""
    groups: list[list[RunRecord]] = []
    trained = (record for record in records if record.kind == "trained")
    for record in sorted(trained, key=lambda r: (r.parameters, r.model, r.total_flops)):
        last = groups[-1] if groups else []
        if last and last[0].model == record.model and record.total_flops <= _NEAR * last[0].total_flops:
            last.append(record)
        else:
            groups.append([record])
    return groups


def told_apart(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return runs of which those with one label, of one scale, differ in nothing but the seed.

    Where they differ in more, each label gets what differs, such as ``equal mix, steps 40``; base models likewise. Most
    stores come back as they are, and what came back once does so again.

    Parameters
    ----------
    records : sequence of RunRecord
        All that are to be shown or averaged together.
    """
    models = _renamed(
        records,
        lambda r: r.model if r.kind != "bm25" else None,
        lambda r: _flat(r.recipe.get("model") or {}),
        lambda r, own, keys, all_: _model_label(r.model, own, keys, all_),
    )
    named = [replace(record, model=models.get(record.name, record.model)) for record in records]
    place = {record.name: i for i, group in enumerate(by_scale(named)) for record in group}

    def pooled(record: RunRecord) -> tuple[Any, ...]:
        scale: Any = place.get(record.name)
        if record.kind == "merged":
            scale = tuple(sorted({place[name] for name in record.parents if name in place}))
        return record.kind, record.label, "" if record.kind == "bm25" else record.model, scale

    labels = _renamed(
        named, pooled, _strategy, lambda r, own, keys, all_: _with(r.label, _said(own, keys, all_, _names(r)))
    )
    return [replace(record, label=labels.get(record.name, record.label)) for record in named]


def _renamed(
    records: Sequence[RunRecord],
    pooled: Callable[[RunRecord], Any],
    made: Callable[[RunRecord], _Flat],
    label: Callable[[RunRecord, _Flat, Sequence[str], Sequence[_Flat]], str],
) -> dict[str, str]:
    """Return by run a name of its own where runs that would be pooled were made in several ways."""
    groups: dict[Any, list[RunRecord]] = {}
    for record in records:
        if (key := pooled(record)) is not None:
            groups.setdefault(key, []).append(record)
    found: dict[str, str] = {}
    for group in groups.values():
        own = _same_budgets([made(record) for record in group])
        ways = {_text(way): way for way in own}
        if len(ways) == 1:
            continue
        every = list(ways.values())
        keys = [key for key in dict.fromkeys(k for way in every for k in way) if len(_values(every, key)) > 1]
        said: dict[str, str] = {}
        for record, way in zip(group, own, strict=True):
            said.setdefault(_text(way), label(record, way, keys, every))
        for record, way in zip(group, own, strict=True):
            text = _text(way)
            alone = list(said.values()).count(said[text]) == 1
            # Words that were cut short may be the same: then a mark tells them apart.
            mark = "" if alone else f" #{hashlib.sha256(text.encode()).hexdigest()[:4]}"
            found[record.name] = said[text] + mark
    return found


def _strategy(record: RunRecord) -> _Flat:
    """Return all that a run's numbers follow from besides its seed, by dotted key."""
    recipe = {**record.recipe, "data": record.data}
    objectives = recipe.get("objectives") or {}
    if record.kind in ("base", "bm25"):  # untrained: of the objectives, what judges them
        scratch = record.kind == "base" and not (recipe.get("model") or {}).get("path")
        recipe = {
            "evaluation": recipe.get("evaluation"),
            "objectives": {name: _judging(value, scratch) for name, value in objectives.items()},
        }
    else:
        mix = recipe.get("mix") or dict.fromkeys(objectives, 1 / max(len(objectives), 1))
        recipe["mix"] = {name: round(float(mix.get(name, 0.0)), 9) for name in objectives}
        if (recipe.get("training") or {}).get("keep") != "best":  # then they choose nothing
            recipe = {key: value for key, value in recipe.items() if key not in _CHOOSES}
    flat = _flat(recipe, names=tuple(objectives))
    flat = {key: value for key, value in flat.items() if key not in _NO_MATTER}
    return flat | {"data": record.data[:8]}


def _judging(objective: Mapping[str, Any], scratch: bool) -> dict[str, Any]:
    """Return what an objective is judged by; what it is trained on where that judges it, or gave a vocabulary."""
    judged = objective.get("judged")
    keys = (["judged"] if judged else ["perturb"]) + ([] if judged and not scratch else ["datasets"])
    return {key: objective.get(key) for key in keys}


def _flat(value: Mapping[str, Any], prefix: str = "", names: tuple[str, ...] = ()) -> _Flat:
    """Return nested plain values by dotted key; a number for every objective is one value, None is none."""
    found: _Flat = {}
    for key, inner in value.items():
        place = f"{prefix}{key}"
        numbers = isinstance(inner, Mapping) and inner and all(isinstance(v, int | float) for v in inner.values())
        if inner is None:
            continue
        if key in _BY_NAME and isinstance(inner, str):
            inner = {"name": inner}
        if isinstance(inner, Mapping) and not (numbers and inner.keys() <= set(names)):
            found |= _flat(inner, f"{place}.", names)
        elif isinstance(inner, list) and inner and all(isinstance(part, Mapping) for part in inner):
            for number, part in enumerate(inner):
                found |= _flat(part, f"{place}.{number}.", names)
        else:
            found[place] = inner
    return found


def _same_budgets(ways: Sequence[_Flat]) -> list[_Flat]:
    """Put the least of budgets that are one in the place of each."""
    budgets = sorted({way["training.budget"] for way in ways if "training.budget" in way})
    least: dict[float, float] = {}
    for budget in budgets:
        before = next(reversed(least.values()), None)
        least[budget] = before if before is not None and budget <= _SAME * before else budget
    return [
        {**way, "training.budget": least[way["training.budget"]]} if "training.budget" in way else way for way in ways
    ]


def _text(way: _Flat) -> str:
    return json.dumps(way, sort_keys=True, default=str)


def _values(ways: Sequence[_Flat], key: str) -> set[str]:
    return {json.dumps(way.get(key), sort_keys=True, default=str) for way in ways}


def _names(record: RunRecord) -> tuple[str, ...]:
    return tuple(record.recipe.get("objectives") or ())


def _with(label: str, said: Sequence[str]) -> str:
    return ", ".join([label, *said])


def _model_label(label: str, own: _Flat, keys: Sequence[str], every: Sequence[_Flat]) -> str:
    """Return a base model's label with as much of its path as tells it from others, and what else differs."""
    if "path" in keys and "path" in own:
        paths = {PurePosixPath(way["path"]) for way in every if "path" in way}
        path, depth = PurePosixPath(own["path"]), 2
        while len({p.parts[-depth:] for p in paths}) < len(paths):
            depth += 1
        label = f"{PurePosixPath(*path.parts[-depth:])}{label.removeprefix(path.name)}"
    return _with(label, _said(own, [key for key in keys if key != "path"], every, ()))


def _said(own: _Flat, keys: Sequence[str], every: Sequence[_Flat], names: tuple[str, ...]) -> list[str]:
    """Say what a way to make a run has that others of its label have not."""
    said = []
    renamed = {key.rpartition(".")[0] for key in keys if key.endswith(".name")}
    for key in keys:
        parts = [part for part in key.split(".") if not part.isdigit()]
        if parts[0] in _SECTIONS and len(parts) > 1:
            parts = parts[1:]
        if parts[-1] == "name" and len(parts) > 1:
            parts = parts[:-1]
        if key not in own and (key in _LENGTHS or key.rpartition(".")[0] in renamed):
            continue  # of another length, or of another solver or loss
        said.append(f"{' '.join(parts).replace('_', ' ')} {_shown(own[key], names) if key in own else 'default'}")
    return said


def _shown(value: Any, names: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        if value.keys() == set(names):
            return " : ".join(_shown(value[name], ()) for name in names)
        return " ".join(f"{name} {_shown(inner, ())}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(_shown(inner, names) for inner in value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
