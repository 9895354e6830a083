"""Checks of what users write as a solver's settings; every message names the solver and the keyword."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mogrid.errors import nearest
from mogrid.solvers.errors import SolverError

__all__ = [
    "PerObjective",
    "bounds_of",
    "bounds_within",
    "choice",
    "integer",
    "number",
    "per_objective",
    "place_of",
    "values_of",
]

# One value an objective: by name, or in the order of the objectives.
PerObjective = Mapping[str, float] | Sequence[float]
Array = NDArray[np.float64]


def number(
    solver: str,
    keyword: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Return ``value`` as a float, or say which number was expected."""
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) and _is_number(value) else ""
        raise SolverError(f"{solver}: {keyword} must be a number, got {value!r}{hint}")
    result = float(value)
    limits = [
        (above, "above", lambda bound: result > bound),
        (at_least, "at least", lambda bound: result >= bound),
        (below, "below", lambda bound: result < bound),
        (at_most, "at most", lambda bound: result <= bound),
    ]
    wanted = [f"{words} {bound:g}" for bound, words, _ in limits if bound is not None]
    if not math.isfinite(result) or not all(holds(bound) for bound, _, holds in limits if bound is not None):
        raise SolverError(f"{solver}: {keyword} must be {' and '.join(['finite', *wanted])}, got {result:g}")
    return result


def integer(solver: str, keyword: str, value: Any, *, at_least: int) -> int:
    """Return ``value`` as an int of at least ``at_least``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise SolverError(f"{solver}: {keyword} must be a whole number, got {value!r}")
    if value < at_least:
        raise SolverError(f"{solver}: {keyword} must be at least {at_least}, got {value}")
    return int(value)


def choice(solver: str, keyword: str, value: Any, known: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``known``."""
    if value not in known:
        raise SolverError(f"{solver}: {keyword} {value!r} is unknown{nearest(str(value), known)}")
    return str(value)


def per_objective(
    solver: str,
    keyword: str,
    values: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> PerObjective:
    """Check one number an objective, given by name or in order; the names are checked once they are known."""
    if isinstance(values, Tensor | np.ndarray):
        values = values.tolist()
    limits = {"above": above, "at_least": at_least, "at_most": at_most}
    if isinstance(values, Mapping):
        return {
            str(name): number(solver, f"{keyword}[{str(name)!r}]", value, **limits) for name, value in values.items()
        }
    if isinstance(values, Sequence) and not isinstance(values, str):
        return tuple(number(solver, f"{keyword}[{i}]", value, **limits) for i, value in enumerate(values))
    raise SolverError(f"{solver}: {keyword} must give one number an objective, by name or in order, got {values!r}")


def values_of(
    solver: str, keyword: str, values: PerObjective, objectives: tuple[str, ...], *, default: float | None = None
) -> Array:
    """Return the (K,) values in the order of the objectives; ``default`` stands for names left out."""
    if isinstance(values, Mapping):
        for name in values:
            if name not in objectives:
                raise SolverError(f"{solver}: {keyword} names no objective {name!r}{nearest(name, objectives)}")
        for name in objectives:
            if name not in values and default is None:
                raise SolverError(f"{solver}: {keyword} has no value for objective {name!r}")
        return np.array([values.get(name, default) for name in objectives], dtype=np.float64)
    if len(values) != len(objectives):
        raise SolverError(
            f"{solver}: {keyword} has {len(values)} values for {len(objectives)} objectives ({', '.join(objectives)})"
        )
    return np.array(values, dtype=np.float64)


def bounds_within(solver: str, values: Any, **limits: float) -> float | PerObjective:
    """Check lower bounds on the weights: one number for all, within limits, or one an objective."""
    if isinstance(values, Real):
        return number(solver, "bounds", values, at_least=0.0, **limits)
    return per_objective(solver, "bounds", values, at_least=0.0)


def bounds_of(solver: str, values: float | PerObjective, objectives: tuple[str, ...], *, room: bool) -> Array:
    """Return the (K,) lower bounds, 0 for names left out; they sum to less than 1 where they must leave room."""
    if isinstance(values, float):
        lower: Array = np.full(len(objectives), values)
    else:
        lower = values_of(solver, "bounds", values, objectives, default=0.0)
    if lower.sum() >= 1.0 if room else lower.sum() > 1.0 + 1e-12:
        most = "less than 1" if room else "at most 1"
        raise SolverError(f"{solver}: bounds must sum to {most}, they sum to {lower.sum():g}")
    return lower


def place_of(solver: str, keyword: str, name: str, objectives: tuple[str, ...]) -> int:
    """Return the number of the objective that a keyword names."""
    if name not in objectives:
        raise SolverError(f"{solver}: {keyword} names no objective {name!r}{nearest(name, objectives)}")
    return objectives.index(name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
