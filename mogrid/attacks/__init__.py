"""Attacks: text in, text out."""

from mogrid.attacks.base import Attack, Cost, Target, changed_share
from mogrid.attacks.hotflip import HotFlip, QueryHotFlip
from mogrid.attacks.misspellings import Misspellings
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.poisoning import CorpusPoisoning
from mogrid.attacks.registry import ATTACKS, attack_from_config, register_attack
from mogrid.attacks.spelling import Corrected
from mogrid.attacks.stuffing import QueryStuffing
from mogrid.attacks.training import perturbed_pairs
from mogrid.attacks.typos import SELECT_TYPOS, TEST_TYPOS, TRAIN_TYPOS, Typos

__all__ = [
    "ATTACKS",
    "SELECT_TYPOS",
    "TEST_TYPOS",
    "TRAIN_TYPOS",
    "Attack",
    "CorpusPoisoning",
    "Corrected",
    "Cost",
    "EmbeddingNeighbourFlips",
    "HotFlip",
    "Misspellings",
    "QueryHotFlip",
    "QueryStuffing",
    "Target",
    "Typos",
    "attack_from_config",
    "changed_share",
    "perturbed_pairs",
    "register_attack",
]
