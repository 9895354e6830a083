"""What ``mogrid report`` shows of a store of runs: fronts, laws, weights and conflict over time, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mogrid.errors import DataError
from mogrid.experiment.plan import EQUAL
from mogrid.experiment.settings import OBJECTIVES
from mogrid.experiment.summary import MEASURES, select_values, summarise
from mogrid.frontier import Front
from mogrid.report import Chart, Figure, Note, Report, Table
from mogrid.report.charts import Line, Point, line_chart, scatter_chart
from mogrid.runs import RunRecord, RunStore

__all__ = ["store_report"]

_GROUPS = {"sweep": (0, "fixed weights"), "solver": (1, "solvers and batch shares"), "pareto": (2, "Pareto training"),
           "average": (3, "weight averages")}  # fmt: skip
_SHOWN = ("nDCG@10", "OOD nDCG@10", "OOD worst", "typo nDCG@10")
_WINDOWS = 40
_MOST = 12  # trajectories
Scale = tuple[str, float]


def store_report(store: RunStore, scratch: Path, *, draws: int = 300) -> Report:
    """Return the page of a store, from its records alone.

    Parameters
    ----------
    store : RunStore
    scratch : Path
        Folder for figures that the page embeds.
    draws : int
        Of bootstraps.

    Raises
    ------
    DataError
        There is no finished run, or a record cannot be read.
    """
    records = list(store.records(queries=False))
    trained = [r for r in records if r.kind in _GROUPS and r.results]
    if not trained:
        raise DataError(f"{store.root}: no finished training run")
    scales: dict[Scale, list[RunRecord]] = {}
    for record in sorted(trained, key=lambda r: (r.parameters, _scale(r)[1])):
        scales.setdefault(_scale(record), []).append(record)
    first = max(scales, key=lambda key: (len({r.strategy for r in scales[key]}), key[1]))
    ordered = {first: scales.pop(first), **scales}
    source = str(trained[0].results[0]["domain"])
    parts: list[Any] = [_front(key, own, source) for key, own in ordered.items()]
    parts += [_laws(store, scratch, draws), *_over_time(store, ordered[first])]
    parts.append(_results(store, ordered[first], first, records, source, draws))
    seeds = sorted({r.seed for r in trained})
    lead = [
        f"{len(trained)} trained runs of {len({r.strategy for r in trained})} strategies at {len(ordered)} scale(s), "
        f"seeds {', '.join(map(str, seeds))}; source {source}.",
        "Fronts are of contrastive entropies on select-role data, lower is better; tables are of test-role data.",
    ]
    return Report(f"Runs in {store.root.resolve().name}", lead, parts, _provenance(store, records))


def _scale(record: RunRecord) -> Scale:
    settings = record.config["settings"]
    size = settings["encoder"].get("path") or settings["encoder"]["size"]
    return str(size), float(f"{settings['training']['budget']:.4g}")


def _name(scale: Scale) -> str:
    return f"{scale[0]}, {scale[1]:.3g} FLOPs a run"


# -- fronts ----------------------------------------------------------------------------------------------------------


def _front(scale: Scale, records: Sequence[RunRecord], source: str) -> Chart:
    values = np.stack([select_values(record, source) for record in records])
    best = Front(OBJECTIVES, values, tuple(r.strategy for r in records), tuple(r.seed for r in records)).non_dominated()
    drawings = []
    for a, b in combinations(range(len(OBJECTIVES)), 2):
        points = [
            Point(float(row[a]), float(row[b]), _says(record, row), _GROUPS[record.kind][0], bool(on))
            for record, row, on in zip(records, values, best, strict=True)
        ]
        drawings.append(scatter_chart(points, f"{OBJECTIVES[a]}, CE (nats)", f"{OBJECTIVES[b]}, CE (nats)"))
    there = {record.kind for record in records}
    keys = [_GROUPS[kind] for kind in _GROUPS if kind in there]
    caption = "A mark is a run; filled: no other run of this scale is at least as good at everything. Point at one."
    return Chart("Front", drawings, caption, _name(scale), keys)


def _says(record: RunRecord, values: np.ndarray) -> list[str]:
    lines = [f"{record.strategy}, seed {record.seed}", f"{record.steps:,} steps, N = {record.parameters:,}"]
    solver = record.config.get("solver") or {}
    weights = solver.get("weights")
    if isinstance(weights, Mapping):
        lines.append("weights " + ", ".join(f"{name} {weights.get(name, 0):.2f}" for name in OBJECTIVES))
    lines += [f"{name} {value:.3f} nats" for name, value in zip(OBJECTIVES, values, strict=True)]
    return [*lines, record.name]


# -- laws ------------------------------------------------------------------------------------------------------------


def _laws(store: RunStore, scratch: Path, draws: int) -> Figure | Note:
    from mogrid.report.figures import plot_laws
    from mogrid.scaling import fit_laws, read_runs

    title = "Scaling laws"
    try:
        laws = fit_laws(read_runs(store), draws=draws)
    except DataError as error:
        return Note(title, f"There is none to show: {error}.")
    path = scratch / "laws.png"
    plot_laws(path, laws)
    said = "; ".join(
        f"{name}: {fit.fitted.form.name}, R² {fit.fitted.r2:.3f}"
        + "".join(f", {e:.1%} off at the largest {axis}" for axis, e in fit.held_out[fit.fitted.form.name].items())
        for name, fit in zip(laws.objectives, laws.fits, strict=True)
    )
    return Figure(title, path, f"{said} (fitted without it). Bands are 90 % intervals over runs and seeds.")


# -- over time -------------------------------------------------------------------------------------------------------


def _over_time(store: RunStore, records: Sequence[RunRecord]) -> list[Chart]:
    weights, cosines = [], []
    one = {r.strategy: r for r in sorted(records, key=lambda r: -r.seed)}  # the first seed of each
    solved = [r for r in one.values() if r.kind in ("solver", "pareto") or r.strategy == EQUAL]
    for record in sorted(solved, key=lambda r: r.strategy)[:_MOST]:
        steps = store.steps(record.name)
        if not steps:
            continue
        cuts = np.array_split(np.arange(len(steps)), min(_WINDOWS, len(steps)))
        middle = [float(cut.mean()) + 1 for cut in cuts]

        def means(key: str, steps: Sequence[Mapping[str, Any]] = steps, cuts: Sequence[Any] = cuts) -> list[float]:
            values = np.array([float(step.get(key, np.nan)) for step in steps])
            return [float(np.nanmean(values[cut])) if np.isfinite(values[cut]).any() else np.nan for cut in cuts]

        label = f"{record.strategy}: step"
        lines = [Line(name, middle, means(f"weight/{name}")) for name in OBJECTIVES]
        weights.append(line_chart(lines, label, "weight", low=0.0, high=1.0))
        pairs = [
            (f"{a} and {b}", f"cosine/{a}/{b}") for a, b in combinations(OBJECTIVES, 2) if f"cosine/{a}/{b}" in steps[0]
        ]
        if pairs:
            lines = [Line(name, middle, means(key)) for name, key in pairs]
            cosines.append(line_chart(lines, label, "cosine of gradients", low=0.0))
    caption = f"First seed of each; means over up to {_WINDOWS} windows of steps."
    found = [Chart("Weights over the training", weights, caption)] if weights else []
    conflict = f"{caption} Below 0, a step for one objective is a step against the other."
    return found + ([Chart("Conflict between objectives", cosines, conflict)] if cosines else [])


# -- table and provenance --------------------------------------------------------------------------------------------


def _results(
    store: RunStore, records: Sequence[RunRecord], scale: Scale, every: Sequence[RunRecord], source: str, draws: int
) -> Table:
    baselines = [r for r in every if r.kind == "bm25" or (r.kind == "untrained" and _scale(r) == scale)]
    chosen = [*baselines, *records]
    title = f"Test results: {_name(scale)}"
    try:
        whole = [store.read(record.name) for record in chosen]
    except DataError:
        return _means_only(chosen, source, title)
    summary = summarise(whole, source, baseline=EQUAL, draws=draws)
    rows = []
    for row in summary.rows:
        cells = [row.strategy, str(row.seeds), f"{row.steps:,}" if row.steps else ""]
        for measure in _SHOWN:
            if measure not in row.values:
                cells.append("-")
                continue
            test = row.tests.get(measure)
            mark = "" if test is None or test.p_value >= 0.05 else ("▲" if test.difference > 0 else "▼")
            cells.append(f"{row.values[measure]:.3f} ±{row.widths[measure]:.3f}{mark}")
        rows.append(cells)
    note = (
        f"± half of a 95 % interval over queries and seeds; ▲ ▼ better or worse than {EQUAL} (paired randomisation "
        "test, Holm-corrected over strategies, p < .05)."
    )
    marked = frozenset(i for i, row in enumerate(summary.rows) if row.kind == "pareto")
    return Table(title, ["strategy", "seeds", "steps", *(f"{m} ↑" for m in _SHOWN)], rows, note, marked)


def _means_only(records: Sequence[RunRecord], source: str, title: str) -> Table:
    """Return means over seeds, where the values of every query were not kept."""
    shown = [m for m in MEASURES if m.name in _SHOWN]
    rows = []
    for name in dict.fromkeys(r.strategy for r in records):
        own = [r for r in records if r.strategy == name]
        cells = [name, str(len(own)), f"{np.mean([r.steps for r in own]):,.0f}"]
        for measure in shown:
            values = [
                [x["means"][measure.key] for x in r.results if measure.chosen(x, source) and measure.key in x["means"]]
                for r in own
            ]
            reduced = [min(v) if measure.worst else float(np.mean(v)) for v in values if v]
            cells.append(f"{np.mean(reduced):.3f}" if reduced else "-")
        rows.append(cells)
    note = "Means over seeds, without intervals: the store does not hold the values of every query of these runs."
    return Table(title, ["strategy", "seeds", "steps", *(f"{m.name} ↑" for m in shown)], rows, note)


def _provenance(store: RunStore, records: Sequence[RunRecord]) -> dict[str, str]:
    newest = records[-1].versions
    spent = sum(r.flops.get("total", 0.0) for r in records)
    hours = sum(r.seconds.get("training", 0.0) + r.seconds.get("evaluation", 0.0) for r in records) / 3600
    return {
        "data": ", ".join(sorted({r.data for r in records})),
        "runs": f"{len(records)}, {spent:.3g} training FLOPs, {hours:.1f} hours",
        "versions": ", ".join(f"{name} {version}" for name, version in newest.items()),
        "again": f"mogrid report {store.root}",
    }
