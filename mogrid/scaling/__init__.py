"""Scaling: the laws of the losses over model size, data and weights, and the plan for a budget."""

from mogrid.scaling.design import Candidates, Proposal, propose_runs
from mogrid.scaling.forms import FORMS
from mogrid.scaling.laws import Exponent, ExtrapolationWarning, LawFit, Laws, fit_laws
from mogrid.scaling.planning import Costs, Plan, PlannedFront, fit_costs, plan, planned_front
from mogrid.scaling.runs import ScalingRuns, read_runs

__all__ = [
    "FORMS",
    "Candidates",
    "Costs",
    "Exponent",
    "ExtrapolationWarning",
    "LawFit",
    "Laws",
    "Plan",
    "PlannedFront",
    "Proposal",
    "ScalingRuns",
    "fit_costs",
    "fit_laws",
    "plan",
    "planned_front",
    "propose_runs",
    "read_runs",
]
