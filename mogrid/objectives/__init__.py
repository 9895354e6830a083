"""Losses for effectiveness, for robustness out of domain and to perturbations, and anchors to the base model."""

from mogrid.objectives.anchors import (
    DriftBound,
    EmbeddingDistillation,
    ScoreDistillation,
    WeightAnchor,
    frozen_copy,
)
from mogrid.objectives.balanced import BalancedERM
from mogrid.objectives.consistency import PerturbationConsistency
from mogrid.objectives.contrastive import InfoNCE
from mogrid.objectives.domain_dro import DomainDRO
from mogrid.objectives.fgm import FGM, PGD
from mogrid.objectives.idro import IDRO
from mogrid.objectives.masked import MaskedInfoNCE, gather_rows, masked_info_nce
from mogrid.objectives.registry import LOSSES, LossEntry, loss_from_config, register_loss
from mogrid.objectives.unseen_domain import RotatingUnseenDomain
from mogrid.objectives.vat import VAT
from mogrid.objectives.worst_domain import SmoothWorstDomain

__all__ = [
    "FGM",
    "IDRO",
    "LOSSES",
    "PGD",
    "VAT",
    "BalancedERM",
    "DomainDRO",
    "DriftBound",
    "EmbeddingDistillation",
    "InfoNCE",
    "LossEntry",
    "MaskedInfoNCE",
    "PerturbationConsistency",
    "RotatingUnseenDomain",
    "ScoreDistillation",
    "SmoothWorstDomain",
    "WeightAnchor",
    "frozen_copy",
    "gather_rows",
    "loss_from_config",
    "masked_info_nce",
    "register_loss",
]
