"""Objectives: losses for effectiveness, out-of-domain robustness and adversarial robustness."""

from mogrid.objectives.consistency import PerturbationConsistency
from mogrid.objectives.contrastive import InfoNCE
from mogrid.objectives.fgm import FGM
from mogrid.objectives.worst_domain import SmoothWorstDomain

__all__ = ["FGM", "InfoNCE", "PerturbationConsistency", "SmoothWorstDomain"]
