"""The Pareto front: measured points, a surrogate over the weights, its search, and the choice of one point."""

from mogrid.frontier.choice import Choice, choose, knee
from mogrid.frontier.hypervolume import Hypervolume, bootstrap_hypervolume, hypervolume
from mogrid.frontier.points import Front
from mogrid.frontier.search import PredictedFront, search_front
from mogrid.frontier.surrogate import Surrogate, fit_surrogate

__all__ = [
    "Choice",
    "Front",
    "Hypervolume",
    "PredictedFront",
    "Surrogate",
    "bootstrap_hypervolume",
    "choose",
    "fit_surrogate",
    "hypervolume",
    "knee",
    "search_front",
]
