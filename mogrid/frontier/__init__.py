"""The Pareto front: measured points, a surrogate over the weights, its search, and the choice of one point."""

from mogrid.frontier.choice import METHODS, Choice, choose, knee, pick
from mogrid.frontier.hypervolume import Hypervolume, bootstrap_hypervolume, hypervolume, hypervolume_interval
from mogrid.frontier.points import Front
from mogrid.frontier.search import PredictedFront, WeightModel, search_front
from mogrid.frontier.surrogate import Fit, Surrogate, fit_surrogate

__all__ = [
    "METHODS",
    "Choice",
    "Fit",
    "Front",
    "Hypervolume",
    "PredictedFront",
    "Surrogate",
    "WeightModel",
    "bootstrap_hypervolume",
    "choose",
    "fit_surrogate",
    "hypervolume",
    "hypervolume_interval",
    "knee",
    "pick",
    "search_front",
]
