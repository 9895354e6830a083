"""Solvers by name: what a configuration file writes, and what ``mogrid solvers`` lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mogrid.construct import build, named
from mogrid.solvers.aligned_mtl import AlignedMTL
from mogrid.solvers.annealed import AnnealedWeights
from mogrid.solvers.base import Solver
from mogrid.solvers.cagrad import CAGrad
from mogrid.solvers.con_fig import ConFIG
from mogrid.solvers.constrained import ConstrainedDescent
from mogrid.solvers.cosmos import COSMOS
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
from mogrid.solvers.geometric_mean import GeometricMean
from mogrid.solvers.gradnorm import GradNorm
from mogrid.solvers.gradvac import GradVac
from mogrid.solvers.group_dro import GroupDRO
from mogrid.solvers.imtl_g import IMTLG
from mogrid.solvers.imtl_l import IMTLL
from mogrid.solvers.mgda import MGDA
from mogrid.solvers.moco import MoCo
from mogrid.solvers.modo import MoDo
from mogrid.solvers.nash_mtl import NashMTL
from mogrid.solvers.pareto_mtl import ParetoMTL
from mogrid.solvers.pareto_target import ParetoTarget
from mogrid.solvers.pbi import PBI
from mogrid.solvers.pcd import PCD
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
    IMTLL,
    DWA,
    GeometricMean,
    GradNorm,
    SmoothTchebycheff,
    COSMOS,
    PBI,
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
    PCD,
    EMAGramian,
    EveryN,
)
_BY_NAME: dict[str, type[Solver]] = {solver.name: solver for solver in _SOLVERS}
# As papers and LibMTL call them for short.
_SHORT: dict[str, type[Solver]] = {
    "ew": FixedWeights,
    "gls": GeometricMean,
    "imtl": IMTLG,
    "rlw": RandomWeights,
    "stch": SmoothTchebycheff,
    "uw": UncertaintyWeighting,
}


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
    """Make a solver from its name, in any spelling, or from a mapping of its name and keywords.

    Raises
    ------
    SolverError
        The name or a keyword is unknown, missing or has a value that does not fit.

    Examples
    --------
    >>> from mogrid.solvers import from_config
    >>> from_config({"name": "pareto_target", "preference": {"id": 2, "ood": 1}}).name
    'pareto_target'
    >>> from_config({"name": "every_n", "solver": "MGDA", "n": 4}).solver.name
    'mgda'
    """
    known = _BY_NAME | _SHORT
    name, settings = named(known, config, what="solver", error=SolverError)
    if isinstance(settings.get("solver"), str | Mapping):  # a wrapper around another
        settings["solver"] = from_config(settings["solver"])
    return build(known[name], settings, label=f"solver {name}", error=SolverError)
