"""What `benchmarks.dpr` prints and draws, from records and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from mogrid.data import Collection
from mogrid.experiment.plan import EQUAL
from mogrid.experiment.settings import OBJECTIVES, ExperimentSettings
from mogrid.experiment.summary import MEASURES, Row, Summary, front_of, hypervolumes, test_values
from mogrid.frontier import Choice, Front, PredictedFront, Surrogate
from mogrid.report import Figure, Report, Table, write_report
from mogrid.report.figures import COLOURS, Style, plot_front, plot_weights
from mogrid.runs import RunRecord, versions

__all__ = ["Outcome", "show"]

TERMINAL = ("nDCG@10", "OOD nDCG@10", "OOD worst", "typo nDCG@10")
SHOWN = ("nDCG@10", "CE", "OOD nDCG@10", "OOD worst", "OOD CE", "typo nDCG@10", "typo CE")
_ONE_SEED = " ¹"
_ALPHA = 0.05
_STYLES = {
    "sweep": Style(COLOURS[0], group="fixed weights"),
    "solver": Style(COLOURS[1], group="solver"),
    "average": Style(COLOURS[3], filled=False, group="weight averaging", framed=False),
    "pareto": Style(COLOURS[2], size=11, group="Pareto training"),
    "untrained": Style("#8c8c8c", group="untrained", framed=False),
}


@dataclass
class Outcome:
    """Everything the experiment came to. Fronts and choices are of select-role values, the table of test-role ones."""

    front: Front
    surrogate: Surrogate
    predicted: PredictedFront
    choice: Choice
    knee: Choice
    measured: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    summary: Summary = field(default_factory=lambda: Summary("", ()))
    records: Sequence[RunRecord] = ()
    trajectories: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)


def show(
    out: Path,
    settings: ExperimentSettings,
    collection: Collection,
    outcome: Outcome,
    console: Console,
    seconds: float,
) -> None:
    """Print the table, front and choice; write figures and report."""
    table = _table(outcome.summary)
    choice = _choice_table(outcome)
    volumes = _volume_table(outcome, settings)
    lead = _lead(settings, outcome)
    narrow = _table(outcome.summary, TERMINAL, "Test results: nDCG@10 and attack success", costs=False)
    entropies = _table(outcome.summary, ("CE", "OOD CE", "typo CE"), "Test results: contrastive entropy", costs=True)
    for part in (narrow, entropies, volumes, choice):
        console.print(_rich(part))
    for text in lead:
        console.print(text)
    figures = _figures(out, outcome)
    data = Table(
        "Data",
        ("domain", "role", "documents", "queries", "judgements"),
        [(name, role, *(f"{count:,}" for count in counts)) for name, role, *counts in collection.summary()],
        note=f"SHA-256 of all of it: {collection.fingerprint}",
    )
    full = _table(outcome.summary, tuple(m.name for m in MEASURES), "All measures")
    write_report(
        out / "report.html",
        Report(
            title="Pareto training of a dense retriever",
            lead=lead,
            parts=(table, *figures, choice, volumes, full, data),
            provenance={
                **versions(),
                "settings": settings.model_dump_json(),
                "wall time of this call": f"{seconds:.0f} s",
            },
        ),
    )
    console.print(f"\n{len(outcome.records)} run records, front.png, weights.png and report.html in {out}/")
    console.print(f"wall time of this call: {seconds:.0f} s")


def _lead(settings: ExperimentSettings, outcome: Outcome) -> list[str]:
    preference = ", ".join(f"{name} {value:g}" for name, value in settings.preference.items())
    weights = ", ".join(f"{name} {value:.2f}" for name, value in outcome.choice.weights.items())
    kneed = ", ".join(
        f"{name} {value:.2f} (predicted {outcome.knee.predicted[name]:.3f})"
        for name, value in outcome.knee.weights.items()
    )
    seeds, sweep_seeds = len(settings.seeds), len(settings.sweep_seeds or settings.seeds)
    fewer = f" (weights that only the surrogate needs: {sweep_seeds})" if sweep_seeds != seeds else ""
    return [
        f"For the preference {preference} and a budget of {settings.training.budget:.3g} training FLOPs a run, "
        f"the weights to use are {weights}. The front's knee: {kneed}.",
        f"Every strategy was trained with the same FLOPs on {seeds} seed(s){fewer}; fronts and choices "
        "are made on select-role data, the table on test-role data that no training and no choice has seen.",
    ]


def _table(
    summary: Summary, measures: Sequence[str] = SHOWN, title: str = "Test results", *, costs: bool | None = None
) -> Table:
    """Build the table of test results; `costs` puts steps and FLOPs in place of attacks, None both."""
    wide = costs is None
    columns = ["strategy", *(("seeds",) if wide else ()), *(("steps", "FLOPs") if wide or costs else ())]
    columns += [f"{name} {'↑' if _larger(name) else '↓'}" for name in measures]
    columns += ["flips SR@10 ↓"] if not costs else []
    rows = []
    for row in summary.rows:
        alone = _ONE_SEED if row.seeds == 1 and row.kind == "sweep" else ""
        cells = [row.strategy + (" (collapsed?)" if row.collapsed else "") + alone]
        if wide:
            cells.append(str(row.seeds))
        if wide or costs:
            cells += [str(row.steps), f"{row.flops:.2g}"] if row.steps else ["", ""]
        cells += [_cell(row, measure) for measure in measures]
        if not costs:
            cells.append("" if row.success is None else _plus_minus(*row.success, digits=2))
        rows.append(cells)
    entropy = (
        "CE: contrastive entropy in nats at one temperature a model, calibrated on the select splits; chance is 5.55. "
        if any("CE" in name for name in measures)
        else ""
    )
    ranking = (
        f"▲ ▼ better or worse than {EQUAL} (paired randomisation test, Holm-corrected over strategies, p < {_ALPHA}). "
        "OOD: mean and worst of the OOD test domains. SR@10: share of documents at ranks 51-100 that the "
        "embedding-neighbour flips lift into the top 10 (white box, judged on text; each model at its own ranks)."
        if not costs
        else ""
    )
    return Table(
        title,
        columns,
        rows,
        note=f"± half of a 95 % bootstrap interval over queries and seeds. {_single(rows)}{entropy}{ranking}",
        highlight=frozenset(i for i, row in enumerate(summary.rows) if row.kind == "pareto"),
    )


def _single(rows: Sequence[Sequence[str]]) -> str:
    if not any(row[0].endswith(_ONE_SEED) for row in rows):
        return ""
    return f"{_ONE_SEED.strip()} One seed: interval and test are over queries alone. "


def _larger(measure: str) -> bool:
    return next(m.larger for m in MEASURES if m.name == measure)


def _cell(row: Row, measure: str) -> str:
    if measure not in row.values:
        return "-"
    digits = 2 if "CE" in measure else 3
    mark = ""
    test = row.tests.get(measure)
    if test is not None and test.p_value < _ALPHA:
        mark = "▲" if test.difference > 0 else "▼"
    return f"{_plus_minus(row.values[measure], row.widths[measure], digits)}{mark}"


def _plus_minus(value: float, width: float, digits: int) -> str:
    """Without leading zeros: four measures and their marks fit a terminal of 80 columns."""
    shown, spread = (f"{number:.{digits}f}".removeprefix("0") for number in (value, width))
    return f"{shown}±{spread}"


def _choice_table(outcome: Outcome) -> Table:
    choice = outcome.choice
    means = outcome.measured.mean(axis=0)
    rows = []
    for i, name in enumerate(OBJECTIVES):
        inside = choice.low[name] <= means[i] <= choice.high[name]
        rows.append(
            (
                name,
                f"{choice.weights[name]:.2f}",
                f"{choice.weight_low[name]:.2f}-{choice.weight_high[name]:.2f}",
                f"{choice.predicted[name]:.3f}",
                f"{choice.low[name]:.2f}-{choice.high[name]:.2f}",
                f"{means[i]:.3f}{'' if inside else '*'}",
            )
        )
    fits = "; ".join(
        f"{name}: {fit.form}, error on weightings left out {fit.held_out:.3f}"
        for name, fit in zip(OBJECTIVES, outcome.surrogate.fits, strict=True)
    )
    return Table(
        "The choice: predicted and measured contrastive entropy on select-role data",
        (
            "objective",
            "weight",
            "90 % range",
            "predicted",
            "90 % interval",
            "measured",
        ),
        rows,
        note=f"Surrogate over the sweep's interior weights, in nats. {fits}. * outside the interval.",
    )


def _volume_table(outcome: Outcome, settings: ExperimentSettings) -> Table:
    records = [r for r in outcome.records if r.kind in ("sweep", "solver", "average", "pareto")]
    front = front_of(records, outcome.summary.source)
    kinds = {r.strategy: r.kind for r in records}
    sets = {
        "fixed weights": [s for s, kind in kinds.items() if kind == "sweep"],
        "solvers": [s for s, kind in kinds.items() if kind == "solver"],
        "weight averaging": [s for s, kind in kinds.items() if kind == "average"],
        "Pareto training alone": [s for s, kind in kinds.items() if kind == "pareto"],
        "all": list(kinds),
    }
    sets |= {f"{name} alone": [name] for name, kind in kinds.items() if kind == "solver" or name == EQUAL}
    volumes = hypervolumes(front, sets, draws=min(settings.evaluation.bootstrap, 500))
    return Table(
        "Hypervolume on select-role data",
        ("set", "strategies", "hypervolume ↑", "95 % interval"),
        [
            (name, str(size), f"{volume.value:.3f}", f"{volume.low:.3f} - {volume.high:.3f}")
            for name, (volume, size) in volumes.items()
        ],
        note="Of seed means, normalised to the ideal and nadir of all; reference point 1.1; intervals over seeds.",
    )


def _figures(out: Path, outcome: Outcome) -> list[Figure]:
    axes = {
        "effectiveness": "in-domain contrastive entropy (nats)",
        "ood": "OOD contrastive entropy (nats)",
        "adversarial": "typo contrastive entropy (nats)",
    }
    drawn = [r for r in outcome.records if r.kind in _STYLES]
    styles = {r.strategy: _STYLES[r.kind] for r in drawn}
    source = outcome.summary.source
    plot_front(
        out / "front.png",
        front_of(drawn, source),
        styles,
        axes,
        predicted=outcome.predicted.values,
        marked={"the choice": list(outcome.choice.predicted.values()), "knee": list(outcome.knee.predicted.values())},
        title="Select-role data: what the runs reached, and the front predicted from the sweep",
    )
    plot_front(
        out / "front_test.png",
        front_of(drawn, source, test_values),
        styles,
        axes,
        title="Test-role data: the same runs",
    )
    figures = [
        Figure("The front", out / "front.png", "Seed means with 95 % intervals; lower is better on every axis."),
        Figure("The same runs on test-role data", out / "front_test.png", "No choice was made on these values."),
    ]
    if outcome.trajectories:
        plot_weights(
            out / "weights.png", outcome.trajectories, OBJECTIVES, title="Weights that the solvers gave the objectives"
        )
        figures.append(Figure("Weights over steps", out / "weights.png", "Thin: seeds, smoothed; thick: their mean."))
    return figures


def _rich(table: Table) -> RichTable:
    rich = RichTable(
        title=table.title,
        caption=table.note or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    for i, name in enumerate(table.columns):
        rich.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0, overflow="fold")
    for i, row in enumerate(table.rows):
        rich.add_row(*row, style="bold" if i in table.highlight else None)
    return rich
