"""Solvers by name: what a configuration file writes, and what ``mogrid solvers`` lists."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mogrid.solvers.base import Solver
from mogrid.solvers.errors import SolverError, nearest
from mogrid.solvers.fixed import FixedWeights
from mogrid.solvers.mgda import MGDA
from mogrid.solvers.pareto_target import ParetoTarget

__all__ = ["available", "from_config"]

_SOLVERS: tuple[type[Solver], ...] = (
    FixedWeights,
    MGDA,
    ParetoTarget,
)
_BY_NAME: dict[str, type[Solver]] = {solver.name: solver for solver in _SOLVERS}


def available() -> dict[str, type[Solver]]:
    """Return every solver class by the name that configurations use."""
    return dict(_BY_NAME)


def from_config(config: str | Mapping[str, Any]) -> Solver:
    """Make a solver from its name, or from a mapping of its name and keywords.

    Raises
    ------
    SolverError
        The name or a keyword is unknown, missing or has a value that does not fit.

    Examples
    --------
    >>> from mogrid.solvers import from_config
    >>> from_config({"name": "pareto_target", "preference": {"id": 2, "ood": 1}}).name
    'pareto_target'
    """
    settings: dict[str, Any]
    if isinstance(config, str):
        name, settings = config, {}
    elif isinstance(config, Mapping):
        settings = dict(config)
        if "name" not in settings:
            raise SolverError(f"a solver's configuration needs 'name', got {', '.join(map(repr, config)) or 'nothing'}")
        name = settings.pop("name")
    else:
        raise SolverError(f"a solver is given by its name or a mapping with 'name', got {config!r}")
    if name not in _BY_NAME:
        raise SolverError(f"unknown solver {name!r}{nearest(str(name), _BY_NAME)}")
    solver = _BY_NAME[name]
    parameters = inspect.signature(solver).parameters
    for keyword in settings:
        if keyword not in parameters:
            raise SolverError(f"{name}: unknown keyword {keyword!r}{nearest(str(keyword), parameters)}")
    for keyword, parameter in parameters.items():
        if parameter.default is parameter.empty and keyword not in settings:
            raise SolverError(f"{name}: missing keyword {keyword!r}")
    return solver(**settings)
