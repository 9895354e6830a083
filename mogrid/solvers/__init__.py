"""Weighting strategies: the losses and the Gramian of the gradients in, the weights of the objectives out.

Works alone, in any PyTorch loop: imports torch and numpy; scipy and cvxpy where a method needs them, when it does.
"""

from __future__ import annotations

from mogrid.solvers.base import Needs, Solution, Solver, State, StepStatistics
from mogrid.solvers.errors import NonFiniteGradientError, NonFiniteLossError, SolverError
from mogrid.solvers.fixed import FixedWeights
from mogrid.solvers.mgda import MGDA
from mogrid.solvers.pareto_target import ParetoTarget
from mogrid.solvers.registry import available, from_config

__all__ = [
    "MGDA",
    "FixedWeights",
    "Needs",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "ParetoTarget",
    "Solution",
    "Solver",
    "SolverError",
    "State",
    "StepStatistics",
    "available",
    "from_config",
]
