"""Attacks: text in, text out."""

from mogrid.attacks.base import Attack
from mogrid.attacks.judge import AttackResult, attack_success
from mogrid.attacks.neighbours import EmbeddingNeighbourFlips
from mogrid.attacks.training import perturbed_pairs
from mogrid.attacks.typos import SELECT_TYPOS, TEST_TYPOS, TRAIN_TYPOS, Typos

__all__ = [
    "SELECT_TYPOS",
    "TEST_TYPOS",
    "TRAIN_TYPOS",
    "Attack",
    "AttackResult",
    "EmbeddingNeighbourFlips",
    "Typos",
    "attack_success",
    "perturbed_pairs",
]
