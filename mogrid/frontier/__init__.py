"""The Pareto front: laws of measured runs, what a budget can reach, the choice of one point, and what to run next."""

from mogrid.frontier.choice import METHODS, Choice, choose, knee, pick
from mogrid.frontier.convex import Target, is_convex, solve_mix
from mogrid.frontier.costs import Costs, fit_costs
from mogrid.frontier.design import Candidates, Proposal, next_runs
from mogrid.frontier.hypervolume import Hypervolume, bootstrap_hypervolume, hypervolume, hypervolume_interval
from mogrid.frontier.laws import ExchangeRates, Exponent, HeldOut, LawFit, Laws
from mogrid.frontier.measurements import Measurements
from mogrid.frontier.pays import MixingPays, mixing_pays
from mogrid.frontier.planning import PlannedFront, plan, planned_front
from mogrid.frontier.plans import Plan
from mogrid.frontier.points import Front
from mogrid.frontier.search import PredictedFront, WeightModel, search_front
from mogrid.frontier.selection import FORMS, fit_laws
from mogrid.frontier.surrogate import Fit, Surrogate, fit_surrogate

__all__ = [
    "FORMS",
    "METHODS",
    "Candidates",
    "Choice",
    "Costs",
    "ExchangeRates",
    "Exponent",
    "Fit",
    "Front",
    "HeldOut",
    "Hypervolume",
    "LawFit",
    "Laws",
    "Measurements",
    "MixingPays",
    "Plan",
    "PlannedFront",
    "PredictedFront",
    "Proposal",
    "Surrogate",
    "Target",
    "WeightModel",
    "bootstrap_hypervolume",
    "choose",
    "fit_costs",
    "fit_laws",
    "fit_surrogate",
    "hypervolume",
    "hypervolume_interval",
    "is_convex",
    "knee",
    "mixing_pays",
    "next_runs",
    "pick",
    "plan",
    "planned_front",
    "search_front",
    "solve_mix",
]
