"""What ``mogrid report`` shows of a store: fronts, exchange rates, laws, plans, weights over time, the table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.errors import DataError, MogridError
from mogrid.frontier import Laws, mixing_pays, plan
from mogrid.report.charts import Line, Point, line_chart, scatter_chart
from mogrid.report.figures import plot_exchange, plot_laws
from mogrid.report.figures.laws import UNITS
from mogrid.report.html import Chart, Figure, Note, Report
from mogrid.report.results import results_table, said_of_laws
from mogrid.report.scales import Scale, front_of, scales_of
from mogrid.report.table import Table, cell
from mogrid.runs import RunRecord, RunStore, seconds_of, told_apart
from mogrid.runs.summary import summarise

__all__ = ["store_page"]

_GROUPS = ("static mixes", "solvers", "merged models", "base model")
_WINDOWS = 40
_MOST = 12  # trajectories
_PAIRED = 4
"""Objectives beyond which only pairs with the first one are charted."""
_FAR = 1.0
"""Ranges of the trained runs beyond which another, such as the base model, would leave them no room in a chart."""
_BUDGETS = (1.0, 4.0)
"""Times the FLOPs of the dearest run, for which plans are made."""


def store_page(
    store: RunStore,
    laws: Laws | str,
    scratch: Path,
    *,
    preference: Mapping[str, float] | None = None,
    chosen: str = "",
    draws: int = 300,
    options: Sequence[str] = (),
) -> Report:
    """Return the page of a store, from its records alone.

    Parameters
    ----------
    store : RunStore
        Whose runs the page is about.
    laws : Laws or str
        Of the store's static mixes, or why there are none.
    scratch : Path
        Folder for figures that the page embeds.
    preference : mapping of objective to number, optional
        Importance, for the plans; equal when left out.
    chosen : str
        The choice that has been made by these laws, in words: told in place of plans.
    draws : int
        Of the table's bootstrap.
    options : sequence of str
        Of the command that makes the page again, besides the preference.

    Raises
    ------
    DataError
        There is no finished training, or a record cannot be read.
    """
    records = told_apart(list(store.records(queries=False)))
    try:
        scales = scales_of(records)
    except DataError as error:
        raise DataError(f"{store.root}: {error}") from error
    shown = [record for scale in scales for record in (*scale.trained, *scale.others)]
    metrics = [m for m in ("ndcg", "ce") if any(m in values for r in shown for values in r.objectives.values())]
    parts: list[Any] = [_front(scale, metric) for metric in metrics for scale in scales]
    if isinstance(laws, str):
        parts.append(Note("Laws", f"There are none to show: {laws}."))
    else:
        parts += [*_exchange(laws, scratch, preference, chosen), *_laws(laws, scratch)]
        parts += [] if chosen else [_plans(laws, preference)]
    parts += _over_time(store, scales[0])
    parts.append(_results(store, scales[0], records, draws))
    trained = [record for record in records if record.kind == "trained"]
    seeds = ", ".join(map(str, sorted({record.seed for record in trained})))
    lead = [
        f"{len(trained)} trainings of {len({r.label for r in trained})} mixes and solvers, from "
        f"{' / '.join(dict.fromkeys(scale.model for scale in scales))}; seeds {seeds}; objectives "
        f"{', '.join(trained[0].objectives)}.",
        "Fronts, laws and plans are of what each objective is judged by, on select-role data.",
    ]
    return Report(f"Runs in {store.root.resolve().name}", lead, parts, _provenance(store, records, preference, options))


# -- fronts ----------------------------------------------------------------------------------------------------------


def _front(scale: Scale, metric: str) -> Chart:
    runs = [*scale.trained, *scale.others]
    front = front_of(runs, metric)
    values = front.values if metric == "ce" else 1 - front.values
    names, unit = front.objectives, UNITS[metric]
    low, high = (reduce(values[: len(scale.trained)], axis=0) for reduce in (np.min, np.max))
    near = np.all((values >= low - _FAR * (high - low)) & (values <= high + _FAR * (high - low)), axis=1)
    drawn = list(zip(runs, values, front.non_dominated(), strict=True))
    drawn = [row for row, there in zip(drawn, near, strict=True) if there]

    def chart(x: int | None, y: int) -> str:
        points = [
            Point(
                float(sum(record.pairs.values()) if x is None else row[x]), float(row[y]),
                _says(record, names, row, unit), _group(record), bool(best),
            )
            for record, row, best in drawn
        ]  # fmt: skip
        return scatter_chart(points, "pairs drawn" if x is None else f"{names[x]}, {unit}", f"{names[y]}, {unit}")

    pairs: list[tuple[int | None, int]] = [(None, 0)]
    if len(names) > 1:
        pairs = [(a, b) for a, b in combinations(range(len(names)), 2) if a == 0 or len(names) <= _PAIRED]
    groups = sorted({_group(record) for record, _, _ in drawn})
    better = "lower" if metric == "ce" else "higher"
    caption = (
        f"A mark is a run, {better} is better; filled: no other run of this scale is at least as good at everything. "
        "Point at one."
    )
    for record, row, there in zip(runs, values, near, strict=True):
        if not there:
            told = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, row, strict=True))
            caption += f" Far outside: {record.label}, {told}."
    drawings = [chart(a, b) for a, b in pairs]
    return Chart(f"Front in {unit}", drawings, caption, scale.name, [(group, _GROUPS[group]) for group in groups])


def _group(record: RunRecord) -> int:
    if record.kind == "trained":
        return 0 if record.solver == "fixed" else 1
    return 2 if record.kind == "merged" else 3


def _says(record: RunRecord, names: Sequence[str], values: np.ndarray, unit: str) -> list[str]:
    lines = [f"{record.label}, seed {record.seed}", f"{record.model}, N = {record.parameters:,}"]
    if record.mix:
        mix = ", ".join(f"{name} {share:.2f}" for name, share in record.mix.items())
        lines += [f"{record.steps:,} steps, {sum(record.pairs.values()):,} pairs", f"mix as {record.spend}: {mix}"]
    return [*lines, *(f"{name} {value:.3f} {unit}" for name, value in zip(names, values, strict=True)), record.name]


# -- laws ------------------------------------------------------------------------------------------------------------


def _exchange(laws: Laws, scratch: Path, preference: Mapping[str, float] | None, chosen: str) -> list[Figure]:
    metric = laws.metrics[0]
    try:
        rates = laws.exchange(metric)
    except MogridError:  # of one objective, or one mix
        return []
    said, caption = chosen, f"From laws of {UNITS.get(metric, metric)}, in the middle of the runs"
    if not chosen:
        runs = laws.runs
        largest = next(reversed(runs.sizes))
        budget = float(runs.flops[[model == largest for model in runs.models]].max())
        said = str(mixing_pays(laws, largest, budget, preference, metric=metric))
        caption += f"; whether mixing pays, for {largest} at {budget:.3g} FLOPs"
    path = scratch / "exchange.png"
    plot_exchange(path, rates, said=said)
    return [Figure("What a pair of each objective is worth to the others", path, f"{caption}.")]


def _laws(laws: Laws, scratch: Path) -> list[Figure]:
    figures = []
    for metric in laws.metrics:
        path = scratch / f"laws-{metric}.png"
        plot_laws(path, laws, metric)
        caption = f"{'; '.join(said_of_laws(laws, metric))}. Bands are 90 % intervals over runs and seeds."
        figures.append(Figure(f"Laws of {UNITS.get(metric, metric)}", path, caption))
    return figures


def _plans(laws: Laws, preference: Mapping[str, float] | None) -> Table | Note:
    title = "What the laws would choose"
    rows, largest = [], float(laws.runs.flops.max())
    edges: list[str] = []
    metric = "ndcg" if "ndcg" in laws.metrics else laws.metrics[0]
    for times in _BUDGETS:
        try:
            chosen = plan(laws, times * largest, preference=preference)
        except MogridError as error:
            return Note(title, f"Nothing: {error}.")
        told = chosen.predicted[metric]
        mix = ", ".join(f"{name} {share:.2f}" for name, share in chosen.mix.items())
        values = [f"{cell(v['value'])} [{cell(v['low'])}, {cell(v['high'])}]" for v in told.values()]
        rows.append((f"{chosen.budget:.3g}", chosen.model or "", mix, *values, f"{chosen.probability:.0%}"))
        edges += chosen.edge
    unit = UNITS.get(metric, metric)
    columns = ("FLOPs", "base model", "mix", *(f"{name}, {unit}" for name in laws.objectives), "draws that agree")
    weights = ", ".join(f"{name} {value:g}" for name, value in preference.items()) if preference else "all equal"
    said = f"Importance: {weights}. Brackets: 90 % for one run. {' '.join(f'{e}.' for e in dict.fromkeys(edges))}"
    return Table(title, columns, rows, said.strip(), left=frozenset({0, 1, 2}))


# -- over time -------------------------------------------------------------------------------------------------------


def _over_time(store: RunStore, scale: Scale) -> list[Chart]:
    weights, cosines = [], []
    one = {r.label: r for r in sorted(scale.trained, key=lambda r: -r.seed)}  # the first seed of each
    solved = [r for r in one.values() if r.solver != "fixed" or len(set(r.mix.values())) == 1]
    for record in sorted(solved, key=lambda r: r.label)[:_MOST]:
        steps = store.steps(record.name)
        if not steps:
            continue
        names = list(record.objectives)
        cuts = np.array_split(np.arange(len(steps)), min(_WINDOWS, len(steps)))
        middle = [float(cut.mean()) + 1 for cut in cuts]

        def means(key: str, steps: Sequence[Mapping[str, Any]] = steps, cuts: Sequence[Any] = cuts) -> list[float]:
            values = np.array([float(step.get(key, np.nan)) for step in steps])
            return [float(np.nanmean(values[cut])) if np.isfinite(values[cut]).any() else np.nan for cut in cuts]

        label = f"{record.label}: step"
        lines = [Line(name, middle, means(f"weight/{name}")) for name in names]
        weights.append(line_chart(lines, label, "weight", low=0.0, high=1.0))
        there = {key for step in steps[:_WINDOWS] for key in step}
        pairs = [(f"{a} and {b}", f"cosine/{a}/{b}") for a, b in combinations(names, 2) if f"cosine/{a}/{b}" in there]
        if pairs:
            lines = [Line(name, middle, means(key)) for name, key in pairs]
            cosines.append(line_chart(lines, label, "cosine of gradients", low=0.0))
    caption = f"First seed of each; means over up to {_WINDOWS} windows of steps."
    found = [Chart("Weights over the training", weights, caption)] if weights else []
    conflict = f"{caption} Below 0, a step for one objective is a step against the other."
    return found + ([Chart("Conflict between objectives", cosines, conflict)] if cosines else [])


# -- table and provenance --------------------------------------------------------------------------------------------


def _results(store: RunStore, scale: Scale, records: Sequence[RunRecord], draws: int) -> Table | Note:
    chosen = scale.rows(records)
    roles = {result.role for record in chosen for result in record.results}
    role = "test" if "test" in roles else "select"
    if role not in roles:
        return Note("Results", "The runs were judged by their objectives alone: the recipe has no `evaluation`.")
    baseline = next((record.label for record in scale.others if record.kind == "base"), "")
    whole = [replace(store.read(record.name), label=record.label, model=record.model) for record in chosen]
    if not any(result.queries for record in whole for result in record.results):
        return Note("Results", "The store does not hold the values of single queries that intervals and tests need.")
    summary = summarise(whole, role, baseline=baseline, draws=draws)
    return results_table(summary, f"Results on {role}-role data: {scale.name}")


def _provenance(
    store: RunStore, records: Sequence[RunRecord], preference: Mapping[str, float] | None, options: Sequence[str]
) -> dict[str, str]:
    spent = sum(record.total_flops for record in records)
    hours = seconds_of(records) / 3600
    wanted = ",".join(f"{name}={value:.12g}" for name, value in (preference or {}).items())
    again = ["mogrid", "report", str(store.root), *(["--preference", wanted] if wanted else []), *options]
    return {
        "data": ", ".join(sorted({record.data for record in records})),
        "runs": f"{len(records)}, {spent:.3g} training FLOPs, {hours:.1f} hours",
        "versions": ", ".join(f"{name} {version}" for name, version in records[-1].versions.items()),
        "again": shlex.join(again),
    }
