"""What a law needs of the runs it is fitted to: what varies, how often, and which cells are missing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from mogrid.errors import DataError
from mogrid.scaling.fitting import SAME
from mogrid.scaling.forms import FORMS, ScalingForm
from mogrid.scaling.runs import ScalingRuns

__all__ = ["applicable_forms", "check_enough"]

_LEVELS = 3


def _levels(runs: ScalingRuns) -> dict[str, int]:
    """Return how many distinct N, D and weightings there are; D within one weighting, since weights may move it too."""
    weightings, group = np.unique(runs.weights.round(6), axis=0, return_inverse=True)
    logs = (np.sort(np.log(runs.pairs[group.ravel() == g])) for g in range(len(weightings)))
    return {
        "N": len(np.unique(runs.sizes)),
        "D": max(1 + int((np.diff(row) > SAME).sum()) for row in logs),
        "weights": len(weightings),
    }


def applicable_forms(runs: ScalingRuns) -> list[ScalingForm]:
    """Return the laws over exactly what varies in the runs. Raises `DataError` where there is none."""
    varies = tuple(name for name, count in _levels(runs).items() if count > 1)
    found = [form for form in FORMS.values() if form.over == varies]
    if not found:
        levels = _levels(runs)
        if not varies:
            raise DataError(f"{len(runs)} runs of one model size, one data size and one weighting: nothing varies")
        raise DataError(
            f"no law for {levels['N']} model sizes, {levels['D']} data sizes and {levels['weights']} weightings: laws "
            f"in weight space need {_LEVELS} of both sizes; for one size fit mogrid.frontier.fit_surrogate"
        )
    return found


def check_enough(runs: ScalingRuns, form: ScalingForm) -> None:
    """Raise `DataError` where a law cannot be fitted to the runs: how many are missing, and which cells."""
    levels = _levels(runs)
    count = len(runs.objectives)
    words = {"N": "model sizes", "D": "data sizes", "weights": "weightings"}
    for name, word in words.items():
        if name not in form.over and levels[name] > 1:
            raise DataError(
                f"law {form.name!r} is over {', '.join(form.over)}, but the runs have {levels[name]} {word}: "
                "choose runs with ScalingRuns.only"
            )
        needed = count + 3 if name == "weights" else _LEVELS
        if name in form.over and levels[name] < needed:
            only = "one" if levels[name] == 1 else str(levels[name])
            raise DataError(
                f"law {form.name!r} needs {needed} distinct {word}, got {only}: add {needed - levels[name]} more"
            )
    if "weights" in form.over:
        spread = runs.weights - runs.weights.mean(axis=0)
        if np.linalg.matrix_rank(spread, tol=1e-6) < count - 1:
            raise DataError("the weightings lie on a line or plane: vary the weight of every objective independently")
    parameters = len(form.parameters(count))
    distinct = len(np.unique(runs.cells))
    if distinct <= parameters:
        raise DataError(
            f"law {form.name!r} has {parameters} parameters and needs {parameters + 1} distinct cells, got {distinct} "
            f"from {len(runs)} runs (seeds of one cell count once){_missing(runs, form)}"
        )


def _missing(runs: ScalingRuns, form: ScalingForm) -> str:
    """Name cells of the sweep's own grid without a run."""
    axes: list[list[Any]] = [
        sorted(set(runs.sizes.tolist())) if "N" in form.over else [None],
        sorted(set(runs.pairs.tolist())) if "D" in form.over else [None],
        sorted({tuple(w) for w in runs.weights.round(6).tolist()}) if "weights" in form.over else [None],
    ]
    rows = zip(runs.sizes.tolist(), runs.pairs.tolist(), map(tuple, runs.weights.round(6).tolist()), strict=True)
    there = {tuple(v if axis != [None] else None for v, axis in zip(row, axes, strict=True)) for row in rows}
    absent = [cell for cell in itertools.product(*axes) if cell not in there]
    if not absent:
        return "; the grid is full: add sizes"
    shown = "; ".join(
        ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"weights {value}"
            for name, value in zip(("N", "D", "weights"), cell, strict=True)
            if value is not None
        )
        for cell in absent[:3]
    )
    return f"; {len(absent)} cells of the grid have no run: {shown}{' ...' if len(absent) > 3 else ''}"
