"""The Pareto front: laws of measured runs, what a budget can reach, the choice of one point, and what to run next."""

from mogrid.frontier.choosing import Choice, choose_mix, next_pilots
from mogrid.frontier.convex import Target, is_convex, solve_mix
from mogrid.frontier.costs import Costs, fit_costs
from mogrid.frontier.design import Proposal, next_runs
from mogrid.frontier.foretold import ForetoldFront, foretold_front
from mogrid.frontier.hypervolume import Hypervolume, bootstrap_hypervolume, hypervolume, hypervolume_interval
from mogrid.frontier.laws import Exponent, HeldOut, LawFit, Laws
from mogrid.frontier.measurements import Measurements
from mogrid.frontier.needed import Needed, times_needed
from mogrid.frontier.options import Options, experiments, options_of
from mogrid.frontier.pays import MixingPays, mixing_pays
from mogrid.frontier.planning import plan, planned_front
from mogrid.frontier.plans import Plan
from mogrid.frontier.points import Front
from mogrid.frontier.rates import ExchangeRates
from mogrid.frontier.rules import METHODS, pick
from mogrid.frontier.selection import FORMS, fit_laws
from mogrid.frontier.tables import measurements_from_csv

__all__ = [
    "FORMS",
    "METHODS",
    "Choice",
    "Costs",
    "ExchangeRates",
    "Exponent",
    "ForetoldFront",
    "Front",
    "HeldOut",
    "Hypervolume",
    "LawFit",
    "Laws",
    "Measurements",
    "MixingPays",
    "Needed",
    "Options",
    "Plan",
    "Proposal",
    "Target",
    "bootstrap_hypervolume",
    "choose_mix",
    "experiments",
    "fit_costs",
    "fit_laws",
    "foretold_front",
    "hypervolume",
    "hypervolume_interval",
    "is_convex",
    "measurements_from_csv",
    "mixing_pays",
    "next_pilots",
    "next_runs",
    "options_of",
    "pick",
    "plan",
    "planned_front",
    "solve_mix",
    "times_needed",
]
