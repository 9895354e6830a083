"""Weighting strategies: the losses and the Gramian of the gradients in, the weights of the objectives out.

Works alone, in any PyTorch loop: imports torch and numpy; scipy and cvxpy where a method needs them, when it does.
"""

from __future__ import annotations

from mogrid.solvers.aligned_mtl import AlignedMTL
from mogrid.solvers.annealed import AnnealedWeights
from mogrid.solvers.base import Needs, Solution, Solver, State, StepStatistics
from mogrid.solvers.cagrad import CAGrad
from mogrid.solvers.con_fig import ConFIG
from mogrid.solvers.constrained import ConstrainedDescent
from mogrid.solvers.cosmos import COSMOS
from mogrid.solvers.db_mtl import DBMTL
from mogrid.solvers.dualproj import DualProj
from mogrid.solvers.dwa import DWA
from mogrid.solvers.ema import EMAGramian
from mogrid.solvers.errors import NonFiniteGradientError, NonFiniteLossError, SolverError
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
from mogrid.solvers.registry import available, from_config, register
from mogrid.solvers.sdmgrad import SDMGrad
from mogrid.solvers.smooth_tchebycheff import SmoothTchebycheff
from mogrid.solvers.smooth_worst import SmoothWorst
from mogrid.solvers.uncertainty import UncertaintyWeighting
from mogrid.solvers.upgrad import UPGrad

__all__ = [
    "COSMOS",
    "DBMTL",
    "DWA",
    "FAMO",
    "FERERO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "PBI",
    "PCD",
    "PMGDA",
    "AlignedMTL",
    "AnnealedWeights",
    "CAGrad",
    "ConFIG",
    "ConstrainedDescent",
    "DualProj",
    "EMAGramian",
    "EveryN",
    "ExcessMTL",
    "FairGrad",
    "FixedWeights",
    "GeometricMean",
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
    "register",
]
