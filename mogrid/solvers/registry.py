"""Solvers by name: what a configuration file writes, and what ``mogrid solvers`` lists."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mogrid.errors import nearest
from mogrid.solvers.aligned_mtl import AlignedMTL
from mogrid.solvers.annealed import AnnealedWeights
from mogrid.solvers.base import Solver
from mogrid.solvers.cagrad import CAGrad
from mogrid.solvers.con_fig import ConFIG
from mogrid.solvers.constrained import ConstrainedDescent
from mogrid.solvers.db_mtl import DBMTL
from mogrid.solvers.dualproj import DualProj
from mogrid.solvers.dwa import DWA
from mogrid.solvers.ema import EMAGramian
from mogrid.solvers.errors import SolverError
from mogrid.solvers.every_n import EveryN
from mogrid.solvers.excess_mtl import ExcessMTL
from mogrid.solvers.fairgrad import FairGrad
from mogrid.solvers.famo import FAMO
from mogrid.solvers.ferero import FERERO
from mogrid.solvers.fixed import FixedWeights
from mogrid.solvers.gradnorm import GradNorm
from mogrid.solvers.gradvac import GradVac
from mogrid.solvers.group_dro import GroupDRO
from mogrid.solvers.imtl_g import IMTLG
from mogrid.solvers.mgda import MGDA
from mogrid.solvers.moco import MoCo
from mogrid.solvers.modo import MoDo
from mogrid.solvers.nash_mtl import NashMTL
from mogrid.solvers.pareto_mtl import ParetoMTL
from mogrid.solvers.pareto_target import ParetoTarget
from mogrid.solvers.pcgrad import PCGrad
from mogrid.solvers.pmgda import PMGDA
from mogrid.solvers.random_weights import RandomWeights
from mogrid.solvers.sdmgrad import SDMGrad
from mogrid.solvers.smooth_tchebycheff import SmoothTchebycheff
from mogrid.solvers.smooth_worst import SmoothWorst
from mogrid.solvers.uncertainty import UncertaintyWeighting
from mogrid.solvers.upgrad import UPGrad

__all__ = ["available", "from_config", "register"]

# In the order in which they are listed: what weights follow from, then what they aim at.
_SOLVERS: tuple[type[Solver], ...] = (
    FixedWeights,
    AnnealedWeights,
    RandomWeights,
    UncertaintyWeighting,
    DWA,
    GradNorm,
    SmoothTchebycheff,
    FAMO,
    GroupDRO,
    SmoothWorst,
    MGDA,
    UPGrad,
    DualProj,
    CAGrad,
    PCGrad,
    GradVac,
    IMTLG,
    ConFIG,
    NashMTL,
    FairGrad,
    AlignedMTL,
    ExcessMTL,
    DBMTL,
    MoCo,
    MoDo,
    SDMGrad,
    ParetoTarget,
    PMGDA,
    FERERO,
    ParetoMTL,
    ConstrainedDescent,
    EMAGramian,
    EveryN,
)
_BY_NAME: dict[str, type[Solver]] = {solver.name: solver for solver in _SOLVERS}


def available() -> dict[str, type[Solver]]:
    """Return every solver class by the name that configurations use."""
    return dict(_BY_NAME)


def register(solver: type[Solver]) -> type[Solver]:
    """Let configurations name a solver of your own; a class decorator.

    Raises
    ------
    SolverError
        Its name is taken or it has none.
    """
    name = getattr(solver, "name", "")
    if not name or name in _BY_NAME:
        raise SolverError(f"{solver.__name__}: its name {name!r} is {'taken' if name else 'missing'}")
    _BY_NAME[name] = solver
    return solver


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
    >>> from_config({"name": "every_n", "solver": "mgda", "n": 4}).n
    4
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
    if isinstance(settings.get("solver"), str | Mapping):  # a wrapper around another
        settings["solver"] = from_config(settings["solver"])
    return solver(**settings)
