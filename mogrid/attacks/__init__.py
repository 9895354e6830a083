"""Attacks: text in, text out."""

from mogrid.attacks.base import Attack
from mogrid.attacks.flips import Target
from mogrid.attacks.hotflip import HotFlip
from mogrid.attacks.misspellings import Misspellings
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.poisoning import CorpusPoisoning, PoisoningResult, poisoning_success
from mogrid.attacks.registry import ATTACKS, attack_from_config, register_attack
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
    "EmbeddingNeighbourFlips",
    "HotFlip",
    "Misspellings",
    "PoisoningResult",
    "QueryStuffing",
    "Target",
    "Typos",
    "attack_from_config",
    "perturbed_pairs",
    "poisoning_success",
    "register_attack",
]
