"""Scaling: what a run costs (the FLOP ledger), and how losses fall with model size, data and weights (the laws)."""

from mogrid.scaling.forms import FORMS
from mogrid.scaling.laws import Exponent, ExtrapolationWarning, LawFit, Laws, fit_laws
from mogrid.scaling.ledger import FlopLedger, crafting, encoders, non_embedding_parameters
from mogrid.scaling.runs import ScalingRuns, read_runs

__all__ = [
    "FORMS",
    "Exponent",
    "ExtrapolationWarning",
    "FlopLedger",
    "LawFit",
    "Laws",
    "ScalingRuns",
    "crafting",
    "encoders",
    "fit_laws",
    "non_embedding_parameters",
    "read_runs",
]
