"""Weighting strategies: the losses and the Gramian of the gradients in, the weights of the objectives out.

Works alone, in any PyTorch loop: imports torch and numpy; scipy and cvxpy where a method needs them, when it does.
"""

from __future__ import annotations

from mogrid.solvers.aligned import AlignedMTL
from mogrid.solvers.bargaining import FairGrad, NashMTL
from mogrid.solvers.base import Needs, Solution, Solver, State, StepStatistics
from mogrid.solvers.cagrad import CAGrad
from mogrid.solvers.constrained import ConstrainedDescent
from mogrid.solvers.db_mtl import DBMTL
from mogrid.solvers.dual_cone import DualProj, UPGrad
from mogrid.solvers.dwa import DWA
from mogrid.solvers.equiangular import IMTLG, ConFIG
from mogrid.solvers.errors import NonFiniteGradientError, NonFiniteLossError, SolverError
from mogrid.solvers.excess import ExcessMTL
from mogrid.solvers.famo import FAMO
from mogrid.solvers.fixed import FixedWeights
from mogrid.solvers.gradnorm import GradNorm
from mogrid.solvers.mgda import MGDA
from mogrid.solvers.pareto_mtl import ParetoMTL
from mogrid.solvers.pareto_target import ParetoTarget
from mogrid.solvers.random_weights import RandomWeights
from mogrid.solvers.ray import FERERO, PMGDA
from mogrid.solvers.registry import available, from_config
from mogrid.solvers.stochastic_mgda import MoCo, MoDo, SDMGrad
from mogrid.solvers.surgery import GradVac, PCGrad
from mogrid.solvers.tchebycheff import SmoothTchebycheff
from mogrid.solvers.uncertainty import UncertaintyWeighting
from mogrid.solvers.worst_case import GroupDRO, SmoothWorst
from mogrid.solvers.wrappers import EMAGramian, EveryN

__all__ = [
    "DBMTL",
    "DWA",
    "FAMO",
    "FERERO",
    "IMTLG",
    "MGDA",
    "PMGDA",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "ConstrainedDescent",
    "DualProj",
    "EMAGramian",
    "EveryN",
    "ExcessMTL",
    "FairGrad",
    "FixedWeights",
    "GradNorm",
    "GradVac",
    "GroupDRO",
    "MoCo",
    "MoDo",
    "NashMTL",
    "Needs",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "PCGrad",
    "ParetoMTL",
    "ParetoTarget",
    "RandomWeights",
    "SDMGrad",
    "SmoothTchebycheff",
    "SmoothWorst",
    "Solution",
    "Solver",
    "SolverError",
    "State",
    "StepStatistics",
    "UPGrad",
    "UncertaintyWeighting",
    "available",
    "from_config",
]
