"""Objectives: losses for effectiveness, out-of-domain robustness and adversarial robustness."""

from mogrid.objectives.balanced import BalancedERM
from mogrid.objectives.consistency import PerturbationConsistency
from mogrid.objectives.contrastive import InfoNCE
from mogrid.objectives.fgm import FGM, PGD
from mogrid.objectives.group_dro import GroupDRO
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
    "GroupDRO",
    "InfoNCE",
    "LossEntry",
    "MaskedInfoNCE",
    "PerturbationConsistency",
    "RotatingUnseenDomain",
    "SmoothWorstDomain",
    "gather_rows",
    "loss_from_config",
    "masked_info_nce",
    "register_loss",
]
